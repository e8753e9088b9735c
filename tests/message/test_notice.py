"""Notices as RFC 3464 and RFC 6533 have them, read by Python's email package."""

from __future__ import annotations

import email
import email.policy
from email.message import EmailMessage
from typing import Any

import pytest

from smtpproxy.message.notice import Fate, Report, Returned

NO_USER = Fate("failed", "b@example.com", "550 5.1.1 No such user", "mx.example.com", "rfc822; B@example.com")
HEADER = b"Subject: hello\r\nMessage-ID: <1@client.example>\r\n"


def notice(*fates: Fate, **more: Any) -> bytes:
    about: dict[str, Any] = {
        "id": "n1", "hostname": "mx.test", "sender": "a@client.example", "date": "Thu, 21 Nov 2024 10:05:00 +0100",
        "subject": "Not delivered", "text": "It was not.\n\n%\n", "mail": "m1", "returned": Returned(HEADER),
        "arrival": "Wed, 20 Nov 2024 10:05:00 +0100", "until": "Mon, 25 Nov 2024 10:05:00 +0100", "fates": fates or [NO_USER],
    }  # fmt: skip
    return Report(**{**about, **more}).content()


def read(content: bytes) -> EmailMessage:
    """What has no defect."""
    message = email.message_from_bytes(content, policy=email.policy.default)
    assert [part.defects for part in message.walk() if part.defects] == []
    assert isinstance(message, EmailMessage)
    return message


def parts(content: bytes) -> list[Any]:
    return read(content).get_payload()  # type: ignore[return-value]


def fields(content: bytes, recipient: int = 0) -> dict[str, str]:
    """Of the delivery status."""
    return dict(parts(content)[1].get_payload()[recipient + 1].items())


def test_it_is_a_report_to_the_sender_that_answers_the_mail() -> None:
    message = read(notice())
    assert message.get_content_type() == "multipart/report"
    assert message.get_param("report-type") == "delivery-status"
    assert {name: message[name] for name in ("From", "To", "Subject", "Auto-Submitted", "References", "MIME-Version")} == {
        "From": "Mail Delivery System <postmaster@mx.test>", "To": "a@client.example", "Subject": "Not delivered",
        "Auto-Submitted": "auto-replied", "References": "<1@client.example>", "MIME-Version": "1.0",
    }  # fmt: skip
    assert [part.get_content_type() for part in parts(notice())] == [
        "text/plain", "message/delivery-status", "text/rfc822-headers",
    ]  # fmt: skip


def test_each_recipient_with_what_was_said_and_by_whom() -> None:
    content = notice(NO_USER, Fate("failed", "c@example.com", "556 5.1.10 No mail"), envid="QQ+=1")
    assert dict(parts(content)[1].get_payload()[0].items()) == {
        "Original-Envelope-Id": "QQ+=1", "Reporting-MTA": "dns; mx.test", "Arrival-Date": "Wed, 20 Nov 2024 10:05:00 +0100",
    }  # fmt: skip
    assert fields(content) == {
        "Original-Recipient": "rfc822; B@example.com", "Final-Recipient": "rfc822; b@example.com", "Action": "failed",
        "Status": "5.1.1", "Remote-MTA": "dns; mx.example.com", "Diagnostic-Code": "smtp; 550 5.1.1 No such user",
        "Last-Attempt-Date": "Thu, 21 Nov 2024 10:05:00 +0100", "Final-Log-ID": "m1",
    }  # fmt: skip
    assert fields(content, 1) == {
        "Final-Recipient": "rfc822; c@example.com", "Action": "failed", "Status": "5.1.10",
        "Last-Attempt-Date": "Thu, 21 Nov 2024 10:05:00 +0100", "Final-Log-ID": "m1",
    }  # fmt: skip


def test_a_warning_says_how_long_it_goes_on() -> None:
    delayed = fields(notice(Fate("delayed", "b@example.com", "451 4.3.0 Later", "mx.example.com")))
    assert (delayed["Action"], delayed["Status"]) == ("delayed", "4.3.0")
    assert delayed["Will-Retry-Until"] == "Mon, 25 Nov 2024 10:05:00 +0100"


@pytest.mark.parametrize(
    ("action", "reply", "status"),
    [
        ("failed", "550 No", "5.0.0"), ("failed", "451 4.4.1 Late", "4.4.1"), ("failed", "550 I like 5.1.1", "5.0.0"),
        ("delayed", "451 Late", "4.0.0"), ("relayed", "250 2.1.5 Ok", "2.1.5"), ("delivered", "250 Ok", "2.0.0"),
        ("delivered", "250 5.1.1 Nonsense", "2.0.0"),
    ],
)  # fmt: skip
def test_the_status_is_the_enhanced_code_of_the_reply_where_it_fits(action: Any, reply: str, status: str) -> None:
    assert Fate(action, "b@example.com", reply).status == status


def test_a_peer_cannot_write_lines_into_it() -> None:
    evil = "550 5.1.1 No\r\nBcc: x\r\n\r\n--n1/mx.test--"
    fate = Fate("failed", "b@example.com", evil, "mx\r\nBcc: x")
    content = notice(fate, text=fate.words(), subject=evil)
    assert read(content)["Bcc"] is None
    assert "Bcc" not in fields(content)
    assert len(parts(content)) == 3


@pytest.mark.parametrize("id", [b"1@client.example", b"<1@\xff>", b"<1@client.example> <2@client.example>", b""])
def test_what_is_no_message_id_is_not_repeated(id: bytes) -> None:
    assert read(notice(returned=Returned(b"Message-ID: " + id + b"\r\n")))["References"] is None


def test_the_header_comes_back() -> None:
    assert parts(notice())[2].get_payload() == HEADER.decode()


def test_all_of_it_comes_back() -> None:
    (returned,) = parts(notice(returned=Returned(HEADER + b"\r\nt\xc3\xbcxt\r\n", whole=True)))[2].get_payload()
    assert (returned["Subject"], returned.get_payload(decode=True)) == ("hello", b"t\xc3\xbcxt\r\n")
    assert b"8bit" in notice(returned=Returned(b"Subject: x\r\n\r\nt\xfc\r\n", whole=True)).partition(b"\r\n\r\n")[0]


def test_a_header_with_octets_of_eight_bits_comes_back_encoded() -> None:
    """Whoever sent it without SMTPUTF8 may not be able to take such a notice."""
    content = notice(returned=Returned(b"Subject: gr\xfcn\r\n"), text="Gr\u00fc\u00dfe\n")
    assert content.isascii()
    assert parts(content)[2].get_payload(decode=True).startswith(b"Subject: gr\xfcn")
    assert parts(content)[0].get_content() == "Gr\u00fc\u00dfe\r\n"


def test_mail_with_smtputf8_has_forms_of_its_own() -> None:
    fate = Fate("failed", "b\u00fc@example.com", "550 N\u00f6", "mx", "utf-8; b\u00fc@example.com")
    content = notice(fate, utf8=True, sender="\u00e4@client.example", returned=Returned("Subject: gr\u00fcn\r\n".encode()))
    assert read(content).get_param("report-type") == "global-delivery-status"
    kinds = [part.get_content_type() for part in parts(content)]
    assert kinds == ["text/plain", "message/global-delivery-status", "message/global-headers"]
    for field in ("Final-Recipient: utf-8; b\u00fc@example.com", "Original-Recipient: utf-8; b\u00fc@", "smtp; 550 N\u00f6"):
        assert field.encode() in content
    whole = notice(fate, utf8=True, returned=Returned(b"Subject: x\r\n\r\n", whole=True))
    assert b"Content-Type: message/global\r\n" in whole


def test_what_a_server_says_beyond_ascii_stays_out_of_a_notice_in_ascii() -> None:
    content = notice(Fate("failed", "b@example.com", "550 5.1.1 N\u00f6", "mx"))
    assert content.isascii()
    assert fields(content)["Diagnostic-Code"] == "smtp; 550 5.1.1 N?"
