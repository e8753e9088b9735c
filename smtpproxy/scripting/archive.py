"""What went live, kept in the data folder over a restart: contents, tables, and the history of each file.

data/rules/SHA256        the bytes of a file, as long as something below asks for them
data/rules/TABLE         a table by its hash: what each of its versions was made of
data/rules/index.json    the hashes of the tables, the newest last: its versions are the last good ones
data/rules/history/FILE  which versions of a file went live when
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

import msgspec

from smtpproxy.config.schema import History as Limits
from smtpproxy.scripting.instance import Instance

INDEX = "index.json"
HISTORY = "history"


class Recipe(msgspec.Struct, frozen=True):
    """What an instance was made of; `source` is the sha256 of its bytes."""

    file: str
    source: str
    settings: dict[str, Any]
    imports: dict[str, Recipe]
    version: str

    @classmethod
    def of(cls, instance: Instance) -> Recipe:
        imports = {name: cls.of(helper) for name, helper in instance.imports.items()}
        return cls(instance.source.file, instance.source.digest, dict(instance.given), imports, instance.version)

    @property
    def contents(self) -> Iterator[str]:
        """The sha256 of every file that is needed."""
        yield self.source
        for recipe in self.imports.values():
            yield from recipe.contents


class Entry(msgspec.Struct, frozen=True):
    """A version went live at `time` (seconds since the epoch). `why` is "" for a save, else what brought it back."""

    time: float
    recipe: Recipe
    why: str = ""

    @property
    def version(self) -> str:
        return self.recipe.version


class Archive:
    """`folder` is `data/rules`, None to keep nothing. `recipes` are the last good versions by file name."""

    def __init__(self, folder: Path | None, limits: Limits, now: Callable[[], float] = time.time) -> None:
        self.folder = folder
        self._limits = limits
        self._now = now
        self._histories: dict[str, list[Entry]] = {}
        self._tables: dict[str, dict[str, Recipe]] = {}
        """By hash, oldest first."""
        if folder is not None:
            self._read(folder)

    def _read(self, folder: Path) -> None:
        for table in _decoded(folder / INDEX, list[str]) or ():
            if (recipes := _decoded(folder / table, dict[str, Recipe])) is not None:
                self._tables[table] = recipes
        for path in folder.glob(f"{HISTORY}/*"):
            if (entries := _decoded(path, list[Entry])) is not None:
                self._histories[unquote(path.name)] = entries

    @property
    def recipes(self) -> Mapping[str, Recipe]:
        return next(reversed(self._tables.values()), {})

    def files(self) -> list[str]:
        """The files that have a history."""
        return sorted(self._histories)

    def history(self, file: str) -> list[Entry]:
        """What went live of a file, oldest first."""
        return self._histories.get(file, [])

    def before(self, file: str, version: str) -> Entry | None:
        """The save before the newest one that made this version."""
        saves = [entry for entry in self.history(file) if not entry.why]
        place = max((place for place, entry in enumerate(saves) if entry.version == version), default=len(saves))
        return next((entry for entry in reversed(saves[:place]) if entry.version != version), None)

    def data(self, recipe: Recipe) -> bytes | None:
        """The bytes that a recipe asks for; None when they are gone."""
        if self.folder is None:
            return None
        try:
            return (self.folder / recipe.source).read_bytes()
        except OSError:
            return None

    def table(self, table: str) -> dict[str, Recipe] | None:
        """What a stored table is made of, by file name; None when it is not there."""
        return _decoded(self.folder / table, dict[str, Recipe]) if self.folder is not None else None

    def reread(self) -> None:
        """Another process keeps it: see what that one has written since."""
        if self.folder is not None:
            self._tables.clear()
            self._histories.clear()
            self._read(self.folder)

    def store(self, table: str, instances: Mapping[str, Instance]) -> None:
        """Write a table and the bytes it asks for, whether or not it goes live. Raises OSError."""
        if self.folder is None:
            return
        recipes = {file: Recipe.of(instance) for file, instance in instances.items()}
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        wanted = {source for recipe in recipes.values() for source in recipe.contents}
        for digest, data in _contents(instances.values()):
            if digest in wanted and not (self.folder / digest).exists():
                _write(self.folder / digest, data)
        _write(self.folder / table, _pretty(recipes))

    def keep(self, table: str, instances: Mapping[str, Instance], why: Mapping[str, str], pinned: Iterable[Recipe]) -> None:
        """A table of this hash is live, with these versions by file name.

        `why` says of a file that it runs no save, `pinned` is kept whatever its age. Raises OSError.
        """
        recipes = {file: Recipe.of(instance) for file, instance in instances.items()}
        if self.folder is None or (next(reversed(self._tables), None) == table and recipes == self.recipes):
            return
        self.store(table, instances)
        self._tables.pop(table, None)
        self._tables[table] = recipes
        while len(self._tables) > self._limits.versions:
            del self._tables[next(iter(self._tables))]
        _write(self.folder / INDEX, _pretty(list(self._tables)))
        self._remember(recipes, why)
        self._prune(pinned)

    def _remember(self, recipes: Mapping[str, Recipe], why: Mapping[str, str]) -> None:
        """A line for each file whose version is another one; of the lines before go those too old or too many."""
        assert self.folder is not None
        (self.folder / HISTORY).mkdir(mode=0o700, exist_ok=True)
        for file in self._histories.keys() | recipes.keys():
            before = self.history(file)
            entries, live = list(before), recipes.get(file)
            if live is not None and (not entries or entries[-1].version != live.version):
                entries.append(Entry(self._now(), live, why.get(file, "")))
            entries = self._bounded(entries, live is not None)
            if entries != before:
                self._put(file, self.folder / HISTORY / quoted(file), entries)

    def _bounded(self, entries: list[Entry], live: bool) -> list[Entry]:
        """What is live stays, however old it is."""
        entries = entries[-self._limits.versions :]
        oldest = self._now() - self._limits.keep if self._limits.keep else 0.0
        return [entry for entry in entries if entry.time >= oldest or (live and entry is entries[-1])]

    def _put(self, file: str, path: Path, entries: list[Entry]) -> None:
        if entries:
            self._histories[file] = entries
            _write(path, _pretty(entries), sync=False)
        else:
            del self._histories[file]
            path.unlink(missing_ok=True)

    def _prune(self, pinned: Iterable[Recipe]) -> None:
        """Drop what nothing asks for any more."""
        assert self.folder is not None
        kept = [recipe for recipes in self._tables.values() for recipe in recipes.values()]
        kept += [entry.recipe for entries in self._histories.values() for entry in entries]
        wanted = {source for recipe in [*kept, *pinned] for source in recipe.contents} | self._tables.keys() | {INDEX}
        for path in self.folder.iterdir():
            if path.name not in wanted and not path.name.startswith(".") and not path.is_dir():
                path.unlink(missing_ok=True)  # another worker does the same


def quoted(file: str) -> str:
    """A rule's file as the name of one of ours: bundled rules have slashes."""
    return quote(file, safe="")


def _decoded(path: Path, kind: Any) -> Any:
    """None for what is not there, or was damaged."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=kind)
    except (OSError, msgspec.MsgspecError):
        return None


def _pretty(value: Any) -> bytes:
    return msgspec.json.format(msgspec.json.encode(value), indent=1)


def _write(path: Path, data: bytes, *, sync: bool = True) -> None:
    new = path.with_name(f".{path.name}.{os.getpid()}")  # another worker may write the same
    with open(new, "wb", opener=_private) as file:
        file.write(data)
        if sync:
            file.flush()
            os.fsync(file.fileno())
    new.replace(path)


def _private(path: str, flags: int) -> int:
    # settings of rules may be secrets
    return os.open(path, flags, 0o600)


def _contents(instances: Iterable[Instance]) -> Iterator[tuple[str, bytes]]:
    for instance in instances:
        yield instance.source.digest, instance.source.data
        yield from _contents(instance.imports.values())
