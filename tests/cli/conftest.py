"""What is started from a command line: `smtpproxy try` and the like, as processes of their own."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from smtpproxy.testing.waiting import until

HELLO = """\
from smtpproxy.script import deny

def on_rcpt(mail, rcpt):
    if rcpt.local_part == "nobody":
        return deny("Nobody is not here", code="550 5.1.1")
"""
LISTENING = re.compile(r"listening on 127\.0\.0\.1:(\d+)")


class Started:
    """A command that runs: what it prints (a file), its port, its end."""

    def __init__(self, folder: Path, *arguments: str) -> None:
        self.folder = folder
        self._printed = folder / "printed"
        with self._printed.open("wb") as printed:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "smtpproxy", *arguments], cwd=folder, stdin=subprocess.PIPE, stdout=printed,
                stderr=subprocess.STDOUT,
            )  # fmt: skip

    @property
    def printed(self) -> str:
        return self._printed.read_text("utf-8", "replace")

    def says(self, text: str, times: int = 1) -> str:
        """Wait until it has printed this so many times; all that it has printed."""
        until(lambda: self.printed.count(text) >= times, 20.0, f"{text!r} in:\n{self.printed}")
        return self.printed

    @property
    def port(self) -> int:
        """Where it listens, as soon as it does."""
        return int(until(lambda: LISTENING.search(self.printed), 20.0, self.printed)[1])  # type: ignore[index]

    def send(self, *options: str) -> subprocess.CompletedProcess[str]:
        """A message to it, by `smtpproxy send`."""
        command = [sys.executable, "-m", "smtpproxy", "send", "--port", str(self.port), *options]
        return subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)

    @property
    def offspring(self) -> list[Path]:
        """Its children, each as a folder that is there while the child lives (proc(5))."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        return [Path("/proc", word) for word in children.read_text().split()]

    def end(self, number: int = signal.SIGTERM) -> int:
        """Send a signal and wait; the exit status."""
        if self.process.poll() is None:
            os.kill(self.process.pid, number)
        return self.process.wait(20)


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Callable[..., Started]]:
    """Start commands in a folder of their own; they end with the test."""
    started: list[Started] = []

    def starter(*arguments: str) -> Started:
        folder = tmp_path / f"run{len(started)}"
        folder.mkdir(exist_ok=True)
        started.append(Started(folder, *arguments))
        return started[-1]

    yield starter
    for one in started:
        one.end()
        assert one.process.stdin is not None
        one.process.stdin.close()


@pytest.fixture
def trying(tmp_path: Path) -> Iterator[Started]:
    """`smtpproxy try` in a folder with one rule, scripts/10-hello.py."""
    (tmp_path / "scripts").mkdir(mode=0o755)
    (tmp_path / "scripts" / "10-hello.py").write_text(HELLO)
    started = Started(tmp_path, "try", "--port", "0")
    started.says("Ctrl-C ends it.")
    yield started
    started.end()
    assert started.process.stdin is not None
    started.process.stdin.close()
