"""The files behind lists: read once for all rules, looked at five times a second, renewed in the background.

As with rules, a file counts when nothing was written to it for a moment, and an emptied one only after it has been so for
a while. What is broken or gone changes nothing: the last good list stays, and the log says why.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from pathlib import Path
from weakref import WeakValueDictionary

import gevent

from smtpproxy.scripting.folder import ABSENCE, QUIET, Stamp
from smtpproxy.scripting.lists import KINDS, VALUES, Check, ListError, Table, fill, route

POLL = 0.2
PAUSE = 0.001
"""Not 0: that lets other callbacks run, but no timer and no socket."""
SIZE_LIMIT = 64 << 20
INLINE = 1000
"""Lists without a file that are kept, for rules that make the same one in every call."""
UNUSED = 600.0
"""Seconds after which a file that no rule holds is forgotten."""


class Listed:
    """One list as it is now: `table` is replaced as a whole."""

    __slots__ = ("__weakref__", "table")

    def __init__(self, table: Table) -> None:
        self.table = table


class ListFile(Listed):
    """A list in a file. `table` is there after the first `read()`."""

    __slots__ = ("_emptied", "_seen", "_stamp", "_told", "check", "kind", "name", "path")

    def __init__(self, name: str, path: Path, kind: str, check: Check) -> None:
        super().__init__(KINDS[kind]())
        self.name = name
        self.path = path
        self.kind = kind
        self.check = check
        self._stamp: Stamp | None = None
        self._seen: Stamp | None = None
        self._emptied = 0.0
        self._told = ""

    def read(self) -> None:
        """Take the file as it is. Raises ListError; the hub is given to others in between."""
        try:
            with open(self.path, "rb") as file:
                stamp = Stamp.of(os.fstat(file.fileno()))
                data = file.read(SIZE_LIMIT + 1)
        except OSError as error:
            raise ListError(f"{self.name}: {error.strerror}") from None
        self._stamp = stamp
        if len(data) > SIZE_LIMIT:
            raise ListError(f"{self.name} is larger than {SIZE_LIMIT >> 20} MB")
        table = KINDS[self.kind]()
        entries = data.decode("utf-8-sig", "surrogateescape").splitlines()
        fill(table, entries, f"{self.name}:", self.check, lambda: gevent.sleep(PAUSE))
        self.table = table

    def look(self) -> bool:
        """Whether the file has changed and nobody writes to it any more. Raises ListError when it is gone."""
        try:
            stamp = Stamp.of(os.stat(self.path))
        except OSError as error:
            self._stamp = None
            raise ListError(f"{self.name}: {error.strerror}") from None
        settled = stamp == self._seen or time.time() - stamp.modified / 1e9 >= QUIET
        if stamp != self._seen:
            self._emptied = time.monotonic()
        self._seen = stamp
        if not stamp.size and time.monotonic() - self._emptied < ABSENCE:
            return False
        return stamp != self._stamp and settled

    def news(self, problem: str) -> bool:
        """Remember what is wrong ("" for nothing); whether that was not known."""
        known, self._told = self._told, problem
        return problem != known


class ListFiles:
    """What the door `lists` leads to. Paths start at `folder`; `log` is told `list_live` and `list_broken`.

    `handoffs` are the names that routes may lead to; None for any.
    """

    def __init__(self, folder: Path, log: Callable[..., None], handoffs: Collection[str] | None = None) -> None:
        self._checks: Mapping[str, Check] = {**VALUES, "route": partial(route, handoffs=handoffs)}
        self._folder = folder
        self.log = log
        self._files: WeakValueDictionary[tuple[str, str, str], ListFile] = WeakValueDictionary()
        self._inline: dict[tuple[str, str, tuple[str, ...]], Listed] = {}
        self._recent: dict[ListFile, float] = {}
        """What Lua rules ask for anew in every call is kept for a while."""
        self._watcher: gevent.Greenlet[..., None] | None = None

    def file(self, name: str, kind: str, values: str) -> Listed:
        """The list in a file, read if nobody has it. Raises ListError."""
        key = name, kind, values
        found = self._files.get(key)
        if found is None:
            fresh = ListFile(name, self._folder / name, kind, self._checks[values])
            # in a greenlet of its own: a long file is not on the account of the rule that asks first
            wrong = gevent.spawn(_attempt, fresh).get()
            if wrong is not None:
                raise wrong
            found = self._files.setdefault(key, fresh)
            self._watch()
        self._recent[found] = time.monotonic()
        return found

    def inline(self, entries: Sequence[str], kind: str, values: str) -> Listed:
        """The list of these entries. Raises ListError."""
        key = kind, values, tuple(entries)
        found = self._inline.get(key)
        if found is None:
            table = KINDS[kind]()
            fill(table, entries, "entry ", self._checks[values])
            found = self._inline[key] = Listed(table)
            if len(self._inline) > INLINE:
                del self._inline[next(iter(self._inline))]
        return found

    def _watch(self) -> None:
        if self._watcher is None or self._watcher.dead:
            self._watcher = gevent.spawn(self._run)

    def _run(self) -> None:
        while self._files:
            gevent.sleep(POLL)
            limit = time.monotonic() - UNUSED
            self._recent = {it: asked for it, asked in self._recent.items() if asked > limit}
            for file in list(self._files.values()):
                self._renew(file)

    def _renew(self, file: ListFile) -> None:
        try:
            if not file.look():
                return
            file.read()
        except ListError as error:
            if file.news(str(error)):
                self.log("list_broken", level="error", file=file.name, error=str(error), kept=len(file.table))
            return
        file.news("")
        self.log("list_live", file=file.name, entries=len(file.table))


def _attempt(file: ListFile) -> ListError | None:
    try:
        file.read()
    except ListError as error:
        return error
    return None
