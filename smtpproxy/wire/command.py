"""SMTP commands: one line in, verb and argument or envelope out (RFC 5321 4.1.1, 4.1.2)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from re import Pattern
from typing import NamedTuple

from smtpproxy.wire.address import PLAIN_PATH, Address, AddressError, parse_path, plain_address
from smtpproxy.wire.reply import Refusal, Reply

_SYNTAX = Reply(500, "5.5.2", "Bad command syntax")
_EMPTY = Reply(500, "5.5.2", "Empty command")
_CONTROL = Reply(500, "5.5.2", "Control characters are not allowed in commands")
_PARAMETER_SYNTAX = Reply(501, "5.5.4", "Bad parameter syntax")
_CHUNK_SYNTAX = Reply(501, "5.5.4", "Syntax: BDAT size [LAST]")

_LINE = re.compile(rb"([A-Za-z][A-Za-z0-9-]*+)(?: ++([^\x00-\x1f\x7f]*+))?").fullmatch
_VERBS = {verb.encode(): verb for verb in ["HELO", "EHLO", "MAIL", "RCPT", "DATA", "RSET", "NOOP", "QUIT"]}
"""As nearly every client writes them; everything else goes by the grammar."""
_HAS_CONTROL = re.compile(rb"[\x00-\x1f\x7f]").search

# A path ends at the first ">" that stands neither in a quoted string nor in an address literal. What is between the
# brackets is for parse_path to judge.
_PATH = rb"""(<(?:[^"<>\[]++|"(?:[^"\\]++|\\.)*+"|\[[^\]]*+\])*+>)?(.*)"""


class _Role(NamedTuple):
    """What MAIL and RCPT differ in. ``plain`` is the argument of nearly every mail: an ordinary address, no parameters."""

    name: str
    plain: Pattern[bytes]
    pattern: Pattern[bytes]
    enhanced: str
    syntax: Reply
    non_ascii: Reply


_SENDER = _Role(
    "sender",
    re.compile(b"(?i:FROM):" + PLAIN_PATH),
    re.compile(rb"(?i:FROM): *+" + _PATH, re.DOTALL),
    "5.1.7",
    Reply(501, "5.5.4", "Syntax: MAIL FROM:<address>"),
    Reply(553, "5.6.7", "Non-ASCII sender address needs SMTPUTF8"),
)
_RECIPIENT = _Role(
    "recipient",
    re.compile(b"(?i:TO):" + PLAIN_PATH),
    re.compile(rb"(?i:TO): *+" + _PATH, re.DOTALL),
    "5.1.3",
    Reply(501, "5.5.4", "Syntax: RCPT TO:<address>"),
    Reply(553, "5.6.7", "Non-ASCII recipient address needs SMTPUTF8"),
)

# RFC 5321 4.1.2 esmtp-param, with the octets of RFC 6531 3.3 in the value.
_PARAMETER = re.compile(rb"([A-Za-z0-9][A-Za-z0-9-]*+)(?:=([!-<>-~\x80-\xff]++))?").fullmatch

_CHUNK = re.compile(rb"([0-9]{1,18})(?: ++((?i:LAST)))?").fullmatch

_HTTP = re.compile(
    rb"(?:GET|POST|HEAD|PUT|DELETE|CONNECT|OPTIONS|TRACE|PATCH|PRI|PROPFIND)(?: |$)|.* HTTP/[0-9](?:\.[0-9])?$"
).match


class Command:
    """One command line: verb in upper case, the argument's octets without surrounding spaces, the line as it came."""

    __slots__ = ("octets", "raw", "verb")

    verb: str
    octets: bytes
    raw: bytes

    def __init__(self, verb: str, octets: bytes, raw: bytes) -> None:
        self.verb = verb
        self.octets = octets
        self.raw = raw

    @property
    def argument(self) -> str:
        """The argument as text: UTF-8, octets that are not kept as surrogate escapes."""
        return self.octets.decode("utf-8", "surrogateescape")

    def __repr__(self) -> str:
        return f"Command({self.raw!r})"


class Envelope:
    """What MAIL or RCPT named. params: upper-case keyword to the value as sent (no xtext decoded), None without one."""

    __slots__ = ("address", "params")

    address: Address
    params: dict[str, str | None]

    def __init__(self, address: Address, params: dict[str, str | None]) -> None:
        self.address = address
        self.params = params


def parse(line: bytes) -> Command:
    """The command in a line without its line end. Raises Refusal (500 5.5.2) when there is no verb or a control."""
    verb_octets, _, octets = line.partition(b" ")
    known = _VERBS.get(verb_octets)
    if known is not None and octets[:1] != b" " and octets.isascii() and octets.decode().isprintable():
        return Command(known, octets.rstrip(b" "), line)
    # RFC 5321 4.1.1: trailing white space is tolerated.
    match = _LINE(line) or _LINE(line.rstrip(b" \t"))
    if match is not None:
        verb, argument = match.groups(b"")
        return Command(verb.upper().decode(), argument.rstrip(b" "), line)
    if line.lstrip()[:4].upper() == b"BDAT":  # octets follow, which must not be taken for commands: it is for who counts them
        return Command("BDAT", line.lstrip()[4:], line)
    if not line.strip():
        raise Refusal(_EMPTY)
    shown = b"AUTH ..." if line.lstrip()[:4].upper() == b"AUTH" else line[:80]  # what stands behind AUTH is a password
    raise Refusal(_CONTROL if _HAS_CONTROL(line) else _SYNTAX, f"unreadable command {shown!r}")


def parse_mail(argument: bytes, utf8: bool) -> Envelope:
    """MAIL's argument, b"FROM:<a@b> SIZE=1"; `utf8`: SMTPUTF8 is offered. Raises Refusal.

    501 5.5.4 for the command's or a parameter's syntax, 501 5.1.7 for the address, 553 5.6.7 for a non-ASCII address
    in a transaction that does not ask for SMTPUTF8 (RFC 6531 3.5).
    """
    if (match := _SENDER.plain.fullmatch(argument)) is not None and (plain := plain_address(match)) is not None:
        return Envelope(plain, {})
    path, params = _split(argument, _SENDER)
    address = _address(path, utf8 and "SMTPUTF8" in params, _SENDER)
    if address.path and not address.domain:
        # RFC 5321 4.1.1.3 knows the bare postmaster as a recipient only.
        raise _bad(_SENDER, "address has no domain")
    return Envelope(address, params)


def parse_rcpt(argument: bytes, utf8: bool) -> Envelope:
    """RCPT's argument, b"TO:<a@b> NOTIFY=NEVER"; `utf8`: the transaction has SMTPUTF8. Raises Refusal.

    501 5.5.4 for syntax, 501 5.1.3 for the address (the null path too), 553 5.6.7 for an unasked non-ASCII address.
    """
    if (match := _RECIPIENT.plain.fullmatch(argument)) is not None and (plain := plain_address(match)) is not None:
        return Envelope(plain, {})
    path, params = _split(argument, _RECIPIENT)
    address = _address(path, utf8, _RECIPIENT)
    if not address:
        raise _bad(_RECIPIENT, "the null path is no recipient")
    return Envelope(address, params)


def _split(argument: bytes, role: _Role) -> tuple[bytes, dict[str, str | None]]:
    """The path with its brackets, and the parameters."""
    match = role.pattern.fullmatch(argument)
    if match is None:
        raise Refusal(role.syntax)
    path, rest = match.groups()
    if path is None:
        raise _bad(role, "address is malformed" if rest[:1] == b"<" else "address is not enclosed in angle brackets")
    return path, _parameters(rest) if rest else {}


def _address(path: bytes, utf8: bool, role: _Role) -> Address:
    if not utf8 and not path.isascii():
        raise Refusal(role.non_ascii)
    try:
        return parse_path(path, utf8)
    except AddressError as error:
        raise _bad(role, str(error)) from None


def _bad(role: _Role, why: str) -> Refusal:
    return Refusal(Reply(501, role.enhanced, f"Bad {role.name} address syntax: {why}"))


def _parameters(rest: bytes) -> dict[str, str | None]:
    """The parameters behind a path; `rest` begins with the space. Raises Refusal 501 5.5.4."""
    params: dict[str, str | None] = {}
    if rest[:1] != b" ":
        raise Refusal(_PARAMETER_SYNTAX)
    for word in rest.split():
        match = _PARAMETER(word)
        if match is None:
            raise Refusal(_PARAMETER_SYNTAX, f"bad parameter {word[:80]!r}")
        keyword, value = match.groups()
        name = keyword.upper().decode()
        if name in params:
            raise Refusal(Reply(501, "5.5.4", f"Parameter {name} is given twice"))
        try:
            params[name] = None if value is None else value.decode()
        except UnicodeDecodeError:
            raise Refusal(_PARAMETER_SYNTAX, f"parameter {name} is not valid UTF-8") from None
    return params


def check_parameters(params: Mapping[str, str | None], known: Mapping[str, Pattern[str] | None]) -> None:
    """Hold parameters against the patterns of the extensions offered; None there: takes no value. Raises Refusal.

    RFC 5321 4.1.1.11: 555 5.5.4 for a parameter nobody knows; 501 5.5.4 for a bad value. A kind of BODY that is not
    offered is a parameter nobody knows, as in Postfix.
    """
    for name, value in params.items():
        if name not in known:
            raise Refusal(Reply(555, "5.5.4", f"Unsupported parameter {name[:40]}"))
        pattern = known[name]
        fits = value is None if pattern is None else value is not None and pattern.fullmatch(value) is not None
        if not fits and name == "BODY" and value:
            raise Refusal(Reply(555, "5.5.4", f"Unsupported parameter BODY={value[:40]}"))
        if not fits:
            raise Refusal(Reply(501, "5.5.4", f"Bad value of parameter {name}"))


class Chunk(NamedTuple):
    """What BDAT announces (RFC 3030 2): so many octets follow its line; ``last``: the message ends with them."""

    size: int
    last: bool


def parse_bdat(argument: bytes) -> Chunk:
    """BDAT's argument, b"1024 LAST". Raises Refusal 501 5.5.4."""
    match = _CHUNK(argument)
    if match is None:
        raise Refusal(_CHUNK_SYNTAX)
    return Chunk(int(match[1]), match[2] is not None)


def looks_like_http(line: bytes) -> bool:
    """A browser or an abused HTTP client is talking (R34): its request line, as the first command of a connection."""
    return _HTTP(line) is not None


def looks_like_tls(data: bytes) -> bool:
    """The first octets are a TLS handshake record (RFC 8446 5.1), on a port that expects plain text."""
    return data[:2] == b"\x16\x03"
