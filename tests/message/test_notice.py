"""Notices of failure as RFC 3464 has them."""

from __future__ import annotations

import email
from email.message import Message
from typing import Any

import pytest

from smtpproxy.message.notice import Failure, failure_notice

NO_USER = Failure("b@example.com", "550 5.1.1 No such user", "mx.example.com:25")


def notice(*failures: Failure, sender: str = "a@client.example", header: bytes = b"Subject: hello\r\n") -> bytes:
    return failure_notice(
        id="n1", hostname="mx.test", sender=sender, date="Thu, 21 Nov 2024 10:05:00 +0100",
        arrival="Wed, 20 Nov 2024 10:05:00 +0100", failures=failures or [NO_USER], header=header,
    )  # fmt: skip


def parts(content: bytes) -> list[Any]:
    return email.message_from_bytes(content).get_payload()  # type: ignore[return-value]


def fields(content: bytes, recipient: int = 0) -> Message:
    """Of the delivery status: the message's own first."""
    found: Message = parts(content)[1].get_payload()[recipient + 1]
    return found


def test_it_is_a_report_to_the_sender_that_answers_nobody() -> None:
    message = email.message_from_bytes(notice())
    assert message.get_content_type() == "multipart/report"
    assert message.get_param("report-type") == "delivery-status"
    assert (message["To"], message["Auto-Submitted"]) == ("<a@client.example>", "auto-replied")
    assert [part.get_content_type() for part in parts(notice())] == [
        "text/plain", "message/delivery-status", "text/rfc822-headers",
    ]  # fmt: skip


def test_each_recipient_with_what_was_said_and_by_whom() -> None:
    content = notice(NO_USER, Failure("c@example.com", "556 5.1.10 No mail"))
    assert dict(fields(content)) == {
        "Final-Recipient": "rfc822; b@example.com", "Action": "failed", "Status": "5.1.1",
        "Remote-MTA": "dns; mx.example.com:25", "Diagnostic-Code": "smtp; 550 5.1.1 No such user",
    }  # fmt: skip
    assert dict(fields(content, 1)) == {"Final-Recipient": "rfc822; c@example.com", "Action": "failed", "Status": "5.1.10"}


@pytest.mark.parametrize(("reply", "status"), [("550 No", "5.0.0"), ("451 4.4.1 Late", "4.4.1"), ("550 I like 5.1.1", "5.0.0")])
def test_the_status_is_the_enhanced_code_of_the_reply(reply: str, status: str) -> None:
    assert Failure("b@example.com", reply).status == status


def test_a_peer_cannot_write_lines_into_it() -> None:
    content = notice(Failure("b@example.com", "550 5.1.1 No\r\nBcc: x\r\n\r\n--n1/mx.test--", "mx"))
    assert b"\r\nBcc" not in content
    assert len(parts(content)) == 3


def test_the_header_comes_back() -> None:
    assert parts(notice(header=b"Subject: hello\r\nX-A: b\r\n"))[2].get_payload() == "Subject: hello\r\nX-A: b\r\n"


def test_addresses_beyond_ascii_have_forms_of_their_own() -> None:
    content = notice(Failure("b\u00fc@example.com", "550 No", "mx"))
    assert b'report-type=global-delivery-status' in content
    assert b"Content-Type: message/global-delivery-status" in content
    assert "Final-Recipient: utf-8; b\u00fc@example.com".encode() in content
