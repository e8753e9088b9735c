"""Traces kept for `smtpproxy explain`: gathered here, put into words and on disk by one greenlet, never on a message's way.

A refusal is on disk within a second, while the client may still be connected; when its mail is over the trace is
written once more, whole. Readers take the newest of an id.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gevent
from gevent.event import Event

from smtpproxy.config.schema import Trace as TraceSettings
from smtpproxy.facts.client import Client
from smtpproxy.facts.mail import Mail
from smtpproxy.scripting.kept import Hide, Snapshot, encode
from smtpproxy.scripting.trace import Trace
from smtpproxy.server.segments import Segments
from smtpproxy.session.services import LogLine

FLUSH_SECONDS = 0.3
PRUNE_SECONDS = 60.0
WAITING = 2000
"""Traces between two turns; those above are dropped and counted in the log."""
AT_ONCE = 8
"""Traces put into words before others have their turn."""

FOLDER = "traces"
"""In the data folder."""


class TraceKeeper:
    """`hide` takes out what must never be written, as of now."""

    __slots__ = ("_chance", "_dropped", "_ended", "_greenlet", "_hide", "_log", "_open", "_sample", "_segments", "_waiting")

    def __init__(
        self,
        settings: TraceSettings,
        data: Path,
        log: LogLine,
        hide: Hide = str,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._sample = settings.sample
        self._segments = Segments(data / FOLDER, settings.size, settings.keep)
        self._log = log
        self._hide = hide
        self._chance = chance
        self._open: dict[Trace, tuple[Client, Mail | None]] = {}
        self._waiting: list[Snapshot] = []
        self._dropped = 0
        self._ended = Event()
        self._greenlet: gevent.Greenlet[..., None] | None = None

    def keep(self, trace: Trace, client: Client, mail: Mail | None, *, over: bool) -> None:
        """See ``Traces``."""
        if not over:
            self._open[trace] = client, mail
            return
        if self._open:
            self._open.pop(trace, None)
        why = trace.remarkable or self._wanted(mail)
        if why:
            self._take(Snapshot(trace, client, mail, why))

    def start(self) -> None:
        if self._greenlet is None:
            self._greenlet = gevent.spawn(self._run)

    def stop(self) -> None:
        """Write what is waiting, and end."""
        self._ended.set()
        if self._greenlet is not None:
            self._greenlet.join()
        self.flush()
        self._segments.close()

    def flush(self) -> None:
        """Write what is waiting."""
        self._snap_open()
        waiting, self._waiting = self._waiting, []
        if self._dropped:
            self._log("traces_dropped", level="warning", count=self._dropped)
            self._dropped = 0
        if not waiting:
            return
        lines = []
        for number, snapshot in enumerate(waiting):
            if number % AT_ONCE == AT_ONCE - 1:
                gevent.sleep(0)
            try:
                lines.append(encode(snapshot.kept(self._hide)))
            except Exception as error:  # one that cannot be told must not cost the others
                self._log("traces_lost", level="error", error=f"{type(error).__name__}: {error}")
        self._disk(self._segments.append, b"".join(lines))

    def _wanted(self, mail: Mail | None) -> str:
        if mail is None:
            return ""
        if mail.traced:
            return "asked"
        return "sampled" if self._sample and self._chance() < self._sample else ""

    def _take(self, snapshot: Snapshot) -> None:
        if len(self._waiting) < WAITING:
            self._waiting.append(snapshot)
        else:
            self._dropped += 1

    def _snap_open(self) -> None:
        """What was refused meanwhile in mails and sessions that go on."""
        waiting, self._open = self._open, {}
        for trace, (client, mail) in waiting.items():
            self._take(Snapshot(trace, client, mail, trace.remarkable or "refused"))

    def _run(self) -> None:
        pruned = 0.0
        while not self._ended.wait(FLUSH_SECONDS):
            self.flush()
            pruned += FLUSH_SECONDS
            if pruned > PRUNE_SECONDS:
                pruned = 0.0
                self._disk(self._segments.prune)

    def _disk(self, work: Callable[..., Any], *arguments: Any) -> None:
        """In a thread: a slow disk holds nobody up."""
        try:
            gevent.get_hub().threadpool.apply(work, arguments)
        except OSError as error:
            self._log("traces_lost", level="error", error=str(error))
