"""Parts as rules see and change them: names, text, files, and what goes out afterwards."""

from __future__ import annotations

import copy
import email
import email.policy
import hashlib
import tracemalloc
from collections.abc import Callable
from email.message import EmailMessage

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from smtpproxy.facts.client import Client, ListenerFacts
from smtpproxy.facts.mail import Mail
from smtpproxy.facts.missing import FactMissing
from smtpproxy.facts.parts import Part, PartError, SignedPart
from smtpproxy.facts.surface import SURFACE, help_text, names
from smtpproxy.message.body import BodyWriter, bytes_body
from smtpproxy.message.edits import Ledger
from smtpproxy.message.header import HeaderBlock, end_of_header
from smtpproxy.wire.address import parse_address


def mail_of(message: bytes, complete: bool = True) -> Mail:
    mail = Mail("M1", Client("S1", "192.0.2.1", 4321, ListenerFacts("mx")), parse_address("joe@example.com"))
    mail.arrived(Ledger(bytes_body(message), HeaderBlock.parse(message[: end_of_header(message)])), complete=complete)
    return mail


def out(mail: Mail) -> bytes:
    assert mail.ledger is not None
    return b"".join(mail.ledger.render().content())


def read_again(mail: Mail) -> EmailMessage:
    message = email.message_from_bytes(out(mail), policy=email.policy.default)
    assert isinstance(message, EmailMessage)
    assert [part.content_type for part in mail.parts] == [part.get_content_type() for part in message.walk()]
    assert [part.content_type for part in mail_of(out(mail)).parts] == [part.content_type for part in mail.parts]
    return message


MIXED = (
    b"Subject: files\r\nContent-Type: multipart/mixed; boundary=o\r\n\r\npreamble\r\n"
    b"--o\r\nContent-Type: multipart/alternative; boundary=i\r\n\r\n"
    b"--i\r\nContent-Type: text/plain; charset=iso-8859-1\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\nGr=FC=DFe\r\n"
    b"--i\r\nContent-Type: text/html; charset=utf-8\r\n\r\n<html><body><p>Hi</p></BODY></html>\r\n--i--\r\n"
    b"--o\r\nContent-Type: application/pdf; name=\"a.pdf\"\r\nContent-Disposition: attachment; filename=\"a.pdf\"\r\n"
    b"Content-Transfer-Encoding: base64\r\nX-Own: kept\r\n\r\nJVBERi0x\r\nLjQ=\r\n"
    b"--o\r\nContent-Type: message/rfc822\r\n\r\nSubject: in\r\nContent-Type: text/plain\r\n\r\nforwarded\r\n"
    b"--o--\r\nepilogue\r\n"
)  # fmt: skip


def test_parts_in_walk_order() -> None:
    mail = mail_of(MIXED)
    assert [part.content_type for part in mail.parts] == [
        "multipart/mixed", "multipart/alternative", "text/plain", "text/html", "application/pdf", "message/rfc822", "text/plain",
    ]  # fmt: skip
    assert [part.content_type for part in mail.parts[0].parts] == [
        "multipart/alternative", "application/pdf", "message/rfc822",
    ]  # fmt: skip
    assert [part.embedded for part in mail.parts] == [False] * 6 + [True]
    assert mail.mime_defects == ()


def test_attachments_and_text() -> None:
    mail = mail_of(MIXED)
    pdf, message = mail.attachments
    assert (pdf.filename, pdf.content_type, pdf.size, pdf.read()) == ("a.pdf", "application/pdf", 8, b"%PDF-1.4")
    assert b"".join(pdf.content()) == b"%PDF-1.4"
    assert pdf.read(4) == b"%PDF"
    assert pdf.sha256() == hashlib.sha256(b"%PDF-1.4").hexdigest()
    assert pdf.header["x-own"] == "kept"
    assert (pdf.text, pdf.disposition, pdf.encoding) == (None, "attachment", "base64")
    assert message.content_type == "message/rfc822"
    assert message.parts[0].text == "forwarded"
    assert mail.text == "Grüße"
    assert mail.html == "<html><body><p>Hi</p></BODY></html>"


def test_reading_changes_nothing() -> None:
    mail = mail_of(MIXED)
    assert [part.size for part in mail.parts]
    assert mail.ledger is not None
    assert not mail.ledger.edited
    assert out(mail) == MIXED


def test_a_message_without_mime_is_one_text() -> None:
    mail = mail_of(b"Subject: x\r\n\r\nhello\r\n")
    assert (mail.text, mail.html, mail.attachments, len(mail.parts)) == ("hello\r\n", None, (), 1)


def test_parts_are_there_when_the_message_is() -> None:
    mail = mail_of(MIXED, complete=False)
    for name in ("parts", "attachments", "text", "html"):
        with pytest.raises(FactMissing, match=f"mail.{name} is there from on_message on"):
            getattr(mail, name)
    with pytest.raises(FactMissing, match="did you mean 'filename'"):
        _ = mail_of(MIXED).parts[0].file_name  # type: ignore[attr-defined]


NAMES = {
    "plain": (b'attachment; filename="a b.txt"', "a b.txt"),
    "token": (b"attachment; filename=a.txt", "a.txt"),
    "blanks without quotes": (b"attachment; filename=a b (1).txt; size=3", "a b (1).txt"),
    "RFC 2231": (b"attachment; filename*=utf-8'de'gr%C3%BC%C3%9Fe.txt", "grüße.txt"),
    "RFC 2231, Latin 1": (b"attachment; filename*=iso-8859-1''gr%FC%DFe.txt", "grüße.txt"),
    "continued": (b'attachment; filename*0="long ";\r\n filename*1="name.txt"', "long name.txt"),
    "continued and encoded": (
        b"attachment; filename*0*=utf-8''gr%C3;\r\n filename*1*=%BC%C3%9F;\r\n filename*2=\"e.txt\"", "grüße.txt",
    ),
    "pieces out of order": (b"attachment; filename*1=b; filename*0=a", "ab"),
    "a piece is missing": (b"attachment; filename*0=a; filename*2=c", "a"),
    "RFC 2231 before plain": (b"attachment; filename=x.txt; filename*=utf-8''y.txt", "y.txt"),
    "encoded words": (b'attachment; filename="=?utf-8?q?gr=C3=BC=C3=9Fe?=.txt"', "grüße.txt"),
    "two encoded words": (b'attachment; filename="=?utf-8?b?Z3LDvA==?=\r\n =?utf-8?b?w59lLnR4dA==?="', "grüße.txt"),
    "UTF-8": ("attachment; filename=\"grüße.txt\"".encode(), "grüße.txt"),
    "Latin 1": ("attachment; filename=\"grüße.txt\"".encode("latin-1"), "grüße.txt"),
    "escapes": (rb'attachment; filename="a\"b\\c.txt"', 'a"b\\c.txt'),
    "a path of Windows": (rb'attachment; filename="C:\dir\a.txt"', r"C:\dir\a.txt"),
    "unknown charset": (b"attachment; filename*=x-none''a%20b", "a b"),
    "quotes that never end": (b'attachment; filename="a.txt', "a.txt"),
    "none": (b"attachment", ""),
    "a line break in it": (b"attachment; filename*=utf-8''a%0D%0Ab", "a\ufffd\ufffdb"),
}  # fmt: skip


@pytest.mark.parametrize("case", NAMES)
def test_file_names_in_the_wild(case: str) -> None:
    value, name = NAMES[case]
    (part,) = mail_of(b"Content-Disposition: " + value + b"\r\n\r\nx\r\n").attachments
    assert part.filename == name


def test_the_name_may_stand_in_the_type() -> None:
    assert mail_of(b"Content-Type: image/png; name=a.png\r\n\r\nx\r\n").attachments[0].filename == "a.png"


TEXTS = {
    "declared": ("iso-8859-15", "€".encode("iso-8859-15"), "€"),
    "none, UTF-8": ("", "ü".encode(), "ü"),
    "none, Latin 1": ("", b"\xfc", "ü"),
    "unknown": ("x-none", b"\xfc", "ü"),
    "us-ascii that lies": ("us-ascii", "ü".encode(), "ü"),
    "UTF-8 that lies": ("utf-8", b"a\xfcb", "a\ufffdb"),
    "UTF-16": ("utf-16", "<é>".encode("utf-16"), "<é>"),
    "a codec that is no charset": ("unicode_escape", rb"\u0041", r"\u0041"),
}


@pytest.mark.parametrize("case", TEXTS)
def test_text_by_charset(case: str) -> None:
    charset, octets, text = TEXTS[case]
    head = f'Content-Type: text/plain; charset="{charset}"\r\n\r\n' if charset else "\r\n"
    assert mail_of(head.encode() + octets).text == text


TRANSFER = {
    "base64 with garbage in it": (b"base64", b"aGVs!!\r\n bG8=\r\nafter", b"hello"),
    "base64 cut off": (b"base64", b"aGVsbG", b"hell"),
    "base64, one letter left": (b"Base64 (comment)", b"aGVsb", b"hel"),
    "quoted-printable": (b"Quoted-Printable", b"a=3Db=\r\nc=zz\r\n", b"a=bc=zz\r\n"),
    "8bit": (b"8bit", b"\xff\r\n", b"\xff\r\n"),
    "unknown": (b"x-own", b"=41\r\n", b"=41\r\n"),
}


@pytest.mark.parametrize("case", TRANSFER)
def test_transfer_encodings(case: str) -> None:
    encoding, octets, content = TRANSFER[case]
    assert mail_of(b"Content-Transfer-Encoding: " + encoding + b"\r\n\r\n" + octets).parts[0].read() == content


# Edits -----------------------------------------------------------------------------------------------------------------


def untouched(message: bytes, changed: bytes, *gone: bytes) -> None:
    """All lines but these are there, in order."""
    left = [line for line in message.split(b"\r\n") if line not in gone]
    lines = iter(changed.split(b"\r\n"))
    assert all(line in lines for line in left)


def test_replace_text_keeps_charset_and_encoding() -> None:
    mail = mail_of(MIXED)
    mail.parts[2].replace_text("Größe = 1\n")
    assert mail.text == "Größe = 1\r\n"
    assert out(mail) == MIXED.replace(b"Gr=FC=DFe\r\n", b"Gr=F6=DFe =3D 1\r\n\r\n")
    read_again(mail)


def test_text_that_the_charset_cannot_carry_goes_as_utf_8() -> None:
    mail = mail_of(MIXED)
    mail.parts[2].replace_text("Привет")
    assert mail.text == "Привет"
    part = list(read_again(mail).walk())[2]
    assert part.get_content_charset() == "utf-8"
    assert part.get_content() == "Привет"
    untouched(MIXED, out(mail), b"Content-Type: text/plain; charset=iso-8859-1", b"Gr=FC=DFe")


def test_replace_text_of_a_message_without_mime() -> None:
    mail = mail_of(b"Subject: x\r\n\r\nhello\r\n")
    mail.parts[0].replace_text("bye")
    assert out(mail) == b"Subject: x\r\nMIME-Version: 1.0\r\n\r\nbye\r\n"
    mail.parts[0].replace_text("größer")
    assert read_again(mail).get_content() == "größer"
    assert mail.header["Content-Type"] == "text/plain; charset=utf-8"
    assert mail.text == "größer"


@pytest.mark.parametrize("encoding", [b"7bit", b"8bit", b"base64", b"quoted-printable"])
@pytest.mark.parametrize("charset", [b"us-ascii", b"utf-8", b"iso-8859-1", b"utf-16", b"shift_jis"])
@given(text=st.text("a =é€漢\n.-", max_size=200))
@settings(max_examples=15, deadline=None)
def test_what_is_replaced_is_what_is_read(encoding: bytes, charset: bytes, text: str) -> None:
    head = b"Content-Type: text/plain; charset=" + charset + b"\r\nContent-Transfer-Encoding: " + encoding + b"\r\n\r\n"
    wanted = text.replace("\n", "\r\n")
    for message in (head, b"Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n" + head + b"\r\n--b--\r\n"):
        mail = mail_of(message)
        mail.parts[-1].replace_text(text)
        part = mail_of(out(mail)).parts[-1]
        assert (part.text or "").removesuffix("\r\n") == wanted.removesuffix("\r\n")
        assert mail.parts[-1].text == part.text
        assert all(len(line) <= 998 for line in out(mail).split(b"\r\n"))


def test_append_text() -> None:
    mail = mail_of(MIXED)
    assert mail.append_text("Büro <1>\nline 2") == 2
    assert mail.text == "Grüße\r\nBüro <1>\r\nline 2"
    assert mail.html == "<html><body><p>Hi</p><p>B&#252;ro &lt;1&gt;<br>line 2</p>\r\n</BODY></html>"
    assert mail.append_text("once more", html="<hr>") == 2
    assert mail.html.endswith("<hr></BODY></html>")
    untouched(MIXED, out(mail), b"Gr=FC=DFe", b"<html><body><p>Hi</p></BODY></html>")
    read_again(mail)


def test_append_text_to_a_message_without_mime() -> None:
    mail = mail_of(b"Subject: x\r\n\r\nhello\r\n")
    assert mail.append_text("-- \nfooter\n") == 1
    assert out(mail) == b"Subject: x\r\nMIME-Version: 1.0\r\n\r\nhello\r\n-- \r\nfooter\r\n"


def test_append_text_where_there_is_none() -> None:
    mail = mail_of(b"Content-Type: image/png\r\n\r\nx\r\n")
    assert mail.append_text("footer") == 0
    assert mail.ledger is not None
    assert not mail.ledger.edited


def test_appended_text_does_not_flow() -> None:
    mail = mail_of(b"Content-Type: text/plain; format=flowed\r\n\r\nit flows \r\non and \r\n")
    mail.append_text("footer  \n> no quote\nFrom us")
    assert mail.text == "it flows \r\non and\r\nfooter\r\n > no quote\r\n From us\r\n"


@pytest.mark.parametrize(
    ("charset", "octets"),
    [
        ("iso-8859-1", b"a\xfcb"),
        ("utf-16", "aüb".encode("utf-16")),
        ("us-ascii", b"aub"),
        ("utf-8", b"\xff broken"),
        ("x-none", b"\xfc"),
    ],
)
def test_append_text_in_any_charset(charset: str, octets: bytes) -> None:
    mail = mail_of(f"Content-Type: text/plain; charset={charset}\r\nContent-Transfer-Encoding: 8bit\r\n\r\n".encode() + octets)
    before = mail.text
    mail.append_text("漢 é")
    assert mail.text == f"{before}\r\n漢 é" + ("" if mail.parts[0].encoding == "base64" else "\r\n")
    assert mail_of(out(mail)).text == (mail.text or "")


def test_remove() -> None:
    mail = mail_of(MIXED)
    pdf, message = mail.attachments
    pdf.remove()
    assert [part.content_type for part in mail.attachments] == ["message/rfc822"]
    start, end = MIXED.index(b"\r\n--o\r\nContent-Type: application"), MIXED.index(b"\r\n--o\r\nContent-Type: message")
    assert out(mail) == MIXED[:start] + MIXED[end:]
    message.remove()
    read_again(mail)
    assert len(mail.parts) == 4
    with pytest.raises(PartError, match="was removed"):
        pdf.remove()


def test_the_last_part_leaves_an_empty_text() -> None:
    mail = mail_of(b"Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\nContent-Type: image/png\r\n\r\nx\r\n--b--\r\n")
    mail.attachments[0].remove()
    assert mail.text == ""
    read_again(mail)
    mail = mail_of(b"Subject: x\r\nContent-Type: image/png\r\nContent-Transfer-Encoding: base64\r\n\r\nAAAA\r\n")
    mail.attachments[0].remove()
    assert out(mail) == b"Subject: x\r\nContent-Type: text/plain\r\nMIME-Version: 1.0\r\n\r\n"
    assert (mail.text, mail.attachments) == ("", ())


def test_a_multipart_goes_with_its_parts() -> None:
    mail = mail_of(MIXED)
    text = mail.parts[2]
    text.replace_text("changed")
    mail.parts[1].remove()
    assert [part.content_type for part in mail.parts] == ["multipart/mixed", "application/pdf", "message/rfc822", "text/plain"]
    read_again(mail)
    with pytest.raises(PartError):
        text.replace_text("again")


def test_replace() -> None:
    mail = mail_of(MIXED)
    pdf = mail.attachments[0]
    pdf.replace("a.pdf was removed", filename="gelöscht.txt", content_type="text/plain")
    assert (pdf.filename, pdf.content_type, pdf.text, pdf.size) == ("gelöscht.txt", "text/plain", "a.pdf was removed", 17)
    assert pdf.header["X-Own"] == "kept"
    part = list(read_again(mail).walk())[4]
    assert (part.get_filename(), part.get_content()) == ("gelöscht.txt", "a.pdf was removed")
    pdf.replace(b"\0\1\2" * 100)
    assert pdf.read() == b"\0\1\2" * 100
    read_again(mail)
    with pytest.raises(PartError, match="no content type of a file"):
        pdf.replace(b"", content_type="multipart/mixed")
    with pytest.raises(PartError, match=r"mail\.body\.replace"):
        mail.parts[0].replace(b"")


def test_a_multipart_gives_way_to_a_file() -> None:
    mail = mail_of(MIXED)
    part = mail.parts[1]
    part.replace(b"\0", filename="x.bin", content_type="application/x")
    assert (part.read(), part.parts, mail.text) == (b"\0", (), None)
    read_again(mail)


def test_attach_to_a_multipart() -> None:
    mail = mail_of(MIXED)
    part = mail.attach("report: ü\r\n", filename="report.txt", content_type="text/plain")
    other = mail.attach(b"\0\1", filename="x.bin")
    assert (part.text, part.filename, other.read()) == ("report: ü\r\n", "report.txt", b"\0\1")
    assert mail.attachments[-2:] == (part, other)
    assert [each.get_filename() for each in read_again(mail).iter_attachments()][-2:] == ["report.txt", "x.bin"]
    at = MIXED.index(b"\r\n--o--")
    assert out(mail).startswith(MIXED[:at])
    assert out(mail).endswith(MIXED[at:])
    part.remove()
    other.replace(b"\2")
    assert [each.filename for each in mail.attachments] == ["a.pdf", "", "x.bin"]
    assert mail_of(out(mail)).attachments[-1].read() == b"\2"
    with pytest.raises(PartError, match="removed"):
        part.remove()


def test_attach_to_a_single_part() -> None:
    head = "Subject: x\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\n"
    mail = mail_of((head + "grüße\r\n").encode())
    text = mail.parts[0]
    part = mail.attach(b"\0", filename="a.bin")
    assert [each.content_type for each in mail.parts] == ["multipart/mixed", "text/plain", "application/octet-stream"]
    assert mail.text == "grüße\r\n"
    assert part.read() == b"\0"
    again = read_again(mail)
    assert again["Subject"] == "x"
    assert again["MIME-Version"] == "1.0"
    assert again.get("Content-Transfer-Encoding") is None
    with pytest.raises(PartError, match=r"read mail\.parts again"):
        text.replace_text("x")
    mail.attach(b"\1", filename="b.bin")
    mail.append_text("bye")
    assert (mail.text, len(mail.parts)) == ("grüße\r\nbye", 4)
    read_again(mail)


def test_attach_where_a_field_stands_twice() -> None:
    mail = mail_of(b"Content-Type: text/plain\r\nContent-type: text/html\r\ncontent-id: <1>\r\n\r\nhello\r\n")
    mail.attach(b"x", filename="x")
    assert [part.content_type for part in mail.parts] == ["multipart/mixed", "text/plain", "application/octet-stream"]
    read_again(mail)


GLUED = b"Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n--b\r\n--b--\r\n"


def test_parts_without_even_a_line_end_between_them() -> None:
    mail = mail_of(GLUED)
    assert mail.append_text("footer") == 1
    assert (mail.text, len(mail.parts)) == ("footer", 3)
    read_again(mail)
    mail.parts[2].remove()
    mail.parts[1].remove()
    assert (mail.text, len(mail.parts)) == ("", 2)
    read_again(mail)


def test_attach_where_the_message_ends_with_a_delimiter() -> None:
    mail = mail_of(GLUED.removesuffix(b"--b--\r\n") + b"\r\nx\r\n--b")
    mail.attach(b"y", filename="y")
    assert [part.read() for part in mail.parts[1:]] == [b"", b"x", b"", b"y"]
    with pytest.raises(PartError, match="no room"):
        mail.parts[3].replace(b"z")
    assert [part.read() for part in mail_of(out(mail)).parts[1:]] == [b"", b"x", b"", b"y"]


def test_a_bare_cr_in_a_header_starts_no_line() -> None:
    mail = mail_of(b"Content-Type: text/plain;\rx=1\r\n\r\nhello\r\n")
    mail.append_text("ü")
    assert mail.header["Content-Type"] == "text/plain; x=1; charset=utf-8"
    mail = mail_of(MIXED.replace(b"X-Own: kept", b"X-Own: a\r\rb"))
    mail.attachments[0].replace(b"x")
    assert mail.attachments[0].read() == b"x"
    read_again(mail)


def test_attach_after_an_edit() -> None:
    mail = mail_of(b"Subject: x\r\n\r\nhello\r\n")
    mail.append_text("bye")
    mail.attach("x", filename="x.txt", content_type="text/plain")
    assert mail.text == "hello\r\nbye\r\n"
    read_again(mail)


SIGNED = (
    b'Content-Type: multipart/signed; boundary=s; protocol="application/pgp-signature"\r\n\r\n'
    b"--s\r\nContent-Type: text/plain\r\n\r\nsigned\r\n--s\r\nContent-Type: application/pgp-signature\r\n\r\nsig\r\n--s--\r\n"
)  # fmt: skip

EDITS: dict[str, Callable[[Mail, bool], object]] = {
    "append": lambda mail, force: mail.append_text("x", force=force),
    "replace_text": lambda mail, force: mail.parts[1].replace_text("x", force=force),
    "replace": lambda mail, force: mail.parts[2].replace("x", force=force),
    "remove": lambda mail, force: mail.parts[2].remove(force=force),
}


@pytest.mark.parametrize("edit", EDITS)
def test_signed_parts_are_edited_by_force_only(edit: str) -> None:
    mail = mail_of(SIGNED)
    with pytest.raises(SignedPart, match="an edit breaks the signature; force=True"):
        EDITS[edit](mail, False)
    assert out(mail) == SIGNED
    EDITS[edit](mail, True)
    read_again(mail)


def test_a_file_beside_what_is_signed() -> None:
    mail = mail_of(SIGNED)
    mail.attach(b"x", filename="x")
    read_again(mail)
    assert SIGNED[SIGNED.index(b"--s") :].removesuffix(b"\r\n") in out(mail)


def test_edits_inside_an_attached_message() -> None:
    mail = mail_of(MIXED)
    mail.parts[-1].replace_text("other")
    assert out(mail) == MIXED.replace(b"forwarded", b"other")
    mail.attachments[-1].remove()
    assert len(mail.parts) == 5
    read_again(mail)


def test_a_branch_has_its_own_parts() -> None:
    mail = mail_of(MIXED)
    mail.parts[2].replace_text("for all")
    assert mail.ledger is not None
    other = mail_of(MIXED)
    other.arrived(mail.ledger.branch(), complete=True)
    assert other.text == "for all"
    other.attachments[0].remove()
    other.append_text("for one")
    assert (mail.text, len(mail.attachments)) == ("for all", 2)
    assert (other.text, len(other.attachments)) == ("for all\r\nfor one", 1)


def test_a_copy_of_the_mail_with_a_ledger_of_its_own() -> None:
    mail = mail_of(MIXED)
    assert len(mail.parts) == 7
    assert mail.ledger is not None
    other = copy.copy(mail)
    other.ledger = mail.ledger.branch()
    other.attachments[0].remove()
    assert (len(mail.attachments), len(other.attachments)) == (2, 1)
    assert out(mail) == MIXED


def test_attach_where_the_last_delimiter_is_missing() -> None:
    mail = mail_of(b"Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\ntext")
    mail.attach(b"x", filename="x")
    mail.attach(b"y", filename="y")
    assert mail.mime_defects == ("unclosed",)
    assert [part.read() for part in mail_of(out(mail)).attachments] == [b"x", b"y"]


def test_body_and_parts_agree() -> None:
    mail = mail_of(b"Subject: x\r\n\r\nhello\r\n")
    mail.body.append("more\r\n")
    assert mail.text == "hello\r\nmore\r\n"
    mail.append_text("bye")
    assert mail.body.bytes() == b"hello\r\nmore\r\nbye\r\n"
    mail.body.replace("new")
    assert mail.text == "new"
    mail.header["Content-Type"] = "text/html"
    assert (mail.text, mail.html) == (None, "new")


CHOICES = st.lists(st.tuples(st.sampled_from(["remove", "text", "replace", "append", "attach"]), st.integers(0, 6)), max_size=8)


@settings(max_examples=150, deadline=None)
@given(CHOICES)
def test_whatever_is_edited_the_view_is_what_goes_out(choices: list[tuple[str, int]]) -> None:
    mail = mail_of(MIXED)
    for edit, number in choices:
        part: Part = mail.parts[number % len(mail.parts)]
        try:
            if edit == "remove":
                part.remove()
            elif edit == "text":
                part.replace_text(f"text é {number}")
            elif edit == "replace":
                part.replace(b"\0\1", filename=f"é{number}.bin", content_type="application/x")
            elif edit == "append":
                mail.append_text("more", html="<i>more</i>")
            else:
                mail.attach(b"new", filename="new.bin")
        except PartError:
            continue
    again = mail_of(out(mail))
    assert [(p.content_type, p.filename) for p in again.parts] == [(p.content_type, p.filename) for p in mail.parts]
    for here, there in zip(mail.parts, again.parts, strict=True):
        if not here.parts:
            assert here.read().removesuffix(b"\r\n") == there.read().removesuffix(b"\r\n")
    read_again(mail)


def test_many_edits_take_no_longer_than_they_must() -> None:
    body = b"".join(b"--b\r\nContent-Type: image/png\r\n\r\nx%d\r\n" % n for n in range(5000))
    mail = mail_of(b"Content-Type: multipart/mixed; boundary=b\r\n\r\n" + body + b"--b--\r\n")
    for part in mail.attachments:
        part.remove()
    assert mail.attachments == ()
    read_again(mail)


@pytest.mark.parametrize("kind", [Part, Mail], ids=lambda kind: kind.__name__)
def test_new_names_have_a_line_in_the_manual(kind: type) -> None:
    wanted = names(Part) if kind is Part else {"parts", "attachments", "text", "html", "mime_defects", "append_text", "attach"}
    assert wanted <= names(kind)
    assert [name for name in wanted if not help_text(kind, name)] == []
    assert SURFACE[kind]


def test_a_large_mail_is_never_in_memory() -> None:
    head = b"Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\ntext\r\n--b\r\nContent-Type: image/png\r\n\r\n"
    writer = BodyWriter(memory=1 << 16)
    line = b"." + b"x" * 70 + b"\r\n"
    writer.write(head)
    for _ in range(300):
        writer.write(line * 1000)
    writer.write(b"--b--\r\n")
    body = writer.finish(True)
    mail = Mail("M1", Client("S1", "192.0.2.1", 4321, ListenerFacts("mx")), parse_address("joe@example.com"))
    mail.arrived(Ledger(body, HeaderBlock.parse(head[: end_of_header(head)])), complete=True)
    tracemalloc.start()
    try:
        (part,) = mail.attachments
        assert part.size == 72 * 300_000 - 2
        assert (part.read(5), len(part.sha256()), mail.text) == (b"xxxxx", 64, "text")
        part.remove()
        assert mail.attachments == ()
        assert sum(map(len, mail.ledger.render().wire())) < 200  # type: ignore[union-attr]
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 2 << 20
