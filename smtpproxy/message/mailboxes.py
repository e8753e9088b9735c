"""The mailboxes of an address field such as From or To (RFC 5322 3.4), as leniently as mail is written.

Words are told apart before encoded words are decoded (RFC 2047 6.2): a comma or an angle bracket that comes out of one is
text, whatever it looks like.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from smtpproxy.message import words
from smtpproxy.wire.address import Address, AddressError, parse_address

_TOKEN = re.compile(rb'[ \t]+|"(?:[^"\\]|\\.)*+"?|\(|<[^>]*+>?|[,;:]|[^ \t"(<,;:]++')
_COMMENT_MARK = re.compile(rb"\\.|[()]")
_QUOTED_PAIR = re.compile(rb"\\(.)")


class Mailbox(Address):
    """An address with the name that stands before it; what is no address is falsy and has its name all the same."""

    __slots__ = ("phrase",)

    phrase: str
    """The display name, decoded; empty when there is none."""

    def __init__(self, phrase: str, address: Address) -> None:
        super().__init__(address.local_part, address.domain, address.path)
        self.phrase = phrase


def mailboxes(value: bytes) -> Iterator[Mailbox]:
    """Those of an unfolded field body, the members of groups among them."""
    box = _Box()
    for token in _tokens(value):
        if token in (b",", b";", b":"):
            if token != b":" and box:
                yield box.made()
            box = _Box()  # before a colon stands the name of a group
        else:
            box.take(token)
    if box:
        yield box.made()


def _tokens(value: bytes) -> Iterator[bytes]:
    at = 0
    while match := _TOKEN.match(value, at):
        at = match.end()
        if match[0] == b"(":
            start, at = at, _end_of_comment(value, at)
            yield b"(" + value[start : at - 1]
        else:
            yield match[0]


def _end_of_comment(value: bytes, at: int) -> int:
    depth = 1
    for mark in _COMMENT_MARK.finditer(value, at):
        depth += (mark[0] == b"(") - (mark[0] == b")")
        if depth == 0:
            return mark.end()
    return len(value) + 1


class _Box:
    """What was read of one mailbox."""

    __slots__ = ("angle", "comment", "phrase", "plain")

    def __init__(self) -> None:
        self.angle: bytes | None = None
        self.comment = b""
        self.phrase: list[bytes] = []
        self.plain: list[bytes] = []

    def __bool__(self) -> bool:
        return self.angle is not None or bool(self.plain)

    def take(self, token: bytes) -> None:
        first = token[:1]
        if first == b"<":
            self.angle = token.strip(b"<> \t")
        elif first == b"(":
            self.comment = self.comment or token[1:]
        elif token.strip(b" \t"):
            self.plain.append(token)
            self.phrase.append(_QUOTED_PAIR.sub(rb"\1", token[1:].removesuffix(b'"')) if first == b'"' else token)
        elif self.phrase:
            self.phrase.append(b" ")

    def made(self) -> Mailbox:
        phrase = b"".join(self.phrase) if self.angle is not None else self.comment
        address = b"".join(self.plain) if self.angle is None else self.angle
        return Mailbox(words.decode(phrase), _address(address))


def _address(octets: bytes) -> Address:
    try:
        return parse_address(octets.decode())
    except (AddressError, UnicodeDecodeError):
        return Address("", "", "")
