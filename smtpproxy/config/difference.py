"""What a new configuration changes, setting by setting."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from msgspec import Struct

from smtpproxy.config.fields import settings
from smtpproxy.config.sample import literal
from smtpproxy.config.schema import Config

APART = "rule"
"""[rule.NAME] is live on save: it is no part of a reload, and may hold secrets."""


def difference(old: Config, new: Config) -> list[str]:
    """Lines like `limits.errors: 20 -> 3`, by key; what only one of them has stands with a sign in front."""
    before, after = dict(_flat(old, "")), dict(_flat(new, ""))
    lines = []
    for key in sorted(before.keys() | after.keys()):
        if key not in after:
            lines.append(f"- {key} = {before[key]}")
        elif key not in before:
            lines.append(f"+ {key} = {after[key]}")
        elif before[key] != after[key]:
            lines.append(f"{key}: {before[key]} -> {after[key]}")
    return lines


def _flat(value: Any, key: str) -> Iterator[tuple[str, str]]:
    if isinstance(value, Struct):
        for name in settings(type(value)):
            if key or name != APART:
                yield from _flat(getattr(value, name), f"{key}.{name}" if key else name)
    elif isinstance(value, dict):
        for name, part in value.items():
            yield from _flat(part, f"{key}.{name}")
    else:
        yield key, literal(value)
