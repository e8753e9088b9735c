"""Copies of a mail for some of its recipients, as facts."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from smtpproxy.facts.client import Client, ListenerFacts
from smtpproxy.facts.mail import Mail
from smtpproxy.facts.missing import FactMissing
from smtpproxy.facts.recipient import Recipient
from smtpproxy.message.body import bytes_body
from smtpproxy.message.edits import Ledger
from smtpproxy.message.header import HeaderBlock
from smtpproxy.scripting.snapshot import freeze
from smtpproxy.wire.address import parse_address

HEADER = b"Subject: hello\r\n\r\n"
Arrive = Callable[[], None]


@pytest.fixture
def mail() -> Mail:
    client = Client("c", "192.0.2.1", 1, ListenerFacts("mx", "127.0.0.1", 25, "mx.example.com"), lambda address: None)
    mail = Mail("c.1", client, parse_address("a@client.example"))
    for name in "bcd":
        mail.accepted(Recipient(parse_address(f"{name}@example.com")))
    return mail


@pytest.fixture
def arrive(mail: Mail) -> Arrive:
    def arrived(complete: bool = True) -> None:
        ledger = mail.ledger or Ledger(bytes_body(HEADER + b"text\r\n"), HeaderBlock.parse(HEADER))
        mail.arrived(ledger, complete)

    return arrived


def test_a_copy_begins_with_the_edits_of_the_mail_and_goes_its_own_way(mail: Mail, arrive: Arrive) -> None:
    arrive()
    mail.header["X-Before"] = "1"
    copy = mail.copy_for("c@example.com")
    mail.header["X-After"] = "2"
    copy.header["Subject"] = "for you"
    copy.body.append("more\r\n")
    assert mail.raw() == b"Subject: hello\r\nX-Before: 1\r\nX-After: 2\r\n\r\ntext\r\n"
    assert copy.raw() == b"Subject: for you\r\nX-Before: 1\r\n\r\ntext\r\nmore\r\n"
    assert [str(op) for op in copy.own_ops] == ["replace Subject: for you", "splice 6-6 of the body with 6 octets"]


def test_who_gets_it(mail: Mail, arrive: Arrive) -> None:
    arrive()
    copy = mail.copy_for(["b@example.com", mail.recipients[2]])
    assert [str(rcpt) for rcpt in copy.recipients] == ["b@example.com", "d@example.com"]
    assert [rcpt.copy is copy for rcpt in mail.recipients] == [True, False, True]
    assert mail.copies == (copy,)
    assert str(copy) == "for <b@example.com>, <d@example.com>"
    mail.remove_recipient("b@example.com")
    assert [str(rcpt) for rcpt in copy.recipients] == ["d@example.com"]


def test_the_same_recipients_or_name_give_the_same_copy(mail: Mail, arrive: Arrive) -> None:
    arrive()
    copy = mail.copy_for(["b@example.com", "c@example.com"])
    assert mail.copy_for(["c@example.com", "b@example.com"]) is copy
    named = mail.copy_for("d@example.com", name="vip")
    assert named is not copy
    mail.add_recipient("e@example.com")
    assert mail.copy_for("e@example.com", name="vip") is named
    assert [str(rcpt) for rcpt in named.recipients] == ["d@example.com", "e@example.com"]


def test_nobody_gets_two(mail: Mail, arrive: Arrive) -> None:
    arrive()
    mail.copy_for(["b@example.com", "c@example.com"])
    with pytest.raises(ValueError, match=r"b@example\.com gets another copy already"):
        mail.copy_for("b@example.com")
    with pytest.raises(ValueError, match="another copy already"):
        mail.copy_for("b@example.com", name="vip")
    assert len(mail.copies) == 1


def test_strangers_and_nobody_get_none(mail: Mail, arrive: Arrive) -> None:
    arrive()
    with pytest.raises(ValueError, match=r"x@example\.com is no recipient of this mail"):
        mail.copy_for("x@example.com")
    gone = mail.recipients[0]
    mail.remove_recipient(gone)
    with pytest.raises(ValueError, match="no recipient"):
        mail.copy_for(gone)
    with pytest.raises(ValueError, match="needs a recipient"):
        mail.copy_for([])


def test_an_address_that_is_there_twice_is_one_recipient(mail: Mail, arrive: Arrive) -> None:
    mail.accepted(Recipient(parse_address("b@example.com")))
    arrive()
    assert len(mail.copy_for("b@example.com").recipients) == 2


def test_before_the_header_a_copy_is_a_promise(mail: Mail, arrive: Arrive) -> None:
    asked = Recipient(parse_address("e@example.com"))
    early = mail.copy_for(asked, name="vip")
    with pytest.raises(FactMissing, match=r"copy\.header is there from on_header on"):
        _ = early.header
    mail.accepted(asked)
    arrive(complete=False)
    mail.header["X-Before"] = "1"
    assert mail.copy_for(asked, name="vip") is early
    assert early.header["X-Before"] == "1"
    with pytest.raises(FactMissing, match=r"copy\.body is there from on_message on"):
        _ = early.body
    arrive()
    assert early.body.size == 6


def test_a_copy_cannot_be_assigned(mail: Mail) -> None:
    with pytest.raises(FactMissing, match=r"rcpt\.copy cannot be assigned"):
        mail.recipients[0].copy = None


def test_observers_see_copies_and_change_none(mail: Mail, arrive: Arrive) -> None:
    arrive()
    copy = mail.copy_for("c@example.com")
    copy.header["X-Own"] = "1"
    frozen = freeze(mail)
    assert frozen.recipients[1].copy is frozen.copies[0]
    assert frozen.copies[0].header["X-Own"] == "1"
    with pytest.raises(Exception, match="too late"):
        frozen.copies[0].header["X-Own"] = "2"
    for change in (lambda: frozen.copy_for("b@example.com"), lambda: frozen.add_copy("archive")):
        with pytest.raises(AttributeError, match="looks on"):
            change()
    assert (len(mail.copies), mail.copied_to, mail.recipients[0].copy) == (1, (), None)
    assert copy.header["X-Own"] == "1"


class TestAddCopy:
    def test_a_hand_off_once(self, mail: Mail) -> None:
        mail.add_copy("archive")
        mail.add_copy("archive")
        assert mail.copied_to == ("archive",)
        assert len(mail.recipients) == 3

    def test_an_address_is_one_more_recipient_unless_it_is_one(self, mail: Mail) -> None:
        mail.add_copy("log@example.net")
        mail.add_copy("b@example.com")
        mail.add_copy(parse_address("log@example.net"))
        assert [str(rcpt) for rcpt in mail.recipients][3:] == ["log@example.net"]

    @pytest.mark.parametrize(
        ("where", "words"),
        [("", "goes to an address or to a hand-off"), ("a@", "domain is missing"), ("@example.com", "local part is missing")],
    )
    def test_what_is_neither(self, mail: Mail, where: str, words: str) -> None:
        with pytest.raises(ValueError, match=words):
            mail.add_copy(where)
