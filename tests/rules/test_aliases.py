"""aliases: whom a recipient stands for, and what the next server hears of it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from smtpproxy.testing.front import Front
from smtpproxy.testing.handoffs import FakeOutlet
from smtpproxy.testing.process import RunningServer
from smtpproxy.testing.rules import Outcome, RuleBroken
from smtpproxy.testing.upstream import FakeUpstream
from smtpproxy.testing.waiting import until
from smtpproxy.wire.reply import Reply

Ask = Callable[..., Outcome]
MESSAGE = b"From: a@client.example\r\n\r\nHello\r\n"

ALIASES = {
    "sales@example.com": ["ann@example.com", "bob@example.net"],
    "info@example.com": "sales@example.com",
    "copy@example.com": ["copy@example.com", "archive@example.org"],
    "one@example.com": "two@example.com",
    "two@example.com": "one@example.com",
    "boss@example.com": "ceo+inbox@example.com",
    "old.example": "@example.com",
    "box.example": "all@example.com",
    ".sub.example": "@example.net",
    "abuse@": "security@example.com",
}
CASES = [
    ("sales@example.com", ["ann@example.com", "bob@example.net"]),
    ("SALES@Example.com", ["ann@example.com", "bob@example.net"]),
    ("info@example.com", ["ann@example.com", "bob@example.net"]),
    ("sales+spring@example.com", ["ann+spring@example.com", "bob+spring@example.net"]),
    ("boss+x@example.com", ["ceo+inbox@example.com"]),
    ("copy@example.com", ["copy@example.com", "archive@example.org"]),
    ("copy+x@example.com", ["copy+x@example.com", "archive+x@example.org"]),
    ("one@example.com", ["one@example.com"]),
    ("anybody@old.example", ["anybody@example.com"]),
    ("any+x@old.example", ["any+x@example.com"]),
    ("sales@old.example", ["ann@example.com", "bob@example.net"]),
    ("x@box.example", ["all@example.com"]),
    ("x@a.sub.example", ["x@example.net"]),
    ("abuse@anywhere.example", ["security@example.com"]),
    ("nobody@example.com", ["nobody@example.com"]),
    ("+x@example.com", ["+x@example.com"]),
]


@pytest.mark.parametrize(("given", "wanted"), CASES)
def test_whom_an_address_stands_for(front: Callable[..., Front], given: str, wanted: list[str]) -> None:
    out = FakeOutlet("out", live=True)
    grant = {"05-all.py": "def on_rcpt(mail, rcpt): rcpt.relay = True\n"}
    client = front(out, rules=grant, aliases={"aliases": ALIASES}).client()
    client.send("MAIL FROM:<a@client.example>")
    assert client.send(f"RCPT TO:<{given}>").code == 250
    assert client.message(MESSAGE).code == 250
    assert out.delivered[0].recipients == wanted


def test_more_targets_join_when_the_message_comes_and_none_twice(front: Callable[..., Front]) -> None:
    out = FakeOutlet("out", live=True)
    team = {"team@example.com": ["ann@example.com", "bob@example.com", "cid@example.com"]}
    client = front(out, aliases={"aliases": team}).client()
    client.send("MAIL FROM:<a@client.example>")
    for rcpt in ("bob@example.com", "team@example.com"):
        assert client.send(f"RCPT TO:<{rcpt}>").code == 250
    assert client.message(MESSAGE).code == 250
    assert out.delivered[0].recipients == ["bob@example.com", "ann@example.com", "cid@example.com"]


def test_nobody_gets_the_mail_of_an_alias_that_was_refused(front: Callable[..., Front]) -> None:
    out = FakeOutlet("out", live=True)
    out.on("recipient", Reply(550, "5.1.1", "No such user"), argument="ann@example.com")
    client = front(out, aliases={"aliases": {"team@example.com": ["ann@example.com", "bob@example.com"]}}).client()
    client.send("MAIL FROM:<a@client.example>")
    assert client.send("RCPT TO:<team@example.com>").code == 550
    assert client.send("RCPT TO:<cid@example.com>").code == 250
    assert client.message(MESSAGE).code == 250
    assert out.delivered[0].recipients == ["cid@example.com"]


def test_a_target_that_is_refused_at_the_message_refuses_it(front: Callable[..., Front]) -> None:
    out = FakeOutlet("out", live=True)
    out.on("recipient", Reply(550, "5.1.1", "No such user"), argument="bob@example.com")
    client = front(out, aliases={"aliases": {"team@example.com": ["ann@example.com", "bob@example.com"]}}).client()
    client.send("MAIL FROM:<a@client.example>")
    assert client.send("RCPT TO:<team@example.com>").code == 250
    assert client.message(MESSAGE).code == 550
    assert out.delivered == []


@pytest.mark.parametrize(
    ("rcpt", "code"),
    [
        ("sales@example.com", 250),  # leads to another's domain
        ("x@old.example", 250),  # is not in [relaying] domains, but named
        ("abuse@stranger.example", 554),  # anywhere is not named
        ("other@stranger.example", 554),
    ],
)
def test_relay_permission(front: Callable[..., Front], rcpt: str, code: int) -> None:
    aliases = {"sales@example.com": "bob@elsewhere.example", "old.example": "@elsewhere.example", "abuse@": "s@elsewhere.example"}
    client = front(aliases={"aliases": aliases}).client()
    client.send("MAIL FROM:<a@client.example>")
    assert client.send(f"RCPT TO:<{rcpt}>").code == code


def test_a_file_of_aliases_is_live(front: Callable[..., Front], tmp_path: Path) -> None:
    out = FakeOutlet("out", live=True)
    (tmp_path / "aliases").write_text("# ours\nteam@example.com  ann@example.com, bob@example.com\n")
    made = front(out, aliases={"files": ["aliases"]})

    def sent() -> list[str]:
        client = made.begun(("MAIL FROM:<a@client.example>", "RCPT TO:<team@example.com>"))
        assert client.message(MESSAGE).code == 250
        return out.delivered[-1].recipients

    assert sent() == ["ann@example.com", "bob@example.com"]
    (tmp_path / "aliases").write_text("team@example.com cid@example.com\n")
    until(lambda: bool(made.logged("list_live")), what="the file is live")
    assert sent() == ["cid@example.com"]
    (tmp_path / "aliases").write_text("team@example.com cid@example.com,\n")
    until(lambda: bool(made.logged("list_broken")), what="the file is broken")
    assert made.logged("list_broken")[0]["error"].startswith("aliases:1: ")
    assert sent() == ["cid@example.com"]


@pytest.mark.parametrize("aliases", [{"a@example.com": ""}, {"a@example.com": "nobody"}, {"a@@": "b@example.com"}])
def test_what_is_no_alias_is_refused_at_the_start(ask: Ask, aliases: dict[str, Any]) -> None:
    with pytest.raises(RuleBroken, match="ListError: entry 1: "):
        ask("aliases", "on_rcpt", settings={"aliases": aliases})


@pytest.mark.parametrize(("plus", "wanted"), [("-", "ann-spring@example.com"), ("", "sales-spring@example.com")])
def test_other_separators(front: Callable[..., Front], plus: str, wanted: str) -> None:
    out = FakeOutlet("out", live=True)
    made = front(out, aliases={"aliases": {"sales@example.com": "ann@example.com"}, "plus": plus})
    client = made.begun(("MAIL FROM:<a@client.example>", "RCPT TO:<sales-spring@example.com>"))
    assert client.message(MESSAGE).code == 250
    assert out.delivered[0].recipients == [wanted]


def test_over_lmtp_an_alias_with_two_targets_is_refused_for_now_and_nobody_gets_it_alone(
    start: Callable[..., RunningServer],
) -> None:
    with FakeUpstream(lmtp=True) as upstream:
        server = start(
            '[listener.mx]\nbind = "127.0.0.1:0"\nhandoff = "inbound"\n[relaying]\ndomains = ["example.com"]\n'
            f'[handoff.inbound]\nkind = "relay"\nto = ["{upstream.address}"]\n[rule.aliases]\nenabled = true\n'
            '[rule.aliases.aliases]\n"one@example.com" = "ann@example.com"\n'
            '"two@example.com" = ["ann@example.com", "bob@example.com"]\n'
        )

        def sent(rcpt: str) -> int:
            client = server.client()
            for command in ("MAIL FROM:<a@client.example>", f"RCPT TO:<{rcpt}>"):
                assert client.send(command).code == 250
            return client.message(MESSAGE).code

        assert (sent("one@example.com"), sent("two@example.com")) == (250, 452)
        assert [message.recipients for message in upstream.messages] == [["ann@example.com"]]
