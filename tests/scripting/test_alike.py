"""What becomes of a rule does not depend on its language."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import gevent
import pytest

from smtpproxy.config.schema import Breaker
from smtpproxy.facts.client import Client, ListenerFacts
from smtpproxy.facts.mail import Mail
from smtpproxy.message.body import bytes_body
from smtpproxy.message.edits import Ledger
from smtpproxy.message.header import HeaderBlock
from smtpproxy.wire.address import parse_address

LANGUAGES = pytest.mark.parametrize("language", ["py", "lua"])

FORWARDED = (
    b"Content-Type: multipart/mixed; boundary=o\r\n\r\n--o\r\nContent-Type: message/rfc822\r\n\r\n"
    b"Subject: inner\r\nContent-Type: multipart/mixed; boundary=i\r\n\r\n--i\r\n"
    b'Content-Type: application/x; name="=?UTF-8?Q?t=C3=BCr.exe?="\r\nContent-Disposition: attachment\r\n\r\nx\r\n'
    b"--i--\r\n--o--\r\n"
)


def hook(language: str, name: str, arguments: str, body: str) -> str:
    """One hook whose body is a line that both languages understand."""
    if language == "py":
        return f"from smtpproxy.script import *\ndef {name}({arguments}):\n    {body}\n"
    return f"function {name}({arguments})\n  {body}\nend\n"


def a_mail() -> Mail:
    mail = Mail("s1.1", Client("s1", "192.0.2.1", 25, ListenerFacts("mx")), parse_address("a@example.com"))
    head, rest = FORWARDED.split(b"\r\n\r\n", 1)
    mail.arrived(Ledger(bytes_body(head + b"\r\n\r\n" + rest), HeaderBlock.parse(head + b"\r\n\r\n")), complete=True)
    return mail


@LANGUAGES
def test_on_deny_overrules(scripts: Any, language: str) -> None:
    scripts.write("a.py", "from smtpproxy.script import deny\ndef on_rcpt(mail, rcpt): return deny('No')")
    scripts.write(f"b.{language}", hook(language, "on_deny", "client, mail, verdict", "return accept()"))
    scripts.write("c.py", "def on_rcpt(mail, rcpt): rcpt.append('c')")
    scripts.rules.load()
    asked: list[str] = []
    assert scripts.rcpt(asked) == "continue"
    assert asked == ["c"]


@LANGUAGES
def test_who_has_logged_in_is_skipped(scripts: Any, language: str) -> None:
    scripts.restart({"a": {"skip": ["authenticated"]}})
    scripts.write(f"a.{language}", hook(language, "on_rcpt", "mail, rcpt", "return deny('No')"))
    scripts.rules.load()
    assert scripts.rcpt().startswith("deny")
    scripts.call.client = SimpleNamespace(login="ann", trusted=False)
    assert scripts.rcpt() == "continue"


@LANGUAGES
def test_a_listener_has_the_rules_that_it_names(scripts: Any, language: str) -> None:
    scripts.restart(listeners={"mx": ["!a"], "out": ["a"]})
    scripts.write(f"a.{language}", hook(language, "on_rcpt", "mail, rcpt", "return deny('No')"))
    scripts.write("b.py", "def on_rcpt(mail, rcpt): pass")
    scripts.rules.load()
    assert [[entry.rule.name for entry in scripts.rules.table.chains[name].on_rcpt] for name in ("mx", "out")] == [["b"], ["a"]]


FAILS = {"py": "1 / 0", "lua": "error('no')"}
SPINS = {"py": "while True: pass", "lua": "while true do end"}
WAITS = {"py": "dns.mx('example.com')", "lua": "dns.mx('example.com')"}
OVERRUNS = {"wall": (WAITS, {"wall": "50ms"}), "cpu": (SPINS, {"cpu": "50ms"})}
DECLARED = pytest.mark.parametrize("declared", ["defer", "deny", "continue"])


def by_hook(language: str, **verdicts: str) -> str:
    """A table of verdicts by hook, in either language."""
    if language == "py":
        return repr(verdicts)
    return "{ " + ", ".join(f"{name} = '{verdict}'" for name, verdict in verdicts.items()) + " }"


def failing(scripts: Any, language: str, declared: str, line: str, settings: dict[str, Any] | None = None) -> None:
    """A rule whose on_data and on_header are this line, in a server with a quarantine."""
    scripts.restart({"a": settings or {}}, handoffs={"inbound": "proxy", "jail": "quarantine"})
    scripts.doors["dns"] = SimpleNamespace(query=lambda *_: gevent.sleep(10))
    both = hook(language, "on_data", "mail", line) + hook(language, "on_header", "mail", line)
    scripts.write(f"a.{language}", f"{declared}\n{both}")
    assert not scripts.rules.load().problems
    scripts.rules.start(watch=False)
    scripts.call.mail = a_mail()


def answer(scripts: Any, hook: str = "on_data") -> str:
    verdict = scripts.ask(hook, scripts.call.mail)
    return verdict.kind if verdict is not None else f"to {scripts.call.mail.held}" if scripts.call.mail.held else "continue"


@LANGUAGES
@DECLARED
def test_an_error_is_the_verdict_that_is_declared_for_it(scripts: Any, language: str, declared: str) -> None:
    other = "deny" if declared != "deny" else "defer"
    failing(scripts, language, f"on_error = '{declared}'\non_timeout = '{other}'", FAILS[language])
    assert answer(scripts) == declared


@LANGUAGES
@DECLARED
@pytest.mark.parametrize("time", OVERRUNS)
def test_an_overrun_is_the_verdict_that_is_declared_for_it(scripts: Any, language: str, declared: str, time: str) -> None:
    lines, budget = OVERRUNS[time]
    other = "deny" if declared != "deny" else "defer"
    failing(scripts, language, f"on_error = '{other}'\non_timeout = '{declared}'", lines[language], budget)
    assert answer(scripts) == declared
    (record,) = scripts.logged("rule_failed")
    assert record["at"] == {"py": "a.py:5", "lua": "a.lua:3" if time == "wall" else "a.lua:4"}[language]
    assert record["verdict"] == declared and f"over its {'CPU' if time == 'cpu' else 'wall'} budget" in record["error"]


@LANGUAGES
@pytest.mark.parametrize(("name", "lines"), [("on_error", FAILS), ("on_timeout", SPINS)])
def test_a_failure_may_send_the_mail_into_quarantine(scripts: Any, language: str, name: str, lines: dict[str, str]) -> None:
    failing(scripts, language, f"{name} = 'quarantine'", lines[language], {"cpu": "50ms"})
    assert answer(scripts) == "to jail"
    scripts.call.mail.via = "inbound"
    assert scripts.call.mail.held == "jail", "no rule behind lets it out again"


@LANGUAGES
@pytest.mark.parametrize(("name", "lines"), [("on_error", FAILS), ("on_timeout", SPINS)])
def test_or_each_hook_declares_its_own(scripts: Any, language: str, name: str, lines: dict[str, str]) -> None:
    table = by_hook(language, on_data="deny", on_header="quarantine")
    failing(scripts, language, f"{name} = {table}", lines[language], {"cpu": "50ms"})
    assert [answer(scripts, "on_data"), answer(scripts, "on_header")] == ["deny", "to jail"]


@LANGUAGES
def test_one_that_keeps_failing_is_taken_out(scripts: Any, language: str) -> None:
    scripts.restart(breaker=Breaker(failures=3))
    scripts.write(f"a.{language}", hook(language, "on_rcpt", "mail, rcpt", FAILS[language]))
    scripts.rules.load()
    assert {scripts.rcpt()[:5] for _ in range(6)} == {"defer"}
    assert len(scripts.logged("rule_failed")) == 3
    (tripped,) = scripts.logged("rule_tripped")
    assert (tripped["level"], tripped["rule"], tripped["action"]) == ("error", "a", "remove")


@LANGUAGES
def test_or_the_version_before_comes_back(scripts: Any, language: str) -> None:
    scripts.restart(breaker=Breaker(failures=3, action="rollback"))
    scripts.write(f"a.{language}", hook(language, "on_rcpt", "mail, rcpt", "return deny('as it was')"))
    scripts.rules.load()
    scripts.save(f"a.{language}", hook(language, "on_rcpt", "mail, rcpt", FAILS[language]))
    scripts.refresh()
    assert [scripts.rcpt()[:5] for _ in range(3)] == ["defer"] * 3
    scripts.refresh()
    assert scripts.rcpt() == "deny 550 5.7.1 as it was"
    assert scripts.logged("rule_tripped")[0]["action"] == "rollback"


@LANGUAGES
def test_a_message_in_the_message_is_gone_through(scripts: Any, language: str) -> None:
    number = 1 if language == "py" else 2
    scripts.write(f"a.{language}", hook(language, "on_message", "mail", f"return deny(mail.attachments[{number}].filename)"))
    scripts.rules.load()
    scripts.call.mail = mail = a_mail()
    assert scripts.ask("on_message", mail).text == "tür.exe"


@LANGUAGES
def test_what_the_session_has_come_to(scripts: Any, language: str) -> None:
    client = Client("s1", "192.0.2.1", 25, ListenerFacts("mx"))
    client.errors, client.recipients_refused, client.mails, client.octets = 1, 2, 3, 4
    names = ("errors", "recipients_refused", "mails", "octets")
    told = "".join("%d" for _ in names), ", ".join(f"client.{name}" for name in names)
    text = f"'{told[0]}' % ({told[1]})" if language == "py" else f"string.format('{told[0]}', {told[1]})"
    scripts.write(f"a.{language}", hook(language, "on_ehlo", "client, name", f"return deny({text})"))
    scripts.rules.load()
    assert scripts.ask("on_ehlo", client, "x").text == "1234"
