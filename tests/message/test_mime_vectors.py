"""47 messages of Python's own mail tests: read and taken apart without an exception, given back octet for octet."""

from __future__ import annotations

from pathlib import Path

import pytest

from smtpproxy.message.body import bytes_body
from smtpproxy.message.edits import Ledger
from smtpproxy.message.entities import Entities
from smtpproxy.message.header import HeaderBlock, end_of_header

NAMES = sorted(["msg_12a", *(f"msg_{number:02}" for number in range(1, 48))])

Message = tuple[bytes, Ledger]


@pytest.fixture(params=[b"\n", b"\r\n"], ids=["as-stored", "crlf"])
def read(request: pytest.FixtureRequest, vectors: Path, name: str) -> Message:
    """A message, and what we make of it."""
    message = (vectors / "mime" / f"{name}.txt").read_bytes().replace(b"\r\n", b"\n").replace(b"\n", request.param)
    end = end_of_header(message)
    return message, Ledger(bytes_body(message), HeaderBlock.parse(message if end < 0 else message[:end]))


def test_the_set_is_whole(vectors: Path) -> None:
    assert sorted(path.stem for path in (vectors / "mime").glob("msg_*.txt")) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_a_message_is_read_and_given_back(read: Message) -> None:
    message, ledger = read
    assert all(isinstance(field.value, str) for field in ledger.fields)
    assert b"".join(ledger.render().content()) == message
    added = ledger.add_field("X-Seen", "yes")
    assert b"X-Seen: yes\r\n" in b"".join(ledger.render().content())
    ledger.remove_field(added)
    assert b"".join(ledger.render().content()) == message


@pytest.mark.timeout(5)
@pytest.mark.parametrize("name", NAMES)
def test_a_message_is_taken_apart_and_left_as_it_is(read: Message) -> None:
    message, ledger = read
    for entity in Entities(ledger).view():
        assert isinstance(entity.header.filename + entity.header.charset, str)
        assert sum(map(len, entity.content())) <= len(message)
    assert b"".join(ledger.render().content()) == message
