"""SASLprep (RFC 4013): names and passwords that look the same become the same octets."""

from __future__ import annotations

import stringprep
import unicodedata
from collections.abc import Callable, Iterator

_PROHIBITED: tuple[Callable[[str], bool], ...] = (
    stringprep.in_table_c12,
    stringprep.in_table_c21_c22,
    stringprep.in_table_c3,
    stringprep.in_table_c4,
    stringprep.in_table_c5,
    stringprep.in_table_c6,
    stringprep.in_table_c7,
    stringprep.in_table_c8,
    stringprep.in_table_c9,
)


def saslprep(text: str) -> str:
    """The prepared form. Raises ValueError for what has none: control characters, stray octets, mixed directions.

    Characters that Unicode 3.2 did not know are kept (a "query" of RFC 3454 7): people have them in passwords today.
    """
    if text.isascii() and text.isprintable():
        return text
    prepared = unicodedata.normalize("NFKC", "".join(_mapped(text)))
    for character in prepared:
        if any(inside(character) for inside in _PROHIBITED):
            raise ValueError(f"the character U+{ord(character):04X} is not allowed in names and passwords")
    if any(map(stringprep.in_table_d1, prepared)):
        _check_direction(prepared)
    return prepared


def _mapped(text: str) -> Iterator[str]:
    for character in text:
        if stringprep.in_table_c12(character):
            yield " "
        elif not stringprep.in_table_b1(character):
            yield character


def _check_direction(text: str) -> None:
    """RFC 3454 6: with letters that run from right to left there are none of the others, and such ones at both ends."""
    ends = stringprep.in_table_d1(text[0]) and stringprep.in_table_d1(text[-1])
    if any(map(stringprep.in_table_d2, text)) or not ends:
        raise ValueError("letters of both writing directions are mixed")
