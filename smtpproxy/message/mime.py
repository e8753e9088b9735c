"""What a MIME header says: type, parameters, disposition, file name, transfer encoding (RFC 2045, 2183, 2231).

Written for mail as it is: nothing raises, the first of two fields or parameters counts, what cannot be read is the
default.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from urllib.parse import quote_from_bytes, unquote_to_bytes

from smtpproxy.message import words
from smtpproxy.message.header import Field

IDENTITY = frozenset({"", "7bit", "8bit", "binary"})
"""Transfer encodings that are none."""

# Possessive: no input makes the patterns go back. A quoted value that never ends takes the rest.
_PARAMETER = re.compile(
    r';[ \t]*+([^\s=;"()<>@,:\\/\[\]?]++)[ \t]*+=[ \t]*+(?:"((?:[^"\\]|\\.)*+)"?+|([^;]*+))', re.DOTALL
)
_TYPE = re.compile(r'[ \t]*+([^\s;/()"=]++)[ \t]*+/[ \t]*+([^\s;/()"=]++)')
_WORD = re.compile(r"[ \t]*+([^\s;()\"]++)")
_SECTION = re.compile(r"([^*]++)(?:\*(\d{1,4}))?(\*)?")
_ESCAPED = re.compile(r'\\([\\"])')
_TOKENS = frozenset({"boundary", "charset", "format", "delsp", "type"})
"""Parameters whose values, unquoted, end at white space: what follows is a comment."""
_PIECE = 60
"""Octets of a file name in one parameter (RFC 2231 3)."""

# Not in words.CHARSETS: they have no place in an encoded word.
_WIDE: Mapping[str, str] = {
    **{name: name for name in ("utf-16", "utf-16le", "utf-16be", "utf-32", "utf-32le", "utf-32be")},
    "unicode-1-1-utf-7": "utf-7",
}


class MimeHeader:
    """The MIME facts of one header, each found when it is asked for."""

    __slots__ = ("_default", "_disposition", "_type", "fields")

    def __init__(self, fields: tuple[Field, ...], default: str = "text/plain") -> None:
        self.fields = fields
        self._default = default
        self._type: tuple[str, Mapping[str, str]] | None = None
        self._disposition: tuple[str, Mapping[str, str]] | None = None

    def first(self, name: str) -> Field | None:
        """The first field of that name (in lower case)."""
        return next((field for field in self.fields if field.key == name), None)

    @property
    def content_type(self) -> str:
        """``text/plain``, in lower case; the default where there is none that can be read (RFC 2045 5.2)."""
        return self._content()[0]

    @property
    def parameters(self) -> Mapping[str, str]:
        """Parameters of the type by lower-case name, RFC 2231 and quotes undone."""
        return self._content()[1]

    @property
    def charset(self) -> str:
        """The charset named, in lower case; empty when none is."""
        return self.parameters.get("charset", "").lower()

    @property
    def boundary(self) -> bytes:
        """What separates the parts of a multipart; empty when it is none or has none."""
        if not self.content_type.startswith("multipart/"):
            return b""
        boundary = self.parameters.get("boundary", "").rstrip()
        return b"" if "\r" in boundary or "\n" in boundary else boundary.encode("utf-8", "surrogateescape")

    @property
    def disposition(self) -> str:
        """``attachment`` or ``inline``, in lower case; empty when there is none (RFC 2183)."""
        return self._shown()[0]

    @property
    def filename(self) -> str:
        """The name that the sender gave: of the disposition, else of the type; encoded words decoded, too."""
        return self._shown()[1].get("filename") or self.parameters.get("name") or ""

    @property
    def encoding(self) -> str:
        """The transfer encoding, in lower case; empty when there is none."""
        field = self.first("content-transfer-encoding")
        found = _WORD.match(_text(field)) if field else None
        return found[1].lower() if found else ""

    def _content(self) -> tuple[str, Mapping[str, str]]:
        if self._type is None:
            field = self.first("content-type")
            text = _text(field) if field else ""
            match = _TYPE.match(text)
            kind = f"{match[1]}/{match[2]}".lower() if match else "text/plain" if field else self._default
            self._type = kind, parameters(text)
        return self._type

    def _shown(self) -> tuple[str, Mapping[str, str]]:
        if self._disposition is None:
            field = self.first("content-disposition")
            text = _text(field) if field else ""
            match = _WORD.match(text)
            self._disposition = match[1].lower() if match else "", parameters(text)
        return self._disposition


def _text(field: Field) -> str:
    return field.unfolded.decode("utf-8", "surrogateescape")


def parameters(text: str) -> dict[str, str]:
    """What stands behind the first semicolon, by lower-case name; pieces of RFC 2231 joined and decoded."""
    plain: dict[str, str] = {}
    pieces: dict[str, dict[int, tuple[str, bool]]] = {}
    for name, quoted, bare in _PARAMETER.findall(text):
        section = _SECTION.fullmatch(name.lower())
        if section is None:
            continue
        key, number, encoded = section[1], section[2], bool(section[3])
        value = _ESCAPED.sub(r"\1", quoted) if quoted else _bare(key, bare)
        if number is None and not encoded:
            plain.setdefault(key, _decoded(value))
        else:
            pieces.setdefault(key, {}).setdefault(int(number or 0), (value, encoded))
    return plain | {key: _joined(found) for key, found in pieces.items() if 0 in found}


def _bare(key: str, value: str) -> str:
    if key in _TOKENS and (match := _WORD.match(value)):
        return match[1]
    return value.strip()


def _decoded(value: str) -> str:
    """Encoded words have no place in a parameter (RFC 2047 5), and are what many senders write there."""
    octets = value.encode("utf-8", "surrogateescape")
    return words.decode(octets if _is_utf8(value) else octets.decode("cp1252", "replace").encode("utf-8"))


def _is_utf8(value: str) -> bool:
    return value.isascii() or not any("\ud800" <= character <= "\udfff" for character in value)


def _joined(found: Mapping[int, tuple[str, bool]]) -> str:
    """Pieces 0, 1, 2 ... as far as they go; the first encoded one names the charset (RFC 2231 4.1)."""
    charset, octets = "", bytearray()
    for number in range(len(found)):
        if number not in found:
            break
        value, encoded = found[number]
        if encoded and not number and value.count("'") >= 2:
            charset, _, value = value.split("'", 2)
        raw = value.encode("utf-8", "surrogateescape")
        octets += unquote_to_bytes(raw) if encoded else raw
    return words.clean(decode_text(bytes(octets), charset.lower()))


def codec(charset: str) -> str | None:
    """Python's name of a charset, None for one that we do not know."""
    return words.CHARSETS.get(charset) or _WIDE.get(charset)


def decode_text(octets: bytes, charset: str) -> str:
    """Text by its charset; without one that fits as UTF-8, else as what most software means by Latin 1.  Never fails."""
    known = codec(charset)
    if known not in (None, "utf-8"):
        return octets.decode(str(known), "replace")
    try:
        return octets.decode("utf-8")
    except UnicodeDecodeError:
        # Somebody who says UTF-8 and has one wrong octet in it still means UTF-8.
        return octets.decode("utf-8" if charset in ("utf-8", "utf8") else "cp1252", "replace")


def write_parameters(value: str, **named: str) -> str:
    """A field value with parameters: quoted, or as RFC 2231 has it where they are not ASCII or long."""
    return "; ".join([value, *(piece for name, text in named.items() for piece in _written(name, text))])


def _written(name: str, text: str) -> Iterable[str]:
    if text.isascii() and text.isprintable() and len(text) <= _PIECE:
        quoted = text.replace("\\", "\\\\").replace('"', '\\"')
        return [f'{name}="{quoted}"']
    octets = text.encode("utf-8", "surrogateescape")
    parts = [quote_from_bytes(octets[at : at + _PIECE // 3], safe="") for at in range(0, len(octets), _PIECE // 3)]
    if len(parts) == 1:
        return [f"{name}*=utf-8''{parts[0]}"]
    return [f"{name}*{number}*={'' if number else 'utf-8' + 2 * chr(39)}{part}" for number, part in enumerate(parts)]
