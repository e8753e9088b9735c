"""The end of data, dot-stuffing and bare newlines, fed in every way, against a model that looks at one octet at a time."""

from __future__ import annotations

import re
from collections.abc import Iterable
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from smtpproxy.wire.dots import ChunkScanner, DataScanner, stuff, stuff_chunks, unstuff, unstuff_chunks

PIECES = [b"\r", b"\n", b".", b"\r\n", b"\r\n.", b".\r\n", b"\r\n.\r\n", b"\n.\n", b"\r.\r", b"a", b"text", b"\0", b"\xff"]
noise = st.lists(st.sampled_from(PIECES), max_size=30).map(b"".join)

SMUGGLED = [
    b"\n.\n",
    b"\n.\r\n",
    b"\r\n.\n",
    b"\r.\r",
    b"\r.\r\n",
    b"\r\n.\r",
    b"\n.\r",
    b"\r.\n",
    b"\r\r\n.\r\r\n",
    b"\n\r.\n\r",
    b"\r\n\0.\r\n",
    b"\r\n.\0\r\n",
    b"\r\n\r.\r\n",
]


@st.composite
def chunked(draw: st.DrawFn, octets: st.SearchStrategy[bytes] = noise) -> list[bytes]:
    data = draw(octets)
    cuts = sorted(draw(st.lists(st.integers(0, len(data)), max_size=8)))
    return [data[start:end] for start, end in zip([0, *cuts], [*cuts, len(data)], strict=True)]


def scan(scanner: DataScanner, chunks: Iterable[bytes]) -> tuple[bytes, bytes]:
    """All content, and everything behind the end."""
    content = rest = b""
    for chunk in chunks:
        if scanner.ended:
            rest += chunk
            continue
        more, rest = scanner.feed(chunk)
        content += more
    return content, rest


def model(data: bytes) -> tuple[bytes, bytes, bool, int, str]:
    """Content, rest, whether it ended, stuffed dots, the first kind of bare newline: one octet after the other."""
    padded = b"\r\n" + data
    end = padded.find(b"\r\n.\r\n")
    content = padded[2 : end + 2] if end >= 0 else data
    rest = padded[end + 5 :] if end >= 0 else b""
    dots = len(re.findall(rb"\r\n\.", b"\r\n" + content))
    bare = re.search(rb"\r(?!\n)|(?<!\r)\n", content)
    return content, rest, end >= 0, dots, {b"\r": "CR", b"\n": "LF", None: ""}[bare[0] if bare else None]


@given(chunked(noise.map(lambda data: data + b"\r\n.\r\nQUIT\r\n")))
def test_however_the_octets_come_the_message_is_the_same(chunks: list[bytes]) -> None:
    data = b"".join(chunks)
    scanner = DataScanner()
    found = scan(scanner, chunks)
    content, rest, ended, dots, _ = model(data)
    assert (*found, scanner.ended, scanner.dots) == (content, rest, ended, dots)
    assert scanner.size == len(content)
    assert scanner.content_size == len(content) - dots


@given(noise.map(lambda data: data + b"\r\n.\r\nQUIT\r\n"))
def test_octet_by_octet(data: bytes) -> None:
    scanner = DataScanner()
    found = scan(scanner, (data[at : at + 1] for at in range(len(data))))
    content, rest, ended, dots, _ = model(data)
    assert (*found, scanner.ended, scanner.dots) == (content, rest, ended, dots)


@given(chunked(noise.map(lambda data: data + b"\r\n.\r\n")))
def test_a_bare_newline_is_noticed_wherever_the_chunks_are_cut(chunks: list[bytes]) -> None:
    scanner = DataScanner()
    scan(scanner, chunks)
    assert bool(scanner.bare) == bool(model(b"".join(chunks))[4])


@pytest.mark.parametrize("bare", ["CR", "LF"])
def test_the_kind_of_the_bare_newline_is_told(bare: str) -> None:
    scanner = DataScanner()
    scan(scanner, [b"a line\r\n", {"CR": b"a\rb", "LF": b"a\nb"}[bare] + b"\r\n.\r\n"])
    assert scanner.bare == bare


@given(noise)
def test_no_chunk_that_is_given_out_ends_in_the_middle_of_a_newline(data: bytes) -> None:
    scanner, before = DataScanner(), b""
    for at in range(len(data)):
        content, _ = scanner.feed(data[at : at + 1])
        assert not (before.endswith(b"\r") and content.startswith(b"\n"))
        before = content or before
        if scanner.ended:
            break


@pytest.mark.parametrize("variant", SMUGGLED, ids=repr)
@pytest.mark.parametrize("normalize", [False, True])
@pytest.mark.parametrize("whole", [True, False])
def test_what_some_servers_take_for_an_end_is_none(variant: bytes, normalize: bool, whole: bool) -> None:
    data = b"Subject: x\r\n\r\nfirst" + variant + b"MAIL FROM:<evil@example.com>\r\n"
    scanner = DataScanner(normalize)
    content, _ = scan(scanner, [data] if whole else [data[at : at + 1] for at in range(len(data))])
    assert not scanner.ended
    assert scanner.bare or b"\0" in variant
    if normalize:
        assert b"\r\n.\r\n" not in content


@settings(max_examples=400)
@given(chunked(noise.map(lambda data: data + b"\r\n.\r\nQUIT\r\n")))
def test_normalized_content_holds_no_bare_newline_and_no_dot_that_ends_it(chunks: list[bytes]) -> None:
    scanner = DataScanner(normalize=True)
    content, rest = scan(scanner, chunks)
    assert not re.search(rb"\r(?!\n)|(?<!\r)\n", content)
    assert b"\r\n.\r\n" not in b"\r\n" + content
    assert rest == model(b"".join(chunks))[1]


@settings(max_examples=400)
@given(chunked(noise.map(lambda data: data + b"\r\n.\r\n")))
def test_normalizing_changes_line_ends_and_nothing_else(chunks: list[bytes]) -> None:
    content, _ = scan(DataScanner(normalize=True), chunks)
    original = model(b"".join(chunks))[0]
    # Dots are stuffed where CRLF began the line; one that stands alone before a bare newline is kept, as text.
    plain = re.sub(rb"\r\n\.(?!\r(?!\n)|\n)", b"\r\n", b"\r\n" + original)
    lines = re.split(rb"\r\n|\r|\n", plain)[1:]
    assert unstuff(content) == b"\r\n".join(lines)


@settings(max_examples=400)
@given(chunked(noise.map(lambda data: data + b"\r\n.\r\n")))
def test_normalized_sizes_are_those_of_what_comes_out(chunks: list[bytes]) -> None:
    scanner = DataScanner(normalize=True)
    content, _ = scan(scanner, chunks)
    assert (scanner.size, scanner.content_size) == (len(content), len(unstuff(content)))


def test_a_dot_behind_a_bare_newline_is_stuffed_when_the_chunk_ends_between_them() -> None:
    content, rest = scan(DataScanner(normalize=True), [b"one\n", b"", b".\r\ntwo\r\n.\r\n"])
    assert (content, rest) == (b"one\r\n..\r\ntwo\r\n", b"")


def test_an_empty_message() -> None:
    scanner = DataScanner()
    assert scan(scanner, [b".", b"\r", b"\nNOOP\r\n"]) == (b"", b"NOOP\r\n")
    assert (scanner.ended, scanner.size, scanner.dots) == (True, 0, 0)


@given(chunked())
def test_unstuffing_undoes_stuffing_wherever_both_are_cut(chunks: list[bytes]) -> None:
    content = b"".join(chunks)
    wire = b"".join(stuff_chunks(chunks))
    assert wire == stuff(content)
    assert b"".join(unstuff_chunks(wire[at : at + 3] for at in range(0, len(wire), 3))) == content


@given(chunked())
def test_unstuffing_chunks_is_unstuffing_the_whole(chunks: list[bytes]) -> None:
    assert b"".join(unstuff_chunks(chunks)) == unstuff(b"".join(chunks))


@given(noise.map(lambda data: re.sub(rb"\r(?!\n)|(?<!\r)\n", b"", data) + b"\r\n"))
def test_what_was_stuffed_is_scanned_back(content: bytes) -> None:
    scanner = DataScanner()
    wire, rest = scan(scanner, [stuff(content), b".\r\n"])
    assert (unstuff(wire), rest, scanner.ended) == (content, b"", True)


# -- chunks ------------------------------------------------------------------------------------------------------------


def scanned(scanner: ChunkScanner, chunks: list[bytes]) -> bytes:
    given = [scanner.feed(chunk) for chunk in chunks]
    assert not scanner.ended
    given = [chunk for chunk in (*given, scanner.feed(b"", last=True)) if chunk]
    assert not any(one.endswith(b"\r") and two.startswith(b"\n") for one, two in pairwise(given)), "half a CRLF is given out"
    return b"".join(given)


@given(chunked())
def test_chunks_come_through_unchanged_and_a_bare_newline_is_told(chunks: list[bytes]) -> None:
    data = b"".join(chunks)
    scanner = ChunkScanner()
    assert scanned(scanner, chunks) == data
    assert scanner.ended
    assert bool(scanner.bare) == (re.search(rb"\r(?!\n)|(?<!\r)\n", data) is not None)
    assert bool(scanner.dots) == (b"\r\n." in b"\r\n" + data)
    assert scanner.size == scanner.content_size == len(data)


@given(chunked())
def test_bare_newlines_in_chunks_are_mended(chunks: list[bytes]) -> None:
    data = scanned(ChunkScanner(normalize=True), chunks)
    assert data == re.sub(rb"\r\n|\r|\n", b"\r\n", b"".join(chunks))


@given(chunked())
def test_binary_chunks_are_left_alone(chunks: list[bytes]) -> None:
    scanner = ChunkScanner(normalize=True, binary=True)
    assert scanned(scanner, chunks) == b"".join(chunks)
    assert not scanner.bare
