"""Hashes that other programs have made: databases come with them. They are checked by libpass (an extra), never made here.

    $6$ $5$                      SHA-crypt                {SHA512-CRYPT} {SHA256-CRYPT}
    $2a$ $2b$ $2y$               bcrypt                   {BLF-CRYPT}
    $pbkdf2-sha256$ -sha512$     PBKDF2
    {SSHA} {SSHA256} {SSHA512}   salted SHA, of directories

In front of a hash of the first three, and of $argon2..., the scheme may stand in braces, as Dovecot writes it.
"""

from __future__ import annotations

import re
from typing import Final

METHODS: Final = {
    "$6$": "sha512_crypt", "$5$": "sha256_crypt", "$2a$": "bcrypt", "$2b$": "bcrypt", "$2y$": "bcrypt",
    "$pbkdf2-sha256$": "pbkdf2_sha256", "$pbkdf2-sha512$": "pbkdf2_sha512",
    "{SSHA}": "ldap_salted_sha1", "{SSHA256}": "ldap_salted_sha256", "{SSHA512}": "ldap_salted_sha512",
}  # fmt: skip
_SCHEME: Final = re.compile(r"\{[A-Z0-9-]+\}(?=\$(?:argon2|scrypt|pbkdf2-|[256][aby]?\$))", re.IGNORECASE)


def without_scheme(text: str) -> str:
    """The hash behind "{SHA512-CRYPT}" and the like, if it names its method itself."""
    return _SCHEME.sub("", text, count=1)


def method(text: str) -> str:
    """The method of libpass's for this hash, "" if there is none."""
    head = text.upper() if text.startswith("{") else text
    return next((name for start, name in METHODS.items() if head.startswith(start)), "")


def fits(text: str, password: str) -> bool:
    """Raises ImportError without libpass, ValueError for what is no hash."""
    from passlib import hash as hashes

    handler = getattr(hashes, method(text))
    scheme, brace, rest = text.rpartition("}")
    return bool(handler.verify(password, f"{scheme.upper()}{brace}{rest}"))
