"""Texts of the configuration with places for values: %(name)s, as in `select hash from users where name = %(name)s`.

The values are handed over beside the text, or escaped for the place they come to; every other % is a plain one.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Final

from smtpproxy.config.values import BadValue

_PLACE: Final = re.compile(r"%\((\w*)\)s")

LOGIN: Final = frozenset({"name"})
ADDRESS: Final = frozenset({"address", "local_part", "domain"})
NOTICE: Final = frozenset({"recipients", "sender", "hostname", "id", "arrival", "until"})


class NoticeText(str):
    """The text of a notice, with places for what it is about."""

    __slots__ = ()

    @classmethod
    def parse(cls, raw: object) -> NoticeText:
        if not isinstance(raw, str):
            raise BadValue(f"expected a text, got {raw!r}")
        for name in sorted(Template(raw).names - NOTICE):
            raise BadValue(f"%({name})s is unknown here: there is {', '.join(f'%({one})s' for one in sorted(NOTICE))}")
        return cls(raw)


class Template:
    """`fill` puts values into the text; `with_places` writes the places as a database's driver wants them."""

    __slots__ = ("_parts",)

    def __init__(self, text: str) -> None:
        self._parts = _PLACE.split(text)

    def __bool__(self) -> bool:
        return self._parts != [""]

    def fill(self, values: Mapping[str, str], escape: Callable[[str], str]) -> str:
        return "".join(escape(values[part]) if at % 2 else part for at, part in enumerate(self._parts))

    def with_places(self, place: Callable[[str], str], plain: Callable[[str], str] = str) -> str:
        return "".join(place(part) if at % 2 else plain(part) for at, part in enumerate(self._parts))

    @property
    def names(self) -> frozenset[str]:
        """Which values it needs."""
        return frozenset(self._parts[1::2])


def of_address(address: str) -> dict[str, str]:
    """The values for a mail address."""
    local_part, _, domain = address.rpartition("@")
    return {"address": address, "local_part": local_part, "domain": domain}
