"""The last good version of each file, kept over a restart: its bytes, settings and helpers, in the data folder."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec

from smtpproxy.scripting.instance import Instance

INDEX = "index.json"


class Recipe(msgspec.Struct, frozen=True):
    """What an instance was made of; `source` is the sha256 of its bytes."""

    file: str
    source: str
    settings: dict[str, Any]
    imports: dict[str, Recipe]

    @classmethod
    def of(cls, instance: Instance) -> Recipe:
        imports = {name: cls.of(helper) for name, helper in instance.imports.items()}
        return cls(instance.source.file, instance.source.digest, dict(instance.given), imports)

    def everything(self) -> Iterator[Recipe]:
        yield self
        for recipe in self.imports.values():
            yield from recipe.everything()


class LastGood:
    """`folder` is `data/rules`: a file for each content, named by its hash, and an index of recipes by file name."""

    def __init__(self, folder: Path | None) -> None:
        self.folder = folder
        self.recipes: dict[str, Recipe] = self._read() if folder else {}

    def _read(self) -> dict[str, Recipe]:
        assert self.folder is not None
        try:
            return msgspec.json.decode((self.folder / INDEX).read_bytes(), type=dict[str, Recipe])
        except (OSError, msgspec.MsgspecError):
            return {}

    def data(self, recipe: Recipe) -> bytes | None:
        """The bytes that a recipe asks for; None when they are gone."""
        if self.folder is None:
            return None
        try:
            return (self.folder / recipe.source).read_bytes()
        except OSError:
            return None

    def keep(self, instances: Mapping[str, Instance]) -> None:
        """Keep these versions by file name, and nothing else. Raises OSError."""
        recipes = {file: Recipe.of(instance) for file, instance in instances.items()}
        if self.folder is None or recipes == self.recipes:
            return
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        wanted = {part.source for recipe in recipes.values() for part in recipe.everything()}
        for digest, data in _contents(instances.values()):
            if digest in wanted and not (self.folder / digest).exists():
                self._write(digest, data)
        self._write(INDEX, msgspec.json.format(msgspec.json.encode(recipes), indent=1))
        self.recipes = recipes
        for path in self.folder.iterdir():
            if path.name not in wanted and path.name != INDEX:
                path.unlink()

    def _write(self, name: str, data: bytes) -> None:
        assert self.folder is not None
        new = self.folder / f".{name}.new"
        with open(new, "wb", opener=_private) as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        new.replace(self.folder / name)


def _private(path: str, flags: int) -> int:
    # settings of rules may be secrets
    return os.open(path, flags, 0o600)


def _contents(instances: Iterable[Instance]) -> Iterator[tuple[str, bytes]]:
    for instance in instances:
        yield instance.source.digest, instance.source.data
        yield from _contents(instance.imports.values())
