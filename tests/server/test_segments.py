"""Lines in bounded files: nothing is lost within the bounds, nothing stays beyond them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from smtpproxy.server.segments import SEGMENTS, Segments, files_of, newest_first

DAY = 86400.0


def test_reads_back_from_the_newest_to_the_oldest(tmp_path: Path) -> None:
    segments = Segments(tmp_path, 0, 0)
    for number in range(20_000):
        segments.append(b"line %d\n" % number)
    assert list(newest_first(tmp_path)) == [b"line %d" % number for number in reversed(range(20_000))]


def test_a_restart_begins_another_file_and_both_are_read(tmp_path: Path) -> None:
    for number in range(3):
        segments = Segments(tmp_path, 0, 0)
        segments.append(b"line %d\n" % number)
        segments.close()
    assert list(newest_first(tmp_path)) == [b"line 2", b"line 1", b"line 0"]


def test_the_oldest_go_when_it_is_too_much(tmp_path: Path) -> None:
    segments = Segments(tmp_path, 16_000, 0)
    for number in range(1000):
        segments.append(b"%099d\n" % number)
    assert sum(path.stat().st_size for path in files_of(tmp_path)) <= 16_000 + 16_000 // SEGMENTS
    kept = [int(line) for line in newest_first(tmp_path)]
    assert kept == list(range(999, 999 - len(kept), -1))
    assert len(kept) >= 140


def test_what_is_too_old_goes(tmp_path: Path) -> None:
    old = tmp_path / "20200101T000000.000-1-1.jsonl"
    old.write_bytes(b"old\n")
    os.utime(old, (1e9, 1e9))
    Segments(tmp_path, 0, 7 * DAY).append(b"new\n")
    assert list(newest_first(tmp_path)) == [b"new"]


def test_nothing_follows_a_torn_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    segments = Segments(tmp_path, 0, 0)
    segments.append(b"one\n")
    write = os.write
    with monkeypatch.context() as patch:

        def full(descriptor: int, data: bytes) -> int:
            if len(data) < 4:
                raise OSError(28, "No space left on device")
            return write(descriptor, data[:4])

        patch.setattr(os, "write", full)
        with pytest.raises(OSError):
            segments.append(b"broken\n")
    segments.append(b"three\n")
    assert len(files_of(tmp_path)) == 2
    assert set(newest_first(tmp_path)) == {b"one", b"brok", b"three"}


def test_only_we_read_them(tmp_path: Path) -> None:
    Segments(tmp_path / "traces", 0, 0).append(b"x\n")
    assert (tmp_path / "traces").stat().st_mode & 0o777 == 0o700
    assert files_of(tmp_path / "traces")[0].stat().st_mode & 0o777 == 0o600
