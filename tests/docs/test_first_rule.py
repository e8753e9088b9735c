"""The guide to the first rule, followed word by word: every file saved, every command typed, every output compared."""

from __future__ import annotations

import re
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import pytest

from smtpproxy.testing.waiting import until

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "first-rule.md"
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
NAMED = re.compile(r"(?:#|--) (\S+\.(?:py|lua))$", re.MULTILINE)
SAVED = re.compile(r"Save this as `([^`]+)`")
SMTPPROXY = [sys.executable, "-m", "smtpproxy"]

PASSING = (
    (r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d", "THEN"),
    (r"\[[0-9a-f]{12}\]", "[VERSION]"),
    (r"\w+\.1\.eml", "ID.eml"),
    (r"(name \S+, )?helo \S+,", "helo HERE,"),
    (r"^ *\d+\.\d  ", "AT  "),
    (r"\(\d+\.\d\d ms[^)]*\)", "(TIME)"),
    (r"in \d+\.\d+s", "in TIME"),
    (r"^(FAILED \S+) - .*", r"\1"),  # pytest adds the reason where it has the room, or in CI
)
"""What is another one at each run."""


def lasting(line: str) -> str:
    """A line without what passes."""
    for pattern, word in PASSING:
        line = re.sub(pattern, word, line)
    return line.strip()


def missing(shown: str, printed: str) -> list[str]:
    """The lines that the page shows and that were not printed, in this order; "..." stands for any."""
    lines = iter([lasting(line) for line in printed.splitlines()])
    wanted = [lasting(line) for line in shown.splitlines() if line.strip() not in ("", "...")]
    return [line for line in wanted if line not in lines]


class Reader:
    """Does what the page says, in a folder with the rules of a checkout."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.printed = folder / "first-terminal"
        self.server: subprocess.Popen[bytes] | None = None
        shutil.copytree(ROOT / "scripts", folder / "scripts", ignore=shutil.ignore_patterns("samples", "__pycache__"))
        (folder / "scripts").chmod(0o755)

    def follow(self, page: str) -> Iterator[tuple[str, str]]:
        """Each output that the page shows, and what was printed."""
        said, end = "", 0
        for block in BLOCK.finditer(page):
            before, end = page[end : block.start()], block.end()
            language, text = block[1], block[2]
            if language == "sh":
                said = "".join(self.type(shlex.split(line)) for line in text.splitlines())
            elif language == "text":
                yield text, said
            elif name := NAMED.match(text) or SAVED.search(before):
                self.save(name[1], text)

    def type(self, words: list[str]) -> str:
        """A command; what it prints."""
        if words == ["make", "run"]:
            self.start()
            return ""
        assert words[0] == "smtpproxy"
        port = ["--port", str(self.port)] if words[1] == "send" else []
        done = subprocess.run(
            [*SMTPPROXY, *words[1:], *port], cwd=self.folder, capture_output=True, text=True, timeout=50, check=False
        )
        assert "Traceback" not in done.stderr, done.stderr
        return done.stdout

    def start(self) -> None:
        with self.printed.open("wb") as printed:
            self.server = popen([*SMTPPROXY, "try", "--port", "0"], self.folder, printed)
        until(lambda: "Ctrl-C ends it." in self.printed.read_text(), 20.0)
        self.port = int(re.search(r"listening on 127\.0\.0\.1:(\d+)", self.printed.read_text())[1])  # type: ignore[index]

    def save(self, name: str, text: str) -> None:
        """Save a file; a rule is waited for."""
        (self.folder / name).write_text(text)
        if re.fullmatch(r"scripts/[^/]+", name):
            version = re.search(rf"{Path(name).stem} +([0-9a-f]{{12}})", self.type(["smtpproxy", "rules"]))
            assert version
            until(lambda: f"rule {Path(name).stem} is live, version {version[1]}" in self.printed.read_text(), 10.0)

    def close(self) -> None:
        if self.server is not None:
            self.server.send_signal(signal.SIGTERM)
            self.server.wait(20)


def popen(command: list[str], folder: Path, printed: IO[bytes]) -> subprocess.Popen[bytes]:
    return subprocess.Popen(command, cwd=folder, stdin=subprocess.DEVNULL, stdout=printed, stderr=subprocess.STDOUT)


@pytest.fixture
def reader(tmp_path: Path) -> Iterator[Reader]:
    it = Reader(tmp_path)
    yield it
    it.close()


@pytest.mark.timeout(180)
def test_the_guide_can_be_followed_word_by_word(reader: Reader) -> None:
    page = PAGE.read_text("utf-8")
    outputs = list(reader.follow(page))
    assert [(shown, said) for shown, said in outputs if missing(shown, said)] == []
    assert len(outputs) == page.count("```text")
    mended = re.search(r"^`(if .* then return end)`", page, re.MULTILINE)
    assert mended
    lua = (reader.folder / "scripts/31-subject.lua").read_text()
    (reader.folder / "scripts/31-subject.lua").write_text(lua.replace('if mail.header["Subject"] then return end', mended[1]))
    assert "17 passed" in reader.type(["smtpproxy", "test"])


def test_a_line_that_is_not_printed_is_missed() -> None:
    assert missing("a 2025-01-01 10:00:00\n...\nc\n", "a 2026-02-02 11:11:11\nb\nc\n") == []
    assert missing("a\nb\n", "b\na\n") == ["b"]
