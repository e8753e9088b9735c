"""A rule that keeps failing is taken out: the circuit breaker.

Every failure costs its call, a line in the log, and often the whole budget. Past a threshold the rule is not called any
more: its declared verdict applies at once, or the version before it comes back. A save of the rule closes the circuit;
so does the end of the cool-down, on probation: until a window has passed without, the first failure opens it again.

Nothing of this is on the hot path: an entry that is out has another function, which raises.
"""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any, NoReturn

from smtpproxy.config.schema import Breaker as Settings
from smtpproxy.scripting.errors import Tripped
from smtpproxy.scripting.runner import Entry

Key = tuple[str, str]
"""Name and version of a rule."""


class Out:
    """Stands in an entry for the rule's function."""

    __slots__ = ("function", "why")

    def __init__(self, function: Callable[..., Any], why: str) -> None:
        self.function = function
        self.why = why

    def __call__(self, *arguments: object) -> NoReturn:
        raise Tripped(self.why)


class Circuit:
    """One version of one rule. `until` is when the cool-down is over; None while the rule runs."""

    __slots__ = ("failures", "probation", "until", "why")

    def __init__(self, failures: int) -> None:
        self.failures: deque[float] = deque(maxlen=failures)
        self.probation = 0.0
        self.until: float | None = None
        self.why = ""


class Breaker:
    """`rollback(name)` has the version before a rule's come back, and gives it; "" when there is none.

    Logs rule_tripped and rule_restored. `entries(name)` are those of the newest table.
    """

    def __init__(
        self,
        settings: Settings,
        log: Callable[..., None],
        *,
        entries: Callable[[str], Iterable[Entry]],
        rollback: Callable[[str, str], str],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.settings = settings
        self._log = log
        self._entries = entries
        self._rollback = rollback
        self._clock = clock
        self._circuits: dict[Key, Circuit] = {}

    def failed(self, entry: Entry) -> None:
        """Count a failure; take the rule out when it was one too many."""
        settings, now = self.settings, self._clock()
        if settings.action == "off" or not settings.failures:
            return
        circuit = self._circuit(entry)
        if circuit.until is not None:  # of an older table, which did not know
            self._take_out(entry, circuit)
            return
        circuit.failures.append(now)
        many = len(circuit.failures) == settings.failures and now - circuit.failures[0] <= settings.window
        if many or now < circuit.probation:
            count = sum(now - at <= settings.window for at in circuit.failures)
            self._trip(entry, circuit, f"{count} failures within {settings.window:g} s" if many else "it has failed again")

    def parked(self, entry: Entry) -> None:
        """A call of it had to be given up: one is enough, for each keeps a greenlet for good."""
        circuit = self._circuit(entry)
        if self.settings.action != "off" and circuit.until is None:
            self._trip(entry, circuit, "it cannot be stopped")

    def ban(self, entries: Iterable[Entry], why: str) -> None:
        """Take them out until their rule is saved anew."""
        for entry in entries:
            circuit = self._circuit(entry)
            circuit.until = math.inf
            circuit.why = f"taken out: {why}"
            self._take_out(entry, circuit)

    def out(self, entry: Entry) -> bool:
        """Whether this version of the rule is out."""
        circuit = self._circuits.get(_key(entry))
        return circuit is not None and circuit.until is not None

    def refused(self, entry: Entry) -> None:
        """A rule that is out was asked: put it back when the cool-down is over, for the next call."""
        circuit = self._circuits.get(_key(entry))
        if circuit is None or circuit.until is None or self._clock() >= circuit.until:
            self._restore(entry, circuit)

    def follow(self, rules: Iterable[Any]) -> None:
        """Another table is live: versions that are gone are forgotten, those that are out stay out."""
        live = {(rule.name, rule.version) for rule in rules}
        for key in self._circuits.keys() - live:
            del self._circuits[key]
        for (name, version), circuit in self._circuits.items():
            if circuit.until is not None:
                for entry in self._entries(name):
                    if entry.rule.version == version:
                        self._take_out(entry, circuit)

    def _circuit(self, entry: Entry) -> Circuit:
        circuit = self._circuits.get(_key(entry))
        if circuit is None or circuit.failures.maxlen != self.settings.failures:
            circuit = self._circuits[_key(entry)] = Circuit(self.settings.failures)
        return circuit

    def _trip(self, entry: Entry, circuit: Circuit, why: str) -> None:
        rule, now = entry.rule, self._clock()
        circuit.until = now + self.settings.cooldown
        circuit.failures.clear()
        circuit.why = f"taken out: {why}"
        for other in (entry, *self._entries(rule.name)):
            if other.rule.version == rule.version:
                self._take_out(other, circuit)
        back = self._rollback(rule.name, why) if self.settings.action == "rollback" else ""
        self._log(
            "rule_tripped", level="error", rule=rule.name, version=rule.version, why=why, action="rollback" if back else "remove",
            back=back, hook=entry.hook.name, verdict=entry.on_error, retry=f"{self.settings.cooldown:g}s",
        )  # fmt: skip

    def _take_out(self, entry: Entry, circuit: Circuit) -> None:
        if not isinstance(entry.function, Out):
            entry.function = Out(entry.function, circuit.why)

    def _restore(self, entry: Entry, circuit: Circuit | None) -> None:
        rule = entry.rule
        for other in (entry, *self._entries(rule.name)):
            if isinstance(other.function, Out) and other.rule.version == rule.version:
                other.function = other.function.function
        if circuit is not None and circuit.until is not None:
            circuit.until = None
            circuit.probation = self._clock() + self.settings.window
            self._log("rule_restored", level="warning", rule=rule.name, version=rule.version)


def _key(entry: Entry) -> Key:
    return entry.rule.name, entry.rule.version
