"""What rules have noted is in the envelope: all that there is room for, and that can be written down."""

from __future__ import annotations

import pytest

from smtpproxy.facts.client import Client, ListenerFacts
from smtpproxy.facts.delivery import Delivery
from smtpproxy.facts.mail import Mail
from smtpproxy.facts.notes import LIMIT as OF_ONE
from smtpproxy.facts.notes import as_dict
from smtpproxy.facts.recipient import Recipient, Sender
from smtpproxy.queue.envelope import Envelope, Party, decode, encode
from smtpproxy.queue.noted import LIMIT, carry, fit, offer
from smtpproxy.wire.address import parse_address

PLAIN = {"yes": True, "count": 7, "share": 0.5, "word": "grüße", "octets": b"\xff", "list": [1, ["a"]], "table": {"a": {"b": 1}}}


@pytest.fixture
def mail() -> Mail:
    mail = Mail("s1.1", Client("s1", "192.0.2.1", 25, ListenerFacts("mx")), Sender(parse_address("a@client.example")))
    for path in ("b@example.com", "c@example.com"):
        mail._recipients.append(Recipient(parse_address(path)))
    return mail


def envelope_of(mail: Mail) -> Envelope:
    envelope = Envelope(mail.id, 0.0, Party(mail.sender.path), [Party(rcpt.path) for rcpt in mail.recipients])
    carry(mail, mail.recipients, envelope, envelope.recipients)
    return envelope


def delivery_of(envelope: Envelope, *places: int) -> Delivery:
    parties = [envelope.recipients[place] for place in places]
    delivery = Delivery(
        envelope.id, Sender(parse_address(envelope.sender.path)), [Recipient(parse_address(it.path)) for it in parties]
    )
    offer(envelope, parties, delivery)
    return delivery


def test_plain_values_come_back_as_they_were(mail: Mail) -> None:
    for name, value in PLAIN.items():
        mail.notes[name] = value
    mail.sender.notes.plan = "basic"
    mail.recipients[1].notes.box = "c"
    mail.results.add("spf", "fail", domain="client.example", hops=[1, 2])
    envelope = envelope_of(mail)
    assert fit(envelope) == []
    delivery = delivery_of(decode(encode(envelope)), 1)
    assert as_dict(delivery.notes) == PLAIN
    assert (delivery.sender.notes.plan, delivery.recipients[0].notes.box) == ("basic", "c")
    assert str(delivery.results) == "spf=fail domain=client.example hops=[1, 2]"


def test_a_set_is_a_list_then(mail: Mail) -> None:
    mail.notes.seen = {"a"}
    assert delivery_of(decode(encode(envelope_of(mail))), 0).notes.seen == ["a"]


def test_there_is_room_for_so_much_together(mail: Mail) -> None:
    mail.notes.big = "x" * (OF_ONE - 100)
    mail.results.add("much", "pass", found="y" * 1000)
    mail.results.add("little")
    mail.recipients[0].notes.more = "z" * 200
    mail.recipients[1].notes.last = 1
    envelope = envelope_of(mail)
    assert fit(envelope) == ["results much", "b@example.com more"]
    assert LIMIT - 100 == len(envelope.notes["big"]) < len(encode(envelope)) < LIMIT + 200
    delivery = delivery_of(envelope, 0, 1)
    assert (len(delivery.results), [as_dict(rcpt.notes) for rcpt in delivery.recipients]) == (1, [{}, {"last": 1}])


@pytest.mark.parametrize("value", ["caf\udce9", ["\udcff"], {"\udc80": 1}])
def test_octets_that_are_no_text_are_left_out(mail: Mail, value: object) -> None:
    mail.notes.odd = value
    mail.notes.good = 1
    mail.results.add("\udce9")
    envelope = envelope_of(mail)
    assert fit(envelope) == ["mail odd", "results \udce9"]
    assert decode(encode(envelope)).notes == {"good": 1}


def test_what_is_noted_at_a_delivery_is_there_at_the_next_hook_of_the_attempt(mail: Mail) -> None:
    envelope = envelope_of(mail)
    before = delivery_of(envelope, 1)
    before.notes.begun = True
    before.recipients[0].notes.asked = 2
    before.results.add("dane")
    carry(before, before.recipients, envelope, [envelope.recipients[1]])
    after = delivery_of(envelope, 0, 1)
    assert (after.notes.begun, [rcpt.notes.asked for rcpt in after.recipients]) == (True, [None, 2])
    assert "dane" in after.results


def test_a_mail_about_which_nothing_is_noted_takes_no_room(mail: Mail) -> None:
    envelope = envelope_of(mail)
    assert fit(envelope) == []
    assert b"notes" not in encode(envelope) and b"results" not in encode(envelope)
