"""The mail: what is there at which stage, and how rules change the envelope, the header and the body."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from smtpproxy.facts.client import Client, ListenerFacts
from smtpproxy.facts.mail import Mail
from smtpproxy.facts.missing import FactMissing
from smtpproxy.facts.recipient import Recipient, Sender
from smtpproxy.message.body import Body, BodyWriter, bytes_body
from smtpproxy.message.edits import Ledger, LedgerClosed
from smtpproxy.message.header import HeaderBlock, end_of_header
from smtpproxy.message.rendering import Rendering
from smtpproxy.wire.address import AddressError, parse_address

MESSAGE = b"Subject: one\r\nX-A: 1\r\nsubject: two\r\n\r\ntext\r\n"


def mail_of(sender: str = "joe@example.com", params: Mapping[str, str | None] | None = None) -> Mail:
    client = Client("S1", "192.0.2.1", 4321, ListenerFacts("mx"))
    mail = Mail("M1", client, parse_address(sender), params)
    mail.accepted(Recipient(parse_address("ann@example.com")))
    mail.begun = True
    return mail


def arrived(message: bytes = MESSAGE) -> Mail:
    mail = mail_of()
    mail.arrived(ledger_of(bytes_body(message), message), complete=True)
    return mail


def ledger_of(body: Body, message: bytes) -> Ledger:
    return Ledger(body, HeaderBlock.parse(message[: end_of_header(message)]))


def out(mail: Mail) -> bytes:
    assert mail.ledger is not None
    return b"".join(mail.ledger.render().content())


def test_parameters_are_read_once() -> None:
    mail = mail_of(params={"SIZE": "1000", "BODY": "8bitmime", "SMTPUTF8": None})
    assert (mail.size_declared, mail.body8bit, mail.smtputf8) == (1000, True, True)
    assert mail.sender.params == mail.params
    mail = mail_of()
    assert (mail.size_declared, mail.body8bit, mail.smtputf8, dict(mail.params)) == (None, False, False, {})


def test_addresses_print_without_brackets() -> None:
    mail = mail_of()
    assert str(mail.sender) == "joe@example.com"
    assert mail.sender.local_part == "joe"
    assert [str(rcpt) for rcpt in mail.recipients] == ["ann@example.com"]


def test_the_null_sender_is_falsy_and_prints_as_nothing() -> None:
    mail = mail_of()
    mail.sender = ""
    assert not mail.sender
    assert str(mail.sender) == ""
    assert mail.sender.domain == ""


@pytest.mark.parametrize(("name", "hook"), [("header", "on_header"), ("body", "on_message"), ("original", "on_message")])
def test_a_fact_that_is_not_there_yet_says_when_it_is(name: str, hook: str) -> None:
    with pytest.raises(FactMissing, match=rf"^mail\.{name} is there from {hook} on$"):
        getattr(mail_of(), name)


def test_raw_and_seal_too() -> None:
    with pytest.raises(FactMissing, match=r"mail\.raw is there from on_message on"):
        mail_of().raw()
    with pytest.raises(FactMissing, match=r"mail\.seal is there from on_header on"):
        mail_of().seal(Stamp())


def test_the_header_comes_before_the_body() -> None:
    mail = mail_of()
    ledger = ledger_of(bytes_body(MESSAGE), MESSAGE)
    mail.arrived(ledger, complete=False)
    assert mail.header["Subject"] == "one"
    with pytest.raises(FactMissing, match="from on_message on"):
        _ = mail.body
    mail.arrived(ledger, complete=True)
    assert mail.body.bytes() == b"text\r\n"
    assert b"".join(mail.original.content()) == MESSAGE


def test_the_views_follow_the_ledger() -> None:
    mail = arrived()
    assert mail.header["X-A"] == "1"
    assert mail.body.bytes() == b"text\r\n"
    other = b"X-A: 2\r\n\r\nother\r\n"
    mail.arrived(ledger_of(bytes_body(other), other), complete=True)
    assert mail.header["X-A"] == "2"
    assert mail.body.bytes() == b"other\r\n"


def test_the_addresses_of_a_field() -> None:
    header = arrived(b"To: =?utf-8?q?J=C3=BCrgen?= <j@example.com>,\r\n bob@example.org\r\nTo: c@d.example\r\n\r\n").header
    assert [(box.phrase, str(box)) for box in header.addresses("to")] == [
        ("Jürgen", "j@example.com"),
        ("", "bob@example.org"),
        ("", "c@d.example"),
    ]
    assert header.addresses("Cc") == []


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("sendr", "mail has no 'sendr'; did you mean 'sender'"),
        ("vai", "mail has no 'vai'; did you mean 'via'"),
        ("qqq", "mail has no 'qqq'$"),
    ],
)
def test_unknown_names_are_refused_with_a_suggestion(name: str, message: str) -> None:
    mail = mail_of()
    with pytest.raises(FactMissing, match=message):
        getattr(mail, name)
    with pytest.raises(FactMissing, match=message):
        setattr(mail, name, "x")
    assert not hasattr(mail, name)


@pytest.mark.parametrize("name", ["header", "body", "original", "notes", "revision"])
def test_what_is_read_only_cannot_be_assigned(name: str) -> None:
    with pytest.raises(FactMissing, match=rf"mail\.{name} cannot be assigned"):
        setattr(arrived(), name, "x")


def test_recipients_refuse_unknown_names_too() -> None:
    rcpt = mail_of().recipients[0]
    with pytest.raises(FactMissing, match="rcpt has no 'localpart'; did you mean 'local_part'"):
        _ = rcpt.localpart  # type: ignore[attr-defined]
    with pytest.raises(FactMissing, match="rcpt has no 'vai'; did you mean 'via'"):
        rcpt.vai = "x"  # type: ignore[attr-defined]
    with pytest.raises(FactMissing, match="sender has no 'via'"):
        _ = mail_of().sender.via  # type: ignore[attr-defined]


def test_notes_and_results_are_made_when_they_are_touched() -> None:
    mail = mail_of()
    mail.notes.checked = True
    mail.results.add("spf")
    mail.recipients[0].notes.alias = "root"
    mail.sender.notes.known = True
    assert (mail.notes.checked, mail.recipients[0].notes.alias, mail.sender.notes.known) == (True, "root", True)
    assert mail.recipients[0].notes.other is None


class TestTheEnvelope:
    """Changes after the hand-off began are counted."""

    def test_an_untouched_one_has_no_changes(self) -> None:
        mail = mail_of()
        mail.accepted(Recipient(parse_address("bob@example.com")))
        assert mail.revision == 0

    def test_another_sender(self) -> None:
        mail = mail_of(params={"SIZE": "1"})
        mail.sender = "ann@example.com"
        assert isinstance(mail.sender, Sender)
        assert str(mail.sender) == "ann@example.com"
        assert mail.sender.params == {"SIZE": "1"}
        assert mail.revision == 1

    def test_recipients_come_and_go(self) -> None:
        mail = mail_of()
        added = mail.add_recipient("bob@example.com")
        assert mail.revision == 1
        mail.remove_recipient(mail.recipients[0])
        assert mail.revision == 2
        assert mail.recipients == (added,)
        mail.remove_recipient("bob@example.com")
        assert mail.recipients == ()

    def test_another_way_out(self) -> None:
        mail = mail_of()
        mail.via = "quarantine"
        mail.via = "quarantine"
        assert mail.revision == 1

    def test_another_way_out_for_one(self) -> None:
        mail = mail_of()
        [rcpt] = mail.recipients
        rcpt.via = "quarantine"
        rcpt.via = "quarantine"
        assert mail.revision == 1
        mail.remove_recipient(rcpt)
        assert mail.revision == 2

    def test_another_address_for_one(self) -> None:
        mail = mail_of()
        [rcpt] = mail.recipients
        came = str(rcpt)
        rcpt.address = "bob@Example.COM"
        assert (rcpt.address, rcpt.local_part, rcpt.domain) == ("bob@example.com", "bob", "example.com")
        assert rcpt.path == "bob@Example.COM"
        assert str(rcpt.original) == came
        assert mail.revision == 1
        rcpt.address = "carol@example.com"
        assert str(rcpt.original) == came
        with pytest.raises(AddressError):
            rcpt.address = "nobody"
        assert rcpt.address == "carol@example.com"

    def test_a_piece_of_an_address(self) -> None:
        rcpt = Recipient(parse_address("ann+news@example.com"))
        rcpt.local_part = "ann lee"
        assert rcpt.path == '"ann lee"@example.com'
        rcpt.domain = "example.org"
        assert (rcpt.address, str(rcpt.original)) == ('"ann lee"@example.org', "ann+news@example.com")
        with pytest.raises(AddressError):
            rcpt.domain = "no such domain"
        with pytest.raises(FactMissing, match=r"rcpt\.path cannot be assigned"):
            rcpt.path = "x"
        with pytest.raises(FactMissing, match=r"sender\.local_part cannot be assigned"):
            mail_of().sender.local_part = "x"

    def test_the_original_stays_what_it_was(self) -> None:
        rcpt = Recipient(parse_address("ann@example.com"))
        before = rcpt.original
        rcpt.address = "bob@example.com"
        assert str(before) == "ann@example.com"

    def test_before_the_hand_off_began_nothing_counts(self) -> None:
        mail = Mail("M1", Client("S1", "192.0.2.1", 4321, ListenerFacts("mx")), parse_address("joe@example.com"))
        mail.accepted(Recipient(parse_address("ann@example.com")))
        mail.sender = "ann@example.com"
        mail.via = "a"
        mail.remove_recipient("ann@example.com")
        rcpt = Recipient(parse_address("c@example.com"))
        rcpt.via = "b"
        mail.accepted(rcpt)
        assert mail.revision == 0

    def test_what_is_no_address_is_refused(self) -> None:
        mail = mail_of()
        with pytest.raises(AddressError):
            mail.add_recipient("nobody at all")
        with pytest.raises(AddressError):
            mail.sender = "a@b\r\nRCPT TO:<c@d>"
        with pytest.raises(ValueError, match=r"stranger@example\.com is no recipient"):
            mail.remove_recipient("stranger@example.com")
        assert mail.revision == 0


class TestTheHeader:
    """``mail.header`` reads and writes fields by name."""

    def test_the_first_of_a_name_in_any_case(self) -> None:
        header = arrived().header
        assert header["SUBJECT"] == "one"
        assert header["Nothing"] is None
        assert header.get("Nothing", "else") == "else"
        assert header.get_all("Subject") == ["one", "two"]
        assert "x-a" in header and "nothing" not in header and "" not in header
        assert list(header) == [("Subject", "one"), ("X-A", "1"), ("subject", "two")]
        assert len(header) == 3

    def test_setting_replaces_the_first_and_drops_the_others(self) -> None:
        mail = arrived()
        mail.header["subject"] = "[exe] größer"
        assert out(mail) == b"Subject: [exe] =?utf-8?b?Z3LDtsOfZXI=?=\r\nX-A: 1\r\n\r\ntext\r\n"
        assert mail.header["Subject"] == "[exe] größer"

    def test_setting_a_new_name_adds_it_at_the_end(self) -> None:
        mail = arrived()
        mail.header["X-Score"] = 5
        assert out(mail) == MESSAGE.replace(b"two\r\n", b"two\r\nX-Score: 5\r\n")

    def test_setting_none_or_deleting_drops_all(self) -> None:
        mail = arrived()
        mail.header["Subject"] = None
        del mail.header["X-A"]
        del mail.header["Nothing"]
        assert out(mail) == b"\r\ntext\r\n"

    def test_adding_at_both_ends(self) -> None:
        mail = arrived()
        mail.header.add("X-B", "last")
        mail.header.prepend("X-B", "first")
        assert mail.header.get_all("X-B") == ["first", "last"]
        assert out(mail).startswith(b"X-B: first\r\nSubject")
        assert mail.header.remove("x-b") == 2
        assert out(mail) == MESSAGE

    def test_a_line_that_is_no_field_is_out_of_reach(self) -> None:
        mail = arrived(b"From joe\r\nA: 1\r\n\r\n")
        assert list(mail.header) == [("A", "1")]
        assert mail.header[""] is None
        assert mail.header.remove("") == 0

    @pytest.mark.parametrize("value", ["a\r\nBcc: x", "a\n", "\0"])
    def test_a_value_cannot_start_a_line(self, value: str) -> None:
        mail = arrived()
        with pytest.raises(ValueError, match="must not hold"):
            mail.header["Subject"] = value
        assert out(mail) == MESSAGE

    def test_octets_are_no_value(self) -> None:
        with pytest.raises(TypeError, match="no bytes"):
            arrived().header["Subject"] = b"x"  # type: ignore[assignment]

    def test_a_hostile_subject_can_be_tagged(self) -> None:
        mail = arrived(b"Subject: =?utf-8?q?a=0D=0ABcc:_x?= \xff\r\n\r\n")
        mail.header["Subject"] = "[x] " + (mail.header["Subject"] or "")
        assert out(mail).count(b"\n") == 2
        assert b"\nBcc" not in out(mail)


class TestTheBody:
    """``mail.body`` is everything behind the empty line."""

    def test_reading(self) -> None:
        body = arrived(b"A: 1\r\n\r\n.dot\r\n").body
        assert body.bytes() == b".dot\r\n"
        assert body.size == 6
        assert list(body.chunks()) == [b".dot\r\n"]

    def test_edits_are_seen_by_the_next_reader(self) -> None:
        mail = arrived()
        mail.body.append("größer\n")
        mail.body.splice(0, 4, b"TEXT")
        assert mail.body.bytes() == "TEXT\r\ngrößer\r\n".encode()
        assert mail.body.size == len(mail.body.bytes())
        mail.body.replace("new\n")
        mail.body.append(".\n")
        assert mail.body.bytes() == b"new\r\n.\r\n"
        assert mail.raw() == out(mail)

    def test_a_message_that_is_too_large_for_one_piece(self) -> None:
        writer = BodyWriter(memory=0)
        writer.write(b"A: 1\r\n\r\n")
        for _ in range(200):
            writer.write(b"x" * 65_000)
        mail = mail_of()
        mail.arrived(Ledger(writer.finish(False), HeaderBlock.parse(b"A: 1\r\n\r\n")), complete=True)
        with pytest.raises(ValueError, match="more than 10 MB"):
            mail.raw()
        with pytest.raises(ValueError, match="more than 10 MB"):
            mail.body.bytes()
        assert sum(map(len, mail.body.chunks())) == mail.body.size == 13_000_000

    def test_what_is_neither_text_nor_octets_is_refused(self) -> None:
        with pytest.raises(TypeError, match="no int"):
            arrived().body.append(5)  # type: ignore[arg-type]


class Stamp:
    """A signer."""

    order = 1

    def sign(self, rendering: Rendering) -> list[tuple[str, str]]:
        return [("X-Signed", str(len(rendering.fields)))]


def test_a_seal_signs_what_goes_out_and_not_what_rules_read() -> None:
    mail = arrived()
    mail.seal(Stamp())
    mail.header["X-B"] = "2"
    assert out(mail).startswith(b"X-Signed: 4\r\n")
    assert "X-Signed" not in mail.header
    assert b"X-Signed" not in mail.raw()


def test_when_the_message_goes_out_it_is_too_late() -> None:
    mail = arrived()
    assert mail.ledger is not None
    mail.ledger.close()
    with pytest.raises(LedgerClosed):
        mail.header["A"] = "1"
    with pytest.raises(LedgerClosed):
        mail.body.append("x")
