"""The line buffer: any split of the stream gives the same lines, and memory stays flat."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smtpproxy.wire.lines import LineBuffer, LineFlood, LineTooLong


def drain(buffer: LineBuffer) -> Iterable[bytes | str]:
    while True:
        try:
            line = buffer.next()
        except LineTooLong:
            yield "too long"
            continue
        if line is None:
            return
        yield line


def lines_of(pieces: Iterable[bytes], limit: int = 4096) -> list[bytes | str]:
    buffer = LineBuffer(limit)
    lines: list[bytes | str] = []
    for piece in pieces:
        buffer.feed(piece)
        lines += drain(buffer)
    return lines


STREAMS: list[tuple[bytes, list[bytes | str]]] = [
    (b"EHLO x\r\nRCPT TO:<>\r\n", [b"EHLO x", b"RCPT TO:<>"]),
    (b"bare LF\nnext\r\n", [b"bare LF", b"next"]),
    (b"\r\n\n\r\n", [b"", b"", b""]),
    (b"a\r\r\n", [b"a\r"]),
    (b"a\rb\r\n", [b"a\rb"]),
    (b"no end", []),
    (b"0123456789\r\nok\r\n", [b"0123456789", b"ok"]),
    (b"0123456789a\r\nok\r\n", ["too long", b"ok"]),
    (b"0123456789a\nok\n", ["too long", b"ok"]),
    (b"0123456789\r\r\nok\r\n", ["too long", b"ok"]),
    (b"x" * 50 + b"\r\n" + b"y" * 50 + b"\r\nRSET\r\n", ["too long", "too long", b"RSET"]),
    (b"x" * 50 + b" \rQUIT\r\nRSET\r\n", ["too long", b"RSET"]),
]


@pytest.mark.parametrize(("stream", "lines"), STREAMS)
def test_whole_and_byte_by_byte(stream: bytes, lines: list[bytes | str]) -> None:
    assert lines_of([stream], 10) == lines
    assert lines_of([stream[i : i + 1] for i in range(len(stream))], 10) == lines


@given(st.lists(st.sampled_from([s for s, _ in STREAMS]), max_size=4).map(b"".join), st.data())
def test_random_splits_change_nothing(stream: bytes, data: st.DataObject) -> None:
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=10)))
    pieces = [stream[a:b] for a, b in zip([0, *cuts], [*cuts, len(stream)], strict=True)]
    assert lines_of(pieces, 10) == lines_of([stream], 10)


@given(st.binary(max_size=200), st.data())
def test_random_octets(stream: bytes, data: st.DataObject) -> None:
    expected = [line.removesuffix(b"\r") for line in stream.split(b"\n")[:-1]]
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=10)))
    assert lines_of([stream[a:b] for a, b in zip([0, *cuts], [*cuts, len(stream)], strict=True)]) == expected


def test_a_line_too_long_is_reported_once_at_its_end() -> None:
    buffer = LineBuffer(10)
    buffer.feed(b"x" * 100)
    assert buffer.next() is None
    assert len(buffer) == 0
    buffer.feed(b"QUIT\r\nNOOP\r\n")
    with pytest.raises(LineTooLong):
        buffer.next()
    assert buffer.next() == b"NOOP"


def test_the_limit_can_be_raised_for_one_line() -> None:
    buffer = LineBuffer(10)
    buffer.limit = 100
    buffer.feed(b"x" * 100 + b"\r\n")
    assert buffer.next() == b"x" * 100


def test_a_flood_without_line_end() -> None:
    buffer = LineBuffer(10, flood=100)
    buffer.feed(b"x" * 100)
    assert buffer.next() is None
    buffer.feed(b"x")
    with pytest.raises(LineFlood):
        buffer.next()


def test_memory_stays_flat_under_64_megabytes_without_newline() -> None:
    buffer = LineBuffer(flood=1 << 30)
    chunk = b"x" * 65536
    tracemalloc.start()
    try:
        for _ in range(1024):
            buffer.feed(chunk)
            assert buffer.next() is None
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(buffer) == 0
    assert peak < 200_000
    buffer.feed(b"\r\nQUIT\r\n")
    with pytest.raises(LineTooLong):
        buffer.next()
    assert buffer.next() == b"QUIT"


def test_rest_hands_over_and_forgets() -> None:
    buffer = LineBuffer()
    buffer.feed(b"DATA\r\nbody\r\n.\r\nQUIT\r\n")
    assert buffer.next() == b"DATA"
    assert buffer.peek(4) == b"body"
    assert buffer.rest() == b"body\r\n.\r\nQUIT\r\n"
    assert len(buffer) == 0
    assert buffer.next() is None
    buffer.push(b"QUIT\r\n")
    assert buffer.next() == b"QUIT"


def test_rest_forgets_a_line_being_dropped() -> None:
    buffer = LineBuffer(10)
    buffer.feed(b"x" * 50)
    assert buffer.next() is None
    assert buffer.rest() == b""
    buffer.feed(b"EHLO x\r\n")
    assert buffer.next() == b"EHLO x"


def test_push_goes_before_what_is_buffered() -> None:
    buffer = LineBuffer()
    buffer.feed(b"a\r\nc\r\n")
    assert buffer.next() == b"a"
    buffer.push(b"b\r\n")
    assert len(buffer) == 6
    assert [*drain(buffer)] == [b"b", b"c"]


def test_feeding_before_all_lines_were_read() -> None:
    buffer = LineBuffer()
    buffer.feed(b"a\r\nb\r\n")
    assert buffer.next() == b"a"
    buffer.feed(b"c\r\n")
    assert [*drain(buffer)] == [b"b", b"c"]
