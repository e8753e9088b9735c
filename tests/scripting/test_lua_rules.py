"""A Lua file as a rule: what it declares, what it answers, and how its mistakes are told."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Mapping
from types import SimpleNamespace
from typing import Any

import pytest

from smtpproxy.scripting.errors import RuleTimeout
from smtpproxy.scripting.lua import LuaError, LuaRule, LuaTimeout

CLIENT = SimpleNamespace()


def load(text: str, settings: Mapping[str, Any] | None = None, **doors: Callable[..., Any]) -> LuaRule:
    source = textwrap.dedent(text).lstrip("\n").encode()
    return LuaRule(source, "20-tag", "/rules/20-tag.lua", settings or {}, doors)


def hook(body: str, **doors: Callable[..., Any]) -> Callable[[], Any]:
    return load(f"function on_load()\n{textwrap.dedent(body)}\nend", **doors).hooks["on_load"]


def error_of(function: Callable[[], Any]) -> LuaError:
    with pytest.raises(LuaError) as caught:
        function()
    return caught.value


# declarations


def test_hooks_are_the_global_functions_of_such_names() -> None:
    rule = load("""
        local function on_data(mail) end
        function on_rcpt(mail, rcpt) end
        watch_mail = function(mail, sender) end
        function helper() end
    """)
    assert set(rule.hooks) == {"on_rcpt", "watch_mail"}


def test_a_hook_knows_its_line() -> None:
    assert load("\n\nfunction on_load() end").hooks["on_load"].line == 1  # type: ignore[attr-defined]


def test_what_a_file_declares() -> None:
    rule = load("""
        on_error = {on_rcpt = "deny", on_mail = "continue"}
        on_timeout = "defer"
        order = 20
    """)
    assert rule.metadata == {
        "on_error": {"on_rcpt": "deny", "on_mail": "continue"},
        "on_timeout": "defer",
        "order": 20,
        "settings": {},
    }


def test_a_hook_must_be_a_function() -> None:
    assert "on_rcpt must be a function, not a string" in str(error_of(lambda: load("on_rcpt = 'deny'")))


def test_a_mark_of_utf8_and_a_first_line_for_the_shell_are_skipped() -> None:
    rule = LuaRule(b"\xef\xbb\xbf#!/usr/bin/lua\nfunction on_load() end", "a", "a.lua", {}, {})
    assert rule.hooks["on_load"].line == 2  # type: ignore[attr-defined]


# settings


def test_settings_are_the_defaults_with_what_the_configuration_says() -> None:
    rule = load(
        """
        settings = {domains = set{"example.com"}, limit = 5, names = {"a", "b"}, strict = false, text = "x"}
        seen = settings.limit
        function on_load()
          return deny(seen .. tostring(settings.domains["example.org"]) .. tostring(settings.domains["example.com"])
            .. #settings.names .. tostring(settings.names:has("c")) .. tostring(settings.strict) .. settings.text)
        end
        """,
        {"domains": ["example.org"], "names": ["c"], "limit": 7},
    )
    verdict = rule.hooks["on_load"]()
    assert verdict and verdict.text == "7truenil1truefalsex"
    assert rule.metadata["settings"]["domains"] == {"example.org"}


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"domain": ["a"]}, 'unknown setting "domain"; did you mean "domains"?'),
        ({"domains": "a"}, "setting domains: a list is wanted, got 'a'"),
        ({"limit": "5"}, "setting limit: a number is wanted, got '5'"),
        ({"limit": True}, "setting limit: a number is wanted, got True"),
    ],
)
def test_wrong_settings_are_refused_at_load(given: dict[str, Any], told: str) -> None:
    error = error_of(lambda: load('settings = {domains = set{"a"}, limit = 5}', given))
    assert str(error) == f"20-tag.lua:1: {told}"


def test_settings_that_the_file_does_not_declare() -> None:
    assert "sets limit, but the file declares no settings" in str(error_of(lambda: load("", {"limit": 5})))


def test_an_unknown_setting_in_the_file() -> None:
    rule = load("settings = {limit = 5}\nfunction on_load() return deny(settings.limt) end")
    assert str(error_of(rule.hooks["on_load"])) == '20-tag.lua:2: settings has no "limt"; did you mean "limit"?'


def test_thousands_of_settings() -> None:
    names = [f"d{n}.example" for n in range(5000)]
    rule = load("settings = {d = set{}}\nfunction on_load() return settings.d['d4999.example'] and deny() end", {"d": names})
    assert rule.hooks["on_load"]()


# verdicts


@pytest.mark.parametrize(
    ("written", "kind", "reply"),
    [
        ("accept()", "accept", "250 2.0.0 OK"),
        ("deny()", "deny", "550 5.7.1 Refused"),
        ('deny("No such user", {code = "550 5.1.1"})', "deny", "550 5.1.1 No such user"),
        ("deny('x', {code = 554})", "deny", "554 5.7.1 x"),
        ("defer('later')", "defer", "451 4.7.1 later"),
        ("close('bye', {code = '421'})", "close", "421 4.7.0 bye"),
        ("deny(12)", "deny", "550 5.7.1 12"),
    ],
)
def test_verdicts(written: str, kind: str, reply: str) -> None:
    verdict = hook(f"return {written}")()
    assert (verdict.kind, str(verdict.reply())) == (kind, reply)


def test_accept_grants_relaying_only_when_asked_to() -> None:
    assert not hook("return accept()")().relay
    assert not hook("return accept('', {relay = false})")().relay
    assert hook("return accept('', {relay = true})")().relay


@pytest.mark.parametrize("written", ["return deny('x')", "local v = deny('x') return v", "local d = deny return (d('x'))"])
def test_a_verdict_knows_the_line_that_made_it(written: str) -> None:
    assert hook(f"\n\n{written}")().line == 4


def test_a_verdict_made_in_a_coroutine_knows_its_line() -> None:
    assert hook("local co = coroutine.wrap(function()\n\n return deny('x') end)\nreturn co()")().line == 4


def test_a_function_of_the_script_may_make_the_verdict() -> None:
    rule = load("local function no()\n return deny('x')\nend\nfunction on_load() return no() end")
    verdict = rule.hooks["on_load"]()
    assert verdict and verdict.line == 2


@pytest.mark.parametrize(
    ("written", "told"),
    [
        ("deny('x', {code = 450})", "deny: code must be 5xx"),
        ("deny('x', {code = {}})", "deny: code must be a string or a number"),
        ("deny('x', {cod = 550})", 'deny: no option "cod"'),
        ("deny('x', 550)", "deny: options are a table"),
        ("deny('x', {relay = true})", "deny"),
    ],
)
def test_a_verdict_that_cannot_be_made(written: str, told: str) -> None:
    error = error_of(hook(f"\nreturn {written}"))
    assert str(error).startswith("20-tag.lua:3: ")
    assert told in str(error)


@pytest.mark.parametrize(
    ("written", "noun"), [("1", "number"), ("'deny'", "string"), ("false", "boolean"), ("{}", "table"), ("deny", "function")]
)
def test_whatever_is_no_verdict_is_a_failure(written: str, noun: str) -> None:
    assert str(error_of(hook(f"return {written}"))) == f"20-tag.lua:1: on_load returned a {noun}, not a verdict"


def test_nothing_and_nil_mean_continue() -> None:
    assert hook("")() is None
    assert hook("return nil")() is None
    assert hook("return nil, 'ignored'")() is None


def test_a_verdict_kept_from_another_call_is_dead() -> None:
    rule = load("function on_load() kept = kept or deny('x') return kept end")
    assert rule.hooks["on_load"]()
    with pytest.raises(LuaError, match="on_load returned a table, not a verdict"):
        rule.hooks["on_load"]()


# errors


def test_an_error_has_file_line_and_the_frames_of_the_script() -> None:
    rule = load("""
        local function inner(x)
          return x.y.z
        end
        function on_load()
          local v = inner({})
          return v
        end
    """)
    error = error_of(rule.hooks["on_load"])
    assert str(error).startswith("20-tag.lua:2: attempt to index a nil value")
    assert error.at == "20-tag.lua:2"
    assert error.frames == ("20-tag.lua:5 in on_load", "20-tag.lua:2 in inner")


def test_a_syntax_error_has_its_line() -> None:
    assert str(error_of(lambda: load("x = 1\nx = = 2"))).startswith("20-tag.lua:2: unexpected symbol near '='")


def test_an_error_of_the_files_own_code() -> None:
    error = error_of(lambda: load("\nerror('no', 1)"))
    assert str(error) == "20-tag.lua:1: no"


@pytest.mark.parametrize(
    ("body", "told"),
    [
        ("error('plain', 0)", "20-tag.lua:2: plain"),
        ("error({1})", "20-tag.lua:2: the error is a table, not a text"),
        ("error(nil)", "20-tag.lua:2: the error is a nil, not a text"),
        ("return deni('x')", """20-tag.lua:2: attempt to call a nil value (global 'deni'); did you mean "deny"?"""),
        ("local x = ('x'):rep({})", "20-tag.lua:2: bad argument #2 to"),
        ("local x = ('a'):find('[a')", "20-tag.lua:2: malformed pattern (missing ']')"),
    ],
)
def test_how_mistakes_are_told(body: str, told: str) -> None:
    assert str(error_of(hook(body))).startswith(told)


def test_an_error_can_be_caught_and_the_rule_goes_on() -> None:
    verdict = hook("local ok, err = pcall(error, 'oops') return deny(tostring(ok) .. err)")()
    assert verdict.text == "falseoops"


def test_a_failure_leaves_the_rule_usable() -> None:
    rule = load("n = 0 function on_load() n = n + 1 if n < 3 then error('x') end return deny(n) end")
    for _ in range(2):
        error_of(rule.hooks["on_load"])
    assert rule.hooks["on_load"]().text == "3"  # type: ignore[union-attr]


def test_a_budget_overrun_counts_as_a_timeout() -> None:
    error = error_of(hook("while true do end"))
    assert isinstance(error, LuaTimeout) and isinstance(error, RuleTimeout)
    assert str(error) == "20-tag.lua:2: over its CPU budget of 1000000 instructions"


def test_globals_belong_to_one_version() -> None:
    text = "n = 0 function on_load() n = n + 1 return deny(n) end"
    first, second = load(text), load(text)
    assert [first.hooks["on_load"]().text for _ in range(3)] == ["1", "2", "3"]  # type: ignore[union-attr]
    assert second.hooks["on_load"]().text == "1"  # type: ignore[union-attr]


def test_a_closed_rule_takes_no_calls() -> None:
    rule = load("function on_load() end")
    rule.hooks["on_load"]()
    rule.close()
    assert "closed" in str(error_of(rule.hooks["on_load"]))


def test_text_goes_in_and_out_as_utf8_octets() -> None:
    verdict = hook("local s = 'gr\u00fcn' return deny(#s .. s .. utf8.len(s))")()
    assert verdict.text == "5gr\u00fcn4"
