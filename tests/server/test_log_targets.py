"""Where the log goes: nobody waits for it, nothing is dropped without a word, and levels say how much of it there is."""

from __future__ import annotations

import os
import re
import socket
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from smtpproxy.config.log import Log as LogSettings
from smtpproxy.config.log import LogLevels
from smtpproxy.config.values import LogTo
from smtpproxy.server.log_levels import AREAS, area
from smtpproxy.server.log_targets import own
from smtpproxy.server.logs import Log
from smtpproxy.testing.client import FakeClient
from smtpproxy.testing.instance import one_listener
from smtpproxy.testing.process import running_server
from smtpproxy.testing.waiting import until

ROOT = Path(__file__).resolve().parents[2]


class Pipe:
    """A named pipe that is read when a test says so."""

    def __init__(self, path: Path) -> None:
        os.mkfifo(path)
        self._reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        self.text = ""

    def read(self) -> str:
        """All that has come."""
        with suppress(BlockingIOError):
            while data := os.read(self._reader, 1 << 16):
                self.text += data.decode()
        return self.text

    def close(self) -> None:
        os.close(self._reader)


@pytest.fixture
def pipe(tmp_path: Path) -> Iterator[Pipe]:
    made = Pipe(tmp_path / "log")
    yield made
    made.close()


def numbers(text: str) -> list[int]:
    return [int(number) for number in re.findall(r"event=message number=(\d+) ", text)]


def test_a_reader_who_does_not_keep_up_holds_nobody_and_is_told_what_was_dropped(tmp_path: Path, pipe: Pipe) -> None:
    log = Log(LogSettings(to=LogTo(str(tmp_path / "log"))))
    took = []
    for number in range(10_000):
        began = time.monotonic()
        log("message", number=number, text="x" * 1000)
        took.append(time.monotonic() - began)
    assert sorted(took)[-20] < 0.05  # the longest may be the work of other processes
    assert until(lambda: (log.flush(), pipe.read())[1] and "event=log_dropped" in pipe.text)
    log.stop()
    lines = pipe.read().splitlines()
    kept = numbers(pipe.text)
    assert kept == list(range(len(kept)))  # the first ones, whole and in their order
    (told,) = [line for line in lines if "event=log_dropped" in line]
    assert f"lines={10_000 - len(kept)}" in told
    assert len(lines) == len(kept) + 1


def test_the_end_does_not_wait_for_a_reader_for_long(tmp_path: Path, pipe: Pipe) -> None:
    log = Log(LogSettings(to=LogTo(str(tmp_path / "log"))))
    for number in range(1000):
        log("message", number=number, text="x" * 1000)
    began = time.monotonic()
    log.stop()
    assert time.monotonic() - began < 5


def test_a_pipe_of_others_stays_as_it_was() -> None:
    reader, writer = os.pipe()
    ours = own(writer)
    with pytest.raises(BlockingIOError):
        while True:
            os.write(ours, b"x" * 4096)
    assert os.get_blocking(writer)
    for descriptor in (reader, writer, ours):
        os.close(descriptor)


def test_a_server_whose_log_nobody_reads_serves_on(tmp_path: Path, pipe: Pipe) -> None:
    more = f'[log]\nto = "{tmp_path}/log"\nlevels = {{ session = "debug" }}\n[limits]\njunk_commands = 0\n'
    with running_server(tmp_path / "instance", one_listener("discard", more=more)) as server, server.client() as client:
        for _ in range(1000):
            assert client.send("NOOP " + "x" * 200).code == 250
        with FakeClient(server.port) as another:
            assert another.reply().code == 220
    assert "event=command" in pipe.read()


def test_a_file_that_was_moved_away_is_opened_anew(tmp_path: Path) -> None:
    path = tmp_path / "log"
    log = Log(LogSettings(to=LogTo(str(path))))
    log("started")
    log.flush()
    path.rename(tmp_path / "log.1")

    def told_again() -> bool:
        log("message")
        log.flush()
        return path.exists()

    assert until(told_again)
    log.stop()
    assert "event=message" in path.read_text()
    assert "event=started" in (tmp_path / "log.1").read_text()


# -- syslog --------------------------------------------------------------------------------------------------------------


def listening(path: Path) -> socket.socket:
    made = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    made.bind(str(path))
    made.settimeout(5)
    return made


def syslog(path: Path) -> Log:
    return Log(LogSettings(to=LogTo(f"syslog:{path}")))


def test_syslog(tmp_path: Path) -> None:
    log = syslog(tmp_path / "dev-log")
    with listening(tmp_path / "dev-log") as daemon:
        log("message", id="1")
        log("internal_error", level="error", trace="two\r\nlines")
        log.flush()
        first, second = (daemon.recv(9000).decode() for _ in range(2))
    header = rf"[A-Z][a-z]{{2}} [ \d]\d \d\d:\d\d:\d\d smtpproxy\[{os.getpid()}\]: time=\S+ "
    assert re.fullmatch(rf"<22>{header}event=message id=1", first)
    assert re.fullmatch(rf"<19>{header}event=internal_error level=error trace=\"two\\r\\nlines\"", second)
    log.stop()


def test_syslog_that_was_started_anew_is_found_again(tmp_path: Path) -> None:
    path = tmp_path / "dev-log"
    log = syslog(path)
    with listening(path) as daemon:
        log("message", id="1")
        log.flush()
        assert b"id=1" in daemon.recv(9000)
    path.unlink()
    log("message", id="2")
    log("message", id="3")
    log.flush()  # nobody is there
    with listening(path) as daemon:
        log("message", id="4")
        log.flush()
        log.flush()
        assert b"id=4" in daemon.recv(9000)
        assert b"event=log_dropped level=warning lines=2" in daemon.recv(9000)
    log.stop()


def test_syslog_that_does_not_read_holds_nobody(tmp_path: Path) -> None:
    path = tmp_path / "dev-log"
    log = syslog(path)
    with listening(path) as daemon:
        for number in range(3000):
            log("message", number=number, text="x" * 100)
        log.flush()
        found = 0
        while found < 3000:
            assert f"number={found} ".encode() in daemon.recv(9000)
            found += 1
            log.flush()
    log.stop()


# -- levels --------------------------------------------------------------------------------------------------------------


def written(path: Path, **settings: object) -> list[str]:
    """The events that are written, of one of each kind and level."""
    log = Log(LogSettings(to=LogTo(str(path)), **settings))  # type: ignore[arg-type]
    log("message")
    log("session")
    log("upstream")
    log("rule", level="debug")
    log("rule_broken", level="error")
    log("command", level="debug")
    log("overloaded", level="warning")
    log("listening")
    log.stop()
    return re.findall(r"event=(\w+)", path.read_text())


@pytest.mark.parametrize(
    ("settings", "events"),
    [
        ({}, ["message", "session", "upstream", "rule_broken", "overloaded", "listening"]),
        ({"level": "warning"}, ["rule_broken", "overloaded"]),
        ({"level": "off", "levels": LogLevels(mail="info")}, ["message"]),
        ({"level": "error", "levels": LogLevels(session="debug")}, ["session", "rule_broken", "command", "overloaded"]),
        ({"levels": LogLevels(session="off", rules="debug")}, ["message", "upstream", "rule", "rule_broken", "listening"]),
    ],
)
def test_levels(tmp_path: Path, settings: dict[str, object], events: list[str]) -> None:
    assert written(tmp_path / "log", **settings) == events


def test_every_event_of_an_area_is_in_the_manual() -> None:
    manual = (ROOT / "docs/operating.md").read_text("utf-8").partition("## The log")[2].partition("\n## ")[0]
    listed = set(re.findall(r"`(\w+)`", manual))
    assert set().union(*AREAS.values()) - listed == set()
    assert (area("rule_live"), area("list_broken"), area("stopped")) == ("rules", "rules", "server")


def test_commands_and_replies_at_debug_without_passwords(tmp_path: Path) -> None:
    more = '[log]\nlevels = { session = "debug" }\n'
    with running_server(tmp_path, one_listener("discard", more=more)) as server, server.client() as client:
        client.send("AUTH PLAIN AGFsaWNlAHNlY3JldA==")
        client.send("NOOP one")
        assert until(lambda: 'line="NOOP one"' in server.log)
        assert "event=reply level=debug" in server.log
        assert "AGFsaWNlAHNlY3JldA" not in server.log
