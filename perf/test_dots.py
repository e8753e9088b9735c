"""What finding the end of a message and its bare newlines costs per 64 KB, the chunk in which it arrives."""

from __future__ import annotations

from typing import Any

import pytest

from smtpproxy.wire.dots import DataScanner, stuff, unstuff

LINE = b"The quick brown fox jumps over the lazy dog, and then it takes a long rest.\r\n"
BASE64 = b"VGhlIHF1aWNrIGJyb3duIGZveCBqdW1wcyBvdmVyIHRoZSBsYXp5IGRvZywgYW5kIHRoZW4gaXQg\r\n"
DOTTED = (LINE * 39 + b".." + LINE[2:]) * 21


def chunk(lines: bytes) -> bytes:
    return (lines * (65536 // len(lines) + 1))[:65536]


@pytest.mark.parametrize("data", [chunk(LINE), chunk(BASE64), chunk(DOTTED)], ids=["text", "base64", "dotted"])
def test_scan_64_kb(benchmark: Any, data: bytes) -> None:
    scanner = DataScanner()
    scanner.feed(b"\r\n")
    benchmark(scanner.feed, data)
    assert not scanner.ended


def test_scan_a_whole_small_message(benchmark: Any) -> None:
    data = LINE * 54 + b".\r\n"
    content, rest = benchmark(lambda: DataScanner().feed(data))
    assert content == LINE * 54 and rest == b""


def test_unstuff_64_kb(benchmark: Any) -> None:
    assert stuff(benchmark(unstuff, chunk(DOTTED))) == chunk(DOTTED)
