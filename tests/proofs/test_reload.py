"""Hot reload under load: no session lost, no transaction under two versions, every save live within a second."""

from __future__ import annotations

import itertools
import statistics
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gevent
import pytest

from smtpproxy.testing.client import FakeClient
from smtpproxy.testing.instance import one_listener
from smtpproxy.testing.process import RunningServer
from smtpproxy.testing.waiting import until

CONFIG = one_listener("discard", more="[limits]\nconnections_per_client = 0\nerrors = 0\njunk_commands = 0\n")

HELPER = "VERSION = {0}\n"
FIRST = """
import shared
VERSION = {0}
def on_mail(mail, sender): mail.notes.python = VERSION; mail.notes.shared = shared.VERSION
"""
LUA = """
local version = {0}
function on_mail(mail, sender) mail.notes.lua = version end
function on_message(mail) mail.notes.lua_then = version end
"""
LAST = """
import shared
from smtpproxy.script import accept, deny
VERSION = {0}
def on_mail(mail, sender): mail.notes.last = VERSION
def on_rcpt(mail, rcpt): return accept(f"{{mail.notes.python}} {{mail.notes.lua}} {{shared.VERSION}} {{VERSION}}")
def on_message(mail):
    seen = mail.notes
    if (seen.shared, seen.lua, seen.last) != (shared.VERSION, seen.lua_then, VERSION):
        return deny(f"two versions: {{seen.shared}} {{seen.lua}} {{seen.last}}, {{shared.VERSION}} {{seen.lua_then}} {{VERSION}}")
"""
RULES = {"10-first.py": FIRST, "20-second.lua": LUA, "shared.py": HELPER, "90-last.py": LAST}
"""The order is that of the versions in the reply to RCPT."""

BROKEN = {
    ".py": ["def on_mail(mail, sender)\n  pass\n", "import nowhere\n", "VERSION = 1 / 0\n", "VERSION = (\n"],
    ".lua": ["function on_mail(\n", "error('no')\n", "function on_mial() end\n"],
}
LIVE_WITHIN = {True: 1.0, False: 5.0}
"""Seconds, by whether the proof runs in full; the suite runs on machines that have other work."""


class Load:
    """Clients that send message after message; any answer but 250, and any hang-up, is an error."""

    def __init__(self, port: int, clients: int) -> None:
        self.messages = 0
        self.sessions = 0
        self._port = port
        self._running = True
        self._greenlets = [gevent.spawn(self._client, number) for number in range(clients)]

    def _client(self, number: int) -> None:
        while self._running:
            self.sessions += 1
            with FakeClient.greeted(self._port) as client:
                for _ in range(1 if number % 2 else 100):
                    self._message(client)
                client.send("QUIT")

    def _message(self, client: FakeClient) -> None:
        assert client.send("MAIL FROM:<a@client.test>").code == 250
        said = client.send("RCPT TO:<b@example.com>")
        assert said.code == 250, said
        gevent.sleep(0)
        said = client.message(b"Subject: x\r\n\r\ntext\r\n")
        assert said.code == 250, said
        self.messages += 1

    def stop(self) -> None:
        self._running = False
        gevent.joinall(self._greenlets, timeout=30, raise_error=True)
        assert all(greenlet.successful() for greenlet in self._greenlets), "a client hangs"


class Editor:
    """Saves the rules over and over, and asks a session of its own what is live."""

    def __init__(self, server: RunningServer) -> None:
        self.server = server
        self.scripts = server.folder / "scripts"
        self.client = server.client()
        self.versions = dict.fromkeys(RULES, 0)
        self.waits: list[float] = []
        self.saves = 0

    def live(self) -> list[int]:
        """The versions that a transaction sees that begins now."""
        self.client.send("MAIL FROM:<a@client.test>")
        said = self.client.send("RCPT TO:<b@example.com>")
        self.client.send("RSET")
        return [int(word) for word in said.split()[2:] if word.isdigit()]

    def save(self, file: str) -> None:
        """Another version; it must be live within a second."""
        self.versions[file] += 1
        self._write(file, RULES[file].format(self.versions[file]))
        self._wait()

    def break_and_mend(self, file: str, text: str) -> None:
        """A broken save changes nothing; the next good one counts."""
        told = self._broken()
        self._write(file, text)
        until(lambda: self._broken() > told, 10, f"{file} is told to be broken")
        assert self.live() == list(self.versions.values())
        self.save(file)

    def delete_and_restore(self, file: str) -> None:
        """The rule goes, and comes back."""
        (self.scripts / file).unlink()
        until(lambda: len(self.live()) < len(RULES), 10, f"{file} is gone")
        self.save(file)

    def _broken(self) -> int:
        return self.server.log.count("event=rule_broken")

    def _write(self, file: str, text: str) -> None:
        self.saves += 1
        if self.saves % 2:
            self.server.write_rule(file, text)
        else:
            (self.scripts / file).write_text(text)

    def _wait(self) -> None:
        began = time.monotonic()
        until(lambda: self.live() == list(self.versions.values()), 10, f"live: {self.versions}")
        self.waits.append(time.monotonic() - began)


def edits(editor: Editor) -> Iterator[Any]:
    """Without end: each file saved, then broken, then one deleted."""
    for turn in itertools.count():
        for file in RULES:
            yield lambda file=file: editor.save(file)
        for file in RULES:
            texts = BROKEN[Path(file).suffix]
            text = texts[turn % len(texts)]
            yield lambda file=file, text=text: editor.break_and_mend(file, text)
        yield lambda: editor.delete_and_restore("20-second.lua")


@pytest.mark.proof
@pytest.mark.timeout(120)
def test_rules_change_under_load(start: Any, proof: Any) -> None:
    server = start(CONFIG, {file: text.format(0) for file, text in RULES.items()})
    editor, load = Editor(server), Load(server.port, clients=6)
    for edit in itertools.islice(edits(editor), proof.rounds(9, 700)):
        edit()
    load.stop()
    waits = sorted(editor.waits)
    figures = f"{editor.saves}, {load.sessions}, {load.messages}; none lost, none under two versions"
    proof.figure("saves, sessions, messages", figures)
    proof.figure("a save is live after", f"median {statistics.median(waits) * 1000:.0f} ms, longest {waits[-1] * 1000:.0f} ms")
    assert waits[-1] < LIVE_WITHIN[proof.full]
    assert "internal_error" not in server.log and "rule_failed" not in server.log
