"""Digests, in both languages by the same names: to compare keys of which only the digest is kept, to sign what is sent."""

from __future__ import annotations

import hashlib
import hmac

from smtpproxy.scripting.doors.base import Door


class Digest(Door):
    """Digests of a text or of octets, in hexadecimal."""

    __slots__ = ()

    def sha256(self, text: str | bytes) -> str:
        """SHA-256 (FIPS 180-4); a text as UTF-8."""
        return hashlib.sha256(_octets(text)).hexdigest()

    def hmac_sha256(self, key: str | bytes, text: str | bytes) -> str:
        """HMAC with SHA-256 (RFC 2104): who has the key can tell that the text is from somebody who has it."""
        return hmac.new(_octets(key), _octets(text), hashlib.sha256).hexdigest()


def _octets(text: str | bytes) -> bytes:
    if isinstance(text, bytes):
        return text
    if isinstance(text, str):
        return str.encode(text, "utf-8", "surrogateescape")
    raise TypeError(f"a digest is of a text or of octets, not of a {type(text).__name__}")
