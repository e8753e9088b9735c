"""Whether a process without a heartbeat is stuck, or only waits for its turn at a busy processor or disk.

Killing those would make a machine that is short of breath stop serving: all of them wait at the same time.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

BUSY = 1.5
"""Seconds of processor time without a heartbeat that are work without end."""

_TICK = os.sysconf("SC_CLK_TCK")


class Pulse(NamedTuple):
    """What the kernel says of a process: its state (R runs or would run, D waits for the disk, S sleeps), and the seconds of
    processor time that it has used (proc(5), /proc/PID/stat)."""

    state: str = ""
    used: float = 0.0

    @classmethod
    def of(cls, pid: int) -> Pulse:
        """Nothing is known where there is no /proc, or no such process."""
        try:
            return cls.parse(Path(f"/proc/{pid}/stat").read_text("ascii", "replace"))
        except OSError:
            return cls()

    @classmethod
    def parse(cls, stat: str) -> Pulse:
        fields = stat.rpartition(")")[2].split()  # the name in parentheses may hold anything
        return cls(fields[0], (int(fields[11]) + int(fields[12])) / _TICK)

    def waits(self, since: Pulse) -> bool:
        """It has been kept from its work since then: it would run and was not let, or a disk lets it wait."""
        return self.state == "D" or (self.state == "R" and self.used - since.used < BUSY)
