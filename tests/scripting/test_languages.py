"""Rules in Lua come the same way: loaded, saved, broken, told."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import gevent
import pytest

from smtpproxy.dns.zone import Zone
from smtpproxy.facts.client import Client, ListenerFacts
from smtpproxy.facts.mail import Mail
from smtpproxy.message.body import bytes_body
from smtpproxy.message.edits import Ledger
from smtpproxy.message.header import HeaderBlock
from smtpproxy.scripting.table import describe
from smtpproxy.wire.address import parse_address

SCRIPTS = Path(__file__).parents[2] / "scripts"
NO = 'function on_command(client, verb, argument) return deny("{0}", {{code = "550 5.1.1"}}) end\n'


def say(scripts: Any) -> str:
    return str(scripts.ask("on_command", None, "VRFY", "x") or "continue")


def test_a_lua_rule_is_live_and_live_again_on_save(scripts: Any) -> None:
    scripts.write("10-a.lua", NO.format("one"))
    assert scripts.load().problems == ()
    assert say(scripts) == "deny 550 5.1.1 one"
    assert scripts.save("10-a.lua", NO.format("two")).live == ("10-a",)
    assert say(scripts) == "deny 550 5.1.1 two"
    scripts.refresh()
    (row,) = describe(scripts.rules.table)
    assert (row.hook, row.rule, row.file) == ("on_command", "10-a", "10-a.lua")


def test_both_languages_stand_in_one_chain(scripts: Any) -> None:
    scripts.write("20-b.lua", NO.format("lua"))
    scripts.write("10-a.py", "def on_command(client, verb, argument): pass")
    scripts.write("30-c.py", "def on_command(client, verb, argument): 1/0")
    scripts.load()
    assert say(scripts) == "deny 550 5.1.1 lua"


def test_a_broken_save_keeps_the_last_good_version(scripts: Any) -> None:
    scripts.write("a.lua", NO.format("one"))
    scripts.load()
    (problem,) = scripts.save("a.lua", "function on_command(\n").problems
    assert problem.at == "a.lua:2"
    assert problem.kept
    assert say(scripts) == "deny 550 5.1.1 one"
    scripts.restart()
    scripts.load()
    assert say(scripts) == "deny 550 5.1.1 one"


def test_unknown_hooks_are_refused(scripts: Any) -> None:
    scripts.write("a.lua", "function on_rctp(mail, rcpt) end")
    (problem,) = scripts.load().problems
    assert 'did you mean "on_rcpt"?' in problem.text


def test_settings_come_from_the_configuration(scripts: Any) -> None:
    scripts.restart({"a": {"word": "told"}})
    scripts.write("a.lua", 'settings = {word = "x"}\nfunction on_command(c, v, a) return deny(settings.word) end')
    scripts.load()
    assert say(scripts) == "deny 550 5.7.1 told"
    assert scripts.rules.table.rules[0].settings.word == "told"


def test_a_failure_is_told_like_any_other(scripts: Any) -> None:
    scripts.write("a.lua", 'on_error = "deny"\nfunction on_command(client, verb, argument)\n  error("bad one")\nend')
    scripts.load()
    assert say(scripts) == "deny 550 5.7.1 Refused: a rule failed, id s1"
    (record,) = scripts.logged("rule_failed")
    assert (record["at"], record["error"], record["verdict"]) == ("a.lua:3", "LuaError: bad one", "deny")


def test_doors(scripts: Any) -> None:
    scripts.doors["dns"] = Zone({"a.example": {"A": ["192.0.2.1"], "MX": [[10, "mx.example"]]}})
    scripts.write(
        "a.lua",
        'function on_command(client, verb, argument)\n  log.info("asked", {n = 1})\n'
        '  return deny(dns.a("a.example")[1] .. " " .. dns.mx("a.example")[1][2])\nend',
    )
    scripts.load()
    assert say(scripts) == "deny 550 5.7.1 192.0.2.1 mx.example"
    assert scripts.logged("rule") == [{"n": 1, "level": "info", "rule": "a", "id": "s1", "text": "asked"}]


def test_on_load_and_on_unload(scripts: Any) -> None:
    scripts.write("a.lua", 'function on_load() log.info("load") end\nfunction on_unload() log.info("unload") end')
    scripts.load()
    scripts.rules.stop()
    assert [fields["text"] for fields in scripts.logged("rule")] == ["load", "unload"]


def test_the_rules_that_make_run_loads(scripts: Any) -> None:
    for path in SCRIPTS.glob("[0-9]*"):
        shutil.copy(path, scripts.folder)
    assert scripts.load().problems == ()
    assert scripts.rcpt(parse_address("nobody@example.com")) == "deny 550 5.1.1 Nobody is not here"
    assert scripts.rcpt(parse_address("you@example.com")) == "continue"
    raw = b"Subject: Urgent: lunch\r\n\r\n"
    mail = Mail("s1.1", Client("s1", "192.0.2.1", 25, ListenerFacts("mx", hostname="here")), parse_address("a@example.com"))
    mail.arrived(Ledger(bytes_body(raw), HeaderBlock.parse(raw)), complete=True)
    assert scripts.ask("on_message", mail) is None
    assert list(mail.header) == [("Subject", "[!] Urgent: lunch"), ("X-Seen-By", "here")]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("function on_reset(mail)\n  return deny('No')\nend", "a.lua:2: on_reset may not answer deny(); it may answer nothing"),
        ("on_capabilities = function(client, offer)\n  if x then return accept() end\nend", "a.lua:2: on_capabilities may not"),
        ("function on_rcpt(mail, rcpt)\n\n  return deny('No', { code = '250' })\nend", "a.lua:3: deny: code must be 5xx"),
        ("function on_rcpt(mail, rcpt) return defer('No', {code = \"451 5.1.1\"}) end", "a.lua:1: defer: code '451 5.1.1' mixes"),
    ],
)
def test_verdicts_in_lua_that_a_hook_does_not_allow_are_told_at_load(scripts: Any, text: str, told: str) -> None:
    scripts.write("a.lua", text)
    (problem,) = scripts.rules.load().problems
    assert str(problem).startswith(told)


@pytest.mark.parametrize(
    "text",
    [
        "function on_reset(mail)\n  local f = function() return deny('No') end\n  -- return deny('No')\nend",
        "function helper() return deny('No') end\nfunction on_reset(mail)\n  for i = 1, 2 do while false do end end\nend",
        "local function deny() end\nfunction on_reset(mail) return deny('No') end",
    ],
)
def test_functions_in_lua_answer_to_themselves(scripts: Any, text: str) -> None:
    scripts.write("a.lua", text)
    assert scripts.rules.load().problems == ()


class TestBudgetsOfLua:
    """[rule.NAME] cpu and wall hold in Lua as in Python, and are live without a new version."""

    LOOP = "function on_rcpt(mail, rcpt) local n = 0 for i = 1, {0} do n = n + 1 end return deny(tostring(n)) end"

    def answered(self, scripts: Any, turns: int, **keys: str) -> str:
        scripts.write("a.lua", self.LOOP.format(turns))
        scripts.rules.configure({"a": keys}, {"mx": ["*"]})
        scripts.rules.load()
        return scripts.rcpt()

    def test_more_cpu_than_usual(self, scripts: Any) -> None:
        assert self.answered(scripts, 300_000).endswith("300000")
        assert "Temporary failure" in self.answered(scripts, 1_500_000)
        assert self.answered(scripts, 1_500_000, cpu="5s").endswith("1500000")

    def test_less_cpu_than_usual(self, scripts: Any) -> None:
        assert self.answered(scripts, 30_000).endswith("30000")
        assert "Temporary failure" in self.answered(scripts, 30_000, cpu="6ms")
        assert scripts.logged("rule_failed")[-1]["error"] == "LuaTimeout: over its CPU budget of 20000 instructions"

    def test_a_change_of_the_budget_is_no_new_version(self, scripts: Any) -> None:
        self.answered(scripts, 1_500_000)
        version = scripts.rules.table.rules[0].version
        assert self.answered(scripts, 1_500_000, cpu="5s").endswith("1500000")
        assert scripts.rules.table.rules[0].version == version

    def test_wall_ends_a_wait_in_a_door(self, scripts: Any) -> None:
        class Slow(Zone):
            def query(self, *_: Any) -> Any:
                gevent.sleep(10)

        scripts.doors["dns"] = Slow()
        scripts.write("a.lua", "on_timeout = 'deny'\nfunction on_rcpt(mail, rcpt) dns.mx('example.com') end")
        scripts.rules.configure({"a": {"wall": "100ms"}}, {"mx": ["*"]})
        scripts.rules.load()
        scripts.rules.budget.start()
        with gevent.Timeout(3):
            assert scripts.rcpt().startswith("deny 550")
        assert "over its wall budget" in scripts.logged("rule_failed")[0]["error"]
