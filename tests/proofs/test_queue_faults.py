"""Each call of the system on the way of a mail through the queue fails once, or is the last one before SIGKILL: every write,
sync, rename and removal, SQLite's own among them. What was promised holds, what was refused is not there, and it goes on.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from smtpproxy.queue import rows
from smtpproxy.queue.disk import connect
from smtpproxy.queue.spool import SpooledBody
from smtpproxy.queue.sqlite import SqliteLedger
from tests.proofs.queue_steps import CONTENT, MAILS

PROGRAM = Path(__file__).with_name("queue_steps.py")
CALLS = "openat,write,pwrite64,fsync,fdatasync,rename,unlink,ftruncate,mkdir"
FILES = [
    "ledger.sqlite", "ledger.sqlite-wal", "ledger.sqlite-shm", "lock", "bodies",
    *(f"bodies/{dot}{name}" for dot in ("", ".") for name in (*(f"m{number}" for number in range(MAILS + 1)), "n-m2")),
]  # fmt: skip
CALL = re.compile(r"(\d+) +(\w+)\(")
FULL_DISK = {"openat", "write", "pwrite64", "rename", "ftruncate", "mkdir"}
"""Those that a full disk refuses."""


class Fault(NamedTuple):
    """In the so-many-th call of this name."""

    call: str
    number: int
    kind: str


class Outcome:
    """What the program has reported, and what is in its slot when another process opens that."""

    def __init__(self, folder: Path) -> None:
        report = folder / "report"
        self.lines = report.read_text().splitlines() if report.exists() else []
        self.log: list[str] = []
        SqliteLedger(folder / "queue", time.time, lambda event, **_: self.log.append(event)).close()
        with closing(connect(folder / "queue")) as connection:
            found = list(rows.rows(connection))
        self.present = Counter(row.name for row in found)
        self.results = {row.name: row.results for row in found}
        self.bodies = {path.name for path in (folder / "queue" / "bodies").iterdir()}
        for row in found:
            assert row.envelope is not None
            assert b"".join(SpooledBody(folder / "queue" / "bodies", row.envelope).content()) == CONTENT

    def told(self, what: str) -> set[str]:
        return {line.split()[1] for line in self.lines if line.startswith(f"{what} ")}

    def in_flight(self) -> set[str]:
        """What the program was about when it was killed: nobody can know how far it came."""
        if self.lines and (self.lines[-1] == "end" or self.lines[-1].startswith("error")):
            return set()
        begun = self.told("sent") - self.told("gone")
        taken = len(self.told("taken"))
        return begun | {f"n-{name}" for name in begun} | {f"m{taken}"}


@pytest.fixture(scope="module")
def boundaries(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[str, int]]:
    """The calls that concern the slot, each with its number among those of its thread."""
    folder = tmp_path_factory.mktemp("quiet")
    _run(folder, f"trace={CALLS}")
    counted: Counter[tuple[str, str]] = Counter()
    for line in (folder / "trace").read_text("utf-8", "replace").splitlines():
        if (call := CALL.match(line)) is not None:
            counted[call[1], call[2]] += 1
    most: Counter[str] = Counter()
    for (_, name), count in counted.items():
        most[name] = max(most[name], count)
    assert set(most) == set(CALLS.split(","))
    return [(name, number) for name, count in most.items() for number in range(1, count + 1)]


def _run(folder: Path, *qualified: str) -> None:
    """The program under strace, which sees the calls that concern the slot."""
    options = [word for qualifier in qualified for word in ("-e", qualifier)]
    for path in (folder / "queue", *(folder / "queue" / name for name in FILES)):
        options += ["-P", str(path)]
    program = [sys.executable, str(PROGRAM), str(folder / "queue"), str(folder / "report")]
    command = ["strace", "-f", "-qq", "-o", str(folder / "trace"), *options, *program]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True) as process:
        try:
            printed = process.communicate(timeout=30)[0].decode()
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            raise
    assert "Traceback" not in printed, printed


def faults(boundaries: list[tuple[str, int]]) -> Iterator[Fault]:
    for call, number in boundaries:
        yield Fault(call, number, "signal=KILL")
        yield Fault(call, number, "error=EIO")
        if call in FULL_DISK:
            yield Fault(call, number, "error=ENOSPC")


@pytest.mark.proof
@pytest.mark.timeout(240)
def test_every_boundary(boundaries: list[tuple[str, int]], tmp_path: Path, proof: Any) -> None:
    chosen = list(faults(boundaries))[:: proof.rounds(8, 1)]
    for number, fault in enumerate(chosen):
        folder = tmp_path / str(number)
        folder.mkdir()
        inject = f"inject={fault.call}:{fault.kind}:when={fault.number}"
        _run(folder, f"trace={CALLS}", inject)
        outcome = Outcome(folder)
        if fault.kind == "signal=KILL":
            assert "end" not in outcome.lines, fault
        else:
            assert "(INJECTED)" in (folder / "trace").read_text("utf-8", "replace"), fault
        check(outcome, fault)
    kinds = Counter(fault.kind for fault in chosen)
    counted = ", ".join(f"{kind}: {count}" for kind, count in kinds.items())
    proof.figure("queue faults", f"{counted}; 0 lost, 0 there that were refused")


def check(it: Outcome, fault: Fault) -> None:
    told = fault, it.lines, it.log
    killed = it.in_flight() if fault.kind == "signal=KILL" else set()
    taken, gone = it.told("taken"), it.told("gone")
    present = set(it.present)
    assert taken - gone - killed <= present, told
    assert present <= taken - gone | it.told("noted") | killed, told
    assert "m2" not in taken - present or "n-m2" in present, told
    assert it.told("noted") <= present, told
    assert set(it.present.values()) <= {1} and it.bodies == present, told
    if fault.kind != "signal=KILL":
        assert it.lines[-1] == "end" or len(it.lines) == 1, told
        assert it.lines[-1] != "end" or len(taken) >= 3, told
