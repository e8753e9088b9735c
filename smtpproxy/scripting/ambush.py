"""Stops a rule that is over its budget but always found in code of ours, where nothing may be thrown in.

It may be: a loop over `mail.results.add` spends all but a fiftieth of its time in the facts. So the innermost frame of the
rule is traced, and gets its CpuTimeout as soon as it goes on to another line.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import FrameType
from typing import Any

from smtpproxy.scripting.errors import CpuTimeout


class Ambush:
    """One at a time. `lay` and `lift` are called in a signal handler, in the hub's thread."""

    __slots__ = ("_frame", "_sprung")

    def __init__(self) -> None:
        self._frame: FrameType | None = None
        self._sprung: Callable[[], None] | None = None

    def lay(self, frame: FrameType | None, sprung: Callable[[], None]) -> None:
        """For this frame of a rule; `sprung` is called when it was stopped. Not where somebody else traces, a debugger say."""
        if frame is not None and sys.gettrace() is None:
            self._frame, self._sprung = frame, sprung
            frame.f_trace = self._spring
            sys.settrace(_look_away)

    def lift(self) -> None:
        """It lasts until the next tick; where it is still wanted, it is laid anew."""
        if self._frame is not None:
            self._frame.f_trace = None
            self._frame = self._sprung = None
            sys.settrace(None)

    def _spring(self, _frame: FrameType, event: str, _argument: Any) -> Any:
        if event != "line":  # it returns or fails of its own accord
            return self._spring
        sprung = self._sprung
        self.lift()
        if sprung is not None:
            sprung()
        raise CpuTimeout


def _look_away(_frame: FrameType, _event: str, _argument: Any) -> None:
    """Frames that begin meanwhile are nobody's business."""
