"""Values on their way into Lua and out of it.

Lua strings are octets, read and written by the binding as latin-1; ours are text with stray octets kept
(surrogateescape). Tables cross flattened: a spec that tells the shape and a flat run of values.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

Plain = str | bytes | int | float | bool | None
PLAIN = frozenset({str, bytes, int, float, bool, type(None)})
INTEGERS = range(-(1 << 63), 1 << 63)


def to_lua(text: str) -> str:
    """Text as the binding wants it: one character an octet of its UTF-8 form."""
    return text if text.isascii() else text.encode("utf-8", "surrogateescape").decode("latin-1")


def from_lua(value: Any) -> Any:
    """What the binding read: strings become text, other plain values stay."""
    if type(value) is str and not value.isascii():
        return value.encode("latin-1").decode("utf-8", "surrogateescape")
    return value


def plain_to_lua(value: Any) -> Any:
    """A plain value for Lua. Raises TypeError for what is none, ValueError for integers of more than 64 bits."""
    if isinstance(value, str):
        return to_lua(str(value))
    if value is None or isinstance(value, bool | float | bytes):
        return value
    if isinstance(value, int):
        if value not in INTEGERS:
            raise ValueError("an integer of more than 64 bits")
        return int(value)
    raise TypeError(f"a {type(value).__name__} has no place in Lua")


def flatten(value: Any) -> tuple[Any, ...]:
    """A plain value or container as (spec, values...): see `flatten` in lua_runtime.lua."""
    spec: list[str] = []
    values: list[Any] = []

    def put(item: Any) -> None:
        if isinstance(item, Mapping):
            spec.append("{")
            for key, inner in item.items():
                put(key)
                put(inner)
            spec.append("}")
        elif isinstance(item, Sequence | set | frozenset) and not isinstance(item, str | bytes):
            spec.append("<" if isinstance(item, set | frozenset) else "[")
            for inner in item:
                put(inner)
            spec.append(">" if isinstance(item, set | frozenset) else "]")
        else:
            spec.append("v")
            values.append(plain_to_lua(item))

    put(value)
    return ("".join(spec), *values)


def inflate(spec: str | None, values: Sequence[Any], objects: Sequence[Any] = ()) -> list[Any]:
    """The arguments that Lua flattened. No spec: all are plain. "h" is a handle: an index into `objects`."""
    if spec is None:
        return [from_lua(value) for value in values]
    marks, rest = iter(spec), iter(values)
    return [_item(mark, marks, rest, objects) for mark in marks]


def _item(mark: str, marks: Iterator[str], values: Iterator[Any], objects: Sequence[Any]) -> Any:
    if mark == "v":
        return from_lua(next(values))
    if mark == "h":
        return objects[next(values)]
    if mark == "{":
        return {_key(inner, values): _item(next(marks), marks, values, objects) for inner in iter(marks.__next__, "}")}
    if mark == "[":
        return [_item(inner, marks, values, objects) for inner in iter(marks.__next__, "]")]
    return {_item(inner, marks, values, objects) for inner in iter(marks.__next__, ">")}


def _key(mark: str, values: Iterator[Any]) -> Any:
    return from_lua(next(values))
