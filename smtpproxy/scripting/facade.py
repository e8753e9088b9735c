"""What `from smtpproxy.script import x` gives a rule: its own settings, and doors that lead where the running call says."""

from __future__ import annotations

import contextvars
import functools
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from types import ModuleType
from typing import Any, TypeVar

from gevent.pool import Pool

from smtpproxy.config.problem import did_you_mean
from smtpproxy.config.values import BadValue, Duration, Rate, Size
from smtpproxy.facts.client import Client
from smtpproxy.facts.delivery import Delivery
from smtpproxy.facts.login import Login
from smtpproxy.facts.mail import Mail
from smtpproxy.facts.notes import Notes, Results
from smtpproxy.facts.parts import Part
from smtpproxy.facts.recipient import Recipient, Sender
from smtpproxy.facts.scan import ScanError
from smtpproxy.net.http import HttpError
from smtpproxy.scripting.doors.base import rule_name, running_call
from smtpproxy.scripting.doors.cache import Cache
from smtpproxy.scripting.doors.clamav import Clamav
from smtpproxy.scripting.doors.clock import Clock
from smtpproxy.scripting.doors.digest import Digest
from smtpproxy.scripting.doors.dns import Dns
from smtpproxy.scripting.doors.http import Http
from smtpproxy.scripting.doors.json import Json
from smtpproxy.scripting.doors.lists import Lists
from smtpproxy.scripting.doors.log import Log
from smtpproxy.scripting.doors.sleep import sleep
from smtpproxy.scripting.doors.store import Store, holder
from smtpproxy.scripting.doors.submit import SubmitError, submit
from smtpproxy.scripting.doors.users import Users
from smtpproxy.scripting.lists import ListError
from smtpproxy.scripting.secret import Secret
from smtpproxy.scripting.verdict import Verdict, accept, close, defer, deny
from smtpproxy.stores.base import StoreError
from smtpproxy.wire.reply import Reply

SCRIPT = "smtpproxy.script"
TOGETHER_LIMIT = 16
TOGETHER_DEPTH = 4
_depth: ContextVar[int] = ContextVar("smtpproxy_together", default=0)
TYPES: Mapping[str, type] = {
    kind.__name__: kind for kind in (Client, Delivery, Login, Mail, Notes, Part, Recipient, Reply, Results, Sender)
}
"""What a rule may annotate its arguments with: an editor completes them then."""

F = TypeVar("F", bound=Callable[[], Any])


def together(*functions: Callable[[], Any]) -> tuple[Any, ...]:
    """Run functions without arguments at the same time (16 at most), and return their results in order.

    The first error ends the others and is raised here.  RuntimeError for one inside of another, four deep.
    """
    if (depth := _depth.get()) == TOGETHER_DEPTH:
        raise RuntimeError("together() inside of together(), too deep")
    results: list[Any] = [None] * len(functions)
    errors: list[BaseException] = []
    pool = Pool(TOGETHER_LIMIT)

    def run(index: int, function: Callable[[], Any]) -> None:
        _depth.set(depth + 1)
        try:
            results[index] = function()
        except BaseException as error:  # whatever it is: an answer that is not there must not pass for None
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
    """A function under every(): seconds between two runs, whether one process of the instance only runs it.

    That one is who has a lease of the store; when it is gone, another takes over within two intervals.
    """

    __slots__ = ("function", "name", "once", "seconds")

    def __init__(self, seconds: float, once: bool, function: Callable[[], Any], name: str) -> None:
        self.seconds = seconds
        self.once = once
        self.name = name
        self.function = self._run_once(function) if once else function

    def _run_once(self, function: Callable[[], Any]) -> Callable[[], Any]:
        @functools.wraps(function, assigned=())
        def run() -> Any:
            call = running_call("every")
            key = f"every/{rule_name(call)}/{self.name}"
            if "store" not in call.doors or call.doors["store"].lease(key, holder(), self.seconds * 2):
                return function()
            return None

        return run


class Every:
    """`@every("5m")`: collects the timers of one rule while its file is loaded."""

    __slots__ = ("closed", "timers")

    def __init__(self) -> None:
        self.timers: list[Timer] = []
        self.closed = False

    def __call__(self, interval: str, *, once: bool = False) -> Callable[[F], F]:
        if self.closed:
            raise RuntimeError("every() stands at the top of a file, above a function; a hook cannot add one")
        seconds = interval_seconds(interval)

        def register(function: F) -> F:
            self.timers.append(Timer(seconds, once, function, getattr(function, "__qualname__", "")))
            return function

        return register


def interval_seconds(interval: object) -> float:
    """What stands in every("5m"). Raises ValueError."""
    try:
        seconds = float(Duration.parse(interval))
    except BadValue as wrong:
        raise ValueError(f"every: {wrong}") from None
    if seconds <= 0:
        raise ValueError("every() needs an interval above 0")
    return seconds


class Facade(ModuleType):
    """The module that a rule gets for `smtpproxy.script`."""

    def __init__(self, settings: object, every: Every, notes: object) -> None:
        super().__init__(SCRIPT, "What a rule imports.")
        self.names: Mapping[str, object] = {
            "Duration": Duration, "Rate": Rate, "Size": Size, "Secret": Secret,
            "Verdict": Verdict, "accept": accept, "deny": deny, "defer": defer, "close": close,
            "settings": settings, "together": together, "every": every, "notes": notes,
            "cache": Cache(), "clamav": Clamav(), "dns": Dns(), "http": Http(), "json": Json(), "lists": Lists(), "log": Log(),
            "store": Store(), "HttpError": HttpError, "ListError": ListError, "ScanError": ScanError, "StoreError": StoreError,
            "clock": Clock(), "digest": Digest(), "sleep": sleep, "submit": submit, "SubmitError": SubmitError,
            "users": Users(), **TYPES,
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
