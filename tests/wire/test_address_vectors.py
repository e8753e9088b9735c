"""The isemail vectors: they judge by RFC 5322 with notes; what has no place in an SMTP path is refused here."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree

import pytest

from smtpproxy.wire.address import Address, AddressError, parse_address, parse_path

PARSED = {"ISEMAIL_VALID_CATEGORY", "ISEMAIL_DNSWARN", "ISEMAIL_RFC5321"}
REFUSED = {"ISEMAIL_ERR", "ISEMAIL_CFWS", "ISEMAIL_DEPREC", "ISEMAIL_RFC5322"}

# The empty address is no mailbox, but between brackets it is the null path (RFC 5321 4.5.5).
NULL_PATH = "1"
COUNT = 164


class Case(NamedTuple):
    """One vector."""

    number: str
    octets: bytes
    category: str
    diagnosis: str


@pytest.fixture(scope="module")
def cases(vectors: Path) -> list[Case]:
    """All of them. U+2400 and up stand for control characters."""
    found = []
    for test in ElementTree.parse(vectors / "address" / "tests.xml").iter("test"):
        text = test.findtext("address") or ""
        octets = "".join(chr(ord(c) - 0x2400) if 0x2400 <= ord(c) <= 0x2420 else c for c in text).encode()
        found.append(Case(test.get("id", ""), octets, test.findtext("category", ""), test.findtext("diagnosis", "")))
    return found


def outcomes(octets: bytes) -> set[Address | None]:
    """What all readers make of it; None where one refuses. They must agree."""
    found: set[Address | None] = set()
    for read in (
        lambda: parse_path(b"<" + octets + b">"),
        lambda: parse_path(b"<" + octets + b">", True),
        lambda: parse_address(octets.decode()),
    ):
        try:
            found.add(read())
        except AddressError:
            found.add(None)
    return found


def test_all_vectors_are_there(cases: list[Case]) -> None:
    assert len(cases) == COUNT
    assert {case.category for case in cases} == PARSED | REFUSED


@pytest.mark.parametrize("index", range(COUNT))
def test_vector(cases: list[Case], index: int) -> None:
    case = cases[index]
    found = outcomes(case.octets)
    if case.number == NULL_PATH:
        assert found == {Address("", "", ""), None}
        return
    assert (found != {None}) is (case.category in PARSED), case
    assert len(found) == 1, case
