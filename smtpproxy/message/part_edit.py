"""What rules do to parts: other text, a line more, another file, none.

A part keeps its charset and its transfer encoding where they can carry what it is to hold, and gets others where not.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from smtpproxy.message.entities import Changes, Entity, PartError
from smtpproxy.message.header import Field, format_field
from smtpproxy.message.mime import IDENTITY, codec, decode_text, write_parameters
from smtpproxy.message.transfer import KNOWN, encoded_text, to_base64

LIMIT = 10 << 20
"""Octets of one text that an edit may hold in memory."""

_ASCII = frozenset({"", "us-ascii", "ascii", "ansi_x3.4-1968"})
_CHARSET = re.compile(r';[ \t]*+charset\*?[ \t]*+=[ \t]*+(?:"[^"]*+"?+|[^;\s]*+)', re.IGNORECASE)
_NEWLINE = re.compile(r"\r\n|\r|\n")
_SPACE_BEFORE_END = re.compile(r"[ \t]++(?=\r\n|\Z)")
_TO_STUFF = re.compile(r"(?m)^(?= |>|From )")
_CONTROL = re.compile(r"[\r\n\0]")
_KIND = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+/[!#$%&'*+.^_`|~0-9A-Za-z-]+")


def read(chunks: Iterator[bytes], limit: int = LIMIT, whole: bool = True) -> bytes:
    """Up to ``limit`` octets of the chunks.  ``whole``: raises ValueError when there are more."""
    pieces: list[bytes] = []
    left = limit
    for chunk in chunks:
        if len(chunk) > left and whole:
            raise ValueError(f"more than {limit >> 20} MB: read it in chunks")
        pieces.append(chunk[:left])
        left -= len(pieces[-1])
        if left <= 0 and not whole:
            break
    return b"".join(pieces)


def replace_text(entity: Entity, text: str, force: bool = False) -> None:
    """Another text for a text part.  Raises PartError for a part that is none."""
    _check_text(entity, force)
    _put_text(entity, *_encoded(_NEWLINE.sub("\r\n", text), entity.header.charset))


def append_text(entity: Entity, text: str, force: bool = False) -> None:
    """Text at the end of a plain text part, on lines of its own."""
    _check_text(entity, force)
    header = entity.header
    octets, charset, known = read(entity.content()), header.charset, codec(header.charset)
    text = _NEWLINE.sub("\r\n", text)
    if header.parameters.get("format", "").lower() == "flowed":
        text = _TO_STUFF.sub(" ", _SPACE_BEFORE_END.sub("", text))  # RFC 3676 4.2, 4.4
        octets = _unflowed(octets)
    if known is None or _wide(charset) or (charset in _ASCII and not text.isascii()):
        before = decode_text(octets, charset)
        before += "" if before.endswith("\n") or not before else "\r\n"
        return _put_text(entity, *_encoded(before + text, charset))
    if octets and not octets.endswith(b"\n"):
        octets += b"\r\n"
    try:
        _put_text(entity, octets + text.encode(known), charset)
    except UnicodeEncodeError:
        _put_text(entity, (decode_text(octets, charset) + text).encode("utf-8", "surrogateescape"), "utf-8")


def append_html(entity: Entity, html: str, force: bool = False) -> None:
    """Markup before ``</body>``, else at the end; what is not ASCII as character references, which fit any charset."""
    _check_text(entity, force)
    markup = _NEWLINE.sub("\r\n", html).encode("ascii", "xmlcharrefreplace")
    octets, charset = read(entity.content()), entity.header.charset
    if _wide(charset):
        octets, charset = decode_text(octets, charset).removeprefix("\ufeff").encode("utf-8"), "utf-8"
    lower = octets.lower()
    places = (lower.rfind(mark) for mark in (b"</body", b"</html"))
    at = next((place for place in places if place >= 0), len(octets))
    _put_text(entity, octets[:at] + markup + octets[at:], charset)


def replace(entity: Entity, content: bytes, filename: str | None, content_type: str | None, force: bool = False) -> None:
    """Another content for a part; name and type stay unless they are given."""
    entity.check(force)
    if entity.root and entity.holds_parts:
        raise PartError("the message holds parts: replace it with mail.body.replace()")
    header = entity.header
    name = header.filename if filename is None else filename
    if content_type is None and filename is None and (field := header.first("content-type")) is not None:
        kind = _value(field)
    else:
        kind = _typed(content_type or header.content_type, content, name)
    changes, octets = _file(kind, header.disposition or "attachment", content, name)
    if entity.root and not header.disposition and not name:
        changes = {**changes, "Content-Disposition": None}
    entity.put({**changes, "Content-MD5": None}, octets)


def new_part(content: bytes, filename: str, content_type: str) -> bytes:
    """An attachment: header, empty line, body."""
    changes, octets = _file(_typed(content_type, content, filename), "attachment", content, filename)
    return b"".join(format_field(name, value) for name, value in changes.items() if value is not None) + b"\r\n" + octets


def _file(kind: str, disposition: str, content: bytes, name: str) -> tuple[Changes, bytes]:
    encoding, octets = "base64", b""
    if kind.startswith("text/"):
        encoding, octets = encoded_text(content, "quoted-printable") if _is_text(content) else ("base64", b"")
    if encoding == "base64":
        octets = to_base64(content)
    shown = write_parameters(disposition, filename=name) if name else disposition
    return {"Content-Type": kind, "Content-Transfer-Encoding": encoding, "Content-Disposition": shown}, octets


def _is_text(content: bytes) -> bool:
    """Its line ends are CRLF, so a reader gets these very octets back."""
    return content.count(b"\n") == content.count(b"\r") == content.count(b"\r\n") and b"\0" not in content


def _typed(kind: str, content: bytes, name: str) -> str:
    bare, _, rest = kind.partition(";")
    if not _KIND.fullmatch(bare.strip()) or bare.strip().lower().startswith(("multipart/", "message/")):
        raise PartError(f"{kind!r} is no content type of a file")
    if bare.lower().startswith("text/") and "charset" not in rest.lower() and not content.isascii():
        kind = f"{kind}; charset=utf-8"
    return write_parameters(kind, name=name) if name and "name" not in rest.lower() else kind


def _check_text(entity: Entity, force: bool) -> None:
    entity.check(force)
    header = entity.header
    if not header.content_type.startswith("text/"):
        raise PartError(f"the part is {header.content_type}, no text")
    if header.encoding not in KNOWN:
        raise PartError(f"the transfer encoding {header.encoding!r} is not known: replace() the part")


def _encoded(text: str, charset: str) -> tuple[bytes, str]:
    known = codec(charset)
    if known is not None and (charset not in _ASCII or text.isascii()):
        try:
            return text.encode(known), charset
        except UnicodeEncodeError:
            pass
    elif charset in _ASCII and text.isascii():
        return text.encode("ascii"), charset
    return text.encode("utf-8", "surrogateescape"), "utf-8"


def _wide(charset: str) -> bool:
    """Its octets are no ASCII, and only base64 carries them."""
    return (codec(charset) or "").startswith(("utf-16", "utf-32"))


def _unflowed(octets: bytes) -> bytes:
    """A last line that ends with a space would flow into what follows; that of a signature mark ends so (RFC 3676 4.3)."""
    text = octets.rstrip(b"\r\n")
    if text.endswith(b" ") and not text.endswith(b"\n-- "):
        return text.rstrip(b" ") + octets[len(text) :]
    return octets


def _put_text(entity: Entity, octets: bytes, charset: str) -> None:
    header = entity.header
    changes: dict[str, str | None] = {}
    encoding, octets = encoded_text(octets, "base64" if _wide(charset) else header.encoding)
    if charset != header.charset:
        changes["Content-Type"] = _with_charset(entity, charset)
    if encoding != header.encoding and (encoding != "7bit" or header.encoding not in IDENTITY):
        changes["Content-Transfer-Encoding"] = encoding
    if header.first("content-md5"):
        changes["Content-MD5"] = None
    entity.put(changes, octets)


def _value(field: Field) -> str:
    return _CONTROL.sub(" ", field.unfolded.decode("utf-8", "surrogateescape"))


def _with_charset(entity: Entity, charset: str) -> str:
    field = entity.header.first("content-type")
    value = _value(field) if field else ""
    if not value.lower().startswith(entity.header.content_type):
        value = entity.header.content_type
    named = f"; charset={charset}"
    changed, found = _CHARSET.subn(named, value, count=1)
    return changed if found else value + named
