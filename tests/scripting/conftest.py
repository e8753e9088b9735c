"""A folder of rules with a clock that only the test moves."""

from __future__ import annotations

import os
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from smtpproxy.scripting.loader import Report, Rules
from smtpproxy.scripting.runner import Call, Chains, decide
from smtpproxy.scripting.trace import Trace
from smtpproxy.scripting.verdict import Verdict


class Clock:
    """Seconds that pass when told to."""

    def __init__(self) -> None:
        self.time = 1_700_000_000.0

    def __call__(self) -> float:
        return self.time


class Scripts:
    """A folder, the Rules over it, what they logged, and a session's call."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "scripts"
        self.folder.mkdir()
        self.data = folder / "data"
        self.clock = Clock()
        self.records: list[tuple[str, dict[str, Any]]] = []
        self.doors: dict[str, Any] = {"log": self.log}
        self.call = Call(trace=Trace("s1"), doors=self.doors, client=SimpleNamespace(login=None, trusted=False))
        self.rules = Rules(None, log=self.log)
        self.restart()

    def log(self, event: str, **fields: Any) -> None:
        self.records.append((event, fields))

    def logged(self, event: str) -> list[dict[str, Any]]:
        return [fields for name, fields in self.records if name == event]

    def restart(self, settings: Any = None, **more: Any) -> Rules:
        """Other Rules over the same folder and data, as after a restart; not loaded."""
        self.rules.stop()
        usual = {"listeners": {"mx": ["*"]}, "data": self.data, "clock": self.clock, "now": self.clock}
        self.rules = Rules(self.folder, settings, log=self.log, doors=self.doors, **(usual | more))
        return self.rules

    def write(self, file: str, text: str) -> Path:
        """Save a file at the clock's time; the next look finds it settled."""
        path = self.folder / file
        path.write_text(textwrap.dedent(text))
        os.utime(path, (self.clock.time, self.clock.time))
        return path

    def load(self, **files: str) -> Report:
        """Write NAME.py for each name (a_b for a-b), and load."""
        for name, text in files.items():
            self.write(f"{name.replace('_', '-')}.py", text)
        return self.rules.load()

    def refresh(self, seconds: float = 0.2) -> Report | None:
        """Let time pass, and look."""
        self.clock.time += seconds
        return self.rules.refresh()

    def save(self, file: str, text: str) -> Report | None:
        self.write(file, text)
        return self.refresh()

    @property
    def chains(self) -> Chains:
        return self.rules.table.chains["mx"]

    def ask(self, hook: str, *arguments: Any) -> Verdict | None:
        """What the rules say now."""
        chains = self.chains
        return decide(chains, chains.by_name.get(hook, ()), self.call, *arguments)

    def rcpt(self, rcpt: Any = "user@example.com") -> str:
        """The answer to one recipient, as text."""
        return str(self.ask("on_rcpt", self.call.mail, rcpt) or "continue")


@pytest.fixture
def scripts(tmp_path: Path) -> Iterator[Scripts]:
    made = Scripts(tmp_path)
    yield made
    made.rules.stop()


@pytest.fixture
def problem(scripts: Scripts) -> Callable[[str], str]:
    """Load one rule of this text, and tell the one thing that is wrong with it."""

    def wrong(text: str) -> str:
        (found,) = scripts.load(**{"10_rule": text}).problems
        return str(found)

    return wrong
