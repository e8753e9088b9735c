from __future__ import annotations

from pathlib import Path

import pytest

from smtpproxy.dns.zone import Zone
from smtpproxy.testing.rules import RuleBroken, run_rule

LOCAL = """
from smtpproxy.script import deny, settings

class Settings:
    people: set[str] = {"alice"}

def on_rcpt(mail, rcpt):
    if rcpt.local_part not in settings.people:
        return deny("No such user", code="550 5.1.1")
"""


def test_the_verdict_of_a_hook() -> None:
    outcome = run_rule(LOCAL, "on_rcpt", recipients=["nobody@example.com"])
    assert outcome.reply == "550 5.1.1 No such user"


def test_no_verdict_means_continue() -> None:
    assert run_rule(LOCAL, "on_rcpt", recipients=["alice@example.com"]).verdict is None


def test_settings_are_those_of_the_configuration() -> None:
    outcome = run_rule(LOCAL, "on_rcpt", recipients=["bob@example.com"], settings={"people": ["bob"]})
    assert outcome.verdict is None


def test_a_rule_in_lua() -> None:
    source = """
    function on_mail(mail, sender)
      if sender.domain == "bad.example" then return deny("Not from there") end
    end
    """
    outcome = run_rule(source, "on_mail", language="lua", sender="a@bad.example")
    assert outcome.reply == "550 5.7.1 Not from there"


def test_a_file(tmp_path: Path) -> None:
    rule = tmp_path / "10-local.py"
    rule.write_text(LOCAL)
    tmp_path.chmod(0o755)
    assert run_rule(rule, "on_rcpt", recipients=["nobody@example.com"]).reply.startswith("550 5.1.1")


def test_the_message_as_the_rule_left_it() -> None:
    source = 'def on_message(mail):\n    mail.header["Subject"] = "[list] " + mail.header["Subject"]\n'
    outcome = run_rule(source, "on_message", message=b"Subject: hello\r\nTo: b@example.com\r\n\r\ntext\r\n")
    assert b"Subject: [list] hello\r\n" in outcome.message
    assert outcome.message.endswith(b"\r\n\r\ntext\r\n")


def test_the_clients_facts_are_given_and_kept() -> None:
    source = """
from smtpproxy.script import accept

def on_connect(client):
    client.notes.seen = client.address
    if client.name == "friend.example":
        return accept()
"""
    outcome = run_rule(source, "on_connect", client={"address": "192.0.2.7", "name": "friend.example"})
    assert outcome.verdict is not None and outcome.verdict.kind == "accept"
    assert outcome.client.notes.seen == "192.0.2.7"


def test_the_dns_answers_from_a_zone() -> None:
    source = """
from smtpproxy.script import deny, dns

def on_mail(mail, sender):
    if not dns.mx(sender.domain):
        return deny("No answer could reach you", code="550 5.1.8")
"""
    zone = Zone({"good.example": {"MX": [[10, "mx.good.example"]]}})
    assert run_rule(source, "on_mail", sender="a@good.example", zone=zone).verdict is None
    assert run_rule(source, "on_mail", sender="a@bad.example", zone=zone).reply.startswith("550 5.1.8")


def test_the_name_of_the_client_comes_from_the_zone_too() -> None:
    source = "def on_connect(client):\n    client.notes.name = client.name\n"
    zone = Zone({"1.2.0.192.in-addr.arpa": {"PTR": ["a.example"]}, "a.example": {"A": ["192.0.2.1"]}})
    assert run_rule(source, "on_connect", zone=zone).client.notes.name == "a.example"


def test_other_arguments_of_a_hook() -> None:
    source = (
        "from smtpproxy.script import deny\n"
        "def on_ehlo(client, name):\n    if name == 'liar.example':\n        return deny()\n"
    )
    assert run_rule(source, "on_ehlo", name="liar.example").reply.startswith("550 5.7.1")


def test_a_failure_is_the_declared_verdict_and_is_logged() -> None:
    outcome = run_rule("def on_rcpt(mail, rcpt):\n    raise KeyError('x')\n", "on_rcpt")
    assert outcome.reply.startswith("451 4.")
    assert any("KeyError" in str(fields) for _, fields in outcome.logged)


def test_a_rule_that_does_not_load_says_why() -> None:
    with pytest.raises(RuleBroken, match=r"rule\.py:1"):
        run_rule("def on_rcpt(mail rcpt):\n    pass\n", "on_rcpt")


def test_a_hook_that_the_rule_does_not_have() -> None:
    with pytest.raises(LookupError, match="on_data"):
        run_rule(LOCAL, "on_data")
