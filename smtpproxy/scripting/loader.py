"""What the server holds: the folder of rules as one table, renewed beside the running one on every save.

rules = Rules(folder, settings, listeners, log=log, doors=doors, data=data)
report = rules.load()          # everything, now
rules.start()                  # watch the folder, sweep budgets, run timers and observers
chains = rules.table.chains["mx"]
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import gevent
from gevent.lock import RLock

from smtpproxy.config.schema import Breaker as BreakerSettings
from smtpproxy.config.schema import History
from smtpproxy.facts.notes import Notes
from smtpproxy.scripting import bundled
from smtpproxy.scripting.archive import Archive
from smtpproxy.scripting.breaker import Breaker
from smtpproxy.scripting.budget import Budget
from smtpproxy.scripting.builder import Builder
from smtpproxy.scripting.errors import CpuTimeout, FolderRefused, Problem, RuleError
from smtpproxy.scripting.folder import Folder
from smtpproxy.scripting.instance import Instance
from smtpproxy.scripting.library import Library, closure
from smtpproxy.scripting.observers import Observers
from smtpproxy.scripting.offer import Cook, Offer
from smtpproxy.scripting.preemption import Preemption
from smtpproxy.scripting.rollbacks import Pin, Rollbacks
from smtpproxy.scripting.runner import Call, Chain, Chains, Entry, LogFunction
from smtpproxy.scripting.snapshot import freeze
from smtpproxy.scripting.source import Source
from smtpproxy.scripting.table import Rule, Table
from smtpproxy.scripting.timers import Timers
from smtpproxy.scripting.trace import Fault

POLL = 0.2


class Report(NamedTuple):
    """What a load has changed: rules with a new version or whole again, rules that are gone, what is not live as it stands."""

    table: Table
    live: tuple[str, ...]
    gone: tuple[str, ...]
    problems: tuple[Problem, ...]


def _is_news(before: Rule, after: Rule) -> bool:
    """Another version, or the same one whose broken save was undone."""
    return before.version != after.version or (before.broken is not None and after.broken is None)


class Rules:
    """`table` is the newest; whoever keeps it, or one of its chains, keeps those versions loaded.

    `settings` are the [rule.NAME] tables, `listeners` the `rules` list by listener, `handoffs` the kinds by name,
    `data` the data folder or None, `doors` what lifecycle hooks, timers and observers find. Not
    `live`: for a look at the files, on_load and on_unload do not run.

    Where a gate makes the tables for other processes it `keeps` them, and goes on with a new one only when `approve` says
    nothing against it; the others `prepare` and `take` what it offers and never look at the folder themselves.
    """

    def __init__(
        self,
        folder: Path | None,
        settings: Mapping[str, Mapping[str, Any]] | None = None,
        listeners: Mapping[str, Sequence[str]] | None = None,
        *,
        log: LogFunction,
        handoffs: Mapping[str, str] | None = None,
        doors: Mapping[str, Any] | None = None,
        notes: Notes | None = None,
        data: Path | None = None,
        live: bool = True,
        keeps: bool | None = None,
        approve: Callable[[Table], str] = lambda table: "",
        refused: Mapping[str, str] | None = None,
        shipped: Mapping[str, Source] | None = None,
        breaker: BreakerSettings | None = None,
        history: History | None = None,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], float] = time.time,
    ) -> None:
        self.log = log
        self.budget = Budget(log=log)
        self.budget.preemption = Preemption(log, self._parked, self.budget.running)
        self.breaker = Breaker(
            breaker or BreakerSettings(), log, entries=self._entries, rollback=self._roll_back, clock=clock
        )
        self.folder = Folder(folder, clock=clock, now=now) if folder else None
        self._bundled = bundled.sources() if shipped is None else shipped
        doors = {} if doors is None else doors
        notes = Notes() if notes is None else notes
        self.library = Library(log=log, doors=doors, budget=self.budget, notes=notes, live=live)
        self.library.breaker = self.breaker
        self.observers = Observers(freeze, doors)
        self.timers = Timers(self.library.tick)
        self._settings = settings or {}
        self._listeners = listeners or {}
        self._handoffs = handoffs or {}
        self.archive = Archive(data / "rules" if data else None, history or History(), now)
        self.rollbacks = Rollbacks(data / "rules" if data else None)
        self._now = now
        self._keeps = live if keeps is None else keeps
        self._approve = approve
        self._refused = dict(refused or {})
        self._prepared: Table | None = None
        self._banned: dict[str, str] = {}
        self._told: frozenset[Problem] = frozenset()
        self._changed = False
        self._building = RLock()
        self._watcher: gevent.Greenlet[..., None] | None = None
        self.table = self._table((), {}, ())

    def load(self) -> Report:
        """Read everything now. Raises FolderRefused; what is wrong with single files stands in the report."""
        with self._building, self.budget.started():
            if self.folder:
                self.folder.load()
            return self._rebuild()

    def refresh(self) -> Report | None:
        """Look for changes: cheap when there are none (then None). Raises nothing."""
        with self._building:
            self.library.retire()
            try:
                changed = self.rollbacks.poll() | bool(self.folder and self.folder.poll())
            except (FolderRefused, OSError) as error:
                self._tell((*self.table.problems, Problem("", "scripts", str(error), self.table.hash)))
                return None
            return self._rebuild() if changed or self._changed else None

    def configure(
        self,
        settings: Mapping[str, Mapping[str, Any]],
        listeners: Mapping[str, Sequence[str]],
        handoffs: Mapping[str, str] | None = None,
    ) -> None:
        """The configuration has changed: the next refresh builds with it."""
        self._settings = settings
        self._listeners = listeners
        self._handoffs = handoffs if handoffs is not None else self._handoffs
        self._changed = True

    def ban(self, digest: str, why: str) -> None:
        """Take the version of a rule whose file has this SHA-256 out for good: what it declares for a failure applies."""
        self._banned[digest] = why
        self._enforce_bans()

    def prepare(self, offer: Offer) -> None:
        """Make what is offered beside the running table. Raises RuleError, with nothing changed."""
        with self._building:
            self._prepared = None
            try:
                self._prepared = self._table(*self._cook().rules(offer), ())
            finally:
                self.library.retire()

    def take(self, table: str) -> None:
        """Run what was prepared."""
        with self._building:
            if self._prepared is not None and self._prepared.hash == table:
                new, self._prepared = self._prepared, None
                self._run(new)
                self.library.retire()

    def drop(self) -> None:
        """What was prepared is not wanted."""
        with self._building:
            self._prepared = None
            self.library.retire()

    def start(self, *, watch: bool = True) -> None:
        """Sweep budgets, run timers and observers, and `watch` the folder, until stop()."""
        self.budget.start()
        self.observers.start()
        if self.library.live:
            self.timers.start(self.table)
        if self._watcher is None:
            self._watcher = gevent.spawn(self._watch if watch else self._unload)

    def stop(self) -> None:
        """End what start() began, and unload every version."""
        if self._watcher is not None:
            self._watcher.kill()
            self._watcher = None
        self.timers.stop()
        self.observers.stop()
        for instance in list(self.library.loaded.values()):
            self.library.unload(instance)
        self.budget.stop()

    def _watch(self) -> None:
        while True:
            gevent.sleep(POLL)
            try:
                self.refresh()
            except Exception as error:  # a defect of ours must not end live reload for good
                self.log("rules_watch_failed", level="error", error=f"{type(error).__name__}: {error}")

    def _unload(self) -> None:
        """What no session holds any more goes, where nobody looks at the folder."""
        while True:
            gevent.sleep(POLL)
            with self._building:
                self.library.retire()

    @property
    def _quarantine(self) -> str:
        return next((name for name, kind in self._handoffs.items() if kind == "quarantine"), "")

    @property
    def _place(self) -> str:
        return str(self.folder.path) if self.folder else ""

    def _cook(self) -> Cook:
        return Cook(self.archive, self.library, self._quarantine, self._place, self._bundled)

    def _built(self, running: Table) -> Builder:
        sources = {**self._bundled, **(self.folder.sources if self.folder else {})}
        builder = Builder(
            sources, self._settings, library=self.library, archive=self.archive, running=running,
            listeners=self._listeners, quarantine=self._quarantine, folder=self._place, pins=self.rollbacks.pins,
            refused=self._refused,
        )  # fmt: skip
        builder.build()
        return builder

    def _rebuild(self) -> Report:
        self._changed = False
        old = self.table
        while True:
            builder = self._built(old)
            new = self._table(builder.rules, builder.instances, builder.problems)
            self._store(new)
            why = self._approve(new)
            if not why:
                break
            self._refuse(old, new, why)
        self._unpin(builder)
        self._run(new)
        before, after = ({rule.name: rule for rule in table.rules} for table in (old, new))
        live = tuple(name for name, rule in after.items() if name not in before or _is_news(before[name], rule))
        report = Report(new, live, tuple(before.keys() - after.keys()), new.problems)
        self._keep(new)
        self._announce(report)
        del old, builder
        self.library.retire()
        return report

    def _run(self, new: Table) -> None:
        self.table = new
        self.breaker.follow(new.rules)
        self._enforce_bans()
        self.timers.follow(new)

    def _refuse(self, old: Table, new: Table, why: str) -> None:
        """Others could not take the new table: the file that they name, else all that is new in it, is not tried again."""
        known = {instance.version for instance in old.instances.values()}
        fresh = {file: instance.version for file, instance in new.instances.items() if instance.version not in known}
        blamed = fresh.get(why.partition(": ")[0].partition(":")[0])
        self._refused.update(dict.fromkeys([blamed] if blamed else fresh.values(), why))
        if not fresh:
            raise RuleError(why)

    def _table(self, rules: Sequence[Rule], instances: Mapping[str, Instance], problems: Sequence[Problem]) -> Table:
        held = self.library.hold(instances.values())

        def chains(listener: str, by_name: Mapping[str, Chain]) -> Chains:
            return Chains(
                listener, by_name, running=self.budget.running, log=self.log, held=held,
                observers=self.observers, breaker=self.breaker,
            )  # fmt: skip

        return Table(rules, instances, problems, self._listeners, chains)

    def _entries(self, rule: str) -> Iterable[Entry]:
        return self.table.entries.get(rule, {}).values()

    def _enforce_bans(self) -> None:
        for rule in self.table.rules:
            why = self._banned.get(rule.instance.source.digest)
            if why is not None:
                self.breaker.ban(self._entries(rule.name), why)

    def _parked(self, call: Call, entry: Entry, at: str) -> None:
        """A greenlet had to be given up in the middle of a rule."""
        rule, count = entry.rule, len(self.budget.preemption.parked) if self.budget.preemption else 0
        self.log(
            "rule_parked", level="error", id=call.id, rule=rule.name, version=rule.version, hook=entry.hook.name, at=at,
            error=f"Timeout: {CpuTimeout.why}, and cannot be stopped: it catches what should end it", parked=count,
        )  # fmt: skip
        call.trace.failure(Fault(entry, "Timeout: it cannot be stopped", at, "close"), ())
        self.breaker.parked(entry)

    def _roll_back(self, name: str, why: str) -> str:
        """Have the version before come back with the next look at the folder; its hash, "" when there is none."""
        rule = next((rule for rule in self.table.rules if rule.name == name), None)
        self.archive.reread()
        entry = self.archive.before(rule.file, rule.version) if rule is not None and not rule.rolled_back else None
        if rule is None or entry is None:
            return ""
        try:
            self.rollbacks.put(rule.file, Pin(rule.instance.source.digest, entry.recipe, why, self._now()))
        except OSError as error:
            self.log("rules_not_kept", level="error", error=str(error))
            return ""
        return entry.version

    def _unpin(self, builder: Builder) -> None:
        """A file that has changed is rolled back no longer."""
        if not self._keeps or not (self.folder and self.folder.sources):  # the folder may come later
            return
        for file, pin in builder.pins.items():
            if file not in builder.sources or builder.sources[file].digest != pin.digest:
                try:
                    self.rollbacks.drop(file)
                except OSError as error:
                    self.log("rules_not_kept", level="error", error=str(error))

    def older(self) -> list[Instance]:
        """The versions that are still loaded, because sessions hold a table older than the newest."""
        newest = {part.key for instance in self.table.instances.values() for part in closure(instance)}
        return [instance for key, instance in self.library.loaded.items() if key not in newest]

    def _store(self, table: Table) -> None:
        """Where others find it."""
        if self._keeps:
            try:
                self.archive.store(table.hash, table.instances)
            except OSError as error:
                self.log("rules_not_kept", level="error", error=str(error))

    def _keep(self, table: Table) -> None:
        if not self._keeps:
            return
        try:
            why = {rule.file: f"rolled back: {rule.rolled_back}" for rule in table.rules if rule.rolled_back}
            self.archive.keep(table.hash, table.instances, why, (pin.recipe for pin in self.rollbacks.pins.values()))
        except OSError as error:
            self.log("rules_not_kept", level="error", error=str(error))

    def _announce(self, report: Report) -> None:
        for rule in report.table.rules:
            if rule.name in report.live:
                more = {"level": "warning", "rolled_back": rule.rolled_back} if rule.rolled_back else {}
                self.log("rule_live", rule=rule.name, version=rule.version, file=rule.file, **more)
        for name in report.gone:
            self.log("rule_gone", level="warning", rule=name)
        self._tell(report.problems)

    def _tell(self, problems: Sequence[Problem]) -> None:
        """Log what is new: a broken file is told once, not at every save of another."""
        for problem in problems:
            if problem not in self._told:
                self.log(
                    "rule_broken",
                    level="error",
                    file=problem.file,
                    at=problem.at,
                    error=problem.text,
                    kept=problem.kept,
                )
        self._told = frozenset(problems)
