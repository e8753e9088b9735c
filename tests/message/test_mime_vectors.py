"""47 messages of Python's own mail tests: read and taken apart without an exception, given back octet for octet."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from smtpproxy.message.body import bytes_body
from smtpproxy.message.edits import Ledger
from smtpproxy.message.entities import Entities
from smtpproxy.message.header import HeaderBlock, end_of_header

SHARED = Path(os.environ.get("SMTPPROXY_SHARED", Path(__file__).parents[2].parent / "shared"))
VECTORS = sorted((SHARED / "vectors" / "mime").glob("msg_*.txt"))

pytestmark = pytest.mark.skipif(not VECTORS, reason="the shared vectors are not here")


def test_the_set_is_whole() -> None:
    assert len(VECTORS) == 48


@pytest.mark.parametrize("path", VECTORS, ids=lambda path: path.stem)
@pytest.mark.parametrize("line_end", [b"\n", b"\r\n"], ids=["as-stored", "crlf"])
def test_a_message_is_read_and_given_back(path: Path, line_end: bytes) -> None:
    message = path.read_bytes().replace(b"\r\n", b"\n").replace(b"\n", line_end)
    end = end_of_header(message)
    ledger = Ledger(bytes_body(message), HeaderBlock.parse(message if end < 0 else message[:end]))
    assert all(isinstance(field.value, str) for field in ledger.fields)
    assert b"".join(ledger.render().content()) == message
    added = ledger.add_field("X-Seen", "yes")
    assert b"X-Seen: yes\r\n" in b"".join(ledger.render().content())
    ledger.remove_field(added)
    assert b"".join(ledger.render().content()) == message


@pytest.mark.timeout(5)
@pytest.mark.parametrize("path", VECTORS, ids=lambda path: path.stem)
@pytest.mark.parametrize("line_end", [b"\n", b"\r\n"], ids=["as-stored", "crlf"])
def test_a_message_is_taken_apart_and_left_as_it_is(path: Path, line_end: bytes) -> None:
    message = path.read_bytes().replace(b"\r\n", b"\n").replace(b"\n", line_end)
    end = end_of_header(message)
    ledger = Ledger(bytes_body(message), HeaderBlock.parse(message if end < 0 else message[:end]))
    for entity in Entities(ledger).view():
        assert isinstance(entity.header.filename + entity.header.charset, str)
        assert sum(map(len, entity.content())) <= len(message)
    assert b"".join(ledger.render().content()) == message
