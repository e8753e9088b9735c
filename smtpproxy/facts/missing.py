"""What a rule is told when it uses a name that is not there."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING, Any, ClassVar


class FactMissing(AttributeError):
    """A name that no fact has, or that is not known yet at this stage of the mail."""


class Fact:
    """Base of what rules see: unknown names are refused with a suggestion.

    Reading known names never comes here.  Assignment does, at 0.1 us each: constructors go round it.
    """

    __slots__ = ()
    _noun: ClassVar[str]
    """What rules call it."""

    if not TYPE_CHECKING:  # mypy would take every unknown name for Any

        def __getattr__(self, name: str) -> Any:
            raise missing(self, name)

        def __setattr__(self, name: str, value: Any) -> None:
            try:
                put(self, name, value)
            except AttributeError:
                raise missing(self, name, "assigned") from None


put = object.__setattr__
"""Sets a slot without the detour through ``Fact``."""


def missing(fact: Fact, name: str, use: str = "read") -> FactMissing:
    """The error for ``fact.name``: not there, or there and not to be assigned."""
    known = [other for other in dir(type(fact)) if not other.startswith("_")]
    if name in known:
        return FactMissing(f"{fact._noun}.{name} cannot be {use}")
    near = difflib.get_close_matches(name, known, n=1)
    return FactMissing(f"{fact._noun} has no {name!r}" + (f"; did you mean {near[0]!r}?" if near else ""))
