"""Our objects as a Lua rule sees them: the same names as in Python."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import pytest

from smtpproxy.facts.client import Client, ListenerFacts
from smtpproxy.facts.mail import Mail
from smtpproxy.facts.missing import put
from smtpproxy.facts.recipient import Recipient
from smtpproxy.message.body import bytes_body
from smtpproxy.message.edits import Ledger
from smtpproxy.message.header import HeaderBlock, end_of_header
from smtpproxy.scripting.lua import LuaError, LuaRule
from smtpproxy.testing.rules import run_rule
from smtpproxy.wire.address import parse_address

RAW = b"Subject: hello\r\nReceived: one\r\nReceived: two\r\n\r\nfirst\r\nsecond\r\n"


def a_client(lookup: Callable[[str], tuple[str | None, bool]] | None = None) -> Client:
    client = Client("s1", "192.0.2.7", 4711, ListenerFacts("mx", port=25), lookup)
    client.take_identity(helo="client.example")
    return client


@pytest.fixture
def mail() -> Mail:
    made = Mail("m1", a_client(), parse_address("from@example.org"), {"SIZE": "100"})
    for text in ("a@example.com", "b@example.net"):
        made.accepted(Recipient(parse_address(text)))
    made.arrived(Ledger(bytes_body(RAW), HeaderBlock.parse(RAW[: end_of_header(RAW)])), True)
    return made


def rule(body: str, **doors: Callable[..., Any]) -> Callable[..., Any]:
    source = f"function on_data(mail)\n{body}\nend\nfunction on_ehlo(client, name) {body} end"
    return LuaRule(source.encode("utf-8", "surrogateescape"), "a", "a.lua", {}, doors).hooks["on_data"]


def said(mail: Mail, expression: str, **doors: Callable[..., Any]) -> str:
    """An expression of Lua as text."""
    verdict = rule(f"return deny('<' .. tostring({expression}) .. '>')", **doors)(mail)
    return str(verdict.text)[1:-1]


def refused(mail: Mail, statement: str, **doors: Callable[..., Any]) -> str:
    with pytest.raises(LuaError) as caught:
        rule(statement, **doors)(mail)
    # what a hook returns is judged when it is over: the line is the one where it begins
    assert caught.value.at == ("a.lua:1" if statement.startswith("return") else "a.lua:2")
    return caught.value.text


@pytest.mark.parametrize(
    ("expression", "text"),
    [
        ("mail.id", "m1"),
        ("mail.sender", "from@example.org"),
        ("mail.sender.domain .. mail.sender.local_part", "example.orgfrom"),
        ("'to ' .. mail.recipients[1] .. '!'", "to a@example.com!"),
        ("mail.client.address .. mail.client.port", "192.0.2.74711"),
        ("mail.client.helo .. mail.client.listener.name", "client.examplemx"),
        ("mail.client.login", "nil"),
        ("mail.client.relay", "false"),
        ("mail.params.SIZE + 1", "101"),
        ("mail.params.BODY", "nil"),
        ("mail.via", "nil"),
        ("mail.size_declared * 2", "200"),
        ("mail.header.subject", "hello"),
        ("mail.header['X-None']", "nil"),
        ("#mail.header:get_all('received') .. mail.header:get_all('received')[2]", "2two"),
        ("mail.header:get('X-None', 'none')", "none"),
        ("#mail.recipients", "2"),
        ("mail.recipients[2].domain", "example.net"),
        ("mail.recipients[0]", "nil"),
        ("mail.recipients[3]", "nil"),
        ("mail.recipients:has('b@example.net')", "true"),
        ("mail.recipients:has(mail.recipients[1])", "true"),
        ("mail.recipients:has('c@example.net')", "false"),
        ("mail.body.size", "15"),
        ("mail.body:bytes()", "first\r\nsecond\r\n"),
        ("mail == mail and mail.client == mail.client and mail.recipients[1] == mail.recipients[1]", "true"),
        ("mail.recipients[1] == mail.recipients[2]", "false"),
        ("mail.notes.nothing", "nil"),
        ("mail.results:get('spf')", "nil"),
        ("type(mail)", "table"),
    ],
)
def test_reading(mail: Mail, expression: str, text: str) -> None:
    assert said(mail, expression) == text.replace("\r\n", " ")


def test_the_null_sender_prints_as_nothing() -> None:
    mail = Mail("m1", a_client(), parse_address("a@b.example"))
    mail.sender = ""  # type: ignore[assignment]
    assert said(mail, "mail.sender") == ""


def test_loops(mail: Mail) -> None:
    text = """
      local t = {}
      for i, r in ipairs(mail.recipients) do t[#t + 1] = i .. r.local_part end
      for i, r in pairs(mail.recipients) do t[#t + 1] = i .. r.domain end
      for name, value in pairs(mail.header) do t[#t + 1] = name .. "=" .. value end
      for name, value in pairs(mail.params) do t[#t + 1] = name .. "=" .. value end
      for chunk in mail.body:chunks() do t[#t + 1] = #chunk end
      mail.results:add("a") mail.results:add("b", "fail")
      for name, result in pairs(mail.results) do t[#t + 1] = name .. result.value end
      return deny(table.concat(t, " "))
    """
    assert rule(text)(mail).text == (
        "1a 2b 1example.com 2example.net Subject=hello Received=one Received=two SIZE=100 15 apass bfail"
    )


def test_a_loop_may_edit_what_it_walks_through(mail: Mail) -> None:
    rule("for _, r in pairs(mail.recipients) do mail:remove_recipient(r) end")(mail)
    assert mail.recipients == ()


def test_edits_of_the_header(mail: Mail) -> None:
    rule("""
      mail.header["Subject"] = "[x] " .. mail.header["Subject"]
      mail.header:prepend("X-First", "1")
      mail.header:add("X-Last", 2)
      mail.header.Received = nil
      mail.header:remove("x-none")
    """)(mail)
    assert list(mail.header) == [("X-First", "1"), ("Subject", "[x] hello"), ("X-Last", "2")]


def test_edits_of_the_envelope(mail: Mail) -> None:
    rule("""
      mail.via = "queue"
      mail.recipients[1].via = "other"
      mail.client.relay = true
      mail.sender = "new@example.org"
      mail:add_recipient("c@example.com").notes.added = true
    """)(mail)
    assert (mail.via, mail.recipients[0].via, mail.client.relay, str(mail.sender)) == ("queue", "other", True, "new@example.org")
    assert mail.recipients[2].notes.added is True


def test_edits_of_the_body(mail: Mail) -> None:
    rule("mail.body:append('third\\r\\n')")(mail)
    assert mail.raw().endswith(b"second\r\nthird\r\n")


def test_notes_hold_plain_values(mail: Mail) -> None:
    rule("mail.notes.n = 1 mail.notes.list = {1, 'x', {true}} mail.notes.t = {a = {b = 1.5}} mail.notes.s = set{'q'}")(mail)
    assert [mail.notes[name] for name in ("n", "list", "t", "s")] == [1, [1, "x", [True]], {"a": {"b": 1.5}}, {"q"}]


def test_notes_of_python_rules_are_read(mail: Mail) -> None:
    mail.notes.seen = {"list": [1, 2], "set": {"q"}, "text": "t"}
    assert said(mail, "#mail.notes.seen.list .. tostring(mail.notes.seen.set.q) .. tostring(mail.notes.seen.set.r)") == "2truenil"
    rule("mail.notes.seen = nil")(mail)
    assert mail.notes.seen is None


def test_results(mail: Mail) -> None:
    rule("mail.results:add('mx', 'pass', {host = 'mx.example'}) mail.client.results:add('rdns')")(mail)
    assert str(mail.results.get("mx")) == "mx=pass host=mx.example"
    assert said(mail, "mail.results:get('mx').value .. mail.results:get('mx').keys.host") == "passmx.example"
    assert str(mail.client.results) == "rdns=pass"


@pytest.mark.parametrize(
    ("statement", "told"),
    [
        ("local x = mail.sendr", 'mail has no "sendr"; did you mean "sender"?'),
        ("local x = mail.client.adress", 'client has no "adress"; did you mean "address"?'),
        ("mail.id = 'x'", "mail.id cannot be assigned"),
        ("mail.vai = 'x'", 'mail has no "vai"; did you mean "via"?'),
        ("mail.client.notes = {}", "client.notes cannot be assigned"),
        ("local x = mail.recipients.domain", 'a list is indexed by a number, not by "domain"; ask it with :has(x)'),
        ("mail.recipients[1] = 'x@example.com'", "this list cannot be changed"),
        ("mail.params.SIZE = 1", "this table cannot be changed; assign a new one"),
        ("mail.header[1] = 'x'", "a header is indexed by a name, not by a number"),
        ("mail.header.Subject = 'a\\r\\nBcc: x'", "CR"),
        ("mail.notes.f = print or function() end", "a function cannot be given to an assignment"),
        ("mail.notes.m = mail", "a note holds plain values"),
        ("local x = mail[{}]", "an object is indexed by a name or a number, not by a table"),
        ("local x = #mail", "a mail has no length"),
        ("for x in pairs(mail) do end", "pairs(): a mail is no list"),
        ("mail()", "a mail cannot be called"),
        ("mail.recipients.has(1)", 'methods take a colon: "object:has(...)"'),
        ("return 1", "on_data returned a number, not a verdict"),
        ("return mail", "on_data returned a mail, not a verdict"),
        ("mail.recipients.has('x')", 'methods take a colon: "object:has(...)"'),
        ("mail:add_recipient('nonsense')", ""),
        ("mail:add_recipient()", ""),
        ("mail:ad_recipient('a@b.example')", 'mail has no "ad_recipient"; did you mean "add_recipient"?'),
        ("local x = mail.__class__", 'mail has no "__class__"'),
        ("local x = mail._sender", 'mail has no "_sender"'),
        ("setmetatable(mail, {})", "cannot change a protected metatable"),
    ],
)
def test_mistakes_are_told_with_a_line(mail: Mail, statement: str, told: str) -> None:
    assert told in refused(mail, statement)


def test_a_fact_that_is_not_there_yet() -> None:
    mail = Mail("m1", a_client(), parse_address("a@b.example"))
    assert refused(mail, "local x = mail.header") == "mail.header is there from on_header on"


def test_a_mistake_can_be_caught(mail: Mail) -> None:
    verdict = rule("local ok, err = pcall(function() return mail.sendr end) return deny(err)")(mail)
    assert verdict.text == 'a.lua:2: mail has no "sendr"; did you mean "sender"?'


def test_text_keeps_every_octet(mail: Mail) -> None:
    mail.notes.bad = b"caf\xc3\xa9 \xff".decode("utf-8", "surrogateescape")
    rule("mail.notes.length = #mail.notes.bad mail.notes.again = mail.notes.bad mail.notes.octet = mail.notes.bad:byte(-1)")(mail)
    assert (mail.notes.length, mail.notes.octet, mail.notes.again) == (7, 255, mail.notes.bad)


def test_large_values_come_whole_or_not_at_all(mail: Mail) -> None:
    body = b"x" * 3_000_000 + b"\r\n"
    raw = RAW[: end_of_header(RAW)] + body
    mail.arrived(Ledger(bytes_body(raw), HeaderBlock.parse(RAW[: end_of_header(RAW)])), True)
    assert said(mail, "#mail:raw()") == str(len(raw))
    assert said(mail, "#mail.body:bytes()") == str(len(body))
    assert "not enough memory" in refused(mail, "local t = {} for i = 1, 9 do t[i] = mail:raw() end")


# the client's name may have to be looked up


def test_the_clients_name_waits_at_a_door_and_is_asked_once(mail: Mail) -> None:
    asked = []

    def lookup(address: str) -> tuple[str | None, bool]:
        asked.append(address)
        return "host.example", False

    put(mail, "client", a_client(lookup))
    assert said(mail, "mail.client.name .. mail.client.name") == "host.examplehost.example"
    assert said(mail, "mail.client.name") == "host.example"
    assert asked == ["192.0.2.7"]


def test_arguments_that_are_plain_values() -> None:
    source = b"function on_ehlo(client, name) return deny(client.address .. ' ' .. name .. ' ' .. #name) end"
    hook = LuaRule(source, "a", "a.lua", {}, {}).hooks["on_ehlo"]
    assert hook(a_client(), "gr\u00fcn.example").text == "192.0.2.7 gr\u00fcn.example 13"  # type: ignore[union-attr]


def test_an_argument_that_is_nothing() -> None:
    source = b"function on_deny(client, mail, verdict) return mail == nil and deny(verdict.text .. verdict.code) end"
    lua = LuaRule(source + b"\nfunction on_load() return deny('first') end", "a", "a.lua", {}, {})
    first = lua.hooks["on_load"]()
    assert lua.hooks["on_deny"](a_client(), None, first).text == "first550"  # type: ignore[union-attr]


# doors give what Lua can have


class Exchanger(NamedTuple):
    preference: int
    host: str


def test_what_a_door_gives(mail: Mail) -> None:
    answers = {
        "mx": lambda name: (Exchanger(10, f"mx.{name}"), Exchanger(20, "mx2")),
        "octets": lambda: b"\x00\xff",
        "nothing": lambda: None,
        "table": lambda: {"a": [1, {"b": "c"}]},
        "lines": lambda: iter("xyz"),
    }
    assert said(mail, "#mx(mail.sender.domain) .. mx('a')[1].host .. mx('a')[2][1]", **answers) == "2mx.a20"
    assert said(mail, "octets():byte(2)", **answers) == "255"
    assert said(mail, "nothing()", **answers) == "nil"
    assert said(mail, "table().a[2].b", table=answers["table"]) == "c"
    assert rule("local t = '' for x in lines() do t = t .. x end return deny(t)", **answers)(mail).text == "xyz"


def test_what_a_door_may_not_give(mail: Mail) -> None:
    assert refused(mail, "local x = odd()", odd=object) == "odd: a object has no place in Lua"
    assert refused(mail, "local x = odd()", odd=lambda: 1 << 64) == "odd: an integer of more than 64 bits"


def test_a_door_is_given_our_objects_and_named_values(mail: Mail) -> None:
    got: list[Any] = []

    def door(*arguments: Any, **named: Any) -> None:
        got.append((arguments, named))

    rule("door(mail, mail.recipients[1], {1, mail.sender}, {flag = true})", door=door)(mail)
    assert got == [((mail, mail.recipients[0], [1, mail.sender]), {"flag": True})]


@pytest.fixture
def kept(mail: Mail) -> Iterator[Callable[[str], Any]]:
    source = """
      function on_data(mail)
        kept, header, recipients, method = mail, mail.header, mail.recipients, mail.raw
        loop = pairs(mail.recipients)
      end
      function on_load() return deny(tostring(%s)) end
    """

    def use(expression: str) -> Any:
        lua = LuaRule((source % expression).encode(), "a", "a.lua", {}, {"door": repr})
        lua.hooks["on_data"](mail)
        return lua.hooks["on_load"]()

    yield use


@pytest.mark.parametrize(
    "expression",
    [
        "kept.id",
        "kept",
        "header['Subject']",
        "#recipients",
        "recipients[1]",
        "recipients:has('x')",
        "loop()",
        "method(kept)",
        "door(kept)",
        "pairs(kept)",
        "'x' .. kept",
    ],
)
def test_objects_die_with_their_call(kept: Callable[[str], Any], expression: str) -> None:
    with pytest.raises(LuaError, match="this object belongs to a hook call that has ended"):
        kept(expression)


def test_an_assignment_to_a_dead_object(mail: Mail) -> None:
    source = b"function on_data(mail) kept = mail end function on_load() kept.via = 'x' end"
    lua = LuaRule(source, "a", "a.lua", {}, {})
    lua.hooks["on_data"](mail)
    with pytest.raises(LuaError, match="belongs to a hook call that has ended"):
        lua.hooks["on_load"]()
    assert mail.via is None


def test_objects_that_are_there_in_every_call(mail: Mail) -> None:
    source = b"function on_data(mail) shared.n = (shared.n or 0) + 1 return deny(shared.n) end"
    lua = LuaRule(source, "a", "a.lua", {}, {}, objects={"shared": mail.notes})
    assert [lua.hooks["on_data"](mail).text for _ in range(3)] == ["1", "2", "3"]  # type: ignore[union-attr]


def test_copies_in_lua() -> None:
    source = """
function on_message(mail)
  mail:copy_for({ mail.recipients[1], "c@example.com" }, { name = "vip" }).header["X-Copy"] = "1"
  for _, copy in pairs(mail.copies) do
    copy.body:append("For you.\\n")
    mail.notes.told = copy.name .. " " .. #copy.recipients .. " " .. tostring(copy)
  end
  mail.notes.same = mail.recipients[1].copy == mail:copy_for("c@example.com", { name = "vip" })
  mail.notes.none = mail.recipients[2].copy == nil
end
"""
    recipients = ["a@example.com", "b@example.com", "c@example.com"]
    outcome = run_rule(source, "on_message", language="lua", recipients=recipients, message=b"Subject: x\r\n\r\nHello.\r\n")
    assert [event for event, _ in outcome.logged] == ["rule_live"]
    assert outcome.mail.notes.told == "vip 2 for <a@example.com>, <c@example.com>"
    assert (outcome.mail.notes.same, outcome.mail.notes.none) == (True, True)
    assert outcome.mail.copies[0].raw() == b"Subject: x\r\nX-Copy: 1\r\n\r\nHello.\r\nFor you.\r\n"
    assert outcome.message == b"Subject: x\r\n\r\nHello.\r\n"
