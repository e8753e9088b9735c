"""Work over hundreds of files in one go, with a turn for everybody else in between."""

from __future__ import annotations

import time

import gevent

PAUSE = 0.001
"""With 0 only those who are ready have a turn, not those who wait for the network."""
HELD = 0.01
"""Seconds for which the hub is held at most, as far as single steps are shorter."""


class Turns:
    """Called after each step."""

    __slots__ = ("_since",)

    def __init__(self) -> None:
        self._since = time.monotonic()

    def __call__(self) -> None:
        if time.monotonic() - self._since > HELD:
            gevent.sleep(PAUSE)
            self._since = time.monotonic()
