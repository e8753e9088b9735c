"""The header of a message: split once into fields, every octet kept, values decoded when somebody asks.

A field is known by identity: the ``Field`` object, not its name or place, is what an edit speaks about.
"""

from __future__ import annotations

import re
from itertools import groupby
from operator import itemgetter

from smtpproxy.message import words

# A field with its folded lines, or a line that is none ("From " of a mailbox, garbage) with what hangs on it.
# Possessive quantifiers: no input makes the pattern go back.
_FIELDS = re.compile(rb"(?!\Z)[^\n]*+\n?+(?:[ \t][^\n]*+\n?+)*+")
_FIELD_END = re.compile(rb"\r\n(?![ \t])")
_EMPTY_LINE = re.compile(rb"\r\n\r\n")  # twice as fast as bytes.find over text with many line ends
_NAME = re.compile(rb"([!-9;-~]++)[ \t]*+:")
_FTEXT = re.compile(r"[!-9;-~]+", re.ASCII)
_FORBIDDEN = re.compile(r"[\r\n\0]")
_BARE_FOLD = re.compile(r"\r\n(?![ \t]+[^ \t\r\n])|\r(?!\n)|(?<!\r)\n|\0")
_TOKEN = re.compile(r"([ \t]*)([^ \t]+)")
_ADDRESS_TOKEN = re.compile(r'([ \t]*)("(?:[^"\\]|\\.)*"|<[^>]*>|[^ \t"<,;]+|["<,;])')
_ADDRESS_FIELDS = frozenset({"from", "to", "cc", "bcc", "reply-to", "sender"})
_LINE = 78
"""Characters of a line that a fold aims at (RFC 5322 2.1.1)."""


class Field:
    """One header field as it stands in the message; equal to itself only."""

    __slots__ = ("_key", "_name", "_value", "raw")

    def __init__(self, raw: bytes) -> None:
        self.raw = raw
        """The whole field: name, colon, folded lines, line end."""
        self._name: str | None = None
        self._key: str | None = None
        self._value: str | None = None

    @property
    def name(self) -> str:
        """The name as written; empty for a line that is no field."""
        if self._name is None:
            match = _NAME.match(self.raw)
            self._name = match[1].decode("ascii") if match else ""
        return self._name

    @property
    def key(self) -> str:
        """The name in lower case: what names are compared by."""
        if self._key is None:
            match = _NAME.match(self.raw)
            self._key = match[1].lower().decode("ascii") if match else ""
        return self._key

    @property
    def value(self) -> str:
        """Unfolded and decoded (RFC 2047), in one line; octets that are no UTF-8 as surrogate escapes."""
        if self._value is None:
            match = _NAME.match(self.raw)
            self._value = words.decode(self.raw[match.end() :] if match else self.raw)
        return self._value

    @property
    def unfolded(self) -> bytes:
        """What stands behind the colon, in one line, encoded words as they are written."""
        match = _NAME.match(self.raw)
        return words.unfold(self.raw[match.end() :] if match else self.raw).strip(b" \t")

    def __repr__(self) -> str:
        return f"Field({self.raw!r})"


class HeaderBlock:
    """The header as it came; fields and separator together are its octets, none more and none less."""

    __slots__ = ("_fields", "raw", "separator")

    def __init__(self, raw: bytes, separator: bytes) -> None:
        self.raw = raw
        """The header with its separator, in content form."""
        self.separator = separator
        """The empty line between header and body; ``b""`` where the message ends without one."""
        self._fields: tuple[Field, ...] | None = None

    @classmethod
    def parse(cls, raw: bytes) -> HeaderBlock:
        """``raw``: everything up to and including the empty line, or the whole message where there is none."""
        return cls(raw, b"\r\n" if raw == b"\r\n" or raw.endswith(b"\r\n\r\n") else b"")

    @property
    def fields(self) -> tuple[Field, ...]:
        """The fields from the top, lines that are no field among them; split at the first call."""
        if self._fields is None:
            self._fields = tuple(map(Field, _FIELDS.findall(self.raw, 0, len(self.raw) - len(self.separator))))
        return self._fields


def extent(header: bytes) -> tuple[int, int]:
    """How many fields a raw header has, and the octets of the largest."""
    sizes = [len(field) + 2 for field in _FIELD_END.split(header.rstrip(b"\r\n"))]
    return len(sizes), max(sizes)


def end_of_header(data: bytes, start: int = 0) -> int:
    """Index just past the empty line, -1 while it has not come.  Lines end in CRLF only (RFC 5321 2.3.8).

    ``start``: how much of ``data`` was searched before, less three octets, so that a long header is not searched from
    the beginning with every packet.
    """
    if start == 0 and data.startswith(b"\r\n"):
        return 2
    match = _EMPTY_LINE.search(data, start)
    return match.end() if match else -1


def format_field(name: str, value: str) -> bytes:
    """A field in octets: RFC 2047 where the value is not ASCII, folded at 78 (RFC 5322 2.1.1), CRLF at the end.

    Raises ValueError for a name that is none, and for CR, LF or NUL anywhere: a value never starts a new line.
    """
    _check_name(name)
    if _FORBIDDEN.search(value):
        raise ValueError(f"a value of {name} must not hold CR, LF or NUL")
    lines: list[str] = []
    # The first word stays beside the name: a first line without text is legal and badly supported.
    first, *tokens = _tokens(name, value.strip(" \t"))
    line = f"{name}:{first}"
    for token in tokens:
        if len(line) + len(token) > _LINE and token[0] in " \t":
            lines.append(line)
            line = ""
        line += token
    return "\r\n".join([*lines, line, ""]).encode("utf-8", "surrogateescape")


def verbatim_field(name: str, value: str) -> bytes:
    """A field whose folding is its author's: what a signature covers must not be folded again.

    Raises ValueError for a name that is none and for a line end that is no fold.
    """
    _check_name(name)
    if _BARE_FOLD.search(value):
        raise ValueError(f"a line of {name} must begin with white space and hold text")
    return f"{name}: {value}\r\n".encode("utf-8", "surrogateescape")


def _check_name(name: str) -> None:
    if not _FTEXT.fullmatch(name):
        raise ValueError(f"{name!r} is no name of a header field")


def _tokens(name: str, value: str) -> list[str]:
    """The value in pieces that begin with white space (where a fold may stand), what is not ASCII encoded."""
    if value.isascii() and value.isprintable():
        return [space + word for space, word in _TOKEN.findall(" " + value)] or [" "]
    if name.lower().removeprefix("resent-") in _ADDRESS_FIELDS:
        pieces = [_address_piece(*token) for token in _ADDRESS_TOKEN.findall(" " + value)]
    else:
        pieces = [(space, word, _needs_encoding(word)) for space, word in _TOKEN.findall(" " + value)]
    tokens: list[str] = []
    before = False
    for encoded, run in groupby(pieces, key=itemgetter(2)):
        (space, word, _), *more = run
        if not space and (encoded or before):
            space = " "  # RFC 2047 5 (3): nothing stands glued to an encoded word
        if encoded:
            text = word + "".join(between + other for between, other, _ in more)
            word, *others = words.encode(text, 1 if tokens else len(name) + 2)
            tokens += [space + word, *(" " + other for other in others)]
        else:
            tokens += [space + word, *(between + other for between, other, _ in more)]
        before = encoded
    return tokens


def _address_piece(space: str, word: str) -> tuple[str, str, bool]:
    """A quoted name loses its quotes (RFC 2047 5: no word is encoded inside them); an address stays (RFC 6532)."""
    if not _needs_encoding(word) or word.startswith("<"):
        return space, word, False
    if word.startswith('"'):
        return space, re.sub(r"\\(.)", r"\1", word[1:-1]), True
    return space, word, "@" not in word


def _needs_encoding(word: str) -> bool:
    """Not for surrogates: they are octets that came raw and go raw."""
    return not (word.isascii() and word.isprintable()) and not any("\ud800" <= c <= "\udfff" for c in word)
