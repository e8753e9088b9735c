"""Hashes of passwords, as text that names its own method and cost (the PHC string format).

    $scrypt$ln=14,r=8,p=5$SALT$HASH       what is made here: of the standard library
    $argon2id$v=19$m=...,t=...,p=...$...  where argon2-cffi is installed
    $6$... $2y$... {SSHA}... and others   of other programs, where libpass is installed: accounts/foreign.py

Slow on purpose, and memory-hungry: never called in the hub, see accounts/hashing.py.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import os
import re

from smtpproxy.accounts import foreign
from smtpproxy.wire.saslprep import saslprep

LN, BLOCK, PARALLEL = 14, 8, 5
"""16 MB and about 0.2 s of a processor for one password (OWASP Password Storage Cheat Sheet)."""
_LARGEST = 256 << 20
"""Octets of memory that a hash may ask for."""
_LONGEST = 1024
"""Characters of a password whose hash another program has made."""
_SCRYPT = re.compile(r"\$scrypt\$ln=(\d{1,2}),r=(\d{1,3}),p=(\d{1,3})\$([A-Za-z0-9+/]+)\$([A-Za-z0-9+/]+)")
_ARGON2 = re.compile(r"\$argon2(?:id|i|d)\$v=19\$m=\d+,t=\d+,p=\d+\$[A-Za-z0-9+/]+\$[A-Za-z0-9+/]+")

METHODS = ("scrypt", "argon2id")


class NoSuchMethod(Exception):
    """A hash of a kind that cannot be checked here; str() says what is missing."""


def make(password: str, method: str = "scrypt") -> str:
    """The hash of a password. Raises ValueError for one that cannot be one, ``NoSuchMethod``."""
    secret = saslprep(password).encode()
    if method == "argon2id":
        from argon2 import PasswordHasher  # an extra

        return PasswordHasher(time_cost=2, memory_cost=19 << 10, parallelism=1).hash(secret)
    salt = os.urandom(16)
    return f"$scrypt$ln={LN},r={BLOCK},p={PARALLEL}${_text(salt)}${_text(_scrypt(secret, salt, LN, BLOCK, PARALLEL))}"


def check_form(text: str) -> None:
    """Raises ValueError for what is no hash that could be checked, wherever its method is installed."""
    if _SCRYPT.fullmatch(text):
        _cost(text)
    elif not _ARGON2.fullmatch(text):
        raise ValueError("no hash of a password ($scrypt$... or $argon2id$...)")


def fits(text: str, password: str) -> bool:
    """Whether a hash is that of a password. Raises ``NoSuchMethod``, ValueError for what is no hash."""
    text = foreign.without_scheme(text)
    if foreign.method(text):
        return _foreign_fits(text, password)
    try:
        secret = saslprep(password).encode()
    except (ValueError, UnicodeEncodeError):
        return False
    if text.startswith("$argon2"):
        return _argon2_fits(text, secret)
    cost, block, parallel, salt, known = _cost(text)
    return hmac.compare_digest(_scrypt(secret, salt, cost, block, parallel, len(known)), known)


def _argon2_fits(text: str, secret: bytes) -> bool:
    try:
        from argon2 import PasswordHasher
        from argon2.exceptions import InvalidHashError, VerificationError
    except ImportError:
        raise NoSuchMethod("hashes of Argon2 need argon2-cffi: pip install 'smtpproxy[argon2]'") from None
    try:
        return PasswordHasher().verify(text, secret)
    except InvalidHashError as error:
        raise ValueError(str(error)) from None
    except VerificationError:
        return False


def _foreign_fits(text: str, password: str) -> bool:
    """They were made of the password as it was typed, so it is not prepared."""
    if "\0" in password or len(password) > _LONGEST:
        return False
    try:
        return foreign.fits(text, password)
    except ImportError:
        raise NoSuchMethod("hashes of other programs need libpass and bcrypt: pip install 'smtpproxy[hashes]'") from None


def _cost(text: str) -> tuple[int, int, int, bytes, bytes]:
    found = _SCRYPT.fullmatch(text)
    if found is None:
        raise ValueError("no hash of a password")
    cost, block, parallel = map(int, found.groups()[:3])
    if not (0 < cost < 25 and block and parallel and 128 * block << cost <= _LARGEST):
        raise ValueError("a hash of scrypt that asks for too much")
    return cost, block, parallel, _octets(found[4]), _octets(found[5])


def _scrypt(secret: bytes, salt: bytes, cost: int, block: int, parallel: int, length: int = 32) -> bytes:
    room = 2 * (128 * block * (1 << cost) + 128 * block * parallel)
    return hashlib.scrypt(secret, salt=salt, n=1 << cost, r=block, p=parallel, maxmem=room, dklen=length)


def _text(octets: bytes) -> str:
    return base64.b64encode(octets).decode().rstrip("=")


def _octets(text: str) -> bytes:
    return base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
