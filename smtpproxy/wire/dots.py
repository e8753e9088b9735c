"""End of data, dot-stuffing and bare newlines (RFC 5321 4.5.2, 2.3.8), streaming and without a Python loop per line.

Two forms of a message body:

- *wire form*: as DATA carries it, a leading dot of a line doubled;
- *content form*: the octets that the sender meant.

Both end with CRLF (or are empty); neither holds the closing dot.  A message ends at CRLF.CRLF and nowhere else:
every other sequence that some server somewhere takes for an end (LF.LF, LF.CRLF, CR.CR ...) is content with a bare
newline in it, which the caller refuses or which is normalised here before anyone else can see it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator

TERMINATOR = b"\r\n.\r\n"

# A pattern that begins with one literal octet is searched by memchr: 22 us per 64 KB each, against 95 us for three
# bytes.count() and 900 us for CR and LF as alternatives of one pattern.
_LANDMARK = re.compile(rb"\r(?!\n[^.])")  # in one pass: CR without LF, and every CRLF before a dot or at the very end
_BARE_CR = re.compile(rb"\r(?!\n)")
_BARE_LF = re.compile(rb"\n(?<!\r\n)")
_DOT_BEFORE_BARE = re.compile(rb"\r\n\.(?=\r(?!\n)|\n)")
_NEWLINE = re.compile(rb"\r\n|\r|\n")
_BARE = re.compile(rb"(?:\r(?!\n)|(?<!\r)\n)(\.?)")


class DataScanner:
    """Finds the end of one message in the octets that follow 354; feed it whatever arrived.

    ``feed`` gives back the wire-form content that is certain so far; octets that may be the beginning of the
    terminator are held until the next call, so no chunk ever ends within a CRLF or in a part of CRLF.CRLF.
    """

    __slots__ = ("_after_bare", "_held", "_virtual", "bare", "dots", "ended", "normalize", "size")

    def __init__(self, normalize: bool = False) -> None:
        self.bare = ""
        """"CR" or "LF" once a bare one was seen (with ``normalize`` it has been mended)."""
        self.dots = 0
        """How many lines began with a stuffed dot."""
        self.ended = False
        self.size = 0
        """Octets of wire-form content given out so far."""
        self.normalize = normalize
        self._held = b"\r\n"  # DATA begins at the start of a line: "." CRLF alone ends an empty message
        self._virtual = 2
        self._after_bare = False

    @property
    def content_size(self) -> int:
        """Octets of the content given out so far (RFC 1870 3: the stuffed dots do not count)."""
        return self.size - self.dots

    def feed(self, data: bytes) -> tuple[bytes, bytes]:
        """Give ``(content, rest)``; ``rest`` is what came behind the terminator, once ``ended`` is true."""
        if self._held:
            data = self._held + data
            self._held = b""
        end, bare_cr = self._find_end(data)
        if end >= 0:
            self.ended = True
            content, rest = data[: end + 2], data[end + 5 :]
        else:
            cut = len(data) - _partial_terminator(data)
            content, self._held, rest = data[:cut], data[cut:], b""
        if content and (bare_cr or self._after_bare or _BARE_LF.search(content)):
            content = self._mend(content)
        if self._virtual and content:
            content, self._virtual = content[self._virtual :], 0
        self.size += len(content)
        return content, rest

    def _find_end(self, data: bytes) -> tuple[int, bool]:
        """Where the terminator begins (-1: not here), and whether a CR stands alone before it; counts the dots."""
        bare_cr = False
        for match in _LANDMARK.finditer(data):
            at = match.start()
            if data.startswith(TERMINATOR, at):
                return at, bare_cr
            if data.startswith(b"\r\n.", at):
                # one that may still become the terminator is held, and counted when it comes again
                self.dots += at + len(TERMINATOR) <= len(data) or not TERMINATOR.startswith(data[at:])
            elif not data.startswith(b"\r\n", at):
                bare_cr = bare_cr or at + 1 < len(data)
        return -1, bare_cr

    def _mend(self, content: bytes) -> bytes:
        if not self.bare and not self._after_bare:
            self.bare = "CR" if _BARE_CR.search(content) else "LF"
        if not self.normalize:
            return content
        # A dot between CRLF and a bare newline would be the terminator once that newline is mended.
        content = _DOT_BEFORE_BARE.sub(b"\r\n..", content)
        # A dot behind a bare newline was never stuffed: it is now, or CRLF would make LF.LF a terminator downstream.
        if self._after_bare and content.startswith(b"."):
            content = b"." + content
            self.dots += 1
        self._after_bare = content[-1:] == b"\n" and content[-2:-1] != b"\r"
        self.dots += sum(1 for match in _BARE.finditer(content) if match.group(1))
        return _BARE.sub(lambda match: b"\r\n" + match.group(1) * 2, content)


def bare_newline(data: bytes) -> str:
    """"CR" or "LF" when one stands alone in ``data``, "" when none does."""
    return "CR" if _BARE_CR.search(data) else "LF" if _BARE_LF.search(data) else ""


class ChunkScanner:
    """Checks one message that comes in chunks of a known size (RFC 3030): content form, in which nothing is an end.

    As ``DataScanner`` it never gives out half a CRLF, and says of a bare newline or mends it; not in ``binary`` content,
    where octets that look like one mean something else.
    """

    __slots__ = ("_held", "_line_ended", "bare", "binary", "dots", "ended", "normalize", "size")

    def __init__(self, normalize: bool = False, binary: bool = False) -> None:
        self.bare = ""
        self.dots = 0
        """Above 0: a line begins with a dot."""
        self.ended = False
        self.size = 0
        self.binary = binary
        self.normalize = normalize and not binary
        self._held = b""
        self._line_ended = True

    @property
    def content_size(self) -> int:
        """Octets given out so far."""
        return self.size

    def feed(self, data: bytes, last: bool = False) -> bytes:
        """The content that is certain; with ``last`` the message has ended."""
        data, self._held, self.ended = self._held + data, b"", last
        if data.endswith(b"\r") and not last:
            data, self._held = data[:-1], b"\r"
        if not self.binary and (bare := bare_newline(data)):
            self.bare = self.bare or bare
            data = _NEWLINE.sub(b"\r\n", data) if self.normalize else data
        if data:
            self.dots += (self._line_ended and data.startswith(b".")) or b"\r\n." in data
            self._line_ended = data.endswith(b"\r\n")
        self.size += len(data)
        return data


def _partial_terminator(data: bytes) -> int:
    for length in (4, 3, 2, 1):
        if data.endswith(TERMINATOR[:length]):
            return length
    return 0


def stuff(data: bytes, at_line_start: bool = True) -> bytes:
    """Content form to wire form, for data that is whole or cut at line ends."""
    if b"\r\n." in data:
        data = data.replace(b"\r\n.", b"\r\n..")
    return b"." + data if at_line_start and data.startswith(b".") else data


def unstuff(data: bytes, at_line_start: bool = True) -> bytes:
    """Wire form to content form, for data that is whole or cut at line ends."""
    if b"\r\n." in data:
        data = data.replace(b"\r\n.", b"\r\n")
    return data[1:] if at_line_start and data.startswith(b".") else data


def stuff_chunks(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """``stuff`` over chunks cut anywhere."""
    return _by_lines(chunks, stuff)


def unstuff_chunks(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """``unstuff`` over chunks cut anywhere."""
    return _by_lines(chunks, unstuff)


def _by_lines(chunks: Iterable[bytes], convert: Callable[[bytes, bool], bytes]) -> Iterator[bytes]:
    """Hold back a trailing CR or CRLF, so that a newline and the dot behind it are always seen together."""
    held, start = b"", True
    for chunk in chunks:
        data = held + chunk if held else chunk
        cut = len(data) - (2 if data.endswith(b"\r\n") else 1 if data.endswith(b"\r") else 0)
        data, held = data[:cut], data[cut:]
        if data:
            yield convert(data, start)
            start = False
    if held:
        yield held

