"""Our objects as Lua rules see them: what each kind of object answers when it is read, assigned, called or walked
through.

The facts' own table (`facts/surface.py`) says what is reachable; containers of plain values, named tuples and
iterators are readable as well. Nothing else can be reached: an object of any other type is an error where it would
have been handed over.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from operator import attrgetter
from typing import Any

from smtpproxy.config.problem import did_you_mean
from smtpproxy.facts.missing import Fact
from smtpproxy.facts.surface import SURFACE
from smtpproxy.scripting.verdict import Verdict
from smtpproxy.wire.reply import Reply

Names = Mapping[str, frozenset[str]]

LAZY = "lazy"
"""Read names that may wait: a name is one when its class has NAME_known, which says whether the answer is there."""

_NONE: frozenset[str] = frozenset()
OURS: Mapping[type, Names] = {
    Verdict: {"read": frozenset({"kind", "code", "enhanced", "text", "relay", "rule", "hook", "line"})},
    Reply: {"read": frozenset({"code", "enhanced", "lines", "text", "positive", "permanent", "transient"})},
}


class NotReadable(TypeError):
    """An object that Lua may not have."""


class Kind:
    """What all objects of one type answer. Names that are none raise AttributeError with a suggestion."""

    __slots__ = ("calls", "cls", "lazy", "noun", "reads", "writes")

    def __init__(self, cls: type, names: Names) -> None:
        self.cls = cls
        self.noun = str(getattr(cls, "_noun", cls.__name__.lower()))
        read = names.get("read", _NONE)
        self.lazy = names.get(LAZY, _NONE) | {name for name in read if hasattr(cls, f"{name}_known")}
        self.reads: Mapping[str, Callable[[Any], Any]] = {name: attrgetter(name) for name in read - self.lazy}
        self.writes = names.get("write", _NONE)
        self.calls = names.get("call", _NONE)

    def known(self, thing: Any, name: str) -> bool:
        """A lazy fact is there already."""
        return bool(getattr(thing, f"{name}_known", False))

    def read(self, thing: Any, key: str | float) -> Any:
        """`thing[key]`, for keys that are no readable names."""
        raise AttributeError(self.unknown(key))

    def write(self, thing: Any, key: str | float, value: Any) -> None:
        if key not in self.writes:
            raise AttributeError(self.unassignable(key))
        if isinstance(thing, Fact):
            thing.assign(str(key), value)
        else:
            setattr(thing, str(key), value)

    def method(self, thing: Any, name: str) -> Callable[..., Any]:
        if name not in self.calls:
            raise AttributeError(self.unknown(name))
        return getattr(thing, name)  # type: ignore[no-any-return]

    def items(self, thing: Any) -> list[tuple[Any, Any]]:
        """What pairs() walks through."""
        raise TypeError(f"pairs(): a {self.noun} is no list")

    def length(self, thing: Any) -> int:
        if not hasattr(self.cls, "__len__"):
            raise TypeError(f"a {self.noun} has no length")
        return len(thing)

    def text(self, thing: Any) -> str:
        return str(thing) if _has_text(self.cls) else self.noun

    def unknown(self, key: str | float) -> str:
        names = self.reads.keys() | self.lazy | self.calls
        return f'{self.noun} has no "{key}"; {did_you_mean(str(key), names)}'.rstrip("; ")

    def unassignable(self, key: str | float) -> str:
        if key in self.reads or key in self.lazy or key in self.calls:
            return f"{self.noun}.{key} cannot be assigned"
        return self.unknown(key)


class Keyed(Kind):
    """Facts that are read by any name: header fields, notes."""

    __slots__ = ()

    def read(self, thing: Any, key: str | float) -> Any:
        if not isinstance(key, str):
            raise TypeError(f"a {self.noun} is indexed by a name, not by a number")
        return thing[key]

    def write(self, thing: Any, key: str | float, value: Any) -> None:
        if not hasattr(self.cls, "__setitem__"):
            raise TypeError(f"a {self.noun} cannot be changed")
        if not isinstance(key, str):
            raise TypeError(f"a {self.noun} is indexed by a name, not by a number")
        thing[key] = value

    def items(self, thing: Any) -> list[tuple[Any, Any]]:
        return [item if isinstance(item, tuple) else (item, thing[item]) for item in thing]


class Walked(Kind):
    """Facts that are walked through and counted, but not indexed: results."""

    __slots__ = ()

    def items(self, thing: Any) -> list[tuple[Any, Any]]:
        return [(getattr(item, "name", number), item) for number, item in enumerate(thing, 1)]


class Listed(Kind):
    """Lists and tuples: numbered from 1, asked with :has(x)."""

    __slots__ = ()

    def __init__(self, cls: type) -> None:
        fields = frozenset(getattr(cls, "_fields", ()))
        super().__init__(cls, {"read": fields, "call": frozenset({"has"})})
        self.noun = "list"

    def read(self, thing: Any, key: str | float) -> Any:
        if isinstance(key, str):
            raise TypeError(f'a list is indexed by a number, not by "{key}"; ask it with :has(x)')
        number = int(key)
        return thing[number - 1] if number == key and 0 < number <= len(thing) else None

    def write(self, thing: Any, key: str | float, value: Any) -> None:
        raise TypeError("this list cannot be changed")

    def method(self, thing: Any, name: str) -> Callable[..., Any]:
        return lambda x=None: contains(thing, x)

    def items(self, thing: Any) -> list[tuple[Any, Any]]:
        return list(enumerate(thing, 1))


class Tabled(Kind):
    """Dictionaries and sets: t[x] is the value, true for what a set holds, else nil."""

    __slots__ = ()

    def __init__(self, cls: type) -> None:
        super().__init__(cls, {})
        self.noun = "table"

    def read(self, thing: Any, key: str | float) -> Any:
        if isinstance(thing, Set):
            return key in thing or None
        return thing.get(key)

    def write(self, thing: Any, key: str | float, value: Any) -> None:
        raise TypeError("this table cannot be changed; assign a new one")

    def items(self, thing: Any) -> list[tuple[Any, Any]]:
        return [(item, True) for item in thing] if isinstance(thing, Set) else list(thing.items())


def _has_text(cls: type) -> bool:
    return any("__str__" in vars(base) for base in cls.__mro__ if base is not object)


def contains(items: Sequence[Any], x: Any) -> bool:
    """`list:has(x)`: an address is found by itself and by its text."""
    return x in items or (isinstance(x, str) and any(str(item) == x for item in items))


class Kinds(dict[type, Kind]):
    """The kind of every type that a rule has met, found once."""

    def __init__(self, surface: Mapping[type, Names] = SURFACE) -> None:
        super().__init__()
        self._surface = {**OURS, **surface}

    def __missing__(self, cls: type) -> Kind:
        kind = self[cls] = self._made(cls)
        return kind

    def _made(self, cls: type) -> Kind:
        for base in cls.__mro__:
            if base in self._surface:
                return _of_fact(cls, self._surface[base])
        if issubclass(cls, list | tuple):
            return Listed(cls)
        if issubclass(cls, Mapping | Set):
            return Tabled(cls)
        if issubclass(cls, Iterator):
            return Kind(cls, {})
        raise NotReadable(f"a {cls.__name__} has no place in Lua")


def _of_fact(cls: type, names: Names) -> Kind:
    if hasattr(cls, "__getitem__"):
        return Keyed(cls, names)
    return Walked(cls, names) if hasattr(cls, "__iter__") and hasattr(cls, "__len__") else Kind(cls, names)
