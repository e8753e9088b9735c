"""The process that watches the rules and their settings, and makes each new table before any worker hears of it.

A file that hangs, crashes or ends the process that imports it does so here, where nobody is served.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import gevent
import msgspec
from gevent.event import AsyncResult, Event

from smtpproxy.config.problem import ConfigErrors
from smtpproxy.config.schema import Config
from smtpproxy.dns.resolver import DnsResolver
from smtpproxy.scripting.errors import FolderRefused
from smtpproxy.scripting.offer import Offer
from smtpproxy.scripting.source import Source
from smtpproxy.scripting.table import Table
from smtpproxy.server import build
from smtpproxy.server.link import Link
from smtpproxy.server.logs import Log
from smtpproxy.server.refused import Refused
from smtpproxy.server.settings import SettingsWatch

POLL = 0.3
"""Seconds between two looks at the configuration's files."""


class Gate:
    """`refused` are the versions of files that must not be loaded again (why, by digest)."""

    def __init__(
        self,
        config: Config,
        path: Path,
        link: Link,
        log: Log,
        *,
        refused: Mapping[str, str],
        shipped: Mapping[str, Source],
        tell: Callable[[str], None],
    ) -> None:
        self._config = config
        self._path = path
        self._link = link
        self.log = log
        self._tell = tell
        self._answer: AsyncResult[str] = AsyncResult()
        self._end = Event()
        self._first = True
        self._doors = build.doors(config, DnsResolver(), log)
        self._rules = build.rules(
            config, log, self._doors, live=False, keeps=True, approve=self._approve, refused=refused, shipped=shipped
        )

    def run(self) -> int:
        """Offer the table as it is now, then each that a save makes of it, until told to end. Raises ``Refused``."""
        self._link.start({"answer": self._answered, "retire": self._end.set, "drain": self._end.set, "ban": _not_here})
        self.log.start()
        watching = gevent.spawn(self._watch_settings)
        try:
            self._rules.load()
        except (OSError, FolderRefused) as error:
            raise Refused(str(error)) from None
        self._rules.start()
        self._end.wait()
        watching.kill()
        self._rules.stop()
        self._doors["store"].close()
        self.log.stop()
        return 0

    def _approve(self, table: Table) -> str:
        """Have the workers prepare and take it; why not, or ""."""
        if self._first:
            self._first = False
            for problem in table.problems:
                self._tell(str(problem))
            if any(problem.kept == "" for problem in table.problems):
                raise Refused("a rule cannot run and no earlier version of it is known: mail would pass without it")
        self._answer = AsyncResult()
        self._link.offer(msgspec.to_builtins(Offer.of(table)))
        return str(self._answer.get())

    def _answered(self, why: str) -> None:
        self._answer.set(why)

    def _watch_settings(self) -> None:
        """[rule.NAME] tables are live on save; everything else waits for SIGHUP."""
        watch = SettingsWatch(self._path, self._config.rule)
        while True:
            gevent.sleep(POLL)
            try:
                settings = watch.changed()
            except ConfigErrors as errors:
                self.log("settings_refused", level="error", error=str(errors))
                self._tell(f"the configuration has mistakes, the old settings of rules stay:\n{errors}")
                continue
            if settings is not None:
                self._rules.configure(settings, *build.around_rules(self._config))
                self._rules.refresh()
                self.log("settings_live", rules=sorted(settings))


def _not_here(**_: Any) -> None:
    """Workers take rules out; here none runs."""
