"""SMTP replies in both directions (RFC 5321 4.2, enhanced status codes RFC 2034 and 3463)."""

from __future__ import annotations

import re
from collections.abc import Iterator

# RFC 5321 4.5.3.1.5: 512 octets with the code and CRLF.
LINE_LIMIT = 512

_ENHANCED = re.compile(r"([245])\.(?:0|[1-9]\d{0,2})\.(?:0|[1-9]\d{0,2})")
# C0 without TAB (legal in a textstring), DEL, C1, line separators, and surrogates that do not stand for an octet.
_CONTROLS = re.compile("[\x00-\x08\x0a-\x1f\x7f-\x9f\u2028\u2029\ud800-\udc7f\udd00-\udfff]")


class Reply:
    """One reply: code, enhanced status code and a text per line. A value: never changed after it was made."""

    __slots__ = ("_wire", "code", "enhanced", "lines")

    code: int
    enhanced: str
    lines: tuple[str, ...]

    def __init__(self, code: int, enhanced: str = "", *lines: str) -> None:
        """`enhanced` is "" or X.Y.Z of the code's class; `lines` are texts without codes. Raises ValueError."""
        if not 200 <= code <= 599:
            raise ValueError(f"not an SMTP reply code: {code}")
        if enhanced and (not _ENHANCED.fullmatch(enhanced) or int(enhanced[0]) != code // 100):
            raise ValueError(f"enhanced status code {enhanced!r} does not fit reply code {code}")
        self.code = code
        self.enhanced = enhanced
        self.lines = tuple([_clean(line) for line in lines]) if lines else ("",)
        self._wire: bytes | None = None

    @property
    def text(self) -> str:
        """The lines' text, joined by newlines, without codes."""
        return "\n".join(self.lines)

    @property
    def positive(self) -> bool:
        """2xx or 3xx."""
        return self.code < 400

    @property
    def transient(self) -> bool:
        """4xx: the peer may try again."""
        return 400 <= self.code < 500

    @property
    def permanent(self) -> bool:
        """5xx."""
        return self.code >= 500

    def completed(self) -> Reply:
        """The same reply with X.0.0 where it has no enhanced code and its class (2, 4, 5) can have one."""
        if self.enhanced or self.code // 100 == 3:
            return self
        return Reply(self.code, f"{self.code // 100}.0.0", *self.lines)

    def __bytes__(self) -> bytes:
        wire = self._wire
        if wire is None:
            wire = self._wire = self._render()
        return wire

    def _render(self) -> bytes:
        if len(self.lines) == 1 and len(self.lines[0]) <= 100:
            lead = f"{self.code} {self.enhanced} " if self.enhanced else f"{self.code} "
            return f"{lead}{self.lines[0]}\r\n".encode("utf-8", "surrogateescape")
        return b"".join(self._render_lines())

    def _render_lines(self) -> Iterator[bytes]:
        # RFC 2034 4: the enhanced code stands on every line of a multi-line reply.
        lead = f"{self.enhanced} ".encode() if self.enhanced else b""
        room = LINE_LIMIT - len(b"250 \r\n") - len(lead)
        pieces = [piece for line in self.lines for piece in _fold(line.encode("utf-8", "surrogateescape"), room)]
        last = pieces.pop()
        head = b"%d-%s" % (self.code, lead)
        for piece in pieces:
            yield head + piece + b"\r\n"
        yield b"%d %s%s\r\n" % (self.code, lead, last)

    def __str__(self) -> str:
        return f"{self.code} {self.enhanced} {self.lines[0]}" if self.enhanced else f"{self.code} {self.lines[0]}".rstrip()

    def __repr__(self) -> str:
        return f"Reply({', '.join(map(repr, (self.code, self.enhanced, *self.lines)))})"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Reply):
            return NotImplemented
        return self.code == other.code and self.enhanced == other.enhanced and self.lines == other.lines

    def __hash__(self) -> int:
        return hash((self.code, self.enhanced, self.lines))


class Refusal(Exception):
    """The one way to say no: `reply` is for the peer, `cause` for the log."""

    def __init__(self, reply: Reply, cause: str = "") -> None:
        self.reply = reply
        self.cause = cause or str(reply)
        super().__init__(self.cause)


class ReplyError(Exception):
    """The peer's reply is no SMTP reply; the dialogue cannot go on."""


class ReplyParser:
    """Puts the reply lines of a server together. Takes lines without CRLF; at most 100 lines of 2048 octets (R12)."""

    __slots__ = ("_code", "_texts")

    MAX_LINES = 100
    MAX_OCTETS = 2048

    def __init__(self) -> None:
        self._code = 0
        self._texts: list[str] = []

    def feed(self, line: bytes) -> Reply | None:
        """The reply that this line completes, or None when more lines follow. Raises ReplyError."""
        match = _REPLY_LINE(line)
        if match is None or len(line) > self.MAX_OCTETS:
            raise ReplyError(f"not an SMTP reply: {line[:80]!r}")
        digits, separator, octets = match.groups(b"")
        code, text = int(digits), octets.decode("utf-8", "surrogateescape")
        if not self._texts and separator != b"-":
            return _lift(code, [text])
        if self._texts and code != self._code:
            raise ReplyError(f"reply code changed from {self._code} to {code} between lines")
        if len(self._texts) >= self.MAX_LINES:
            raise ReplyError(f"reply of more than {self.MAX_LINES} lines")
        self._code = code
        self._texts.append(text)
        if separator == b"-":
            return None
        texts, self._texts = self._texts, []
        return _lift(code, texts)


_REPLY_LINE = re.compile(rb"([2-5][0-9][0-9])(?:([ -])(.*))?", re.DOTALL).fullmatch


def _lift(code: int, texts: list[str]) -> Reply:
    """A reply whose enhanced code is taken off the lines, provided that every line begins with the same one."""
    match = _ENHANCED.match(texts[0])
    if match is None or int(match[1]) != code // 100:
        return Reply(code, "", *texts)
    enhanced = match[0]
    end = len(enhanced)
    for text in texts:
        if not text.startswith(enhanced) or text[end : end + 1] not in ("", " "):
            return Reply(code, "", *texts)
    return Reply(code, enhanced, *[text[end + 1 :] for text in texts])


def _clean(line: str) -> str:
    return line if line.isprintable() else _CONTROLS.sub("?", line)


def _fold(line: bytes, room: int) -> Iterator[bytes]:
    """Pieces of at most `room` octets, cut at a space where there is one, never inside a UTF-8 sequence."""
    while len(line) > room:
        cut = line.rfind(b" ", 1, room + 1)
        if cut < 0:
            cut = room
            while cut > room - 4 and line[cut] & 0xC0 == 0x80:
                cut -= 1
            yield line[:cut]
            line = line[cut:]
        else:
            yield line[:cut]
            line = line[cut + 1 :]
    yield line
