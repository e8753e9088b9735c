"""The settings of rules, [rule.NAME], seen as soon as their file is saved."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from smtpproxy.config.load import load

Stamp = tuple[tuple[str, int, int], ...]


class SettingsWatch:
    """Looks at the configuration's files, and reads them only when one has changed."""

    __slots__ = ("_path", "_settings", "_stamp")

    def __init__(self, path: Path, settings: Mapping[str, Mapping[str, Any]]) -> None:
        self._path = path
        self._settings = settings
        self._stamp = self._look()

    def changed(self) -> Mapping[str, Mapping[str, Any]] | None:
        """The new tables, None when they are as they were. Raises ConfigErrors, once for each save."""
        stamp = self._look()
        if stamp == self._stamp:
            return None
        self._stamp = stamp
        settings = load(self._path).rule
        if settings == self._settings:
            return None
        self._settings = settings
        return settings

    def _look(self) -> Stamp:
        files = sorted(self._path.glob("*.toml")) if self._path.is_dir() else [self._path]
        stamps = []
        for file in files:
            try:
                found = file.stat()
            except OSError:
                continue
            stamps.append((str(file), found.st_mtime_ns, found.st_size))
        return tuple(stamps)
