"""The client of clamd, against one that does what it is told."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gevent
import pytest
from gevent.event import Event

from smtpproxy.config.values import ScannerTarget
from smtpproxy.facts.scan import Scan, ScanError
from smtpproxy.message.body import BodyWriter
from smtpproxy.scanners.clamav import ClamAV, Timeouts
from smtpproxy.testing.clamd import FakeClamd
from smtpproxy.testing.waiting import FixedClock

SHORT = Timeouts(connect=1.0, block=0.3, answer=0.3)
VIRUSES = {b"EVIL": "Test.Evil-1"}


def scan(content: bytes, *servers: FakeClamd | ScannerTarget, **options: Any) -> Scan:
    client = ClamAV([server.target if isinstance(server, FakeClamd) else server for server in servers], SHORT, **options)
    return client.scan(lambda: (content[at : at + 65536] for at in range(0, len(content), 65536)), len(content))


@pytest.fixture
def nobody() -> Iterator[ScannerTarget]:
    """A port where connections are refused: bound, and nobody listens."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield ScannerTarget("127.0.0.1", bound.getsockname()[1])


@pytest.mark.parametrize("unix", [False, True], ids=["tcp", "unix"])
def test_clean_and_infected(unix: bool, tmp_path: Path) -> None:
    with FakeClamd(VIRUSES, path=tmp_path / "s" if unix else None) as clamd:
        clean, infected = scan(b"Subject: hello\r\n\r\nhello\r\n", clamd), scan(b"Subject: hello\r\n\r\nEVIL\r\n", clamd)
    assert (clean.clean, clean.infected, clean.name, str(clean)) == (True, False, "", "clean")
    assert (infected.clean, infected.infected, infected.name) == (False, True, "Test.Evil-1")
    assert infected.server == str(clamd.target)
    assert clamd.commands == [b"zINSTREAM", b"zINSTREAM"]
    assert clamd.streams[0] == b"Subject: hello\r\n\r\nhello\r\n"


def test_a_large_message_goes_in_chunks_from_its_file(tmp_path: Path) -> None:
    writer = BodyWriter(memory=1000, folder=str(tmp_path))
    line = b"..x" * 20 + b"\r\n"
    for _ in range(5000):
        writer.write(line)
    body = writer.finish(dotted=True)
    with FakeClamd(VIRUSES) as clamd:
        assert body.in_file
        assert ClamAV([clamd.target], SHORT).scan(body.content, body.size).clean
    assert clamd.streams == [line[1:] * 5000], "as the sender meant it, without the dots of the wire"


def test_an_empty_chunk_does_not_end_the_stream() -> None:
    with FakeClamd(VIRUSES) as clamd:
        assert ClamAV([clamd.target], SHORT).scan(lambda: iter([b"clean", b"", b"EVIL"]), 9).infected


@pytest.mark.parametrize("content", [b"", b"x"])
def test_little_is_scanned_too(content: bytes) -> None:
    with FakeClamd(VIRUSES) as clamd:
        assert scan(content, clamd).clean
    assert clamd.streams == [content]


def test_an_answer_in_pieces() -> None:
    with FakeClamd(answers=[b"stream: Some ", b"Virus FOUND", b" FOUND\0"]) as clamd:
        assert scan(b"x", clamd).name == "Some Virus FOUND"


class TestTooLarge:
    @pytest.mark.parametrize("size", [100, 3 << 20], ids=["at the end", "amid the stream"])
    def test_the_servers_limit_is_an_error(self, size: int) -> None:
        with FakeClamd(limit=99) as clamd, pytest.raises(ScanError, match=r"too large to be scanned: .* \(StreamMaxLength"):
            scan(b"x" * size, clamd)
        assert clamd.streams == []

    def test_or_a_result_that_is_neither_clean_nor_infected(self) -> None:
        with FakeClamd(limit=99) as clamd:
            found = scan(b"x" * 100, clamd, refuse_large=False)
        assert (found.too_large, found.clean, found.infected, found.value) == (True, False, False, "skip")

    def test_our_own_limit_asks_nobody(self) -> None:
        with FakeClamd() as clamd:
            assert scan(b"x" * 100, clamd, size=100).clean
            with pytest.raises(ScanError, match="size is 100 octets"):
                scan(b"x" * 101, clamd, size=100)
            assert scan(b"x" * 101, clamd, size=100, refuse_large=False).too_large
        assert len(clamd.commands) == 1


class TestNeverClean:
    """What was not scanned to its end is an error, whatever the server says."""

    @pytest.mark.parametrize(
        ("answers", "words"),
        [
            ([b"stream: Can't allocate memory ERROR\0"], "Can't allocate memory ERROR"),
            ([b"COMMAND READ TIMED OUT\0"], "COMMAND READ TIMED OUT"),
            ([b"UNKNOWN COMMAND\0"], "UNKNOWN COMMAND"),
            ([b"\0"], "an empty answer"),
            ([b"stream: \0"], "stream:"),
            ([b"stream:  FOUND\0"], "stream:"),
            ([b"OK\0"], "OK"),
            ([b"stream: OK"], "closed by the peer"),
            ([b""], "closed by the peer"),
            ([b"stream: OK\r\n\0"], "an answer that is none"),
            ([b"stream: Evil\r\n250 Ok FOUND\0"], "an answer that is none"),
            ([b"x" * 5000], "more than 4096 octets"),
            ([None], "too slow"),
        ],
        ids=repr,
    )
    def test_other_answers(self, answers: list[bytes | None], words: str) -> None:
        with FakeClamd(answers=answers) as clamd, pytest.raises(ScanError, match=words), gevent.Timeout(15):
            scan(b"x", clamd)

    def test_ok_before_the_end(self) -> None:
        with FakeClamd(answers=[b"stream: OK\0"], early=65536) as clamd, pytest.raises(ScanError):
            scan(b"x" * (8 << 20), clamd)

    def test_a_virus_before_the_end_is_one(self) -> None:
        with FakeClamd(answers=[b"stream: Test.Evil FOUND\0"], early=65536) as clamd:
            assert scan(b"x" * (8 << 20), clamd).infected

    def test_a_server_that_takes_no_more(self) -> None:
        left = Event()
        with FakeClamd(early=1) as clamd, gevent.Timeout(15):
            clamd._answer = lambda *_: left.wait()  # type: ignore[method-assign]
            with pytest.raises(ScanError, match="too slow"):
                scan(b"x" * (32 << 20), clamd)
            left.set()

    def test_nobody_there(self, nobody: ScannerTarget, tmp_path: Path) -> None:
        with pytest.raises(ScanError, match=r"127\.0\.0\.1:\d+: .*refused; clamav\+unix:/.*: .*No such file"):
            scan(b"x", nobody, ScannerTarget("", 0, str(tmp_path / "no")))

    def test_none_configured(self) -> None:
        with pytest.raises(ScanError, match="no server is configured"):
            scan(b"x")


class TestSeveral:
    def test_the_next_one_is_asked_from_the_beginning(self, nobody: ScannerTarget) -> None:
        with FakeClamd(answers=[b"x ERROR\0"]) as broken, FakeClamd(VIRUSES) as good:
            found = scan(b"EVIL", nobody, broken, good)
        assert found.infected
        assert found.server == str(good.target)
        assert (broken.streams, good.streams) == ([b"EVIL"], [b"EVIL"])

    def test_one_that_failed_comes_last_for_a_while(self) -> None:
        clock = FixedClock()
        with FakeClamd(answers=[b"x ERROR\0"]) as first, FakeClamd() as second:
            client = ClamAV([first.target, second.target], SHORT, clock=clock)

            def scanned() -> tuple[int, int]:
                client.scan(lambda: iter([b"x"]), 1)
                return len(first.commands), len(second.commands)

            assert scanned() == (1, 1)
            assert scanned() == (1, 2)
            clock.advance(11)
            first.answers = ()
            assert scanned() == (2, 2)

    def test_when_all_have_failed_all_are_asked_again(self) -> None:
        with FakeClamd(answers=[b""]) as clamd:
            client = ClamAV([clamd.target], SHORT)
            with pytest.raises(ScanError):
                client.scan(lambda: iter([b"x"]), 1)
            clamd.answers = ()
            assert client.scan(lambda: iter([b"x"]), 1).clean


def test_ping_and_version(nobody: ScannerTarget) -> None:
    with FakeClamd() as clamd:
        client = ClamAV([clamd.target], SHORT)
        assert client.ping() is True
        assert client.version().startswith("ClamAV 1.4.3/")
    assert ClamAV([nobody], SHORT).ping() is False
    with pytest.raises(ScanError, match="refused"):
        ClamAV([nobody], SHORT).version()
    assert clamd.commands == [b"zPING", b"zVERSION"]


def test_many_at_once_get_their_own_answers() -> None:
    with FakeClamd(VIRUSES) as clamd:
        jobs = [gevent.spawn(scan, b"EVIL" if number % 3 else b"fine", clamd) for number in range(60)]
        gevent.joinall(jobs, timeout=20, raise_error=True)
    assert [job.value.infected for job in jobs] == [bool(number % 3) for number in range(60)]
