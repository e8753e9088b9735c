"""A table that one process has made and others take over: by its hash, from the very bytes in the data folder.

The gate process watches the folder, makes a table, stores it and offers it. Every worker prepares it beside the one
that it runs; when all of them could, all of them take it, and when one could not, nobody does.
"""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import Struct

from smtpproxy.scripting.archive import Archive, Recipe
from smtpproxy.scripting.errors import RuleError
from smtpproxy.scripting.instance import Instance
from smtpproxy.scripting.library import Library
from smtpproxy.scripting.settings import Keys
from smtpproxy.scripting.source import Source
from smtpproxy.scripting.table import Rule, Table, validate
from smtpproxy.scripting.turns import Turns


class Offer(Struct, frozen=True):
    """`table` is the hash; `keys` say by file name how its rules run, `broken` and `rolled_back` why not as they were saved."""

    table: str
    keys: dict[str, Keys]
    broken: dict[str, str] = {}
    rolled_back: dict[str, str] = {}

    @classmethod
    def of(cls, table: Table) -> Offer:
        rules = {rule.file: rule for rule in table.rules}
        return cls(
            table.hash,
            {file: rule.keys for file, rule in rules.items()},
            {file: rule.broken for file, rule in rules.items() if rule.broken},
            {file: rule.rolled_back for file, rule in rules.items() if rule.rolled_back},
        )


class Cook:
    """Makes instances of what the archive holds; `paths` are those of the files, for what tracebacks show."""

    __slots__ = ("_archive", "_folder", "_library", "_paths", "_quarantine")

    def __init__(self, archive: Archive, library: Library, quarantine: str, folder: str, paths: Mapping[str, Source]) -> None:
        self._archive = archive
        self._library = library
        self._quarantine = quarantine
        self._folder = folder
        self._paths = paths

    def instance(self, recipe: Recipe) -> Instance:
        """Raises RuleError."""
        loaded = self._library.loaded.get((recipe.file, recipe.version))
        if loaded is not None:
            self.validate(loaded)
            return loaded
        data = self._archive.data(recipe)
        if data is None:
            raise RuleError("its bytes are gone from the data folder", recipe.file)
        imports = {name: self.instance(helper) for name, helper in recipe.imports.items()}
        path = self._paths[recipe.file].path if recipe.file in self._paths else f"{self._folder}/{recipe.file}"
        return self._library.load(Instance(Source(recipe.file, path, data), recipe.settings, imports), self.validate)

    def rules(self, offer: Offer) -> tuple[list[Rule], dict[str, Instance]]:
        """All that is offered. Raises RuleError."""
        recipes = self._archive.table(offer.table)
        if recipes is None:
            raise RuleError(f"there is no table {offer.table} in the data folder")
        instances, turn = {}, Turns()
        for file, recipe in recipes.items():
            instances[file] = self.instance(recipe)
            turn()
        return [self._rule(file, keys, instances[file], offer) for file, keys in offer.keys.items()], instances

    def validate(self, instance: Instance) -> None:
        """Raises RuleError."""
        validate(instance, self._quarantine)

    def _rule(self, file: str, keys: Keys, instance: Instance, offer: Offer) -> Rule:
        broken, why = offer.broken.get(file), offer.rolled_back.get(file, "")
        return Rule(instance, keys, quarantine=self._quarantine, broken=broken, rolled_back=why)
