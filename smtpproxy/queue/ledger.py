"""The contract of an engine that keeps the queue. Both engines pass tests/queue/test_ledger.py.

    draft(name) -> write ... -> hold -> add        at any point before add: drop
    lease -> record ... -> record(..., then)

What ``add`` and ``record`` return from is on disk. A leased mail is nobody else's until it is recorded with a ``then``, or
until its holder is gone. Calls block their greenlet only; they raise LedgerError.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Literal, NamedTuple, Protocol, cast, get_args

from smtpproxy.message.body import Body
from smtpproxy.queue.envelope import Envelope

State = Literal["delivered", "relayed", "received", "failed", "told", "deferred", "warned"]
"""Of a recipient. `relayed` and `received` are delivered, to a server that tells nobody or to a mailbox, and the sender is
still to hear of it. `told`: failed, and the sender knows. `warned`: deferred, and the sender knows."""
Became = Literal["delivered", "failed", "deferred"]
_BECAME: dict[State, Became] = {"relayed": "delivered", "received": "delivered", "told": "failed", "warned": "deferred"}
KNOWN: frozenset[str] = frozenset(get_args(State))


class LedgerError(OSError):
    """The ledger could not be read or written; nothing of the call counts."""


class Result(NamedTuple):
    """What became of a recipient, by its place in the envelope."""

    rcpt: int
    state: State
    reply: str
    host: str = ""

    @property
    def became(self) -> Became:
        """Whatever the sender knows of it."""
        return _BECAME.get(self.state) or cast(Became, self.state)


class Entry(NamedTuple):
    """A mail in the queue. `due` and `envelope.time` are seconds since the epoch, `attempts` those that are over."""

    key: int
    envelope: Envelope
    attempts: int
    results: dict[int, Result]

    def pending(self) -> list[int]:
        """The recipients who still wait for it."""
        return [
            rcpt for rcpt in range(len(self.envelope.recipients))
            if rcpt not in self.results or self.results[rcpt].became == "deferred"
        ]  # fmt: skip


class Gone(NamedTuple):
    """Everything is settled: the mail is forgotten."""


class Again(NamedTuple):
    """It waits until `due`."""

    due: float


class Aside(NamedTuple):
    """It stays until somebody has looked at it."""

    reason: str


Then = Gone | Again | Aside


class Draft(Protocol):
    """A body that is being taken, in content form."""

    dotted: bool

    @property
    def name(self) -> str: ...
    @property
    def size(self) -> int: ...
    @property
    def crc(self) -> int: ...


class Ledger(Protocol):
    """An engine."""

    def draft(self, name: str) -> Draft: ...

    def write(self, draft: Draft, chunks: list[bytes]) -> None: ...

    def hold(self, draft: Draft, chunks: list[bytes]) -> None:
        """The last chunks: the body is on disk, and promised to nobody."""

    def add(self, draft: Draft, envelope: Envelope) -> None:
        """The mail is in the queue, on disk. It takes name, size and checksum of its body from the draft."""

    def drop(self, draft: Draft) -> None: ...

    def lease(self, limit: int, busy: Collection[str] = ()) -> list[Entry]:
        """Mail that is due, the one that waits longest first, none of the `busy` domains."""

    def record(
        self, entry: Entry, results: Sequence[Result], then: Then | None = None, notice: tuple[Draft, Envelope] | None = None
    ) -> None:
        """What became of recipients, and with `then` what becomes of the mail; `notice` is added with it, or not at all."""

    def body(self, entry: Entry) -> Body:
        """Raises queue.envelope.Damaged when it is read."""

    def empty(self) -> bool:
        """No mail is in it, whatever its state; also none that is being sent."""

    def close(self) -> None: ...
