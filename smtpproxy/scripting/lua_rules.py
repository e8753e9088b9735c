"""Lua files as versions: what the Lua side is given, and what is taken from it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from smtpproxy.facts.surface import SURFACE
from smtpproxy.net.http import Response
from smtpproxy.scripting.doors.cache import Cache
from smtpproxy.scripting.doors.clamav import Clamav
from smtpproxy.scripting.doors.clock import Clock
from smtpproxy.scripting.doors.digest import Digest
from smtpproxy.scripting.doors.dns import Dns
from smtpproxy.scripting.doors.http import Http
from smtpproxy.scripting.doors.json import Json
from smtpproxy.scripting.doors.lists import Lists, Lookup
from smtpproxy.scripting.doors.log import Log
from smtpproxy.scripting.doors.sleep import sleep
from smtpproxy.scripting.doors.store import Store
from smtpproxy.scripting.doors.submit import submit
from smtpproxy.scripting.doors.users import Accounts, Users
from smtpproxy.scripting.facade import Timer, interval_seconds
from smtpproxy.scripting.instance import Instance, check_hook
from smtpproxy.scripting.lists import Match
from smtpproxy.scripting.lua_errors import LuaError
from smtpproxy.scripting.lua_objects import Names
from smtpproxy.scripting.settings import SettingsView

DOORS: Mapping[str, tuple[str, ...]] = {
    "dns": ("mx", "txt", "a", "aaaa", "addresses", "ptr"),
    "log": ("debug", "info", "warning", "error"),
    "cache": ("get", "set"),
    "cache.shared": ("get", "set"),
    "store": ("get", "set", "increment", "hit", "hits", "add", "remove", "has", "members", "lease", "release", "take"),
    "store.shared": ("get", "set", "increment", "hit", "hits", "add", "remove", "has", "members", "lease", "release", "take"),
    "clamav": ("scan", "ping", "version"),
    "clock": ("now", "date"),
    "digest": ("sha256", "hmac_sha256"),
    "http": ("get", "post_json"),
    "json": ("encode", "decode"),
    "lists": ("networks", "domains", "addresses"),
    "users.*": ("exists", "addresses"),
}
"""The doors of a Lua rule and what each can be asked; "*" is the name of a table, and the first argument of the question."""

TABLES: Mapping[str, type] = {"users.*": Accounts}
"""What rules in Python have for such a table."""

ANSWERS: Mapping[type, Names] = {
    Response: {"read": frozenset({"status", "ok", "text", "body", "json", "headers", "url"})},
    Lookup: {"call": frozenset({"find", "get", "has"})},
    Match: {"read": frozenset({"key", "value", "rank"})},
}
"""Objects that come from doors, beside the facts."""

_WITH_TABLE: Mapping[str, int] = {"cache.set": 1, "cache.shared.set": 1, "store.set": 1, "store.shared.set": 1,
                                  "http.post_json": 1, "json.encode": 0}  # fmt: skip
"""Questions with a value that may be a table, and how many arguments stand before it."""


def doors() -> Mapping[str, Any]:
    """The doors themselves, by name."""
    cache, store = Cache(), Store()
    return {
        "dns": Dns(), "log": Log(), "cache": cache, "cache.shared": cache.shared, "store": store,
        "store.shared": store.shared, "clamav": Clamav(), "clock": Clock(), "http": Http(), "json": Json(),
        "digest": Digest(), "lists": Lists(), "users.*": Users(),
    }  # fmt: skip


def operations() -> Mapping[str, Callable[..., Any]]:
    """What can be asked, by dotted name: each may block, the running call says through what."""
    found: dict[str, Callable[..., Any]] = {"sleep": sleep, "submit": submit}
    for name, door in doors().items():
        for question in DOORS[name]:
            path = f"{name}.{question}"
            ask = getattr(door, question)
            found[path] = _taking_a_table(ask, _WITH_TABLE[path]) if path in _WITH_TABLE else ask
    return found


def _taking_a_table(ask: Callable[..., Any], before: int) -> Callable[..., Any]:
    """A table of names at the end of a call is options, unless the value is still missing: then it is the value."""

    def asked(*arguments: Any, **named: Any) -> Any:
        if len(arguments) == before:
            return ask(*arguments, named)
        return ask(*arguments, **named)

    return asked


def run_lua(instance: Instance, notes: object) -> None:
    """Load the file into a sandbox of its own; `notes` are the worker's. Raises LuaError and RuleError."""
    from smtpproxy.scripting.lua import LuaRule  # only who has Lua rules pays for Lua

    source = instance.source
    source.check()
    surface = {**SURFACE, **ANSWERS}
    rule = LuaRule(
        source.data, source.name, source.path, dict(instance.given), operations(), objects={"notes": notes}, surface=surface
    )
    instance.ending = rule.close
    instance.heap = rule.used
    instance.hooks = dict(rule.hooks)
    instance.declared = dict(rule.metadata)
    instance.settings = SettingsView.of(rule.metadata["settings"])
    for name, function in instance.hooks.items():
        check_hook(name, function, source.file)
    instance.timers = [_timer(interval, once, function) for interval, once, function in rule.timers]


def _timer(interval: object, once: bool, function: Any) -> Timer:
    try:
        return Timer(interval_seconds(interval), once, function, f"line {function.line}")
    except ValueError as wrong:
        raise LuaError(str(wrong), f"{function.file}:{function.line}") from None
