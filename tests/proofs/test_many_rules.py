"""A save among five hundred rules: nobody waits for it, and it is live within a second."""

from __future__ import annotations

import gc
import time
from pathlib import Path
from typing import Any

import gevent
import pytest

from smtpproxy.scripting.loader import Rules
from smtpproxy.scripting.offer import Offer
from smtpproxy.testing.waiting import until

COUNT = 500
HELD = 0.05
PYTHON = "X = {0}\ndef on_mail(mail, sender): pass\ndef on_rcpt(mail, rcpt): pass\ndef on_message(mail): pass\n"
LUA = "local x = {0}\nfunction on_rcpt(mail, rcpt) end\nfunction on_message(mail) end\n"


def rules_of(folder: Path, data: Path, **more: Any) -> Rules:
    return Rules(folder, {}, {"mx": ["*"], "submission": ["*"]}, log=lambda event, **fields: None, data=data, **more)


class Others:
    """Somebody who wants a turn every millisecond. `longest` is what it had to wait for one, in seconds of CPU: what other
    processes take is none of our doing.
    """

    def __init__(self) -> None:
        self.longest = 0.0
        self.turns = 0
        self._living = gevent.spawn(self._live)

    def _live(self) -> None:
        while True:
            began = time.thread_time()
            gevent.sleep(0.001)
            self.longest = max(self.longest, time.thread_time() - began)
            self.turns += 1

    def __enter__(self) -> Others:
        until(lambda: self.turns)
        self.longest = 0.0
        return self

    def __exit__(self, *_: object) -> None:
        turns = self.turns
        until(lambda: self.turns > turns)
        self._living.kill()


@pytest.mark.proof
def test_a_save_holds_nobody_up(tmp_path: Path, proof: Any) -> None:
    folder = tmp_path / "scripts"
    folder.mkdir(mode=0o755)
    for number in range(COUNT):
        name, text = (f"{number:03}.lua", LUA) if number % 10 == 0 else (f"{number:03}.py", PYTHON)
        (folder / name).write_text(text.format(number))
    gate = rules_of(folder, tmp_path / "data", live=False, keeps=True)
    gate.load()
    worker = rules_of(folder, tmp_path / "data")
    worker.prepare(Offer.of(gate.table))
    worker.take(gate.table.hash)
    gc.collect()
    gc.freeze()  # as the server does
    turns = []
    for number in range(proof.rounds(5, 50)):
        (folder / "101.py").write_text(PYTHON.format(-1 - number))
        gate.load()
        with Others() as others:
            worker.prepare(Offer.of(gate.table))
            worker.take(gate.table.hash)
        assert worker.table.hash == gate.table.hash
        turns.append(others.longest)
    gc.unfreeze()
    for rules in (gate, worker):
        rules.stop()
    proof.figure(f"the hub held by a save among {COUNT} rules", f"{sorted(turns)[len(turns) // 2] * 1000:.0f} ms of CPU (median)")
    proof.figure("at most", f"{max(turns) * 1000:.0f} ms")
    assert sorted(turns)[len(turns) // 2] < HELD
