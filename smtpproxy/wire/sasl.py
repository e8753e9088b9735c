"""SASL over SMTP (RFC 4422, 4954): what a client says to prove who it is, step by step, for both sides, as octets.

An exchange is a generator: it yields a challenge, is sent the response, and returns a ``Claim``. Whether the claim is true
the caller finds out, for it knows the accounts; only SCRAM proves it by itself (wire/scram.py).

    PLAIN LOGIN                             name and password (RFC 4616; LOGIN was never written down)
    SCRAM-SHA-256 SCRAM-SHA-256-PLUS        proof of the password (RFC 7677), bound to the TLS channel
    XOAUTH2 OAUTHBEARER                     a token (Google's and RFC 7628)
    EXTERNAL                                the certificate of TLS (RFC 4422 A)
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable, Generator
from typing import NamedTuple

from smtpproxy.wire import scram
from smtpproxy.wire.scram import PLUS, SHA256, NotProved, ScramError, ScramKeys

MECHANISMS = (PLUS, SHA256, "PLAIN", "LOGIN", "XOAUTH2", "OAUTHBEARER", "EXTERNAL")
TOKENS = frozenset({"XOAUTH2", "OAUTHBEARER"})
LINE_LIMIT = 12288
"""Octets of a line of an exchange, without its CRLF (RFC 4954 4)."""
CANCELLED = b"*"

_TOKEN_REFUSED = b'{"status":"invalid_token"}'
_BEARER = re.compile(r"auth=Bearer +(\S+)", re.IGNORECASE)


class Malformed(Exception):
    """What the client said is no step of the mechanism; str() says why."""


class Cancelled(Exception):
    """The client has given up (RFC 4954 4)."""


class Claim(NamedTuple):
    """Who the client says it is. `secret` proves it, unless `proved`: then the exchange has done so."""

    name: str
    secret: str = ""
    proved: bool = False


Exchange = Generator[bytes, bytes, Claim]


class Channel(NamedTuple):
    """What is known before the first step: of the TLS below, and of what SCRAM needs."""

    keys: Callable[[str], ScramKeys]
    nonce: str
    end_point: bytes = b""
    """tls-server-end-point (RFC 5929 4); empty: SCRAM-SHA-256-PLUS is not on offer."""
    certified: tuple[str, ...] = ()
    """The names in the client's certificate."""


def begin(mechanism: str, channel: Channel) -> Exchange:
    """The exchange of one of MECHANISMS. What it raises is ``Malformed``, ``NotProved``."""
    if mechanism in (SHA256, PLUS):
        return _scram(channel, mechanism == PLUS)
    if mechanism == "EXTERNAL":
        return _external(channel.certified)
    return _SIMPLE[mechanism]()


def encode(octets: bytes) -> bytes:
    """A challenge or a response as it goes over the wire."""
    return base64.b64encode(octets)


def decode(line: bytes) -> bytes:
    """The octets of a response. Raises ``Cancelled``, ``Malformed``."""
    if line == CANCELLED:
        raise Cancelled
    try:
        return base64.b64decode(line, validate=True)
    except binascii.Error:
        raise Malformed("not base64") from None


def initial(argument: bytes) -> bytes | None:
    """The initial response behind the mechanism: none, or "=" for an empty one. Raises ``Malformed``, ``Cancelled``."""
    return None if not argument else b"" if argument == b"=" else decode(argument)


# -- the server's side -----------------------------------------------------------------------------------------------


def _plain() -> Exchange:
    parts = _text((yield b"")).split("\0")
    if len(parts) != 3 or not parts[1]:
        raise Malformed("no authorization identity, name and password")
    return _for_itself(parts[0], parts[1], parts[2])


def _login() -> Exchange:
    name = _text((yield b"Username:"))
    password = _text((yield b"Password:"))
    if not name or "\0" in name + password:
        raise Malformed("no name")
    return Claim(name, password)


def _scram(channel: Channel, plus: bool) -> Exchange:
    binding = channel.end_point if plus else None
    try:
        proved = yield from scram.serve(channel.keys, channel.nonce, binding, bool(channel.end_point))
    except ScramError as error:
        raise Malformed(str(error)) from None
    return _for_itself(proved.authzid, proved.name, "", proved=True)


def _external(certified: tuple[str, ...]) -> Exchange:
    """Whom the certificate is for; with several names in it the client has to say which one."""
    wanted = _text((yield b""))
    name = wanted or next(iter(certified), "")
    if name not in certified:
        raise NotProved("no certificate for this name")
    return Claim(name, proved=True)


def _xoauth2() -> Exchange:
    fields = _fields(_text((yield b"")))
    name = next((field[5:] for field in fields if field.startswith("user=")), "")
    return Claim(name, _bearer(fields))


def _oauthbearer() -> Exchange:
    header, separator, rest = _text((yield b"")).partition("\x01")
    flag, comma, authzid = header.rstrip(",").partition(",")
    if not separator or flag not in ("n", "y") or (comma and not authzid.startswith("a=")):
        raise Malformed("no GS2 header")
    name = authzid[2:].replace("=2C", ",").replace("=3D", "=")
    return Claim(name, _bearer(_fields(rest)))


_SIMPLE: dict[str, Callable[[], Exchange]] = {
    "PLAIN": _plain, "LOGIN": _login, "XOAUTH2": _xoauth2, "OAUTHBEARER": _oauthbearer,
}  # fmt: skip


def refusal(mechanism: str) -> bytes:
    """A last challenge before the failure: mechanisms with tokens say in it why (RFC 7628 3.2.2); the answer to it is void."""
    return _TOKEN_REFUSED if mechanism in TOKENS else b""


def _for_itself(authzid: str, name: str, secret: str, proved: bool = False) -> Claim:
    """Nobody acts for somebody else here (RFC 4616 2)."""
    if authzid not in ("", name):
        raise NotProved(f"{name} wants to act for somebody else")
    return Claim(name, secret, proved)


def _fields(text: str) -> list[str]:
    if not text.endswith("\x01\x01"):
        raise Malformed("no end of the fields")
    return text.split("\x01")


def _bearer(fields: list[str]) -> str:
    found = next((match[1] for field in fields if (match := _BEARER.fullmatch(field))), "")
    if not found:
        raise Malformed("no token")
    return found


def _text(octets: bytes) -> str:
    try:
        return octets.decode()
    except UnicodeDecodeError:
        raise Malformed("not UTF-8") from None


# -- the client's side -----------------------------------------------------------------------------------------------

Answers = Generator[bytes | None, bytes, None]
"""Yields responses; the first one is the initial response, None where there is none."""


def log_in(
    offered: str, name: str, password: str, nonce: str, salt: Callable[[str, bytes, int], bytes] = scram.salted
) -> tuple[str, Answers]:
    """The best mechanism of those that an AUTH line of EHLO names, and our responses. Where none is offered PLAIN is tried.

    The generator raises what `scram.ask` raises.
    """
    words = offered.upper().split()
    if SHA256 in words:
        return SHA256, scram.ask(name, password, nonce, salt=salt)
    if "PLAIN" in words or "LOGIN" not in words:
        return "PLAIN", _plain_answers(name, password)
    return "LOGIN", _login_answers(name, password)


def _plain_answers(name: str, password: str) -> Answers:
    yield f"\0{name}\0{password}".encode()


def _login_answers(name: str, password: str) -> Answers:
    yield None
    yield name.encode()
    yield password.encode()
