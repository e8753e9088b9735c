"""What only the store in a file does: outlive the process, be shared by several, leave the hub alone."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import gevent
import pytest
from gevent.monkey import get_original

from smtpproxy.stores.base import StoreError
from smtpproxy.stores.sqlite import SqliteStore
from smtpproxy.testing.waiting import FixedClock

COUNT = """
from gevent import monkey
monkey.patch_all()
import gevent, sys
from smtpproxy.stores.sqlite import SqliteStore
store = SqliteStore(sys.argv[1])
def count():
    for number in range(50):
        store.increment("all")
        store.increment("k%d" % (number % 5))
        store.hit("window", 3600)
        store.add("members", "m%d" % number)
        if store.lease("lease", sys.argv[2], 60):
            store.increment("leased by " + sys.argv[2])
gevent.joinall([gevent.spawn(count) for _ in range(20)], raise_error=True)
store.close()
"""


def test_survives_a_restart(tmp_path: Path) -> None:
    path = tmp_path / "store.sqlite"
    store = SqliteStore(path)
    store.set("k", {"a": [1]})
    store.increment("n", 3)
    store.close()
    again = SqliteStore(path)
    assert again.get("k") == {"a": [1]}
    assert again.increment("n") == 4
    again.close()


def test_two_processes_on_one_file_are_exact(tmp_path: Path) -> None:
    path = tmp_path / "store.sqlite"
    processes = [subprocess.Popen([sys.executable, "-c", COUNT, str(path), name]) for name in ("one", "two")]
    assert [process.wait(50) for process in processes] == [0, 0]
    store = SqliteStore(path)
    assert store.get("all") == 2000
    assert [store.get(f"k{number}") for number in range(5)] == [400] * 5
    assert store.hits("window", 3600) == 2000
    assert len(store.members("members")) == 50
    leased = [store.get(f"leased by {name}") for name in ("one", "two")]
    assert sorted(leased, key=bool) == [None, 1000]
    store.close()


def _others_go_on() -> None:
    for _ in range(1000):
        gevent.sleep(0)


class Disk:
    """The clock of a store, which its thread reads once a batch, amid its work: each time it takes as long as we want."""

    def __init__(self) -> None:
        self.threads: list[int] = []
        self._ready = get_original("threading", "Event")()

    def __call__(self) -> float:
        self.threads.append(get_original("_thread", "get_ident")())
        self._ready.wait(10)
        return time.time()

    def is_ready(self) -> None:
        self._ready.set()


def test_five_hundred_who_ask_are_answered_a_hundred_at_a_time_by_a_thread(tmp_path: Path) -> None:
    disk = Disk()
    store = SqliteStore(tmp_path / "store.sqlite", disk)
    asking = [gevent.spawn(store.increment, f"k{number % 50}") for number in range(500)]
    _others_go_on()
    assert not any(greenlet.ready() for greenlet in asking)
    disk.is_ready()
    gevent.joinall(asking, raise_error=True)
    assert [store.get(f"k{number}") for number in range(50)] == [10] * 50
    store.close()
    batches = disk.threads[:-50]
    assert 5 <= len(batches) <= 6, "the first takes what is there, those behind it a hundred each"
    assert len(set(disk.threads)) == 1 and get_original("_thread", "get_ident")() not in disk.threads


@pytest.mark.parametrize("act", ["increment", "close"])
def test_a_disk_that_takes_its_time_holds_those_who_ask_and_nobody_else(tmp_path: Path, act: str) -> None:
    disk = Disk()
    store = SqliteStore(tmp_path / "store.sqlite", disk)
    asking = gevent.spawn(store.increment, "k")
    _others_go_on()
    closing = gevent.spawn(store.close) if act == "close" else None
    _others_go_on()
    assert not asking.ready() and not (closing and closing.ready())
    disk.is_ready()
    assert asking.get(timeout=10) == 1
    store.close() if closing is None else closing.get(timeout=10)


def test_a_locked_file_holds_those_who_ask_and_nobody_else(tmp_path: Path) -> None:
    path = tmp_path / "store.sqlite"
    store = SqliteStore(path)
    store.set("k", 1)
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    asking = gevent.spawn(store.increment, "k")
    for _ in range(1000):
        gevent.sleep(0)
    assert not asking.ready()
    other.execute("COMMIT")
    other.close()
    assert asking.get(timeout=10) == 2
    store.close()


def test_one_who_is_killed_while_he_waits_harms_nobody(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "store.sqlite")
    asking = gevent.spawn(store.increment, "k")
    gevent.idle()
    asking.kill()
    assert store.increment("k") in (1, 2)
    store.close()


def test_what_has_expired_leaves_the_file(tmp_path: Path) -> None:
    path = tmp_path / "store.sqlite"
    clock = FixedClock()
    store = SqliteStore(path, clock)
    for number in range(1200):
        store.set(f"k{number}", 1, 10)
    clock.advance(60)
    for _ in range(4):
        store.set("new", 1)
        clock.advance(1)
    store.close()
    assert sqlite3.connect(path).execute("SELECT count(*) FROM items").fetchone() == (1,)


def test_a_file_that_cannot_be_opened_is_told_and_tried_again(tmp_path: Path) -> None:
    path = tmp_path / "later" / "store.sqlite"
    store = SqliteStore(path)
    with pytest.raises(StoreError, match="unable to open"):
        store.get("k")
    path.parent.mkdir()
    store.set("k", 1)
    assert store.get("k") == 1
    store.close()
    with pytest.raises(StoreError, match="closed"):
        store.get("k")


def test_a_file_that_is_no_database_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "store.sqlite"
    path.write_bytes(b"something else entirely, and long enough to have a header of its own" * 20)
    store = SqliteStore(path)
    with pytest.raises(StoreError, match="not a database"):
        store.get("k")
    store.close()
    assert path.read_bytes().startswith(b"something else")
