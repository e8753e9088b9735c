"""A resolver that answers from a dict: for tests, replays and `--zone` files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from smtpproxy.dns.resolver import Answer, Temporary


class Zone:
    """Answers all DNS from `{"name": {"TXT": ["..."], "A": [...], "MX": [[10, "host"]], "PTR": [...]}}`.

    Names are in lower case without the final dot. An absent name is NXDOMAIN, an absent type no data;
    `"error": "SERVFAIL"` or `"TIMEOUT"` answers the types not listed; a CNAME is followed.
    `asked` holds every question, in order.
    """

    __slots__ = ("_names", "asked")

    ALIASES = 10

    def __init__(self, names: Mapping[str, Mapping[str, Any]] | None = None) -> None:
        self._names: dict[str, dict[str, Any]] = {}
        self.asked: list[tuple[str, str]] = []
        for name, types in (names or {}).items():
            self[name] = types

    def __setitem__(self, name: str, types: Mapping[str, Any]) -> None:
        """From now on this is what there is about a name."""
        self._names[name.rstrip(".").lower()] = dict(types)

    def query(self, name: str, type: str) -> Answer:
        """Answer from the dict. Raises Temporary where it says "error"."""
        name, type = name.rstrip(".").lower(), type.upper()
        self.asked.append((name, type))
        for _ in range(self.ALIASES):
            types = self._names.get(name)
            if types is None:
                return Answer(exists=False)
            if type in types:
                return Answer([plain(type, record) for record in types[type]])
            if "error" in types:
                raise Temporary(f"{name} {type}: {types['error']}")
            if "CNAME" not in types:
                return Answer()
            name = str(types["CNAME"][0]).rstrip(".").lower()
        raise Temporary(f"{name} {type}: too many aliases")


def plain(type: str, record: Any) -> Any:
    """A record of the dict in the form that every resolver gives."""
    if type == "MX" and isinstance(record, Sequence):
        return int(record[0]), str(record[1]).rstrip(".").lower()
    if type in ("PTR", "CNAME", "NS"):
        return str(record).rstrip(".").lower()
    return record
