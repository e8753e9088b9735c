"""A rule's settings: the defaults of its `class Settings`, and what [rule.NAME] says instead."""

from __future__ import annotations

import ipaddress
import re
import typing
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import msgspec

from smtpproxy.config.problem import did_you_mean
from smtpproxy.config.schema import RuleKeys
from smtpproxy.config.values import BadValue, Duration, Rate, Size
from smtpproxy.scripting.errors import RuleError
from smtpproxy.scripting.hooks import CALL_BUDGET, CPU_BUDGET
from smtpproxy.scripting.secret import Secret, redacted, secret_name, secrets

RESERVED = frozenset(RuleKeys.__struct_fields__)
"""Keys of [rule.NAME] that say how a rule runs; a rule's own settings have other names."""

_SKIPS = ("authenticated", "trusted")
_MADE_FROM_TEXT = (ipaddress.IPv4Network, ipaddress.IPv6Network, ipaddress.IPv4Address, ipaddress.IPv6Address)


_PARSED = (Duration, Rate, Size)


class Keys(NamedTuple):
    """How a rule runs, by configuration. `wall` and `cpu` are in seconds; no listeners means all of them."""

    enabled: bool = True
    order: int | None = None
    listeners: tuple[str, ...] = ()
    skip: tuple[str, ...] = ()
    wall: float = CALL_BUDGET
    cpu: float = CPU_BUDGET


def split(table: Mapping[str, Any], *, enabled: bool = True) -> tuple[Keys, dict[str, Any]]:
    """[rule.NAME] as how it runs, and the rule's own settings; `enabled` where it does not say. Raises RuleError."""
    own = {name: value for name, value in table.items() if name not in RESERVED}
    return _keys({"enabled": enabled} | {name: value for name, value in table.items() if name in RESERVED}), own


def _keys(table: Mapping[str, Any]) -> Keys:
    skip = _names(table.get("skip", ()))
    for word in skip:
        if word not in _SKIPS:
            raise RuleError(f'skip = "{word}"; {did_you_mean(word, _SKIPS)}')
    return Keys(
        enabled=_typed("enabled", table["enabled"], bool),
        order=_typed("order", table.get("order"), int | None),
        listeners=_names(table.get("listeners", ())),
        skip=tuple(sorted(skip)),
        wall=_seconds("wall", table.get("wall", CALL_BUDGET)),
        cpu=_seconds("cpu", table.get("cpu", CPU_BUDGET)),
    )


def _names(value: Any) -> tuple[str, ...]:
    return (value,) if isinstance(value, str) else tuple(_typed("a list", list(value), list[str]))


def _seconds(name: str, value: Any) -> float:
    try:
        return float(value if isinstance(value, float) else Duration.parse(value))
    except BadValue as wrong:
        raise RuleError(f"{name}: {wrong}") from None


def _typed(name: str, value: Any, kind: Any) -> Any:
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError as wrong:
        raise RuleError(f"{name}: {wrong}") from None


class SettingsView:
    """`settings` as a rule sees it: read-only; filled when its `class Settings` is there."""

    __slots__ = ("_given", "_hidden", "_module", "_values")

    def __init__(self, module: Mapping[str, Any], given: Mapping[str, Any]) -> None:
        object.__setattr__(self, "_module", module)
        object.__setattr__(self, "_given", given)
        object.__setattr__(self, "_values", None)
        object.__setattr__(self, "_hidden", None)

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> SettingsView:
        """Of settings that were checked elsewhere."""
        view = cls({}, {})
        object.__setattr__(view, "_values", values)
        return view

    def __getattr__(self, name: str) -> Any:
        values = self._values if self._values is not None else bind(self)
        if name not in values:
            raise AttributeError(f'no setting "{name}"; {did_you_mean(name, values)}'.rstrip("; "))
        return values[name]

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f'settings are read-only: "{name}" is set in the configuration')

    def __dir__(self) -> list[str]:
        return sorted(self._values or ())


def settings_of(view: Any) -> Mapping[str, Any]:
    """The values in effect, by name; empty for a rule that declares none."""
    return (view._values or {}) if isinstance(view, SettingsView) else {}


def own_secrets(view: SettingsView) -> tuple[str, ...]:
    """The secrets of one rule, the longest first; found once."""
    if view._hidden is None and view._values is not None:
        object.__setattr__(view, "_hidden", tuple(sorted(secrets(view._values), key=len, reverse=True)))
    return view._hidden or ()


def bind(view: SettingsView) -> Mapping[str, Any]:
    """Check what the configuration says against the rule's declaration, once. Raises RuleError."""
    declared = view._module.get("Settings")
    if declared is None and "Settings" not in view._module and view._given:
        names = ", ".join(sorted(view._given))
        raise RuleError(f"[rule] sets {names}, but the file declares no settings (class Settings)")
    values = MappingProxyType(convert(declared, view._given) if declared is not None else {})
    object.__setattr__(view, "_values", values)
    return values


def convert(declared: type, given: Mapping[str, Any]) -> dict[str, Any]:
    """Defaults and given values, each as its annotation wants it. Raises RuleError."""
    hints = typing.get_type_hints(declared)
    defaults = {name: value for name, value in vars(declared).items() if not name.startswith("_")}
    known = {**{name: type(value) for name, value in defaults.items()}, **hints}
    for name in known:
        if name in RESERVED:
            raise RuleError(f'a setting cannot be called "{name}": [rule.NAME] {name} says how the rule runs')
    for name in given:
        if name not in known:
            raise RuleError(f'unknown setting "{name}"; {did_you_mean(name, known)}'.rstrip("; "))
    missing = [name for name in known if name not in given and name not in defaults]
    if missing:
        raise RuleError(f"setting {', '.join(missing)} has no default and is not in the configuration")
    return {name: _converted(name, given.get(name, defaults.get(name)), known[name], name in given) for name in known}


def _converted(name: str, value: Any, kind: Any, given: bool) -> Any:
    if not given and not (kind in _PARSED or set(typing.get_args(kind)) & set(_PARSED)):
        return Secret(value) if kind is Secret else value
    try:
        return msgspec.convert(value, kind, dec_hook=_from_text)
    except (msgspec.ValidationError, TypeError) as wrong:
        raise RuleError(f"setting {name}: {wrong}{got(name, value, kind)}") from None


def got(name: str, value: Any, kind: Any = None) -> str:
    """What the configuration says where something else is wanted, for those who may read it."""
    if secret_name(name) or _holds_secrets(kind):
        return ""
    return f", got {redacted(repr(value), secrets({name: value}))}"


def _holds_secrets(kind: Any) -> bool:
    return kind is Secret or any(map(_holds_secrets, typing.get_args(kind)))


def _from_text(kind: type, value: Any) -> Any:
    if kind is Secret:
        if isinstance(value, str):
            return Secret(value)
        raise TypeError("a text is wanted")
    if kind in _PARSED:
        return kind.parse(value)
    if kind in _MADE_FROM_TEXT:
        return kind(value)
    if kind is re.Pattern or typing.get_origin(kind) is re.Pattern:
        return re.compile(value)
    raise TypeError(f"settings of type {kind} cannot be read from a configuration")
