"""Parts in a Lua rule: the same names as in Python, octets as strings, large contents in chunks."""

from __future__ import annotations

import base64

import pytest

from smtpproxy.testing.rules import Outcome, run_rule

MESSAGE = (
    b"Subject: hello\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n"
    b"--b\r\nContent-Type: text/plain; charset=iso-8859-1\r\nContent-Transfer-Encoding: 8bit\r\n\r\ngr\xfc\xdfe\r\n"
    b"--b\r\nContent-Type: application/pdf; name=\"a.pdf\"; x=1\r\nContent-Transfer-Encoding: base64\r\nX-Own: yes\r\n\r\n"
    + base64.encodebytes(b"\0\1\xff" * 100_000).replace(b"\n", b"\r\n") + b"--b--\r\n"
)  # fmt: skip


def run(body: str, message: bytes = MESSAGE) -> Outcome:
    return run_rule(f"function on_message(mail)\n{body}\nend", "on_message", language="lua", message=message)


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        ("mail.text", "grüße"),
        ("mail.html", "nil"),
        ("#mail.parts", "3"),
        ("#mail.attachments", "1"),
        ("mail.attachments[1].filename", "a.pdf"),
        ("mail.attachments[1].content_type", "application/pdf"),
        ("mail.attachments[1].header['x-own']", "yes"),
        ("mail.attachments[1].parameters.x", "1"),
        ("mail.attachments[1].size", "300000"),
        ("#mail.attachments[1]:read(10)", "10"),
        ("#mail.attachments[1]:read()", "300000"),
        ("mail.attachments[1]:read(3):byte(3)", "255"),
        ("#mail.attachments[1]:sha256()", "64"),
        ("mail.attachments[1].text", "nil"),
        ("mail.parts[1].parts[2].content_type", "application/pdf"),
        ("mail.parts[1].parts[1].charset", "iso-8859-1"),
        ("#mail.mime_defects", "0"),
    ],
)
def test_reading(expression: str, value: str) -> None:
    outcome = run(f"return deny(tostring({expression}))")
    assert outcome.verdict is not None
    assert outcome.verdict.text == value


def test_a_large_content_comes_in_chunks() -> None:
    outcome = run("""
      local size, largest = 0, 0
      for chunk in mail.attachments[1]:content() do
        size = size + #chunk
        largest = math.max(largest, #chunk)
      end
      return deny(size .. " " .. tostring(largest <= 65536))
    """)
    assert outcome.verdict is not None
    assert outcome.verdict.text == "300000 true"


def test_editing() -> None:
    outcome = run("""
      mail.parts[2]:replace_text("neu: ü")
      mail:append_text("footer", {html = "<hr>"})
      mail.attachments[1]:replace("\\0\\255", {filename = "b.bin", content_type = "application/x"})
      mail:attach("report", {filename = "r.txt", content_type = "text/plain"})
      mail:attach("gone"):remove()
    """)
    assert outcome.verdict is None
    assert outcome.mail.text == "neu: ü\r\nfooter"
    assert [(part.filename, part.read()) for part in outcome.mail.attachments] == [("b.bin", b"\0\xff"), ("r.txt", b"report")]


@pytest.mark.parametrize(
    ("body", "error"),
    [
        ("return mail.parts[1].file_name", 'part has no "file_name"; did you mean'),
        ("mail.parts[1].filename = 'x'", "part.filename cannot be assigned"),
        ("mail.attachments[1]:replace_text('x')", "the part is application/pdf, no text"),
        ("local p = mail.attachments[1] p:remove() p:remove()", "this part was removed"),
    ],
)
def test_errors_have_their_words(body: str, error: str) -> None:
    outcome = run(body)
    failures = [str(fields) for event, fields in outcome.logged if event == "rule_failed"]
    assert len(failures) == 1
    assert error in failures[0]
