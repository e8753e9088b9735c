"""Notes and results: what rules leave for each other, for the log and for those who come later.

Both hold plain values only (None, bool, int, float, str, bytes, and lists, dicts and sets of them), copied when they
are set, so that they can be stored, shown and handed to the other language.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from smtpproxy.facts.missing import Fact, put

LIMIT = 1 << 16
"""Octets that the notes, or the results, of one object may hold together."""

_OVERHEAD = 8
_DEPTH = 20
_LOGGED = 500
"""Characters of results in a record of the log."""
_PARTING = re.compile(r"[\s=\x00-\x20\x7f-\x9f]|[\ud800-\udfff]")


class Notes:
    """Values by name: ``notes.checked = True`` and ``notes["checked"]`` are the same, a missing one is None.

    There are no methods: any name is free for a note.  Setting None forgets the note.
    """

    __slots__ = ("_sizes", "_values")

    def __init__(self) -> None:
        put(self, "_values", {})
        put(self, "_sizes", {})

    if TYPE_CHECKING:
        _values: dict[str, Any]
        _sizes: dict[str, int]

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return self._values.get(name)

    def __getitem__(self, name: str) -> Any:
        return self._values.get(name)

    def __setattr__(self, name: str, value: Any) -> None:
        self[name] = value

    def __setitem__(self, name: str, value: Any) -> None:
        """Raises TypeError for what is not plain, ValueError when the notes would grow above 64 KB."""
        if type(name) is not str or name.startswith("_"):
            raise TypeError(f"a note's name is a text that does not begin with _, not {name!r}")
        if value is None:
            del self[name]
            return
        copy, size = plain(value, "notes")
        size += len(name)
        if sum(self._sizes.values()) - self._sizes.get(name, 0) + size > LIMIT:
            raise ValueError(f"notes may hold {LIMIT} octets together; {name} needs {size}")
        self._values[name] = copy
        self._sizes[name] = size

    def __delattr__(self, name: str) -> None:
        del self[name]

    def __delitem__(self, name: str) -> None:
        self._values.pop(name, None)
        self._sizes.pop(name, None)

    def __contains__(self, name: object) -> bool:
        return name in self._values

    def __iter__(self) -> Iterator[str]:
        return iter(list(self._values))

    def __len__(self) -> int:
        return len(self._values)

    def __repr__(self) -> str:
        return f"Notes({self._values})"


class Result(Fact):
    """What one check found: ``value`` is pass, fail, skip, error or a word of its own; ``keys`` say more."""

    __slots__ = ("keys", "name", "value")
    _noun = "result"
    name: str
    """Of the check."""
    value: str
    """pass, fail, skip, error, or a word of its own."""
    keys: dict[str, Any]
    """What it said besides."""

    def __init__(self, name: str, value: str, keys: dict[str, Any]) -> None:
        put(self, "name", name)
        put(self, "value", value)
        put(self, "keys", keys)

    def __str__(self) -> str:
        return " ".join([f"{self.name}={self.value}", *(f"{key}={value}" for key, value in self.keys.items())])


class Results(Fact):
    """The results of checks in the order they came; a check that reports again replaces what it said."""

    __slots__ = ("_results", "_size")
    _noun = "results"

    _results: dict[str, tuple[Result, int]]
    _size: int

    def __init__(self) -> None:
        put(self, "_results", {})
        put(self, "_size", 0)

    def add(self, name: str, value: str = "pass", **keys: Any) -> None:
        """Say what a check has found, in a word, and what else by names of your own.

        Raises TypeError for what is not plain, ValueError when the results would grow above 64 KB.
        """
        if type(name) is not str or type(value) is not str:
            raise TypeError("a result has a name and a word for its value")
        copies, size = plain(keys, "results")
        size += len(name) + len(value)
        before = self._results[name][1] if name in self._results else 0
        if self._size - before + size > LIMIT:
            raise ValueError(f"results may hold {LIMIT} octets together; {name} needs {size}")
        self._results[name] = (Result(name, value, copies), size)
        put(self, "_size", self._size + size - before)

    def get(self, name: str) -> Result | None:
        """The result of that check, None when it gave none."""
        found = self._results.get(name)
        return found[0] if found else None

    def __contains__(self, name: object) -> bool:
        return name in self._results

    def __iter__(self) -> Iterator[Result]:
        return iter([result for result, _ in self._results.values()])

    def __len__(self) -> int:
        return len(self._results)

    def __str__(self) -> str:
        return ", ".join(map(str, self))


class Noted(Fact):
    """A client, a mail or a delivery: rules keep notes about it, checks leave results. Constructors set both slots to None."""

    __slots__ = ("_notes", "_results")

    _notes: Notes | None
    _results: Results | None

    @property
    def notes(self) -> Notes:
        """What rules keep for as long as the session or the transaction lasts; a queue hands a mail's on to its deliveries."""
        if self._notes is None:
            put(self, "_notes", Notes())
        return self._notes  # type: ignore[return-value]

    @property
    def results(self) -> Results:
        """What checks found."""
        if self._results is None:
            put(self, "_results", Results())
        return self._results  # type: ignore[return-value]


def in_short(client: Noted, mail: Noted | None) -> str:
    """What checks found, for the log: ``spf=pass dnsbl=fail``, the mail's where both have a name.

    What would part a name from its word, or one result from the next, is ``_``; the keys are left out.
    """
    both = [results for results in (client._results, mail._results if mail is not None else None) if results]
    if not both:
        return ""
    found = {result.name: result.value for results in both for result in results}
    text = " ".join(f"{_PARTING.sub('_', name)}={_PARTING.sub('_', value)}" for name, value in found.items())
    return text if len(text) <= _LOGGED else f"{text[:_LOGGED]}..."


def as_dict(notes: Notes) -> dict[str, Any]:
    """All notes as a plain dictionary of its own."""
    copy: dict[str, Any] = plain({name: notes[name] for name in notes}, "notes", 2 * LIMIT)[0]
    return copy


def plain(value: Any, noun: str, limit: int = LIMIT) -> tuple[Any, int]:
    """A copy of a plain value, and about how many octets it takes.  Raises TypeError for anything else, ValueError as soon
    as it takes more than ``limit``: ``noun`` is what may not hold that much.
    """
    copying = _Copying(noun, limit)
    copy = copying.copy(value, _DEPTH)
    return copy, limit - copying.left


class _Copying:
    """One copy of a value: what holds a list many times over costs as often, so ``left`` ends it."""

    __slots__ = ("left", "limit", "noun")

    def __init__(self, noun: str, limit: int) -> None:
        self.noun = noun
        self.limit = limit
        self.left = limit

    def copy(self, value: Any, depth: int) -> Any:
        kind = type(value)
        self._take(_OVERHEAD + (len(value) if kind is str or kind is bytes else 0))
        if value is None or kind in (str, bytes, bool, float):
            return value
        if isinstance(value, int):
            return _whole(value)
        if isinstance(value, float):
            return float.__float__(value)
        if depth == 0:
            raise TypeError(f"a note may be nested {_DEPTH} deep")
        if isinstance(value, dict):
            return {self._key(key): self.copy(item, depth - 1) for key, item in dict.items(value)}
        if isinstance(value, (set, frozenset)):
            return {self.copy(item, depth - 1) for item in value}
        if isinstance(value, (list, tuple)):
            return [self.copy(item, depth - 1) for item in value]
        raise TypeError(f"a note holds plain values, no {kind.__name__}; use str(...) or a number")

    def _key(self, key: Any) -> Any:
        if key is not None and type(key) not in (str, int, float, bool, bytes):
            raise TypeError(f"a note's dictionary has plain keys, no {type(key).__name__}")
        self._take(_OVERHEAD + len(str(key)))
        return key

    def _take(self, octets: int) -> None:
        self.left -= octets
        if self.left < 0:
            raise ValueError(f"{self.noun} may hold {self.limit} octets together")


def _whole(value: int) -> int:
    number = int.__index__(value)  # of an enumeration, its number
    if not -(1 << 63) <= number < 1 << 63:
        raise TypeError("a note holds plain values, no whole number of more than 64 bits")
    return number
