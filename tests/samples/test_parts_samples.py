"""The samples that look into a message: strip-attachments, in both languages, and disclaimer."""

from __future__ import annotations

from pathlib import Path

import pytest

from smtpproxy.testing.rules import run_rule

SAMPLES = Path(__file__).parents[2] / "scripts" / "samples"
STRIP = [SAMPLES / "strip-attachments.py", SAMPLES / "lua" / "strip-attachments.lua"]

MESSAGE = (
    b"Subject: hello\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n"
    b"--b\r\nContent-Type: text/plain\r\n\r\nLook at this.\r\n"
    b"--b\r\nContent-Type: application/octet-stream\r\nContent-Disposition: attachment; filename*=utf-8''gr%C3%BC%C3%9Fe.EXE\r\n"
    b"Content-Transfer-Encoding: base64\r\n\r\nTVqQAAMAAAA=\r\n"
    b"--b\r\nContent-Type: application/pdf; name=a.pdf\r\n\r\nPDF\r\n--b--\r\n"
)  # fmt: skip
SIGNED = (
    b"Content-Type: multipart/signed; boundary=s\r\n\r\n--s\r\nContent-Type: application/x-dosexec; name=a.exe\r\n\r\nMZ\r\n"
    b"--s\r\nContent-Type: application/pgp-signature\r\n\r\nsig\r\n--s--\r\n"
)  # fmt: skip


@pytest.mark.parametrize("rule", STRIP, ids=lambda path: path.suffix[1:])
def test_programs_are_taken_out(rule: Path) -> None:
    outcome = run_rule(rule, "on_message", message=MESSAGE)
    assert outcome.verdict is None
    note, pdf = outcome.mail.attachments
    assert note.text == "The attachment grüße.EXE was removed: programs are not accepted by mail."
    assert (note.filename, note.content_type, pdf.filename) == ("removed.txt", "text/plain", "a.pdf")
    assert outcome.mail.header["X-Removed"] == "grüße.EXE"
    assert b"TVqQ" not in outcome.message
    assert outcome.message.endswith(MESSAGE[MESSAGE.index(b"--b\r\nContent-Type: application/pdf") :])


@pytest.mark.parametrize("rule", STRIP, ids=lambda path: path.suffix[1:])
def test_other_mail_goes_as_it_is(rule: Path) -> None:
    message = MESSAGE.replace(b"EXE", b"txt")
    assert run_rule(rule, "on_message", message=message).message == message


@pytest.mark.parametrize("rule", STRIP, ids=lambda path: path.suffix[1:])
def test_a_signed_program_is_refused(rule: Path) -> None:
    assert run_rule(rule, "on_message", message=SIGNED).reply == "550 5.7.1 Programs are not accepted: a.exe"


DISCLAIMER = SAMPLES / "disclaimer.py"
OURS = "ann@example.com"
ALTERNATIVE = (
    b"Content-Type: multipart/alternative; boundary=b\r\n\r\n--b\r\nContent-Type: text/plain\r\n\r\nHello\r\n"
    b"--b\r\nContent-Type: text/html\r\n\r\n<html><body>Hello</body></html>\r\n--b--\r\n"
)  # fmt: skip


def test_a_line_under_text_and_html() -> None:
    outcome = run_rule(DISCLAIMER, "on_message", sender=OURS, message=ALTERNATIVE)
    assert outcome.mail.text == "Hello\r\n\r\n-- \r\nExample Ltd, 1 Example Street, London"
    assert outcome.mail.html == "<html><body>Hello<hr><p>Example Ltd, 1 Example Street, London</p></body></html>"


@pytest.mark.parametrize(("sender", "message"), [("joe@other.example", ALTERNATIVE), (OURS, SIGNED), ("", ALTERNATIVE)])
def test_no_line_under_what_is_not_ours_to_change(sender: str, message: bytes) -> None:
    assert run_rule(DISCLAIMER, "on_message", sender=sender, message=message).message == message
