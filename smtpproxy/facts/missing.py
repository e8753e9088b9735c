"""What a rule is told when it uses a name that is not there."""

from __future__ import annotations

import difflib
import sys
from collections.abc import Mapping
from types import FrameType
from typing import TYPE_CHECKING, Any, ClassVar


class FactMissing(AttributeError):
    """A name that no fact has, or that is not known yet at this stage of the mail."""


RULES = "rules@"
"""Python rule files are modules of such a name."""


class Fact:
    """Base of what rules see: unknown names are refused with a suggestion, and so is what rules may not assign.

    Reading known names never comes here.  Assignment does, at 0.3 us each: constructors go round it.
    """

    __slots__ = ()
    _noun: ClassVar[str]
    """What rules call it."""
    _assignable: ClassVar[Mapping[str, tuple[type, ...]]] = {}
    """What rules may assign, and of which types; (): the property itself looks at it."""

    def assign(self, name: str, value: Any) -> None:
        """As a rule does it.  Raises FactMissing, TypeError, and what the property raises."""
        if name not in self._assignable:
            raise missing(self, name, "assigned")
        types = self._assignable[name]
        if types and type(value) not in types:
            raise TypeError(f"{self._noun}.{name} is {_LIKE[types[0]]}, no {type(value).__name__}")
        put(self, name, value)

    if not TYPE_CHECKING:  # mypy would take every unknown name for Any

        def __getattr__(self, name: str) -> Any:
            raise missing(self, name)

        def __setattr__(self, name: str, value: Any) -> None:
            if _by_a_rule():
                self.assign(name, value)
                return
            try:
                put(self, name, value)
            except AttributeError:
                raise missing(self, name, "assigned") from None

        def __delattr__(self, name: str) -> None:
            raise missing(self, name, "deleted")


_LIKE: Mapping[type, str] = {bool: "true or false", str: "the name of a hand-off"}


def _by_a_rule() -> bool:
    """The assignment stands in the file of a rule: the house itself may assign anything."""
    frame: FrameType | None = sys._getframe(2)
    while frame is not None and str(frame.f_globals.get("__name__")).startswith("smtpproxy.facts"):
        frame = frame.f_back
    return frame is not None and str(frame.f_globals.get("__name__")).startswith(RULES)


put = object.__setattr__
"""Sets a slot without the detour through ``Fact``."""


def missing(fact: Fact, name: str, use: str = "read") -> FactMissing:
    """The error for ``fact.name``: not there, or there and not to be assigned."""
    known = [other for other in dir(type(fact)) if not other.startswith("_")]
    if name in known:
        return FactMissing(f"{fact._noun}.{name} cannot be {use}")
    near = difflib.get_close_matches(name, known, n=1)
    return FactMissing(f"{fact._noun} has no {name!r}" + (f"; did you mean {near[0]!r}?" if near else ""))
