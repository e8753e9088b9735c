"""Records in the server's log."""

from __future__ import annotations

from collections.abc import Mapping

from smtpproxy.scripting.doors.base import Door, hidden_from, rule_name, running_call
from smtpproxy.scripting.secret import redacted

_FIELDS = {"event": "event_", "self": "self_"}
"""Names that the log function has for itself."""


class Log(Door):
    """Records in the server's log, with the rule's name and the id of mail or session."""

    __slots__ = ()

    def debug(self, text: object, /, **fields: object) -> None:
        """For whoever looks for a mistake."""
        self._write("debug", text, fields)

    def info(self, text: object, /, **fields: object) -> None:
        """What went as it should."""
        self._write("info", text, fields)

    def warning(self, text: object, /, **fields: object) -> None:
        """What somebody should look at."""
        self._write("warning", text, fields)

    def error(self, text: object, /, **fields: object) -> None:
        """What went wrong."""
        self._write("error", text, fields)

    def _write(self, level: str, text: object, fields: Mapping[str, object]) -> None:
        call = running_call("log")
        rule, hidden = rule_name(call), hidden_from(call)
        words = redacted(str(text), hidden)
        call.trace.note(f"{rule} {level}: {words}")
        if "log" in call.doors:
            own = {"level": level, "rule": rule, "id": call.id, "text": words}
            shown = {name: redacted(value, hidden) if isinstance(value, str) else value for name, value in fields.items()}
            call.doors["log"]("rule", **{_FIELDS.get(name, name): value for name, value in shown.items()} | own)
