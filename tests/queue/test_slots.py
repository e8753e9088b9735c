"""A slot is one process's at a time, and whatever is left behind is found."""

from __future__ import annotations

import fcntl
import os
import time
from pathlib import Path

import pytest

from smtpproxy.queue.slots import Slots, slots
from smtpproxy.queue.sqlite import SqliteLedger, Taken


def opened(path: Path) -> SqliteLedger:
    return SqliteLedger(path, time.time)


def slots_of(folder: Path) -> Slots:
    return Slots(folder, opened, pytest.fail)


def test_each_process_has_one_of_its_own(tmp_path: Path) -> None:
    one, other = slots_of(tmp_path), slots_of(tmp_path)
    assert one.home().folder != other.home().folder
    one.close()
    other.close()


def test_what_one_has_left_the_next_one_takes(tmp_path: Path) -> None:
    one, other = slots_of(tmp_path), slots_of(tmp_path)
    left = one.home().folder
    assert other.adopt() is None
    one.close()
    adopted = other.adopt()
    assert adopted is not None
    assert adopted.folder == left
    other.close()


def test_an_empty_one_that_was_adopted_goes(tmp_path: Path) -> None:
    one, other = slots_of(tmp_path), slots_of(tmp_path)
    one.home()
    home = other.home().folder
    one.close()
    adopted = other.adopt()
    assert adopted is not None
    assert adopted.empty()
    other.remove(adopted)
    assert list(slots(tmp_path)) == [home]
    other.close()


def test_a_lock_of_a_slot_that_was_removed_is_worth_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def removed_meanwhile(descriptor: int, operation: int) -> None:
        os.unlink(tmp_path / "1" / "lock")

    monkeypatch.setattr(fcntl, "flock", removed_meanwhile)
    with pytest.raises(Taken):
        opened(tmp_path / "1")
