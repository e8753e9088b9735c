"""Where each key of a TOML file stands."""

from __future__ import annotations

import re
from typing import Any

Keys = tuple[str, ...]

_KEY = r"""(?:[A-Za-z0-9_-]+|"[^"\n]*"|'[^'\n]*')"""
_KEYS = rf"{_KEY}(?:\s*\.\s*{_KEY})*"
_HEADER = re.compile(rf"\s*\[\[?\s*({_KEYS})\s*\]\]?\s*(?:#.*)?")
_ASSIGNMENT = re.compile(rf"\s*({_KEYS})\s*=")
_PART = re.compile(_KEY)
_BARE = re.compile(r"[A-Za-z0-9_-]+")


def key_lines(text: str, tables: dict[str, Any]) -> dict[Keys, int]:
    """The line (from 1) of every table and key in `tables`, which is what the text parses to."""
    seen = _scan(text)
    found: dict[Keys, int] = {}

    def walk(keys: Keys, value: Any, around: int) -> int:
        line = seen.get(keys, around)
        inner = [walk((*keys, name), item, line) for name, item in value.items()] if isinstance(value, dict) else []
        found[keys] = line or min(inner, default=0)
        return found[keys]

    for name, value in tables.items():
        walk((name,), value, 0)
    return found


def split(keys: str) -> Keys:
    """The path that a dotted key is."""
    return tuple(part.strip("\"'") for part in _PART.findall(keys))


def dotted(keys: Keys) -> str:
    """The path as it is written in TOML."""
    return ".".join(part if _BARE.fullmatch(part) else f'"{part}"' for part in keys)


def _scan(text: str) -> dict[Keys, int]:
    """By lines: what only looks like a key, inside a text of several lines, may add an entry that nobody asks for."""
    found: dict[Keys, int] = {}
    table: Keys = ()
    for number, line in enumerate(text.split("\n"), 1):
        if header := _HEADER.fullmatch(line.rstrip("\r")):
            table = split(header[1])
            found.setdefault(table, number)
        elif assignment := _ASSIGNMENT.match(line):
            found.setdefault(table + split(assignment[1]), number)
    return found
