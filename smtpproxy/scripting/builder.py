"""One table made from what the folder holds: of each file the newest version that works, helpers first."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from smtpproxy.config.problem import did_you_mean
from smtpproxy.scripting.archive import Archive
from smtpproxy.scripting.errors import Problem, RuleError
from smtpproxy.scripting.failure import rule_error
from smtpproxy.scripting.instance import Instance
from smtpproxy.scripting.library import Library
from smtpproxy.scripting.offer import Cook
from smtpproxy.scripting.rollbacks import Pin
from smtpproxy.scripting.settings import split
from smtpproxy.scripting.source import BUNDLED, Source
from smtpproxy.scripting.table import Rule, Table
from smtpproxy.scripting.turns import Turns


class Builder:
    """Used once. `running` is the table that serves now: what cannot be made anew goes on as it is there."""

    def __init__(
        self,
        sources: Mapping[str, Source],
        tables: Mapping[str, Mapping[str, Any]],
        *,
        library: Library,
        archive: Archive,
        running: Table | None,
        listeners: Mapping[str, Sequence[str]],
        quarantine: str,
        folder: str,
        pins: Mapping[str, Pin],
        refused: Mapping[str, str],
    ) -> None:
        self.sources = sources
        self.tables = tables
        self.library = library
        self.archive = archive
        self.running: Mapping[str, Rule] = {rule.file: rule for rule in running.rules} if running else {}
        self.instances_running: Mapping[str, Instance] = running.instances if running else {}
        self.listeners = listeners
        self.quarantine = quarantine
        self.pins = pins
        self.refused = refused
        """What must not be loaded again, and why: by the SHA-256 of a file's bytes or by a version."""
        self._cook = Cook(archive, library, quarantine, folder, sources)
        self.rolled_back: dict[str, Pin] = {}
        """Those of the pins that hold."""
        self.problems: list[Problem] = []
        self.rules: list[Rule] = []
        self.instances: dict[str, Instance] = {}
        self._done: dict[str, Instance | None] = {}
        self._settling: set[str] = set()

    def build(self) -> None:
        """Fill `rules`, `instances` and `problems`. Raises nothing of a rule's making."""
        turn = Turns()
        for file in self._without_twins():
            self._add(file)
            turn()
        names = {source.name for source in self.sources.values()}
        for name in self.tables.keys() - names:
            self._unknown(f"[rule.{name}]", name, names)
        for listener, patterns in self.listeners.items():
            for pattern in patterns:
                if (name := pattern.removeprefix("!")) != "*" and name not in names:
                    self._unknown(f"[listener.{listener}] rules", name, names)

    def _unknown(self, where: str, name: str, names: Iterable[str]) -> None:
        text = f'there is no rule "{name}"; {did_you_mean(name, names)}'.rstrip("; ")
        self.problems.append(Problem(where, where, text, kept=None))

    def _without_twins(self) -> list[str]:
        """The files but those whose name another one has too: there the one that was first goes on."""
        files = []
        named: dict[str, list[str]] = {}
        for file, source in self.sources.items():
            named.setdefault(source.name, []).append(file)
        for file, source in sorted(self.sources.items()):
            twins = [other for other in named[source.name] if other != file]
            known = self.instances_running or self.archive.recipes
            if not twins or (file in known and not any(twin in known for twin in twins)):
                files.append(file)
                continue
            off = source.bundled and self.tables.get(source.name, {}).get("enabled") is not True
            self.problems.append(Problem(file, file, _of_one_name(source, twins[0]), kept=None if off else ""))
        return files

    def _add(self, file: str) -> None:
        source = self.sources[file]
        try:
            keys, given = split(self.tables.get(source.name, {}), enabled=not source.bundled)
        except RuleError as error:
            self._goes_on(file, error)
            return
        if not keys.enabled:
            if source.bundled and given:
                self._idle(file, source.name)
            return
        instance = self.resolve(file)
        if instance is None:
            return
        self.instances[file] = instance
        if instance.is_rule:
            pin = self.rolled_back.get(file)
            broken = pin.text if pin else next((problem.text for problem in self.problems if problem.file == file), None)
            self.rules.append(Rule(instance, keys, quarantine=self.quarantine, broken=broken, rolled_back=pin.why if pin else ""))

    def _idle(self, file: str, name: str) -> None:
        """Settings of a bundled rule that was not switched on: most likely that was forgotten."""
        if "enabled" not in self.tables[name]:
            where = f"[rule.{name}]"
            self.problems.append(Problem(where, where, f"{file} is off: write enabled = true, or false", kept=None))

    def _goes_on(self, file: str, error: RuleError) -> None:
        """Its table in the configuration is wrong: the rule goes on exactly as it ran."""
        rule = self.running.get(file)
        self.problems.append(Problem(file, error.at or file, error.text, rule.version if rule else ""))
        if rule is not None:
            self.instances[file] = rule.instance
            self.rules.append(Rule(rule.instance, rule.keys, quarantine=self.quarantine, broken=error.text))

    def resolve(self, file: str) -> Instance | None:
        """The version of a file that this table has: its newest, else its last good one, else none.

        Raises RuleError in a cycle.
        """
        if file in self._settling:
            raise RuleError(f"{file} imports itself, through its helpers: rule files cannot import each other in a circle")
        pin = self.pins.get(file)
        if pin is not None and pin.digest == self.sources[file].digest and file not in self._done:
            self._pinned(file, pin)
        if file not in self._done:
            self._settling.add(file)
            try:
                self._done[file] = self._newest(self.sources[file])
            except RuleError as error:
                self._done[file] = kept = self._kept(file)
                self.problems.append(Problem(file, error.at or file, error.text, kept.version if kept else ""))
            finally:
                self._settling.discard(file)
        return self._done[file]

    def _pinned(self, file: str, pin: Pin) -> None:
        try:
            self._done[file] = self._cook.instance(pin.recipe)
        except RuleError as error:
            self.problems.append(Problem(file, error.at or file, f"it cannot be rolled back: {error.text}", kept=None))
        else:
            self.rolled_back[file] = pin

    def _newest(self, source: Source) -> Instance:
        if source.error or source.digest in self.refused:
            raise RuleError(source.error or self.refused[source.digest], source.file)
        try:
            wanted = source.imports
        except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
            raise rule_error(error, source.file) from error
        imports = {}
        for name in () if source.bundled else wanted:
            if f"{name}.py" in self.sources:
                helper = self.resolve(f"{name}.py")
                if helper is None:
                    raise RuleError(f"it imports {name}, and {name}.py is broken", source.file)
                imports[name] = helper
        given = split(self.tables.get(source.name, {}))[1]
        instance = Instance(source, given, imports)
        if instance.version in self.refused:
            at, _, text = self.refused[instance.version].partition(": ")
            blamed = at.partition(":")[0] == source.file
            raise RuleError(text, at) if blamed else RuleError(self.refused[instance.version], source.file)
        return self.library.load(instance, self._cook.validate)

    def _kept(self, file: str) -> Instance | None:
        if file in self.instances_running:
            return self.instances_running[file]
        recipe = self.archive.recipes.get(file)
        if recipe is None:
            return None
        try:
            return self._cook.instance(recipe)
        except RuleError:
            return None


def _of_one_name(source: Source, twin: str) -> str:
    if source.bundled or twin.startswith(BUNDLED):
        own, bundled = (twin, source.file) if source.bundled else (source.file, twin)
        return f"{own} and {bundled}, which comes with smtpproxy, have one name: give your own another"
    return f"{twin} has the same name: a rule's name is its file's, without extension"
