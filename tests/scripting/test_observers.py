"""Rules that look on."""

from __future__ import annotations

from typing import Any

import gevent
import gevent.event
import pytest

from smtpproxy.facts.client import Client, ListenerFacts
from smtpproxy.facts.delivery import Delivery
from smtpproxy.facts.login import Login
from smtpproxy.facts.mail import Mail
from smtpproxy.facts.missing import put
from smtpproxy.facts.recipient import Recipient
from smtpproxy.message.body import bytes_body
from smtpproxy.message.edits import Ledger
from smtpproxy.message.header import HeaderBlock
from smtpproxy.scripting.observers import observe
from smtpproxy.scripting.snapshot import freeze
from smtpproxy.wire.address import parse_address


def mail_of(sender: str = "a@example.com") -> Mail:
    client = Client("s1", "192.0.2.1", 25, ListenerFacts("mx"), lookup=lambda address: 1 / 0)
    mail = Mail("s1.1", client, parse_address(sender))
    mail.accepted(Recipient(parse_address("b@example.com")))
    raw = b"Subject: one\r\n\r\n"
    mail.arrived(Ledger(bytes_body(raw + b"text\r\n"), HeaderBlock.parse(raw)), complete=True)
    return mail


def test_nobody_looks_on(scripts: Any) -> None:
    scripts.load(a="def on_rcpt(mail, rcpt): pass")
    observe(scripts.chains, "watch_message", scripts.call, mail_of())
    assert not scripts.rules.observers.waiting


def test_they_run_later_and_in_the_background(scripts: Any) -> None:
    scripts.load(a="from smtpproxy.script import log\ndef watch_message(mail): log.info(mail.header['Subject'])")
    observe(scripts.chains, "watch_message", scripts.call, mail_of())
    assert not scripts.logged("rule")
    scripts.rules.start()
    gevent.idle()
    scripts.rules.stop()
    assert [fields["text"] for fields in scripts.logged("rule")] == ["one"]


def test_they_see_what_was(scripts: Any) -> None:
    scripts.load(
        a="from smtpproxy.script import log\ndef watch_message(mail):\n"
        "    log.info(f'{mail.sender} {len(mail.recipients)} {mail.notes.x} {mail.via} {mail.client.name} {len(mail.results)}')"
    )
    mail = mail_of()
    mail.notes.x = 1
    mail.results.add("test")
    observe(scripts.chains, "watch_message", scripts.call, mail)
    mail.notes.x = 2
    mail.via = "elsewhere"
    mail.results.add("another")
    mail.remove_recipient("b@example.com")
    scripts.rules.observers.drain()
    assert scripts.logged("rule")[0]["text"] == "a@example.com 1 1 None None 1"


CHANGES = {
    "python": (
        "mail.via = 'elsewhere'", "mail.sender = ''", "mail.client.relay = True", "mail.notes.x = 1",
        "mail.notes['x'] = 1", "mail.results.add('x')", "mail.client.notes.x = 1", "mail.client.results.add('x')",
        "mail.recipients[0].via = 'elsewhere'", "mail.recipients[0].address = 'c@example.com'",
        "mail.recipients[0].local_part = 'c'", "mail.recipients[0].notes.x = 1",
        "mail.add_recipient('c@example.com')", "mail.remove_recipient('b@example.com')", "mail.skip_rule('b')",
        "mail.copy_for('b@example.com')", "mail.add_copy('c@example.com')", "mail.keep_trace()", "mail.header['Subject'] = 'two'",
        "mail.append_text('x')", "mail.body.append('x')",
    ),
    "lua": (
        "mail.via = 'elsewhere'", "mail.sender = ''", "mail.client.relay = true", "mail.notes.x = 1",
        "mail.results:add('x')", "mail.client.notes.x = 1", "mail.client.results:add('x')",
        "mail.recipients[1].via = 'elsewhere'", "mail.recipients[1].address = 'c@example.com'",
        "mail.recipients[1].notes.x = 1", "mail:add_recipient('c@example.com')",
        "mail:remove_recipient('b@example.com')", "mail:skip_rule('b')", "mail:copy_for('b@example.com')",
        "mail:add_copy('c@example.com')", "mail:keep_trace()", "mail.header['Subject'] = 'two'", "mail:append_text('x')",
        "mail.body:append('x')",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("language", "change"), [(language, change) for language, all in CHANGES.items() for change in all])
def test_what_they_look_on_cannot_be_changed(scripts: Any, language: str, change: str) -> None:
    watcher = {
        "python": ("a.py", f"def watch_message(mail):\n    {change}\n"),
        "lua": ("a.lua", f"function watch_message(mail)\n  {change}\nend\n"),
    }
    scripts.write(*watcher[language])
    scripts.load(b="from smtpproxy.script import log\ndef watch_message(mail): log.info(f'{mail.raw()[:12]} {mail.via}')")
    mail = mail_of()
    observe(scripts.chains, "watch_message", scripts.call, mail)
    scripts.rules.observers.drain()
    (failed,) = scripts.logged("rule_failed")
    assert failed["at"].endswith(":2")
    assert "who looks on" in failed["error"] or "too late" in failed["error"]
    assert scripts.logged("rule")[0]["text"] == "b'Subject: one' None"
    assert (mail.via, mail.notes.x, mail.client.relay, str(mail.recipients[0]), mail.skipped, mail.traced) == (
        None, None, False, "b@example.com", set(), False,
    )  # fmt: skip


def test_what_becomes_of_a_mail_does_not_reach_them() -> None:
    mail = mail_of()
    frozen = freeze(mail)
    mail.header["Subject"] = "two"
    mail.skip_rule("b")
    assert frozen.header["Subject"] == "one"


@pytest.mark.parametrize("early", [True, False])
def test_what_the_client_had_sent_by_then_is_seen(early: bool) -> None:
    client = Client("s1", "192.0.2.1", 25, ListenerFacts("mx"))
    client._ahead = lambda: early
    frozen = freeze(client)
    client._ahead = lambda: not early
    assert frozen.spoke_early is early


def test_other_values_stay_as_they_are() -> None:
    assert freeze("VRFY") == "VRFY"


def test_a_failure_is_logged_and_the_next_one_runs(scripts: Any) -> None:
    scripts.load(
        a="def watch_message(mail): 1/0",
        b="from smtpproxy.script import log\ndef watch_message(mail): log.info('seen')",
    )
    observe(scripts.chains, "watch_message", scripts.call, None)
    scripts.rules.observers.drain()
    assert scripts.logged("rule_failed")[0]["verdict"] == "continue"
    assert scripts.logged("rule")


def test_what_cannot_be_frozen_is_dropped_and_told(scripts: Any) -> None:
    scripts.load(a="def watch_message(mail): pass")
    mail = mail_of()
    put(mail, "ledger", object())
    observe(scripts.chains, "watch_message", scripts.call, mail)
    assert scripts.rules.observers.dropped == 1
    assert scripts.logged("watch_failed")


def test_a_full_queue_drops_and_counts(scripts: Any) -> None:
    scripts.load(a="def watch_message(mail): pass")
    observers = scripts.rules.observers
    observers.limit = 2
    for _ in range(5):
        observe(scripts.chains, "watch_message", scripts.call, None)
    assert (len(observers.waiting), observers.dropped) == (2, 3)
    assert scripts.logged("watch_dropped") == [{"level": "warning", "state": "begun", "waiting": 2}]
    observers.drain()
    assert scripts.logged("watch_dropped")[1:] == [{"level": "warning", "state": "over", "events": 3}]
    for _ in range(3):
        observe(scripts.chains, "watch_message", scripts.call, None)
    assert len(scripts.logged("watch_dropped")) == 3


def test_they_cannot_delay(scripts: Any) -> None:
    scripts.load(a="import gevent.event\ndef watch_message(mail): gevent.event.Event().wait()")
    scripts.rules.start()
    observe(scripts.chains, "watch_message", scripts.call, None)
    gevent.idle()
    observe(scripts.chains, "watch_message", scripts.call, None)
    assert scripts.rules.observers.waiting
    scripts.rules.stop()


def test_a_delivery_is_looked_at_as_it_was() -> None:
    mail = mail_of()
    mail.notes.campaign = "spring"
    delivery = Delivery("q1", mail.sender, mail.recipients, host="mx.example", notes=mail.notes)
    frozen = freeze(delivery)
    mail.notes.campaign = "summer"
    mail.recipients[0].notes.x = 1
    mail.remove_recipient("b@example.com")
    assert (frozen.notes.campaign, frozen.recipients[0].notes.x, frozen.host) == ("spring", None, "mx.example")


def test_what_proves_a_login_is_not_shown_to_those_who_look_on() -> None:
    frozen = freeze(Login("ann", "hunter2", "PLAIN"))
    assert (str(frozen), frozen.password, frozen.mechanism) == ("ann", "", "PLAIN")
