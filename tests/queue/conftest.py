"""Every engine under the same tests."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from smtpproxy.queue.ledger import Ledger
from smtpproxy.queue.sqlite import SqliteLedger
from smtpproxy.testing.waiting import FixedClock

ENGINES: dict[str, Callable[[Path, FixedClock], Ledger]] = {"sqlite": lambda folder, clock: SqliteLedger(folder / "1", clock)}


@pytest.fixture
def clock() -> FixedClock:
    return FixedClock()


@pytest.fixture(params=ENGINES)
def reopen(request: pytest.FixtureRequest, tmp_path: Path, clock: FixedClock) -> Iterator[Callable[[], Ledger]]:
    """Open the ledger, the one before closed: another process comes."""
    opened: list[Ledger] = []

    def again() -> Ledger:
        if opened:
            opened.pop().close()
        opened.append(ENGINES[request.param](tmp_path, clock))
        return opened[0]

    yield again
    opened.pop().close()


@pytest.fixture
def ledger(reopen: Callable[[], Ledger]) -> Ledger:
    return reopen()
