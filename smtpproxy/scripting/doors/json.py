"""JSON (RFC 8259), in both languages by the same two names."""

from __future__ import annotations

import json
from collections.abc import Mapping, Set
from typing import Any, Final

from smtpproxy.facts.notes import Notes, as_dict
from smtpproxy.scripting.doors.base import Door, weigh
from smtpproxy.wire.address import Address

LIMIT: Final = 32 << 20
"""Octets of what is encoded, about."""


class Json(Door):
    """Plain values as JSON, and back."""

    __slots__ = ()

    def encode(self, value: Any) -> str:
        """As JSON: an address as its text, a set as a list. Raises TypeError for what has no place in JSON."""
        return encode(value)

    def decode(self, text: str | bytes) -> Any:
        """The value. Raises ValueError when it is no JSON."""
        return json.loads(text)


def encode(value: Any) -> str:
    """See `Json.encode`."""
    weigh(value, "json", LIMIT)
    return json.dumps(value, default=_plain, ensure_ascii=False, separators=(",", ":"), allow_nan=False)


def _plain(value: Any) -> Any:
    if isinstance(value, Address):
        return str(value)
    if isinstance(value, Notes):
        return as_dict(value)
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, Set):
        return sorted(value, key=str)
    raise TypeError(f"a {type(value).__name__} has no place in JSON; use str(...)")
