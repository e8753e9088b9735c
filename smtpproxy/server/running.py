"""What serving processes run now, for commands that look on: data/rules/running/PID.json, written when it changes."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from pathlib import Path

import msgspec

from smtpproxy.scripting.library import closure
from smtpproxy.scripting.loader import Rules
from smtpproxy.scripting.table import Table
from smtpproxy.session.session import Session

FOLDER = "rules/running"


class Draining(msgspec.Struct, frozen=True):
    """An older version that is still loaded: for so many sessions, and so many transactions among them."""

    rule: str
    version: str
    sessions: int
    transactions: int


class Running(msgspec.Struct, frozen=True):
    """One process: its table, the version of each rule, what of older tables has not drained yet, and what is rolled back.

    `born` tells a process from a later one of the same id.
    """

    pid: int
    born: str
    table: str
    versions: dict[str, str]
    draining: tuple[Draining, ...] = ()
    rolled_back: dict[str, str] = {}


class StateFile:
    """This process's file, where it says what it runs; `sessions` are those that it serves."""

    def __init__(self, data: Path, rules: Rules, sessions: Callable[[], Iterable[Session]]) -> None:
        self._path = data / FOLDER / f"{os.getpid()}.json"
        self._rules = rules
        self._sessions = sessions
        self._told: Running | None = None

    def tell(self) -> None:
        """Write what has changed. Raises OSError."""
        now = self._running()
        if now == self._told:
            return
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        new = self._path.with_suffix(".new")
        new.write_bytes(msgspec.json.encode(now))
        new.replace(self._path)
        self._told = now

    def end(self) -> None:
        """This process runs nothing any more."""
        with suppress(OSError):
            self._path.unlink(missing_ok=True)

    def _running(self) -> Running:
        table = self._rules.table
        versions = {rule.name: rule.version for rule in table.rules}
        back = {rule.name: rule.version for rule in table.rules if rule.rolled_back}
        return Running(os.getpid(), _born(os.getpid()), table.hash, versions, tuple(self._draining()), back)

    def _draining(self) -> Iterator[Draining]:
        older = self._rules.older()
        if not older:
            return
        sessions: Counter[Table] = Counter()
        transactions: Counter[Table] = Counter()
        for session in self._sessions():
            sessions[session.table] += 1
            transactions[session.table] += session.transaction is not None
        for instance in older:
            users = [table for table in sessions if any(instance in closure(one) for one in table.instances.values())]
            yield Draining(
                instance.source.name, instance.version, sum(sessions[it] for it in users), sum(transactions[it] for it in users)
            )


def running(data: Path) -> list[Running]:
    """The processes that serve this data folder now. What processes that died have left is not told."""
    found = []
    for path in sorted((data / FOLDER).glob("*.json")):
        with suppress(OSError, msgspec.MsgspecError):
            one = msgspec.json.decode(path.read_bytes(), type=Running)
            if _born(one.pid) == one.born:
                found.append(one)
    return found


def sweep(data: Path) -> None:
    """Remove what processes that died have left. Raises OSError."""
    alive = {f"{one.pid}.json" for one in running(data)}
    for path in (data / FOLDER).glob("*.json"):
        if path.name not in alive:
            path.unlink(missing_ok=True)


def _born(pid: int) -> str:
    """When a process started, in the system's ticks (proc(5), field 22); "" when there is none."""
    try:
        return Path(f"/proc/{pid}/stat").read_text("ascii", "replace").rpartition(")")[2].split()[19]
    except OSError:
        return ""
