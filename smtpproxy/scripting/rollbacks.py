"""Rules that an earlier version runs for, until their file has other bytes: a file for each in data/rules/rolled-back.

Whoever wants one puts it there, `smtpproxy rollback` or the circuit breaker; the server looks as often as it looks at
the folder of rules. The folder of rules itself is never written to.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import msgspec

from smtpproxy.scripting.archive import Recipe, quoted

FOLDER = "rolled-back"


class Pin(msgspec.Struct, frozen=True):
    """In place of a file with these bytes (their sha256) runs what `recipe` makes. `time` in seconds since the epoch."""

    digest: str
    recipe: Recipe
    why: str
    time: float

    @property
    def text(self) -> str:
        """For people."""
        return f"rolled back: {self.why}; it is back with its next change"


class Rollbacks:
    """`pins` by file name. `folder` is `data/rules`; without one there are none."""

    def __init__(self, folder: Path | None) -> None:
        self.pins: Mapping[str, Pin] = {}
        self._folder = folder / FOLDER if folder is not None else None
        self._seen: frozenset[tuple[str, int, int]] = frozenset()
        self.poll()

    def poll(self) -> bool:
        """Look: True when `pins` are no longer what they were."""
        seen = self._look()
        if seen == self._seen:
            return False
        self._seen = seen
        before, self.pins = self.pins, {
            pin.recipe.file: pin for name, _, _ in sorted(seen) if (pin := self._read(name)) is not None
        }
        return self.pins != before

    def put(self, file: str, pin: Pin) -> None:
        """Raises OSError."""
        if self._folder is None:
            raise FileNotFoundError("there is no data folder")
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        path = self._folder / quoted(file)
        new = path.with_name(f".{path.name}.{os.getpid()}")
        new.write_bytes(msgspec.json.format(msgspec.json.encode(pin), indent=1))
        new.chmod(0o600)
        for ours in (self._folder, new):
            _give_to_the_owner_of(self._folder.parent, ours)
        new.replace(path)

    def drop(self, file: str) -> None:
        """Raises OSError, but not for what is gone already."""
        if self._folder is not None:
            (self._folder / quoted(file)).unlink(missing_ok=True)

    def _look(self) -> frozenset[tuple[str, int, int]]:
        if self._folder is None:
            return frozenset()
        try:
            with os.scandir(self._folder) as found:
                stats = [(entry.name, entry.stat()) for entry in found if not entry.name.startswith(".")]
        except OSError:  # nobody ever rolled back, or one went while we looked
            return frozenset()
        return frozenset((name, stat.st_mtime_ns, stat.st_ino) for name, stat in stats)

    def _read(self, name: str) -> Pin | None:
        assert self._folder is not None
        try:
            return msgspec.json.decode((self._folder / name).read_bytes(), type=Pin)
        except (OSError, msgspec.MsgspecError):
            return None


def _give_to_the_owner_of(owned: Path, path: Path) -> None:
    """What root writes the server must be able to read."""
    if os.geteuid() == 0:
        owner = owned.stat()
        os.chown(path, owner.st_uid, owner.st_gid)
