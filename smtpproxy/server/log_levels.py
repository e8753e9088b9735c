"""How much of the log is written: each event belongs to an area, and each area has a least level."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from smtpproxy.config.log import Log, LogLevels

ORDER: Final = {"debug": 0, "info": 1, "warning": 2, "error": 3, "off": 4}
AREAS: Final[Mapping[str, frozenset[str]]] = {
    "mail": frozenset(
        {
            "message", "refused", "partly_delivered", "delivered", "deferred", "failed", "expired", "queue_aside", "submitted",
            "notes_left_out",
        }
    ),
    "session": frozenset(
        {
            "session", "command", "reply", "connection_refused", "tls_failed", "proxy_refused", "overloaded", "no_descriptors",
            "login", "login_deferred", "accounts_failed",
        }
    ),
    "handoff": frozenset({"handoff_failed", "upstream", "held_dropped", "queue_failed", "queue_damaged"}),
    "rules": frozenset({"watch_failed", "watch_dropped", "hub_stalled", "settings_live", "settings_refused"}),
    "server": frozenset(),
}
"""What is in none of them is the server's, but for names that begin with "rule" or "list_": those are of the rules."""


class Levels:
    """``silent(event, level)``: whether a record is left out."""

    __slots__ = ("_least", "_of")

    def __init__(self, settings: Log) -> None:
        own = {area: getattr(settings.levels, area) or settings.level for area in LogLevels.__struct_fields__}
        self._least = {area: ORDER[level] for area, level in own.items()}
        self._of: dict[str, int] = {}

    @property
    def quiet(self) -> bool:
        """Even of what has no level of its own ("info") something is left out."""
        return any(least > ORDER["info"] for least in self._least.values())

    def shows(self, area: str, level: str) -> bool:
        """Whether records of this level are written in this area."""
        return ORDER[level] >= self._least[area]

    def silent(self, event: str, level: str) -> bool:
        least = self._of.get(event)
        if least is None:
            least = self._of[event] = self._least[area(event)]
        return ORDER.get(level, 1) < least


def area(event: str) -> str:
    """The area that an event belongs to."""
    if event.startswith(("rule", "list_")):
        return "rules"
    return next((name for name, events in AREAS.items() if event in events), "server")
