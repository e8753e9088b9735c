"""A client that speaks SMTP -> us -> Dovecot's LMTP: each recipient has Dovecot's own answer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from smtpproxy.testing.instance import one_listener
from smtpproxy.testing.process import RunningServer
from smtpproxy.testing.waiting import until


@pytest.fixture(params=["proxy", "relay"])
def server(dovecot: Callable[..., Any], start: Callable[..., RunningServer], request: pytest.FixtureRequest) -> Any:
    mailboxes = dovecot("alice", "bob")
    running = start(one_listener(request.param, f"lmtp://127.0.0.1:{mailboxes.port}"))
    return running, mailboxes, request.param


def test_a_message_arrives_byte_for_byte(server: Any) -> None:
    running, mailboxes, _ = server
    content = b"Subject: hello\r\nX-Odd:  two  spaces \r\n\r\n.dots\r\n..more\r\n  end  \r\n"
    with running.client() as client:
        client.send("MAIL FROM:<carol@client.test>")
        client.send("RCPT TO:<alice@example.com>")
        assert client.message(content).startswith("250 2.")
    (stored,) = until(lambda: mailboxes.delivered("alice"))
    assert stored.replace(b"\r\n", b"\n").endswith(content.replace(b"\r\n", b"\n"))
    assert b"mx.example.com" in stored


def test_an_unknown_mailbox_has_dovecots_refusal_and_the_others_get_the_message(server: Any) -> None:
    running, mailboxes, kind = server
    with running.client() as client:
        client.send("MAIL FROM:<carol@client.test>")
        if kind == "proxy":
            refused = client.send("RCPT TO:<nobody@example.com>")
            assert refused.startswith("550 5.1.1 ") and "nobody@example.com" in refused
        assert client.send("RCPT TO:<bob@example.com>").startswith("250 ")
        assert client.message(b"Subject: for bob\r\n\r\n").startswith("250 2.")
    until(lambda: len(mailboxes.delivered("bob")) == 1)
    assert mailboxes.delivered("alice") == []


def test_a_message_to_an_unknown_mailbox_alone_is_never_taken(server: Any) -> None:
    running, _, kind = server
    with running.client() as client:
        client.send("MAIL FROM:<carol@client.test>")
        answers = [client.send("RCPT TO:<nobody@example.com>")]
        answers.append(client.message(b"Subject: lost?\r\n\r\n"))
    refused = answers[0] if kind == "proxy" else answers[1]
    assert refused.startswith("550 5.1.1 "), answers
    assert not answers[1].startswith("2")


def test_a_second_mailbox_is_asked_for_in_a_second_transaction(server: Any) -> None:
    running, mailboxes, _ = server
    left = ["alice", "bob"]
    with running.client() as client:
        while left:
            client.send("MAIL FROM:<carol@client.test>")
            answers = {user: client.send(f"RCPT TO:<{user}@example.com>") for user in left}
            assert all(answer.startswith(("250 ", "452 4.5.3 ")) for answer in answers.values()), answers
            taken = [user for user, answer in answers.items() if answer.startswith("250")]
            assert taken and client.message(b"Subject: both\r\n\r\n").startswith("250 2.")
            left = [user for user in left if user not in taken]
    until(lambda: mailboxes.delivered("alice") and mailboxes.delivered("bob"))


def test_swaks_delivers_through_us(server: Any, swaks: Any) -> None:
    running, mailboxes, _ = server
    sent = swaks(running.port, "--from", "carol@client.test", "--to", "alice@example.com", "--body", "hello")
    assert sent.returncode == 0, sent.stdout
    until(lambda: mailboxes.delivered("alice"))
