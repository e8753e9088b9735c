"""The room on the disk that the queue leaves to others, and needs to bring its own work to an end."""

from __future__ import annotations

import os
from pathlib import Path
from time import monotonic
from typing import Final

LOOK: Final = 0.5
"""Seconds for which one look at the disk counts."""


class FreeSpace:
    """Of the disk that `folder` is on; `least` octets of it stay free, 0 for no such floor."""

    __slots__ = ("_folder", "_free", "_least", "_until")

    def __init__(self, folder: Path, least: int) -> None:
        self._folder = folder
        self._least = least
        self._free = 0
        self._until = 0.0

    def lacking(self, size: int) -> str | None:
        """Why so many octets more are too many; None where they are not, or nobody knows."""
        if not self._least:
            return None
        if monotonic() >= self._until and not self._look():
            return None
        if self._free - size >= self._least:
            return None
        return f"{self._free} octets are free, and {self._least} are to stay free ([queue] min_free)"

    def _look(self) -> bool:
        try:
            disk = os.statvfs(self._folder)
        except OSError:
            return False
        self._free = disk.f_bavail * disk.f_frsize
        self._until = monotonic() + LOOK
        return True
