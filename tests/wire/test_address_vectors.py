"""The isemail vectors: they judge by RFC 5322 with notes; what has no place in an SMTP path is refused here."""

from __future__ import annotations

import os
from pathlib import Path
from xml.etree import ElementTree

import pytest

from smtpproxy.wire.address import Address, AddressError, parse_address, parse_path

SHARED = Path(os.environ.get("SMTPPROXY_SHARED", Path(__file__).parents[2].parent / "shared"))
VECTORS = SHARED / "vectors" / "address" / "tests.xml"

PARSED = {"ISEMAIL_VALID_CATEGORY", "ISEMAIL_DNSWARN", "ISEMAIL_RFC5321"}
REFUSED = {"ISEMAIL_ERR", "ISEMAIL_CFWS", "ISEMAIL_DEPREC", "ISEMAIL_RFC5322"}

# The empty address is no mailbox, but between brackets it is the null path (RFC 5321 4.5.5).
NULL_PATH = "1"


def load() -> list[tuple[str, bytes, str, str]]:
    """Number, octets, category, diagnosis. U+2400 and up stand for control characters."""
    if not VECTORS.exists():
        return []
    cases = []
    for test in ElementTree.parse(VECTORS).iter("test"):
        text = test.findtext("address") or ""
        octets = "".join(chr(ord(c) - 0x2400) if 0x2400 <= ord(c) <= 0x2420 else c for c in text).encode()
        cases.append((test.get("id", ""), octets, test.findtext("category", ""), test.findtext("diagnosis", "")))
    return cases


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


@pytest.mark.skipif(not VECTORS.exists(), reason="the shared vectors are not here")
def test_all_vectors_are_there() -> None:
    cases = load()
    assert len(cases) == 164
    assert {category for _, _, category, _ in cases} == PARSED | REFUSED


@pytest.mark.parametrize(("number", "octets", "category", "diagnosis"), load())
def test_vector(number: str, octets: bytes, category: str, diagnosis: str) -> None:
    if number == NULL_PATH:
        assert outcomes(octets) == {Address("", "", ""), None}
        return
    accepted = outcomes(octets) != {None}
    assert accepted is (category in PARSED), diagnosis
    assert len(outcomes(octets)) == 1
