"""The settings of a Lua rule: the defaults that it declares, and what [rule.NAME] says instead."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from smtpproxy.config.problem import did_you_mean
from smtpproxy.scripting.lua_values import flatten, inflate, to_lua
from smtpproxy.scripting.settings import got

_PER_VALUE = 100
_WORDS: Mapping[type, str] = {bool: "true or false", str: "a text", list: "a list", set: "a list", dict: "a table"}


def merge(declared: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """Defaults and given values, each of the type of its default. Raises ValueError."""
    for name in given:
        if name not in declared:
            raise ValueError(f'unknown setting "{name}"; {did_you_mean(name, declared)}'.rstrip("; "))
    return {name: _typed(name, given[name], default) if name in given else default for name, default in declared.items()}


def _typed(name: str, value: Any, default: Any) -> Any:
    if isinstance(default, set) and isinstance(value, list | tuple | set | frozenset):
        return set(value)
    if isinstance(default, list) and isinstance(value, list | tuple):
        return list(value)
    if isinstance(default, int | float) and not isinstance(default, bool):
        if isinstance(value, int | float) and not isinstance(value, bool):
            return value
        raise ValueError(f"setting {name}: a number is wanted{got(name, value)}")
    # {} is an empty list as much as an empty table
    if isinstance(value, type(default)) or (default == {} and isinstance(value, list)):
        return value
    raise ValueError(f"setting {name}: {_WORDS[type(default)]} is wanted{got(name, value)}")


class LuaSettings:
    """Called back when the script assigns `settings`; `values` is what it reads from then on."""

    __slots__ = ("declared", "given", "values")

    def __init__(self, given: Mapping[str, Any]) -> None:
        self.given = given
        self.declared = False
        self.values: dict[str, Any] = {}

    def settle(self, spec: str, *values: Any) -> int | tuple[None, str]:
        """Take what the script declares: about how many octets of Lua the settings need; (None, text) when they are wrong."""
        try:
            (declared,) = inflate(spec, values)
            if not isinstance(declared, dict):
                raise ValueError("settings is a table of names: settings = { name = default }")
            self.values = merge(declared, self.given)
            self.declared = True
            return sum(_PER_VALUE + len(part) if isinstance(part, str) else _PER_VALUE for part in flatten(self.values))
        except (ValueError, TypeError) as error:
            return None, to_lua(str(error))

    def flattened(self) -> tuple[Any, ...]:
        """For the script."""
        return flatten(self.values)
