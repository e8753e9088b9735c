"""Lua files as versions: what the Lua side is given, and what is taken from it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from smtpproxy.scripting.facade import Dns, Log
from smtpproxy.scripting.instance import Instance, check_hook
from smtpproxy.scripting.settings import SettingsView


def operations() -> Mapping[str, Callable[..., Any]]:
    """The doors of a Lua rule by dotted name: each may block, the running call says through what."""
    dns, log = Dns(), Log()
    return {
        "dns.mx": dns.mx,
        "dns.txt": dns.txt,
        "dns.a": dns.a,
        "dns.aaaa": dns.aaaa,
        "dns.addresses": dns.addresses,
        "dns.ptr": dns.ptr,
        "log.debug": log.debug,
        "log.info": log.info,
        "log.warning": log.warning,
        "log.error": log.error,
    }


def run_lua(instance: Instance) -> None:
    """Load the file into a sandbox of its own. Raises LuaError and RuleError."""
    from smtpproxy.scripting.lua import LuaRule  # only who has Lua rules pays for Lua

    source = instance.source
    rule = LuaRule(source.data, source.name, source.path, dict(instance.given), operations())
    instance.ending = rule.close
    instance.hooks = dict(rule.hooks)
    instance.declared = dict(rule.metadata)
    instance.settings = SettingsView.of(rule.metadata["settings"])
    for name, function in instance.hooks.items():
        check_hook(name, function, source.file)
