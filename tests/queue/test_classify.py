"""Kinds of refusals: replies as large providers and common servers word them."""

from __future__ import annotations

import pytest

from smtpproxy.config.queue import ReplyClass
from smtpproxy.config.values import BadValue
from smtpproxy.queue.classify import CLASSES, Classifier

REPLIES = [
    ("bad-mailbox", "550 5.1.1 <b@example.com>: Recipient address rejected: User unknown in virtual mailbox table"),
    ("bad-mailbox", "550-5.1.1 The email account that you tried to reach does not exist"),
    ("bad-mailbox", "550 5.2.1 The email account that you tried to reach is inactive"),
    ("bad-mailbox", "550 Requested action not taken: mailbox unavailable"),
    ("bad-mailbox", "550 5.7.1 No such user here"),
    ("bad-domain", "550 5.1.2 example.invalid does not exist"),
    ("bad-domain", "556 5.1.10 example.com takes no mail (null MX)"),
    ("bad-domain", "554 5.7.1 <b@example.com>: Relay access denied"),
    ("bad-domain", "550 5.4.4 example.com has no server"),
    ("full", "452 4.2.2 The email account that you tried to reach is over quota"),
    ("full", "552 5.2.2 Mailbox full"),
    ("full", "550 Mailbox is full"),
    ("spam", "554 5.7.1 Spam message rejected"),
    ("spam", "554 5.7.1 Virus found: Eicar"),
    ("policy", "550 5.7.1 Message rejected due to local rules"),
    ("policy", "550 Not accepted for policy reasons"),
    ("blocked", "554 5.7.1 Service unavailable; Client host [192.0.2.1] blocked using zen.spamhaus.org"),
    ("blocked", "550 5.7.1 Messages from [192.0.2.1] weren't sent. Part of their network is on our block list (S3150)"),
    ("blocked", "550 5.7.1 [192.0.2.1] has been blocked"),
    ("auth", "550 5.7.26 This mail has been blocked because the sender is unauthenticated"),
    ("auth", "550 5.7.23 The message was rejected because of Sender Policy Framework violation"),
    ("auth", "550 DMARC policy of the sender's domain says no"),
    ("auth", "530 5.7.0 Authentication required"),
    ("tls", "530 5.7.0 Must issue a STARTTLS command first"),
    ("tls", "550 5.7.30 REQUIRETLS support required"),
    ("too-large", "552 5.3.4 Message size exceeds fixed limit"),
    ("too-large", "552 Too much mail data"),
    ("quota", "550 5.4.5 Daily user sending limit exceeded"),
    ("greylisted", "450 4.2.0 <b@example.com>: Recipient address rejected: Greylisted, see http://example.com"),
    ("greylisted", "451 4.7.1 Graylisting in action, please come back later"),
    ("rate", "421 4.7.28 Our system has detected an unusual rate of unsolicited mail"),
    ("rate", "421 4.7.0 Too many connections, slow down"),
    ("rate", "450 Throttling failure: Daily message quota"),
    ("connection", "451 4.4.1 No server of this destination can be reached"),
    ("connection", "451 4.4.2 127.0.0.1:25: no reply within 600 s (end of data)"),
    ("connection", "451 4.4.3 The DNS gives no answer now"),
    ("loop", "554 5.4.6 Mail for example.com loops back to this server"),
    ("loop", "554 Too many hops"),
    ("other", "451 4.3.0 Temporary server error"),
    ("other", "550 No"),
    ("", "250 2.0.0 Ok: spam, virus and greylisted"),
    ("", ""),
]


@pytest.mark.parametrize(("kind", "reply"), REPLIES)
def test_what_kind_of_refusal_it_is(kind: str, reply: str) -> None:
    assert Classifier()(reply) == kind


def test_each_kind_has_an_example() -> None:
    assert {kind for kind, _ in REPLIES} == {*CLASSES, ""}


def test_patterns_of_ones_own_come_first_and_may_name_kinds_of_their_own() -> None:
    own = Classifier([ReplyClass.parse("partner: come back at night"), ReplyClass.parse("rate: Service unavailable")])
    assert own("451 4.7.1 Greylisted, COME BACK AT NIGHT") == "partner"
    assert own("554 5.7.1 Service unavailable; blocked using zen.spamhaus.org") == "rate"
    assert own("550 5.1.1 No such user") == "bad-mailbox"


@pytest.mark.parametrize("text", ["rate", "rate:", ": x", "Rate: x", "rate: (", 3])
def test_what_is_no_pattern_is_refused(text: object) -> None:
    with pytest.raises(BadValue):
        ReplyClass.parse(text)


def test_a_reply_made_to_be_slow_is_not() -> None:
    """Each pattern walks over a reply a bounded number of times."""
    assert Classifier()("550 " + "exceeds recipient mailbox " * 20) == "other"
