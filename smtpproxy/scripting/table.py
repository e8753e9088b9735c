"""The table of rules: which version of which rule runs at which hook of which listener, in which order."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import FunctionType
from typing import Any, NamedTuple

from smtpproxy.config.problem import did_you_mean
from smtpproxy.scripting.errors import Problem, RuleError
from smtpproxy.scripting.hooks import HOOKS
from smtpproxy.scripting.instance import Instance
from smtpproxy.scripting.runner import Chain, Chains, Entry
from smtpproxy.scripting.settings import Keys

UNNUMBERED = 1_000_000
"""The order of a rule that has none: behind those that have."""

MOST = 1 << 31
_NUMBER = re.compile(r"\d+")
_FAILURES = ("defer", "deny", "continue", "quarantine")


class Rule:
    """A rule as it runs. `version` hashes its closure.

    `broken` says why the newest save is not live, None when it is; `rolled_back` why an earlier version was chosen, "" if not.
    """

    __slots__ = ("broken", "instance", "keys", "on_error", "on_timeout", "order", "quarantine", "rolled_back")

    def __init__(
        self, instance: Instance, keys: Keys, *, quarantine: str = "", broken: str | None = None, rolled_back: str = ""
    ) -> None:
        self.instance = instance
        self.keys = keys
        self.broken = broken
        self.rolled_back = rolled_back
        self.quarantine = quarantine
        self.order = _order(instance, keys)
        self.on_error = _failure_verdicts(instance, "on_error")
        self.on_timeout = _failure_verdicts(instance, "on_timeout")

    @property
    def name(self) -> str:
        return self.instance.source.name

    @property
    def file(self) -> str:
        return self.instance.source.file

    @property
    def path(self) -> str:
        return self.instance.source.path

    @property
    def language(self) -> str:
        return self.instance.source.language

    @property
    def version(self) -> str:
        return self.instance.version

    @property
    def hooks(self) -> Mapping[str, Callable[..., Any]]:
        return self.instance.hooks

    @property
    def settings(self) -> Any:
        return self.instance.settings

    def place(self, function: Callable[..., Any]) -> str:
        """Where a hook begins, for failures that no frame of the author's shows."""
        if isinstance(function, FunctionType):
            return f"{self.file}:{function.__code__.co_firstlineno}"
        line = getattr(function, "line", 0) if self.language == "lua" else 0
        return f"{self.file}:{line}" if line else self.file

    def entry(self, hook: str) -> Entry:
        function: Any = self.hooks[hook]
        return Entry(
            self,
            HOOKS[hook],
            function.within(self.keys.cpu) if self.language == "lua" else function,
            on_error=self.on_error.get(hook, ""),
            on_timeout=self.on_timeout.get(hook, ""),
            wall=self.keys.wall,
            cpu=self.keys.cpu,
            skip=frozenset(self.keys.skip),
            quarantine=self.quarantine,
        )

    def identity(self) -> tuple[object, ...]:
        """All that makes it run differently."""
        return self.name, self.version, self.order, self.keys


def validate(instance: Instance, quarantine: str) -> None:
    """Raises RuleError for a declaration that cannot be kept: `on_error`, `on_timeout`, `order`."""
    order = instance.declared.get("order", 0)
    if type(order) is not int or abs(order) > MOST:
        raise RuleError(f"order must be a whole number, not {order!r}")
    for name in ("on_error", "on_timeout"):
        declared = instance.declared.get(name, {})
        if type(declared) is str:
            _check_failure(name, declared, quarantine)
        elif type(declared) is dict:
            for hook, verdict in declared.items():
                _check_hook_failure(name, hook, verdict, quarantine)
        else:
            raise RuleError(f'{name} must be a text such as "defer", or a table by hook, not {declared!r}')


def _check_hook_failure(name: str, hook: Any, verdict: Any, quarantine: str) -> None:
    if type(hook) is not str or hook not in HOOKS:
        raise RuleError(f'{name}: there is no hook "{hook}"; {did_you_mean(str(hook), HOOKS)}')
    _check_failure(name, verdict, quarantine)
    if verdict not in HOOKS[hook].failures:
        raise RuleError(f'{name}: {hook} may not fail with "{verdict}", only with {", ".join(HOOKS[hook].failures)}')


def _check_failure(name: str, verdict: Any, quarantine: str) -> None:
    if type(verdict) is not str or verdict not in _FAILURES:
        raise RuleError(f"{name} = {verdict!r}; {did_you_mean(str(verdict), _FAILURES)}")
    if verdict == "quarantine" and not quarantine:
        raise RuleError(f'{name} = "quarantine": there is no [handoff.NAME] with kind = "quarantine"')


def _order(instance: Instance, keys: Keys) -> int:
    if keys.order is not None:
        return keys.order
    if "order" in instance.declared:
        return int(instance.declared["order"])
    number = _NUMBER.match(instance.source.name)
    return int(number[0]) if number else UNNUMBERED


def _failure_verdicts(instance: Instance, name: str) -> dict[str, str]:
    """What `on_error` or `on_timeout` declares, by hook. A word alone holds where a hook allows it."""
    declared = instance.declared.get(name, {})
    if isinstance(declared, str):
        return {hook: declared for hook in instance.hooks if declared in HOOKS[hook].failures}
    return dict(declared)


class Table:
    """All rules that run, in order, and the chains made of them. Never changes: a save makes a new one."""

    __slots__ = ("_elsewhere", "chains", "entries", "hash", "instances", "problems", "rules")

    def __init__(
        self,
        rules: Sequence[Rule],
        instances: Mapping[str, Instance],
        problems: Sequence[Problem],
        listeners: Mapping[str, Sequence[str]],
        make: Callable[[str, Mapping[str, Chain]], Chains],
    ) -> None:
        self.rules = tuple(sorted(rules, key=lambda rule: (rule.order, rule.name)))
        self.instances = instances
        self.problems = tuple(problems)
        identity = [rule.identity() for rule in self.rules], sorted((n, tuple(r)) for n, r in listeners.items())
        self.hash = hashlib.sha256(repr(identity).encode()).hexdigest()[:12]
        self.entries: Mapping[str, Mapping[str, Entry]] = {
            rule.name: {hook: rule.entry(hook) for hook in rule.hooks} for rule in self.rules
        }
        self.chains: Mapping[str, Chains] = {
            name: make(name, self._compile(name, patterns)) for name, patterns in listeners.items()
        }
        self._elsewhere = make("", self._compile("", ()))

    def chains_for(self, listener: str) -> Chains:
        """The chains of a listener; of rules bound to no listener for a name that has no list."""
        return self.chains.get(listener, self._elsewhere)

    def _compile(self, listener: str, patterns: Sequence[str]) -> dict[str, Chain]:
        rules = [
            rule
            for rule in self.rules
            if chosen(rule.name, patterns) and (not rule.keys.listeners or listener in rule.keys.listeners)
        ]
        chains: dict[str, list[Entry]] = {hook: [] for hook in HOOKS}
        for rule in rules:
            for hook, entry in self.entries[rule.name].items():
                chains[hook].append(entry)
        return {hook: tuple(chain) for hook, chain in chains.items() if chain}


def chosen(name: str, patterns: Iterable[str]) -> bool:
    """Whether a listener's `rules` let a rule run: `"*"`, `"name"`, `"!name"`, the last that fits counts; none is all.

    A list that only takes away takes away from all.
    """
    patterns = tuple(patterns)
    runs = not patterns or all(pattern.startswith("!") for pattern in patterns)
    for pattern in patterns:
        if pattern.removeprefix("!") in ("*", name):
            runs = not pattern.startswith("!")
    return runs


class Row(NamedTuple):
    """A rule at a hook, for people: `order` counts from 1, `wall` is in seconds, no listeners means all."""

    hook: str
    order: int
    rule: str
    file: str
    version: str
    on_error: str
    on_timeout: str
    wall: float
    chain_budget: float
    listeners: tuple[str, ...]
    skip: tuple[str, ...]
    broken: str | None
    rolled_back: str


def describe(table: Table) -> list[Row]:
    """Which rules run at each hook, in their order: the hooks as they come in a mail's life."""
    return [
        _row(table, rule.entry(hook), order)
        for hook in HOOKS
        for order, rule in enumerate((rule for rule in table.rules if hook in rule.hooks), 1)
    ]


def _row(table: Table, entry: Entry, order: int) -> Row:
    rule: Rule = entry.rule
    where = tuple(
        name for name, chains in table.chains.items() if any(e.rule is rule for e in chains.by_name.get(entry.hook.name, ()))
    )
    return Row(
        entry.hook.name,
        order,
        rule.name,
        rule.file,
        rule.version,
        entry.on_error,
        entry.on_timeout,
        entry.wall,
        entry.hook.budget,
        () if len(where) == len(table.chains) else where,
        rule.keys.skip,
        rule.broken,
        rule.rolled_back,
    )
