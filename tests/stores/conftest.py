"""Every engine under the same tests."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from smtpproxy.stores.base import Store
from smtpproxy.stores.memory import MemoryStore
from smtpproxy.stores.sqlite import SqliteStore
from smtpproxy.testing.waiting import FixedClock

ENGINES: dict[str, Callable[[Path, FixedClock], Store]] = {
    "memory": lambda folder, clock: MemoryStore(clock),
    "sqlite": lambda folder, clock: SqliteStore(folder / "store.sqlite", clock),
}


@pytest.fixture
def clock() -> FixedClock:
    return FixedClock()


@pytest.fixture(params=ENGINES)
def store(request: pytest.FixtureRequest, tmp_path: Path, clock: FixedClock) -> Iterator[Store]:
    engine = ENGINES[request.param](tmp_path, clock)
    yield engine
    engine.close()
