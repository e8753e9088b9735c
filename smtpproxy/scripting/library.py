"""The versions that are loaded: made once, shared by the tables that have them, unloaded with the last of those."""

from __future__ import annotations

import weakref
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from smtpproxy.scripting.breaker import Breaker
from smtpproxy.scripting.budget import Budget
from smtpproxy.scripting.errand import Errand
from smtpproxy.scripting.errors import RuleError, RuleTimeout
from smtpproxy.scripting.failure import Failure, rule_error
from smtpproxy.scripting.hooks import CHAIN_BUDGET, EVERY, HOOKS, LOAD_CPU_BUDGET, Hook
from smtpproxy.scripting.instance import Instance, run_python
from smtpproxy.scripting.lua_rules import run_lua
from smtpproxy.scripting.runner import Call, Entry, LogFunction
from smtpproxy.scripting.secret import Hiding, secrets
from smtpproxy.scripting.settings import settings_of
from smtpproxy.scripting.trace import Trace


class Held:
    """What a table and its chains have in common: while one of them is in use, the table's versions stay loaded."""

    __slots__ = ("__weakref__",)


class _Owner:
    """Who runs, while no Rule is there yet."""

    __slots__ = ("file", "name", "version")

    def __init__(self, instance: Instance) -> None:
        self.name = instance.source.name
        self.file = instance.source.file
        self.version = instance.version


class Library:
    """`notes` is the worker's, `doors` are what on_load and timers find.

    Nothing of a rule's making is raised from here.
    """

    def __init__(self, *, log: LogFunction, doors: Mapping[str, Any], budget: Budget, notes: object, live: bool = True) -> None:
        self.live = live
        self.log = log
        self.doors = doors
        self.budget = budget
        self.notes = notes
        self.breaker: Breaker | None = None
        """Counts the failures of timers."""
        self.hiding = Hiding()
        """Takes the secrets of these versions out of what is written."""
        self.loaded: dict[tuple[str, str], Instance] = {}
        self._endless: dict[tuple[str, str], tuple[str, str]] = {}
        """Versions that took all their time to be loaded, and why: a save of another file does not try them again."""
        self._retired: deque[tuple[Instance, ...]] = deque()

    def load(self, instance: Instance, check: Callable[[Instance], None]) -> Instance:
        """The version that is there already, or this one, made, checked and told so by on_load. Raises RuleError."""
        if instance.key in self.loaded:
            check(self.loaded[instance.key])
            return self.loaded[instance.key]
        if instance.key in self._endless:
            raise RuleError(*self._endless[instance.key])
        self.hiding.learn(secrets(instance.given))
        error = self._guarded(instance, HOOKS["on_load"], lambda: self._run(instance, check))
        self.hiding.learn(secrets(settings_of(instance.settings)))
        if error is not None:
            instance.forget()
            failed = self._told(error, instance)
            if issubclass(type(error), RuleTimeout):
                self._endless[instance.key] = failed.text, failed.at
            raise failed from error
        if self.live and "on_load" in instance.hooks:
            error = self._guarded(instance, HOOKS["on_load"], instance.hooks["on_load"])
        if error is not None:
            failed = self._told(error, instance)
            instance.forget()
            raise RuleError(f"on_load failed: {failed.text}", failed.at) from error
        self.loaded[instance.key] = instance
        return instance

    def _told(self, error: BaseException, instance: Instance) -> RuleError:
        failed = rule_error(error, instance.source.file)
        failed.text = self.hiding(failed.text)
        return failed

    def _run(self, instance: Instance, check: Callable[[Instance], None]) -> None:
        if instance.source.language == "lua":
            run_lua(instance, self.notes)
        else:
            run_python(instance, self.notes)
        check(instance)

    def hold(self, instances: Iterable[Instance]) -> Held:
        """Count a new table's use of these until what is given back is gone."""
        used = tuple(dict.fromkeys(part for instance in instances for part in closure(instance)))
        for instance in used:
            instance.uses += 1
        held = Held()
        # the finalizer may run in any greenlet, in the middle of anything: it only notes, retire() acts
        weakref.finalize(held, self._retired.append, used).atexit = False
        return held

    def heaps(self) -> int:
        """Octets that the loaded versions hold, as far as that can be told: the heaps of rules in Lua."""
        return sum(instance.heap() for instance in self.loaded.values() if instance.heap is not None)

    def retire(self) -> None:
        """Unload what no table uses any more."""
        while self._retired:
            for instance in self._retired.popleft():
                instance.uses -= 1
        for instance in [instance for instance in self.loaded.values() if not instance.uses]:
            self.unload(instance)

    def unload(self, instance: Instance) -> None:
        del self.loaded[instance.key]
        if self.live and "on_unload" in instance.hooks:
            self.attempt(instance, HOOKS["on_unload"], instance.hooks["on_unload"])
        instance.forget()

    def tick(self, instance: Instance, function: Callable[[], Any]) -> None:
        """Run a timer's function once, unless its rule is out."""
        entry = Entry(_Owner(instance), EVERY, function, wall=CHAIN_BUDGET, cpu=LOAD_CPU_BUDGET)
        if self.breaker is not None and self.breaker.out(entry):
            self.breaker.refused(entry)
        elif not self.attempt(instance, EVERY, function) and self.breaker is not None:
            self.breaker.failed(entry)

    def attempt(self, instance: Instance, hook: Hook, function: Callable[[], Any]) -> bool:
        """Run, and log it if it fails: then False."""
        error = self._guarded(instance, hook, function)
        if error is not None:
            failure = Failure.of(error, at=instance.source.file)
            self.log(
                "rule_failed", level="error", rule=instance.source.name, version=instance.version, hook=hook.name,
                at=failure.at, error=failure.error,
            )  # fmt: skip
            return False
        return True

    def _guarded(self, instance: Instance, hook: Hook, function: Callable[[], Any]) -> BaseException | None:
        """What it raised."""
        call = Call(trace=Trace(f"{hook.name} {instance.source.name}"), doors=self.doors)
        wall = CHAIN_BUDGET if hook is EVERY else hook.wall
        call.entry = Entry(_Owner(instance), hook, function, wall=wall, cpu=LOAD_CPU_BUDGET)
        call.deadline = self.budget.clock() + wall
        return Errand(call, function, self.budget.running).wait()


def closure(instance: Instance) -> Iterable[Instance]:
    """The instance and its helpers, theirs included."""
    yield instance
    for helper in instance.imports.values():
        yield from closure(helper)
