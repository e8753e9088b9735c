"""access: who is let in and who is refused, and what counts when both lists have something to say."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from smtpproxy.dns.zone import Zone
from smtpproxy.testing.client import FakeClient
from smtpproxy.testing.front import Front
from smtpproxy.testing.process import RunningServer
from smtpproxy.testing.rules import Outcome
from smtpproxy.testing.upstream import FakeUpstream
from smtpproxy.testing.waiting import until

Ask = Callable[..., Outcome]
CLIENT = {"address": "192.0.2.7", "name": "mail.bad.example"}


@pytest.mark.parametrize(
    ("settings", "reply"),
    [
        ({}, ""),
        ({"deny_networks": ["192.0.2.0/24"]}, "554 5.7.1 Your server is not welcome here"),
        ({"deny_networks": ["192.0.2.0/24 See https://example.com/blocked"]}, "554 5.7.1 See https://example.com/blocked"),
        ({"deny_networks": ["192.0.2.0/24"], "allow_networks": ["192.0.2.7"]}, ""),
        ({"deny_networks": ["192.0.2.7"], "allow_networks": ["192.0.2.0/24"]}, "554 5.7.1 Your server is not welcome here"),
        ({"deny_networks": ["192.0.2.7"], "allow_networks": ["192.0.2.7"]}, ""),
        ({"allow_networks": ["198.51.100.0/24"]}, ""),
        ({"allow_networks": ["198.51.100.0/24"], "deny_networks": ["0.0.0.0/0"]}, "554 5.7.1 Your server is not welcome here"),
        ({"deny_names": [".bad.example"]}, "554 5.7.1 Your server is not welcome here"),
        ({"deny_names": ["bad.example"]}, ""),
        ({"deny_names": [".bad.example"], "allow_names": ["mail.bad.example"]}, ""),
        ({"deny_names": [".bad.example"], "allow_networks": ["192.0.2.0/24"]}, ""),
        ({"deny_networks": ["192.0.2.0/24"], "allow_names": ["mail.bad.example"]}, "554 5.7.1 Your server is not welcome here"),
    ],
)
def test_clients(ask: Ask, settings: dict[str, Any], reply: str) -> None:
    assert ask("access", "on_connect", settings=settings, client=CLIENT).reply == reply


def test_a_name_is_looked_up_only_for_a_list_of_names(ask: Ask) -> None:
    outcome = ask("access", "on_connect", settings={"deny_networks": ["10.0.0.0/8"]}, client={"address": "192.0.2.7"})
    assert not outcome.client.name_known
    zone = Zone({"7.2.0.192.in-addr.arpa": {"PTR": ["a.bad.example"]}, "a.bad.example": {"A": ["192.0.2.7"]}})
    facts = {"client": {"address": "192.0.2.7"}, "zone": zone}
    assert ask("access", "on_connect", settings={"deny_names": [".bad.example"]}, **facts).reply.startswith("554")


@pytest.mark.parametrize(
    ("name", "reply"),
    [("mx.example.com", "550 5.7.1 That is me"), ("MX.Example.Com", "550 5.7.1 That is me"), ("client.example", "")],
)
def test_helo_names(ask: Ask, name: str, reply: str) -> None:
    assert ask("access", "on_ehlo", settings={"deny_helo": ["mx.example.com That is me"]}, name=name).reply == reply


@pytest.mark.parametrize(
    ("sender", "reply"),
    [
        ("a@bad.example", "550 5.7.1 This sender is not welcome here"),
        ("friend@bad.example", ""),
        ("a@sub.bad.example", ""),
        ("a@other.example", ""),
        ("", "550 5.7.1 No bounces"),
    ],
)
def test_senders(ask: Ask, sender: str, reply: str) -> None:
    settings = {"deny_senders": ["bad.example", "<> No bounces"], "allow_senders": ["Friend@bad.example"]}
    assert ask("access", "on_mail", settings=settings, sender=sender).reply == reply


@pytest.mark.parametrize(
    ("rcpt", "refused"),
    [
        ("old@example.com", True),
        ("new@example.com", False),
        ("a@gone.example.com", True),
        ("postmaster@gone.example.com", False),
        ("postmaster@closed.example", True),
    ],
)
def test_recipients(ask: Ask, rcpt: str, refused: bool) -> None:
    settings = {"deny_recipients": ["old@", ".example.com", "postmaster@closed.example"], "allow_recipients": ["new@example.com"]}
    outcome = ask("access", "on_rcpt", settings=settings, recipients=[rcpt])
    assert bool(outcome.reply) is refused
    assert (outcome.mail.results.get("access") is not None) is refused


def test_a_client_that_is_allowed_is_not_asked_for_helo_and_sender(front: Callable[..., Front]) -> None:
    lists = {"deny_helo": ["client.example"], "deny_senders": ["client.example"], "deny_recipients": ["b@example.com"]}
    assert front(access=lists).client("NOOP").send("EHLO client.example").code == 550
    client = front(access={**lists, "allow_networks": ["127.0.0.0/8"]}).client()
    assert client.send("MAIL FROM:<a@client.example>").code == 250
    assert client.send("RCPT TO:<b@example.com>") == "550 5.7.1 This recipient is not welcome here"
    assert client.send("RCPT TO:<c@example.com>").code == 250


def test_the_entry_stands_in_the_results(ask: Ask) -> None:
    outcome = ask("access", "on_mail", settings={"deny_senders": [".example"]}, sender="a@bad.example")
    found = outcome.mail.results.get("access")
    assert (found.value, found.keys) == ("fail", {"entry": ".example"})


def test_files_are_live_and_a_broken_line_changes_nothing(
    start: Callable[..., RunningServer], upstream: FakeUpstream, tmp_path: Path
) -> None:
    (tmp_path / "server0").mkdir()
    blocked = tmp_path / "server0" / "blocked"
    blocked.write_text("a@bad.example\n")
    server = start(
        f'[listener.mx]\nbind = "127.0.0.1:0"\nhandoff = "inbound"\n[handoff.inbound]\nkind = "proxy"\n'
        f'to = ["{upstream.address}"]\n[rule.access]\nenabled = true\ndeny_senders = ["file:blocked"]\n'
    )

    def answers(sender: str) -> int:
        with FakeClient.greeted(server.port) as client:
            return client.send(f"MAIL FROM:<{sender}>").code

    assert (answers("a@bad.example"), answers("b@bad.example")) == (550, 250)
    blocked.write_text("b@bad.example Not you\n# and nobody else\n")
    until(lambda: "list_live" in server.log, what="the list is live")
    assert (answers("a@bad.example"), answers("b@bad.example")) == (250, 550)
    blocked.write_text("c@bad.example\n@@\n")
    until(lambda: "list_broken" in server.log, what="the list is broken")
    assert "blocked:2: " in server.log
    assert (answers("b@bad.example"), answers("c@bad.example")) == (550, 250)
