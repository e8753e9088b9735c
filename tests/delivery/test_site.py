"""A mail at a site: which refusals are of a server, so that the next one is tried, and which are of the mail."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from smtpproxy.delivery.site import Site
from smtpproxy.delivery.upstream import Upstream
from smtpproxy.message.body import Body, bytes_body
from smtpproxy.queue.envelope import Envelope, Party
from smtpproxy.testing.acts import DROP
from smtpproxy.testing.upstream import FakeUpstream

To = Callable[..., Upstream]
BODY = bytes_body(b"Subject: x\r\n\r\ntext\r\n")


@pytest.fixture
def second() -> Iterator[FakeUpstream]:
    with FakeUpstream(hostname="second.example") as server:
        yield server


def deliver(site: Site, *names: str, body: Body = BODY) -> list[str]:
    rcpts = [Party(f"{name}@example.com") for name in names or ("b",)]
    outcomes = site.deliver(Envelope("1", 0.0, Party("a@client.example"), rcpts), rcpts, body)
    return [str(outcome.reply) for outcome in outcomes]


@pytest.mark.parametrize(
    ("stage", "act"),
    [
        ("greeting", "554 5.3.2 No service here"),
        ("greeting", "521 5.3.2 Does not accept mail"),
        ("greeting", DROP),
        ("EHLO", "421 4.3.2 Too busy"),
        ("MAIL", "451 4.7.1 Not now"),
        ("MAIL", "421 4.7.0 Too many connections"),
        ("MAIL", DROP),
        ("RCPT", "421 4.3.2 Going down"),
        ("DATA", DROP),
    ],
)
def test_what_a_server_does_to_everybody_has_the_next_one_tried(
    upstream: FakeUpstream, second: FakeUpstream, to: To, stage: str, act: Any
) -> None:
    upstream.on(stage, act)
    assert deliver(Site([to(upstream), to(second)], 0)) == ["250 2.0.0 Ok: taken"]
    assert (len(upstream.messages), len(second.messages)) == (0, 1)


@pytest.mark.parametrize(
    ("stage", "answer"),
    [
        ("MAIL", "550 5.7.1 Not from you"),
        ("RCPT", "550 5.1.1 No such user"),
        ("RCPT", "450 4.2.1 Busy mailbox"),
        ("DATA", "554 5.7.1 Not this"),
        ("dot", "554 5.6.0 Not this"),
        ("dot", "451 4.3.0 Try again"),
    ],
)
def test_what_a_server_says_of_the_mail_counts(
    upstream: FakeUpstream, second: FakeUpstream, to: To, stage: str, answer: str
) -> None:
    upstream.on(stage, answer)
    assert deliver(Site([to(upstream), to(second)], 0)) == [answer]
    assert second.conversations == []


def test_a_server_that_hangs_up_within_the_message_has_not_taken_it(
    upstream: FakeUpstream, second: FakeUpstream, to: To
) -> None:
    upstream.on("body", DROP)
    large = bytes_body(b"Subject: x\r\n\r\n" + b"a line of the text\r\n" * 1_000_000)
    assert deliver(Site([to(upstream), to(second)], 0), body=large) == ["250 2.0.0 Ok: taken"]
    assert (len(upstream.messages), len(second.messages)) == (0, 1)


def test_nobody_is_asked_for_a_second_copy(upstream: FakeUpstream, second: FakeUpstream, to: To) -> None:
    upstream.on("dot", DROP)
    (reply,) = deliver(Site([to(upstream), to(second)], 0))
    assert reply.startswith("451 4.4.2 ")
    assert second.conversations == []


def test_a_greeting_that_is_refused_everywhere_is_tried_later(upstream: FakeUpstream, to: To) -> None:
    upstream.on("greeting", "554 5.3.2 No service here")
    (reply,) = deliver(Site([to(upstream)], 0))
    assert reply.startswith("451 4.4.1 ")
    assert "554 5.3.2 No service here" in reply


def test_recipients_that_are_too_many_for_one_transaction_come_in_the_next(upstream: FakeUpstream, to: To) -> None:
    upstream.on("RCPT", None, None, "452 4.5.3 Too many", "452 4.5.3 Too many", None)
    assert deliver(Site([to(upstream)], 0), "b", "c", "d", "e") == ["250 2.0.0 Ok: taken"] * 4
    assert [message.recipients for message in upstream.messages] == [
        ["b@example.com", "c@example.com"], ["d@example.com", "e@example.com"],
    ]  # fmt: skip
    assert len(upstream.conversations) == 1


def test_a_server_that_takes_nobody_is_not_asked_for_ever(upstream: FakeUpstream, to: To) -> None:
    upstream.on("RCPT", None, "452 4.5.3 Too many")
    assert deliver(Site([to(upstream)], 0), "b", "c") == ["250 2.0.0 Ok: taken", "452 4.5.3 Too many"]
