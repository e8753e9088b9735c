"""How every door is gone through: the running call is asked where it leads, the trace keeps question, answer and time."""

from __future__ import annotations

import reprlib
import time
from collections.abc import Callable, Mapping, Set
from typing import TYPE_CHECKING, Any, Final, NoReturn, TypeVar

from smtpproxy.config.problem import did_you_mean
from smtpproxy.config.values import BadValue, Duration
from smtpproxy.scripting.runner import CALL, Call
from smtpproxy.scripting.secret import redacted
from smtpproxy.scripting.settings import SettingsView, own_secrets
from smtpproxy.stores.base import FOREVER

TOLD: Final = 300
"""Characters of a question, and of an answer, that the trace keeps."""

T = TypeVar("T")
Seconds = float | str
"""A duration as rules write it: "5m", or a number of seconds."""

_REPR: Final = reprlib.Repr()
_REPR.maxtuple = _REPR.maxlist = 20
_REPR.maxstring = _REPR.maxother = TOLD


ITEM: Final = 60
"""Octets that a value costs beside its text."""


class NoCall(RuntimeError):
    """A door was used where no rule runs."""


class Door:
    """Base of the doors: a name that one does not have is refused with a suggestion."""

    __slots__ = ()

    if not TYPE_CHECKING:  # mypy would take every unknown name for one that raises

        def __getattr__(self, name: str) -> NoReturn:
            known = [word for word in dir(type(self)) if not word.startswith("_")]
            raise AttributeError(f'{type(self).__name__.lower()} has no "{name}"; {did_you_mean(name, known)}'.rstrip("; "))


def running_call(name: str) -> Call:
    """The call that runs in this greenlet. Raises NoCall."""
    call = CALL.get(None)
    if call is None:
        raise NoCall(f"{name} works while a rule runs: in a hook, in on_load() or under @every()")
    return call


def weigh(value: Any, noun: str, limit: int) -> None:
    """Raises ValueError when a value takes more than `limit` octets written out: what stands in it many times counts as often."""
    left, waiting = limit, [value]
    while waiting:
        item = waiting.pop()
        left -= ITEM + (len(item) if isinstance(item, str | bytes) else 0)
        if left < 0:
            raise ValueError(f"{noun} takes values of {limit >> 20} MB at most")
        if isinstance(item, Mapping):
            waiting.extend(item.keys())
            waiting.extend(item.values())
        elif isinstance(item, list | tuple | set | frozenset):
            waiting.extend(item)


def rule_name(call: Call) -> str:
    """Whose call it is, "" when nobody's."""
    return call.entry.rule.name if call.entry else ""


def through(name: str, question: str, ask: Callable[[Any], T], tell: Callable[[T], object] | None = None) -> T:
    """Go through the door of this name. The trace is told the question, and the answer or the error as `tell` puts it."""
    call = running_call(name)
    if name not in call.doors:
        raise NoCall(f"{name} is not there in this run")
    hidden = hidden_from(call)
    began = time.monotonic()
    answer = "no answer"
    try:
        found = ask(call.doors[name])
        answer = told(tell(found) if tell else found)
        return found
    except Exception as error:
        answer = f"{type(error).__name__}: {error}"
        raise
    finally:
        call.trace.door(redacted(question, hidden)[:TOLD], redacted(answer, hidden)[:TOLD], began, time.monotonic())


def hidden_from(call: Call) -> tuple[str, ...]:
    """The secrets of the rule that runs."""
    settings = getattr(call.entry.rule, "settings", None) if call.entry else None
    return own_secrets(settings) if isinstance(settings, SettingsView) else ()


def told(value: object) -> str:
    """A value in a few words, however large it is."""
    if isinstance(value, str):
        return value[: TOLD * 4]
    if isinstance(value, bytes):
        return f"{len(value)} octets"
    if isinstance(value, Mapping | Set):
        return f"{'table' if isinstance(value, Mapping) else 'set'} of {len(value)}"
    return _REPR.repr(value)


def seconds(value: Seconds | None, what: str = "expires") -> float:
    """A duration in seconds; None is for ever. Raises ValueError."""
    if value is None:
        return FOREVER
    try:
        found = float(value if isinstance(value, int | float) else Duration.parse(value))
    except BadValue as wrong:
        raise ValueError(f"{what}: {wrong}") from None
    if not found > 0:
        raise ValueError(f"{what} is above 0, not {value!r}")
    return found
