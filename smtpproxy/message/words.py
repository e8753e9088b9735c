"""Encoded words (RFC 2047): the text of a header field from its octets, and octets from text.

Decoding never fails: what cannot be read stays as it is written.  Octets that are not UTF-8 survive as surrogate
escapes, so that a value that is read and set again gives the same octets.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable, Iterator, Mapping
from itertools import groupby
from operator import itemgetter
from typing import NamedTuple

_WORD = re.compile(rb"=\?([!-)+->@-~]{1,40})(?:\*[!->@-~]{0,20})?\?([bBqQ])\?([ ->@-~]*)\?=")
_FOLD = re.compile(rb"\r?\n(?=[ \t]|\Z)")
_UNSAFE = {0: "\ufffd", 10: "\ufffd", 13: "\ufffd"}
_Q_LITERAL = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789!*+-/ ")
_ROOM = 63
"""Octets between ``=?utf-8?q?`` and ``?=`` in a word of 75 (RFC 2047 2)."""

# A table instead of codecs.lookup: Python's registry also holds codecs that are no charsets (idna, unicode_escape),
# imports modules by the name it is given, and remembers every unknown name for ever.
CHARSETS: Mapping[str, str] = {
    **dict.fromkeys(("utf-8", "utf8", "us-ascii", "ascii", "ansi_x3.4-1968"), "utf-8"),
    **{f"iso-8859-{part}": f"iso8859-{part}" for part in (1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 13, 14, 15, 16)},
    **{f"{prefix}{page}": f"cp{page}" for prefix in ("windows-", "cp", "cp-") for page in range(1250, 1259)},
    **{name: name for name in ("koi8-r", "koi8-u", "gbk", "gb18030", "big5", "euc-jp", "euc-kr", "shift_jis")},
    **{name: name for name in ("iso-2022-jp", "iso-2022-kr", "tis-620", "utf-7", "cp932", "cp949")},
    **{"gb2312": "gb18030", "hz-gb-2312": "hz", "ks_c_5601-1987": "cp949", "big5-hkscs": "big5hkscs"},
    **{"windows-31j": "cp932", "x-sjis": "cp932", "windows-874": "cp874", "macintosh": "mac-roman"},
    **{"latin1": "latin-1", "iso8859-1": "latin-1", "iso8859-15": "iso8859-15", "iso-8859-8-i": "iso8859-8"},
}


def decode(raw: bytes) -> str:
    """The text of a field body: unfolded (RFC 5322 2.2.3), encoded words decoded, without the space around it.

    CR, LF and NUL that are left or that come out of an encoded word become U+FFFD: no value can start a new line.
    """
    raw = unfold(raw)
    text = _decode_words(raw) if b"=?" in raw else raw.decode("utf-8", "surrogateescape")
    return clean(text)


def clean(text: str) -> str:
    """The text in one line, without the space around it."""
    return (text if text.isprintable() else text.translate(_UNSAFE)).strip(" \t")


def unfold(raw: bytes) -> bytes:
    """The field body in one line (RFC 5322 2.2.3)."""
    return _FOLD.sub(b"", raw) if b"\n" in raw else raw


def _decode_words(raw: bytes) -> str:
    """Neighbours in one charset are joined before decoding: some senders cut a character in two."""
    text: list[str] = []
    for charset, run in groupby(_pieces(raw), key=itemgetter(0)):
        pieces = list(run)
        written = b"".join(piece.written for piece in pieces)
        try:
            text.append(b"".join(piece.octets for piece in pieces).decode(charset or "ascii"))
        except UnicodeDecodeError:
            text.append(written.decode("utf-8", "surrogateescape"))
    return "".join(text)


class _Piece(NamedTuple):
    charset: str
    """Python's name of it; empty for plain text."""
    octets: bytes
    written: bytes


def _pieces(raw: bytes) -> Iterator[_Piece]:
    at, after_word = 0, False
    for match in _WORD.finditer(raw):
        charset = CHARSETS.get(match[1].decode("ascii").lower())
        octets = None if charset is None else _octets(match[2], match[3])
        if charset is None or octets is None:
            continue
        gap = raw[at : match.start()]
        # RFC 2047 6.2: white space between two words only separates them.
        if gap and not (after_word and gap.isspace()):
            yield _Piece("", gap, gap)
            gap = b""
        yield _Piece(charset, octets, gap + match[0])
        at, after_word = match.end(), True
    if at < len(raw):
        yield _Piece("", raw[at:], raw[at:])


def _octets(encoding: bytes, text: bytes) -> bytes | None:
    if encoding in b"qQ":
        return binascii.a2b_qp(text, header=True)
    try:
        return binascii.a2b_base64(text + b"=" * (-len(text) % 4))
    except binascii.Error:
        return None


def encode(text: str, column: int = 1) -> list[str]:
    """Encoded words in UTF-8: at most 75 octets each, no character cut in two, the shorter of the two encodings.

    ``column``: where the first word begins, so that its line is no longer than 76 either (RFC 2047 2).
    """
    octets = text.encode("utf-8")
    first = max(_ROOM + 1 - column, _ROOM // 4)
    if sum(map(_q_cost, octets)) <= (len(octets) + 2) // 3 * 4:
        parts = _parts(text, first, _ROOM, lambda character: sum(map(_q_cost, character)))
        return [f"=?utf-8?q?{''.join(map(_q, part))}?=" for part in parts]
    parts = _parts(text, first // 4 * 3, _ROOM // 4 * 3, len)
    return [f"=?utf-8?b?{base64.b64encode(part).decode('ascii')}?=" for part in parts]


def _parts(text: str, room: int, later: int, cost: Callable[[bytes], int]) -> Iterator[bytes]:
    part, used = b"", 0
    for character in text:
        octets = character.encode("utf-8")
        used += cost(octets)
        if part and used > room:
            yield part
            part, used, room = b"", cost(octets), later
        part += octets
    yield part


def _q_cost(octet: int) -> int:
    return 1 if octet in _Q_LITERAL else 3


def _q(octet: int) -> str:
    return f"={octet:02X}" if octet not in _Q_LITERAL else "_" if octet == 32 else chr(octet)
