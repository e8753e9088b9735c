"""A rule that waits for nothing but time."""

from __future__ import annotations

import time

from smtpproxy.scripting.doors.base import Seconds, running_call, seconds, through

MARGIN = 0.1
"""Seconds of a call's time that a wait leaves to what comes after it."""


def sleep(duration: Seconds) -> None:
    """Wait so many seconds, or "2s": this greenlet only, and no CPU time is charged.

    Raises ValueError when the call's wall time, or that of its chain, would be over before.
    """
    wanted = seconds(duration, "sleep")
    left = running_call("sleep").deadline - time.monotonic() - MARGIN
    if wanted > left:
        raise ValueError(f"sleep({duration!r}): this call has {max(left, 0):.1f} s left; [rule.NAME] wall gives it its time")
    through("sleep", f"sleep {wanted:g} s", lambda wait: wait(wanted))
