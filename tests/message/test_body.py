"""A body gives back what was written, in both forms, from memory and from a file."""

from __future__ import annotations

import os
import stat
import tracemalloc
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smtpproxy.message.body import CHUNK, Body, BodyWriter, StoredBody, bytes_body
from smtpproxy.wire.dots import stuff

LINES = st.lists(st.sampled_from([b"", b".", b"..", b".x", b"text", b"x" * 5000]), max_size=20)


def written(data: bytes, *, cuts: list[int] | None = None, memory: int = 1 << 20, dotted: bool = True) -> StoredBody:
    writer = BodyWriter(memory)
    places = [0, *sorted(min(cut, len(data)) for cut in cuts or []), len(data)]
    for start, end in pairwise(places):
        writer.write(data[start:end])
    return writer.finish(dotted)


def wire(body: Body) -> bytes:
    return b"".join(body.wire())


def content(body: Body) -> bytes:
    return b"".join(body.content())


@given(LINES, st.lists(st.integers(0, 3000), max_size=8), st.sampled_from([0, 100, 1 << 20]))
def test_both_forms_come_back_however_the_octets_were_cut(lines: list[bytes], cuts: list[int], memory: int) -> None:
    meant = b"".join(line + b"\r\n" for line in lines)
    body = written(stuff(meant), cuts=cuts, memory=memory)
    assert wire(body) == stuff(meant)
    assert content(body) == meant
    assert body.size == len(meant)
    assert wire(body) == stuff(meant), "a second reader begins at the first octet"


@given(LINES)
def test_bytes_body_is_stuffed_when_it_goes_on_the_wire(lines: list[bytes]) -> None:
    meant = b"".join(line + b"\r\n" for line in lines)
    body = bytes_body(meant)
    assert content(body) == meant
    assert wire(body) == stuff(meant)
    assert body.size == len(meant)


@pytest.mark.parametrize(
    ("meant", "sent"),
    [
        (b"", b""),
        (b"x", b"x\r\n"),
        (b"x\r", b"x\r\n"),
        (b".", b"..\r\n"),
        (b"x\n", b"x\n\r\n"),
        (b"x\r\n", b"x\r\n"),
    ],
)
def test_the_wire_form_ends_with_a_line_end(meant: bytes, sent: bytes) -> None:
    assert wire(bytes_body(meant)) == sent
    assert content(bytes_body(meant)) == meant


def test_a_body_without_dots_is_handed_out_as_the_very_chunks_that_were_stored() -> None:
    chunk = b"x" * 5000 + b"\r\n"
    body = written(chunk, dotted=False)
    assert list(body.wire()) == [chunk]
    assert next(body.wire()) is chunk
    assert next(body.content()) is chunk


def test_content_form_that_arrives_as_such_is_not_unstuffed() -> None:
    writer = BodyWriter()
    writer.write(b"..x\r\n")
    body = writer.finish(True, stuffed=False)
    assert content(body) == b"..x\r\n"
    assert wire(body) == b"...x\r\n"


def test_the_size_that_the_writer_was_told_is_believed() -> None:
    writer = BodyWriter()
    writer.write(b"..x\r\n")
    assert writer.finish(True, size=4).size == 4


def test_a_small_message_stays_in_memory_and_a_large_one_does_not() -> None:
    assert not written(b"x" * 1000, memory=1000).in_file
    assert written(b"x" * 70_000, memory=1000).in_file


def test_the_file_has_no_name_and_is_ours_alone(tmp_path: Path) -> None:
    writer = BodyWriter(memory=0, folder=str(tmp_path))
    writer.write(b"x" * 100_000)
    assert list(tmp_path.iterdir()) == []
    [status] = [os.fstat(fd) for fd in open_files() if same_device_file(fd, tmp_path, 100_000)]
    assert stat.S_IMODE(status.st_mode) == 0o600
    assert status.st_nlink == 0
    writer.close()
    assert not any(same_device_file(fd, tmp_path, 100_000) for fd in open_files())


def test_the_file_goes_with_the_last_reference() -> None:
    before = open_files()
    body = written(b"x" * 100_000, memory=0)
    reader = body.content()
    del body
    assert sum(map(len, reader)) == 100_000
    del reader
    assert open_files() == before


def test_a_closed_body_keeps_no_file() -> None:
    before = open_files()
    body = written(b"x" * 100_000, memory=0)
    body.close()
    assert open_files() == before


def test_memory_stays_flat_while_a_large_message_is_written_and_read() -> None:
    block = b"line of a large message\r\n" * 2000
    tracemalloc.start()
    try:
        writer = BodyWriter(memory=1 << 20)
        for _ in range(1000):
            writer.write(block)
        body = writer.finish(True)
        assert sum(map(len, body.wire())) == sum(map(len, body.content())) == 1000 * len(block)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 3 << 20


def test_a_message_that_comes_three_octets_at_a_time_costs_its_own_size() -> None:
    tracemalloc.start()
    try:
        writer = BodyWriter(memory=1 << 20)
        for number in range(100_000):
            writer.write(b"%03d" % (number % 1000))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 600_000


def test_chunks_are_never_larger_than_64_kilobytes() -> None:
    for body in (bytes_body(b"x" * 200_000), written(b"x" * 200_000), written(b"x" * 200_000, memory=0)):
        assert max(map(len, body.content())) <= CHUNK


def open_files() -> set[int]:
    return {int(name) for name in os.listdir("/proc/self/fd") if os.path.exists(f"/proc/self/fd/{name}")}


def same_device_file(fd: int, folder: Path, size: int) -> bool:
    status = os.fstat(fd)
    return stat.S_ISREG(status.st_mode) and status.st_dev == folder.stat().st_dev and status.st_size == size
