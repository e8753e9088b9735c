"""Something that goes on for a while: a line in the log when it begins and one when it is over, none in between."""

from __future__ import annotations

import time

from smtpproxy.session.services import LogLine


class Episode:
    """``event`` is logged with state=begun, later with state=over, its seconds, and how many were turned away."""

    __slots__ = ("_began", "_event", "_log", "refused")

    def __init__(self, log: LogLine, event: str) -> None:
        self._log = log
        self._event = event
        self._began = 0.0
        self.refused = 0

    @property
    def on(self) -> bool:
        """It goes on."""
        return self._began > 0

    def begin(self, **fields: object) -> None:
        """It goes on; said once."""
        if not self._began:
            self._began = time.monotonic()
            self.refused = 0
            self._log(self._event, level="warning", state="begun", **fields)

    def end(self) -> None:
        """It does not, or no more."""
        if self._began:
            seconds = round(time.monotonic() - self._began, 1)
            self._began = 0.0
            self._log(self._event, level="warning", state="over", seconds=seconds, refused=self.refused)
