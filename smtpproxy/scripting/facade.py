"""What `from smtpproxy.script import x` gives a rule: its own settings, and the doors of the running call."""

from __future__ import annotations

import contextvars
import time
from collections.abc import Callable, Mapping
from types import ModuleType
from typing import Any, TypeVar

from gevent.pool import Pool

from smtpproxy.config.problem import did_you_mean
from smtpproxy.config.values import BadValue, Duration
from smtpproxy.dns.resolver import Answer, Resolver, addresses, mx, ptr, txt
from smtpproxy.scripting.runner import CALL, Call
from smtpproxy.scripting.verdict import Verdict, accept, close, defer, deny

SCRIPT = "smtpproxy.script"
TOGETHER_LIMIT = 16
_FIELDS = {"event": "event_", "self": "self_"}
"""Names that the log function has for itself."""

F = TypeVar("F", bound=Callable[[], Any])
T = TypeVar("T")


class NoCall(RuntimeError):
    """A door was used where no rule runs."""


def running_call(name: str) -> Call:
    call = CALL.get(None)
    if call is None:
        raise NoCall(f"{name} works while a rule runs: in a hook, in on_load() or under @every()")
    return call


class Dns:
    """Questions to the DNS; each blocks this greenlet only. Raises Temporary when there is no answer for now."""

    __slots__ = ()

    def mx(self, domain: object) -> tuple[tuple[int, str], ...]:
        """The mail exchangers as (preference, host), best first; () when there is none."""
        return self._ask("mx", domain, mx)

    def txt(self, name: object) -> tuple[str, ...]:
        """The TXT records, each with its strings joined."""
        return self._ask("txt", name, txt)

    def a(self, name: object) -> tuple[str, ...]:
        """IPv4 addresses."""
        return self._ask("a", name, lambda resolver, name: resolver.query(name, "A").records)

    def aaaa(self, name: object) -> tuple[str, ...]:
        """IPv6 addresses."""
        return self._ask("aaaa", name, lambda resolver, name: resolver.query(name, "AAAA").records)

    def addresses(self, name: object) -> tuple[str, ...]:
        """All addresses, IPv4 first."""
        return self._ask("addresses", name, addresses)

    def ptr(self, address: object) -> str | None:
        """The name that an address claims, unconfirmed."""
        return self._ask("ptr", address, ptr)

    def query(self, name: object, type: str) -> Answer:
        """Any other question: an Answer with .records, .exists and .secure."""
        return self._ask(type, name, lambda resolver, name: resolver.query(name, type))

    def _ask(self, question: str, name: object, ask: Callable[[Resolver, str], T]) -> T:
        call = running_call("dns")
        if "dns" not in call.doors:
            raise NoCall("dns is not there in this run")
        began = time.monotonic()
        answer: object = None
        try:
            found = ask(call.doors["dns"], str(name))
            answer = found.records if isinstance(found, Answer) else found
            return found
        except Exception as error:
            answer = f"{type(error).__name__}: {error}"
            raise
        finally:
            call.trace.door(f"dns.{question} {name}", answer, began, time.monotonic())


class Log:
    """Records in the server's log, with the rule's name and the id of mail or session."""

    __slots__ = ()

    def debug(self, text: object, /, **fields: object) -> None:
        self._write("debug", text, fields)

    def info(self, text: object, /, **fields: object) -> None:
        self._write("info", text, fields)

    def warning(self, text: object, /, **fields: object) -> None:
        self._write("warning", text, fields)

    def error(self, text: object, /, **fields: object) -> None:
        self._write("error", text, fields)

    def _write(self, level: str, text: object, fields: Mapping[str, object]) -> None:
        call = running_call("log")
        rule = call.entry.rule.name if call.entry else ""
        call.trace.note(f"{rule} {level}: {text}")
        if "log" in call.doors:
            own = {"level": level, "rule": rule, "id": call.id, "text": str(text)}
            call.doors["log"]("rule", **{_FIELDS.get(name, name): value for name, value in fields.items()} | own)


def together(*functions: Callable[[], Any]) -> tuple[Any, ...]:
    """Run functions without arguments at the same time (16 at most), and return their results in order.

    The first error ends the others and is raised here.
    """
    results: list[Any] = [None] * len(functions)
    errors: list[BaseException] = []
    pool = Pool(TOGETHER_LIMIT)

    def run(index: int, function: Callable[[], Any]) -> None:
        try:
            results[index] = function()
        except (Exception, SystemExit, KeyboardInterrupt) as error:
            errors.append(error)
            pool.kill(block=False)

    try:
        for index, function in enumerate(functions):
            if errors:
                break
            pool.spawn(contextvars.copy_context().run, run, index, function)
        pool.join()
    finally:
        pool.kill(block=False)
    if errors:
        raise errors[0]
    return tuple(results)


class Timer:
    """A function under @every: seconds between two runs, whether one worker only runs it."""

    __slots__ = ("function", "once", "seconds")

    def __init__(self, seconds: float, once: bool, function: Callable[[], Any]) -> None:
        self.seconds = seconds
        self.once = once
        self.function = function


class Every:
    """`@every("5m")`: collects the timers of one rule while its file is loaded."""

    __slots__ = ("closed", "timers")

    def __init__(self) -> None:
        self.timers: list[Timer] = []
        self.closed = False

    def __call__(self, interval: str, *, once: bool = False) -> Callable[[F], F]:
        if self.closed:
            raise RuntimeError("every() stands at the top of a file, above a function; a hook cannot add one")
        try:
            seconds = float(Duration.parse(interval))
        except BadValue as wrong:
            raise ValueError(f"every: {wrong}") from None
        if seconds <= 0:
            raise ValueError("every() needs an interval above 0")

        def register(function: F) -> F:
            self.timers.append(Timer(seconds, once, function))
            return function

        return register


class Facade(ModuleType):
    """The module that a rule gets for `smtpproxy.script`."""

    def __init__(self, settings: object, every: Every, notes: object) -> None:
        super().__init__(SCRIPT, "What a rule imports.")
        self.names: Mapping[str, object] = {
            "Verdict": Verdict, "accept": accept, "deny": deny, "defer": defer, "close": close,
            "settings": settings, "together": together, "every": every, "notes": notes,
            "dns": Dns(), "log": Log(),
        }  # fmt: skip
        self.__all__ = tuple(self.names)
        vars(self).update(self.names)

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(self.missing(name))

    def missing(self, name: str) -> str:
        return f'{SCRIPT} has no "{name}"; {did_you_mean(name, self.__all__)}'


def imported(facade: Facade, name: str, fromlist: tuple[str, ...]) -> ModuleType:
    """What an import of `smtpproxy...` in a rule gives. Raises ImportError, with a suggestion."""
    package = ModuleType("smtpproxy")
    vars(package)["script"] = facade
    if name == SCRIPT and not fromlist:
        return package
    if name == "smtpproxy" and set(fromlist) <= {"script"}:
        return package
    if name != SCRIPT:
        raise ImportError(f"a rule imports {SCRIPT} and libraries of its own, not {name}")
    for wanted in fromlist:
        if wanted != "*" and wanted not in facade.names:
            raise ImportError(facade.missing(wanted), name=SCRIPT)
    return facade
