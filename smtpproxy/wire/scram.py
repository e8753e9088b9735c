"""SCRAM-SHA-256 and SCRAM-SHA-256-PLUS (RFC 5802, 7677), both sides, as generators over octets.

An exchange yields what it has to say and is sent what the other side answers; what it returns is its result. Neither
the password nor anything that stands for it ever crosses the wire.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re
from collections.abc import Callable, Generator
from typing import NamedTuple, Self

from smtpproxy.wire.saslprep import saslprep

SHA256 = "SCRAM-SHA-256"
PLUS = "SCRAM-SHA-256-PLUS"
END_POINT = "tls-server-end-point"
"""The channel binding (RFC 5929 4): a hash of the server's certificate."""
ROUNDS = 100_000
"""Of the keys that are made here; RFC 7677 4 asks for 4096 at least."""
_MOST_ROUNDS = 10_000_000
"""What a server may ask of us: a few seconds."""

_STORED = re.compile(r"SCRAM-SHA-256\$([1-9][0-9]{0,7}):([A-Za-z0-9+/=]+)\$([A-Za-z0-9+/=]+):([A-Za-z0-9+/=]+)")
_GS2 = re.compile(r"((n|y|p=([A-Za-z0-9.-]+)),(?:a=([^,]+))?,)(.*)", re.DOTALL)
_CLIENT_FIRST = re.compile(r"n=([^,]+),r=([\x21-\x2b\x2d-\x7e]+)(?:,.*)?", re.DOTALL)
_CLIENT_FINAL = re.compile(r"(c=([A-Za-z0-9+/=]+),r=([\x21-\x2b\x2d-\x7e]+)(?:,[^p].*)?),p=([A-Za-z0-9+/=]+)", re.DOTALL)
_SERVER_FIRST = re.compile(r"r=([\x21-\x2b\x2d-\x7e]+),s=([A-Za-z0-9+/=]+),i=([1-9][0-9]{0,9})(?:,.*)?", re.DOTALL)


class ScramError(Exception):
    """The other side broke the protocol; str() says how."""


class NotProved(Exception):
    """The other side has not proved what it should have."""


class ScramKeys(NamedTuple):
    """What a server keeps instead of a password (RFC 5802 3): whoever has it cannot log in with it."""

    salt: bytes
    rounds: int
    stored: bytes
    server: bytes

    @classmethod
    def derive(cls, password: str, salt: bytes, rounds: int = ROUNDS) -> Self:
        """Raises ValueError for a password that cannot be one (RFC 4013). Takes its time: `rounds`."""
        return cls.of(salted(password, salt, rounds), salt, rounds)

    @classmethod
    def of(cls, salted_password: bytes, salt: bytes, rounds: int) -> Self:
        """From SaltedPassword."""
        client = _hmac(salted_password, b"Client Key")
        return cls(salt, rounds, hashlib.sha256(client).digest(), _hmac(salted_password, b"Server Key"))

    @classmethod
    def parse(cls, text: str) -> Self:
        """From the form of RFC 5803. Raises ValueError."""
        found = _STORED.fullmatch(text)
        if found is None:
            raise ValueError("no SCRAM-SHA-256 keys")
        rounds, salt, stored, server = found.groups()
        keys = cls(base64.b64decode(salt), int(rounds), base64.b64decode(stored), base64.b64decode(server))
        if len(keys.stored) != 32 or len(keys.server) != 32:
            raise ValueError("SCRAM-SHA-256 keys have 32 octets")
        return keys

    def __str__(self) -> str:
        salt, stored, server = (_text(part) for part in (self.salt, self.stored, self.server))
        return f"{SHA256}${self.rounds}:{salt}${stored}:{server}"


def salted(password: str, salt: bytes, rounds: int) -> bytes:
    """SaltedPassword (RFC 5802 3). Raises ValueError."""
    return hashlib.pbkdf2_hmac("sha256", saslprep(password).encode(), salt, rounds)


class Proved(NamedTuple):
    """A client has shown that it knows the password of `name`; `authzid` is whom it wants to act for, "" itself."""

    name: str
    authzid: str


def serve(
    keys: Callable[[str], ScramKeys], nonce: str, binding: bytes | None, offered_plus: bool = False
) -> Generator[bytes, bytes, Proved]:
    """The server's side. `keys` by the name; made up for one that nobody has: it fails as a wrong password does.

    `binding`: the channel's data where SCRAM-SHA-256-PLUS was chosen, else None; `offered_plus` is whether it was on offer.
    Raises ``ScramError``, ``NotProved``.
    """
    header, authzid, bare = _header((yield b""), binding is not None, offered_plus)
    first = _CLIENT_FIRST.fullmatch(bare)
    if first is None:
        raise ScramError("the first message is none of SCRAM")
    name, both = _name(first[1]), first[2] + nonce
    its = keys(name)
    challenge = f"r={both},s={_text(its.salt)},i={its.rounds}"
    final = _CLIENT_FINAL.fullmatch(_utf8((yield challenge.encode())))
    if final is None:
        raise ScramError("the final message is none of SCRAM")
    if _octets(final[2]) != header.encode() + (binding or b"") or final[3] != both:
        raise NotProved("another channel, or another exchange")
    message = f"{bare},{challenge},{final[1]}".encode()
    client_key = _xor(_octets(final[4]), _hmac(its.stored, message))
    if not hmac.compare_digest(hashlib.sha256(client_key).digest(), its.stored):
        raise NotProved("wrong proof")
    if (yield b"v=" + base64.b64encode(_hmac(its.server, message))):
        raise ScramError("an empty response is due")  # RFC 4954 4: the outcome has no place for data
    return Proved(name, authzid)


def ask(
    name: str,
    password: str,
    nonce: str,
    binding: bytes | None = None,
    salt: Callable[[str, bytes, int], bytes] = salted,
) -> Generator[bytes | None, bytes, None]:
    """The client's side; with `binding` that of SCRAM-SHA-256-PLUS. `salt` may do its work elsewhere.

    Raises ``ScramError``, ``NotProved`` when the server does not know the password itself; ValueError for one that
    cannot be one.
    """
    header = "n,," if binding is None else f"p={END_POINT},,"
    bare = f"n={saslprep(name).replace('=', '=3D').replace(',', '=2C')},r={nonce}"
    challenge = _utf8((yield f"{header}{bare}".encode()))
    found = _SERVER_FIRST.fullmatch(challenge)
    if found is None or not found[1].startswith(nonce) or int(found[3]) > _MOST_ROUNDS:
        raise ScramError(f"the server's challenge is none of SCRAM: {challenge[:80]}")
    keyed = salt(password, _octets(found[2]), int(found[3]))
    unproved = f"c={_text(header.encode() + (binding or b''))},r={found[1]}"
    message = f"{bare},{challenge},{unproved}".encode()
    key = _hmac(keyed, b"Client Key")
    proof = _xor(key, _hmac(hashlib.sha256(key).digest(), message))
    verdict = yield f"{unproved},p={_text(proof)}".encode()
    if not hmac.compare_digest(verdict, b"v=" + base64.b64encode(_hmac(_hmac(keyed, b"Server Key"), message))):
        raise NotProved("the server does not know the password")
    yield b""


def _header(octets: bytes, plus: bool, offered_plus: bool) -> tuple[str, str, str]:
    """The header of GS2, whom to act for, and the message without the header (RFC 5802 6, 7)."""
    found = _GS2.fullmatch(_utf8(octets))
    if found is None:
        raise ScramError("the first message has no GS2 header")
    header, flag, kind, authzid, bare = found.groups()
    if (flag[0] == "p") != plus:
        raise ScramError("the mechanism and its channel binding do not fit")
    if plus and kind != END_POINT:
        raise ScramError(f"channel binding {kind} is not supported")
    if flag == "y" and offered_plus:
        raise NotProved("somebody between us has hidden SCRAM-SHA-256-PLUS")
    return header, _name(authzid) if authzid else "", bare


def _name(text: str) -> str:
    """RFC 5802 5.1 saslname."""
    if re.search("=(?!2C|3D)", text):
        raise ScramError("a name with = that stands for nothing")
    return text.replace("=2C", ",").replace("=3D", "=")


def _utf8(octets: bytes) -> str:
    try:
        return octets.decode()
    except UnicodeDecodeError:
        raise ScramError("not UTF-8") from None


def _octets(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except binascii.Error:
        raise ScramError("not base64") from None


def _text(octets: bytes) -> str:
    return base64.b64encode(octets).decode()


def _hmac(key: bytes, message: bytes) -> bytes:
    return hmac.digest(key, message, "sha256")


def _xor(one: bytes, other: bytes) -> bytes:
    return bytes(a ^ b for a, b in zip(one, other, strict=False))
