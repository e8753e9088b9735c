"""`smtpproxy rules --history`: which versions of a rule went live when, what had changed, and which one runs."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from itertools import zip_longest
from pathlib import PurePath

from smtpproxy.config.problem import did_you_mean
from smtpproxy.config.schema import Config
from smtpproxy.scripting import bundled
from smtpproxy.scripting.archive import Archive, Entry
from smtpproxy.scripting.kept import stamp
from smtpproxy.scripting.rollbacks import Pin, Rollbacks
from smtpproxy.scripting.secret import without_literals

WIDTH = 70


class Versions:
    """What the data folder of an instance knows of its rules."""

    def __init__(self, config: Config) -> None:
        self.folder = config.scripts.folder
        self._bundled = bundled.sources()
        self.archive = Archive(config.data / "rules", config.scripts.history)
        self.rollbacks = Rollbacks(config.data / "rules")

    def file(self, name: str) -> str:
        """The file of a rule by the rule's name, or its own. Raises LookupError."""
        files = self.archive.files()
        for file in files:
            if name in (file, rule_of(file)):
                return file
        known = [rule_of(file) for file in files]
        raise LookupError(f'no version of "{name}" has been live; {did_you_mean(name, known)}'.rstrip("; "))

    def digest(self, file: str) -> str:
        """The sha256 of a file as it is now. Raises OSError."""
        if file in self._bundled:
            return self._bundled[file].digest
        return hashlib.sha256((self.folder / file).read_bytes()).hexdigest()

    def pin(self, file: str) -> Pin | None:
        """Why an earlier version runs in place of the file as it is."""
        pin = self.rollbacks.pins.get(file)
        try:
            return pin if pin is not None and pin.digest == self.digest(file) else None
        except OSError:
            return None

    def live(self, file: str) -> str:
        """The version that runs, or will; "" when none does."""
        if (pin := self.pin(file)) is not None:
            return pin.recipe.version
        recipe = self.archive.recipes.get(file)
        return recipe.version if recipe is not None else ""

    def lines(self, name: str = "") -> Iterator[str]:
        """The history of one rule, or of all, for people. Raises LookupError."""
        for file in [self.file(name)] if name else self.archive.files():
            yield file
            yield from (f"  {line}" for line in self._of(file))

    def _of(self, file: str) -> Iterator[str]:
        states = self._states(file)
        entries = self.archive.history(file)
        for before, entry in reversed(list(zip([None, *entries], entries, strict=False))):
            words = [stamp(entry.time), entry.version, entry.why or self.change(before, entry)]
            state = states.pop(entry.version, "")
            yield "  ".join([*words, f"[{state}]"] if state else words)

    def _states(self, file: str) -> dict[str, str]:
        """What is to be said of versions: of each where it stands for the last time."""
        live, pin = self.live(file), self.pin(file)
        states = {}
        if pin is not None:
            newest = next((entry for entry in reversed(self.archive.history(file)) if not entry.why), None)
            states = {newest.version: "rolled back"} if newest is not None else {}
            states[live] = "live, rolled back to"
        elif live:
            states[live] = "live" if self._is_newest(file) else "live, last good: the newest save is not live"
        return states

    def _is_newest(self, file: str) -> bool:
        try:
            return self.digest(file) == self.archive.recipes[file].source
        except OSError:
            return False

    def change(self, before: Entry | None, entry: Entry) -> str:
        """What had changed, in a line."""
        size = f"{len(self.archive.data(entry.recipe) or b'')} octets"
        if before is None:
            return f"{size}, the first that is known"
        changes = list(self._changes(before, entry))
        return ", ".join([size, *changes])

    def _changes(self, before: Entry, entry: Entry) -> Iterator[str]:
        old, new = before.recipe, entry.recipe
        if old.source != new.source:
            yield _difference(self.archive.data(old), self.archive.data(new))
        if old.settings != new.settings:
            names = sorted(name for name in old.settings | new.settings if old.settings.get(name) != new.settings.get(name))
            yield f"settings {', '.join(names)}"
        if old.imports != new.imports:
            names = sorted(name for name in old.imports | new.imports if old.imports.get(name) != new.imports.get(name))
            yield f"helpers {', '.join(names)}"


def rule_of(file: str) -> str:
    """The name of the rule that a file is."""
    return PurePath(file).stem


def _difference(old: bytes | None, new: bytes | None) -> str:
    """The first line that is another one."""
    for number, (was, now) in enumerate(zip_longest(_lines(old), _lines(new)), 1):
        if was != now:
            return f"line {number}: {without_literals(now.strip())[:WIDTH]}" if now is not None else f"shorter from line {number}"
    return "other line ends"


def _lines(data: bytes | None) -> Iterable[str]:
    return (data or b"").decode("utf-8", "replace").splitlines()

