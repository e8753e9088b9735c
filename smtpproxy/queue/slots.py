"""The slots of an instance: `data/queue/N`, each held by one process. Nothing in them belongs to a process id.

A process takes one for the mail that it is given: any that nobody holds, or a new one. What a process leaves behind, others
adopt and send.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

from smtpproxy.queue.ledger import LedgerError
from smtpproxy.queue.sqlite import SqliteLedger, Taken

Open = Callable[[Path], SqliteLedger]


class Slots:
    """`open_slot` raises Taken, UnknownSchema and LedgerError; `failed` hears of slots that were left behind and cannot be
    opened, once each: they hold up nothing, and are tried again. Call it in one greenlet at a time.
    """

    def __init__(self, folder: Path, open_slot: Open, failed: Callable[[str], None]) -> None:
        self._folder = folder
        self._open = open_slot
        self._failed = failed
        self._broken: set[Path] = set()
        self.held: dict[Path, SqliteLedger] = {}

    def home(self) -> SqliteLedger:
        """One of our own. Raises LedgerError, UnknownSchema."""
        found = self.adopt()
        number = 0
        while found is None:
            number += 1
            path = self._folder / str(number)
            if not path.exists():
                with suppress(Taken):
                    found = self.held[path] = self._open(path)
        return found

    def adopt(self) -> SqliteLedger | None:
        """One that nobody holds."""
        for path in slots(self._folder):
            if path not in self.held and (opened := self._left(path)) is not None:
                self.held[path] = opened
                self._broken.discard(path)
                return opened
        return None

    def _left(self, path: Path) -> SqliteLedger | None:
        try:
            return self._open(path)
        except Taken:
            return None
        except LedgerError as error:
            if path not in self._broken:
                self._broken.add(path)
                self._failed(str(error))
            return None

    def remove(self, ledger: SqliteLedger) -> None:
        """An adopted one that is empty: whoever needs one makes it."""
        del self.held[ledger.folder]
        ledger.remove()

    def close(self) -> None:
        for ledger in self.held.values():
            ledger.close()


def slots(folder: Path) -> Iterator[Path]:
    """Those that there are."""
    found = folder.iterdir() if folder.is_dir() else ()
    yield from sorted((path for path in found if path.name.isdigit()), key=lambda path: int(path.name))
