"""The way of a few mails through a ledger, step by step: a program that another one makes calls of the system fail in.

    queue_steps.py FOLDER REPORT

REPORT gets a line for every promise, before the next step begins: `taken NAME`, `sent NAME`, `gone NAME`, `noted NAME`, and
`error WHAT` for each refusal; `end` when it has come to its end.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

from smtpproxy.queue.envelope import Envelope, Party
from smtpproxy.queue.ledger import Again, Entry, Gone, LedgerError, Result
from smtpproxy.queue.sqlite import SqliteLedger

CONTENT = b"Subject: x\r\n\r\n" + b"text\r\n" * 2000
MAILS = 4


class Steps:
    def __init__(self, ledger: SqliteLedger, tell: Callable[[str], None]) -> None:
        self._ledger = ledger
        self._tell = tell

    def enqueue(self, name: str) -> None:
        """In two writes, as a long one comes."""
        draft = self._ledger.draft(name)
        try:
            self._ledger.write(draft, [CONTENT[:5000]])
            self._ledger.hold(draft, [CONTENT[5000:]])
            self._ledger.add(draft, self._envelope(name))
        except OSError as error:
            self._tell(f"error {name}: {error}")
            self._try(lambda: self._ledger.drop(draft))
        else:
            self._tell(f"taken {name}")

    def deliver(self) -> None:
        """Each has two recipients: one has it now, of the others some at a later attempt, some never, and the sender is told."""
        entries: list[Entry] = []
        self._try(lambda: entries.extend(self._ledger.lease(100)))
        for entry in entries:
            name = entry.envelope.id
            if not entry.results:
                self._tell(f"sent {name}")
                self._try(lambda entry=entry: self._ledger.record(entry, [Result(0, "delivered", "250 Ok")]))
            if name.endswith("1"):
                self._try(lambda entry=entry: self._ledger.record(entry, [Result(1, "deferred", "451")], Again(time.time() + 60)))
            elif name.endswith("2"):
                self._bounce(entry)
            else:
                self._over(entry, lambda entry=entry: self._ledger.record(entry, [Result(1, "delivered", "250 Ok")], Gone()))

    def _bounce(self, entry: Entry) -> None:
        name = f"n-{entry.envelope.id}"
        draft = self._ledger.draft(name)
        try:
            self._ledger.hold(draft, [CONTENT])
        except OSError as error:
            self._tell(f"error {name}: {error}")
            self._try(lambda: self._ledger.drop(draft))
            return
        notice = draft, self._envelope(name)
        self._over(entry, lambda: self._ledger.record(entry, [Result(1, "told", "550")], Gone(), notice), f"noted {name}")

    def _over(self, entry: Entry, step: Callable[[], None], also: str = "") -> None:
        if self._try(step):
            self._tell(f"gone {entry.envelope.id}")
            if also:
                self._tell(also)

    def _try(self, step: Callable[[], object]) -> bool:
        try:
            step()
        except OSError as error:
            self._tell(f"error {error}")
            return False
        return True

    @staticmethod
    def _envelope(name: str) -> Envelope:
        return Envelope(name, time.time(), Party("a@client.example"), [Party("b@example.com"), Party("c@example.com")])


def main(folder: Path, report: Path) -> None:
    descriptor = os.open(report, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def tell(line: str) -> None:
        os.writev(descriptor, [line.encode(), b"\n"])  # not the call that fails

    try:
        ledger = SqliteLedger(folder, time.time)
    except LedgerError as error:
        tell(f"error {error}")
        return
    steps = Steps(ledger, tell)
    for number in range(MAILS):
        steps.enqueue(f"m{number}")
    steps.deliver()
    steps.enqueue(f"m{MAILS}")
    ledger.close()
    tell("end")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
