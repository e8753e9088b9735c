"""The log: one structured record an event, logfmt or JSON, to stdout, a file or syslog, written through within a second.

Records are made and gathered here and written in batches by one greenlet: nothing on the way of a message waits for
the disk, and no ``logging`` lock can switch greenlets in the middle of it. Where whoever reads the log does not keep up,
records are kept for a while, and then dropped, counted and told (`log_dropped`): mail goes on.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import gevent
from gevent.monkey import get_original

from smtpproxy.config.log import Log as LogSettings
from smtpproxy.scripting.secret import Hiding
from smtpproxy.server.log_formats import Logfmt, json_line
from smtpproxy.server.log_levels import Levels
from smtpproxy.server.log_targets import target

FLUSH_SECONDS = 0.2
BATCH_OCTETS = 1 << 16
KEPT_OCTETS = 4 << 20
"""What is kept for a reader who does not keep up; more is dropped."""
LAST_SECONDS = 0.5
"""How long the end waits for such a reader."""


class Log:
    """``log("message", id=..., size=...)``; fields whose value is None or "" are left out."""

    __slots__ = (
        "_console", "_dropped", "_encode", "_flusher", "_framed", "_levels", "_lines", "_quiet", "_size", "_stamp", "_stamped",
        "_stuck", "_to", "hide",
    )  # fmt: skip

    def __init__(self, settings: LogSettings, console: Callable[[str, dict[str, Any]], None] | None = None) -> None:
        """``console`` is told every record too, at once. Raises OSError."""
        self._console = console
        self.hide = Hiding()
        """Of whose rules run here."""
        self._encode = json_line if settings.format == "json" else Logfmt()
        self._to = target(settings.to)
        self._framed = bool(self._to.frame("info"))
        self._levels = Levels(settings)
        self._quiet = self._levels.quiet
        self._lines: list[str] = []
        self._size = 0
        self._dropped = 0
        self._stuck = False
        """The target takes no more for now: only the flusher tries."""
        self._stamped = -1
        self._stamp = ""
        self._flusher: gevent.Greenlet[..., None] | None = None

    def __call__(self, event: str, **fields: Any) -> None:
        if self.hide.pattern is not None:
            fields = self.hide.fields(fields)
        if self._console is not None:
            self._console(event, fields)
        level = fields.get("level", "info")
        if (self._quiet or level != "info") and self._levels.silent(event, level):
            return
        if self._size > KEPT_OCTETS:
            self._dropped += 1
            return
        line = self._encode(self._time(), event, fields)
        if self._framed:
            line = self._to.frame(level) + line
        self._lines.append(line)
        self._size += len(line)
        if self._size > BATCH_OCTETS and not self._stuck:
            self.flush()

    def start(self) -> None:
        """Write through every FLUSH_SECONDS from now on."""
        if self._flusher is None:
            self._flusher = gevent.spawn(self._run)

    def flush(self) -> None:
        """Write what there is, as far as it is taken now."""
        to, lines = self._to, self._lines
        taken = to.write(lines)
        self._stuck = taken < len(lines)
        self._lines = lines[taken:] if self._stuck else []
        self._size = sum(map(len, self._lines)) if self._stuck else 0
        lost, to.lost = to.lost, 0
        self._dropped += lost
        if self._dropped and taken and not (lost or self._stuck):
            dropped, self._dropped = self._dropped, 0
            self("log_dropped", level="warning", lines=dropped)

    def stop(self) -> None:
        if self._flusher is not None:
            self._flusher.kill()
            self._flusher = None
        end = time.monotonic() + LAST_SECONDS
        self.flush()
        while self._lines and time.monotonic() < end:
            get_original("time", "sleep")(0.02)
            self.flush()
        self._to.close()

    def _run(self) -> None:
        while True:
            gevent.sleep(FLUSH_SECONDS)
            if self._lines:
                self.flush()

    def _time(self) -> str:
        now = time.time()
        second = int(now)
        if second != self._stamped:
            self._stamped = second
            self._stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))
        return f"{self._stamp}.{int((now - second) * 1000):03d}Z"
