"""Hooks that can never run, as rules and configuration stand."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator
from types import FunctionType
from typing import Any

from smtpproxy.config.schema import Config
from smtpproxy.scripting.hooks import HOOKS
from smtpproxy.scripting.lint.finding import Finding
from smtpproxy.scripting.runner import Chains, Entry
from smtpproxy.scripting.source import verdict_names
from smtpproxy.scripting.table import Rule, Table


def unreached(table: Table, config: Config) -> Iterator[Finding]:
    """Of the operator's own rules: hooks whose moment never comes, which no listener asks, or behind one that decides."""
    for rule in table.rules:
        if rule.instance.source.bundled:
            continue
        for hook, function in rule.hooks.items():
            if why := _why(table, rule, hook, config):
                yield Finding(rule.file, line_of(function), f"{hook} can never run: {why}")


def _why(table: Table, rule: Rule, hook: str, config: Config) -> str:
    stage = HOOKS[hook].stage
    if stage == "outbound":
        return "" if _any(config.handoff, lambda it: it.kind == "queue") else 'no [handoff.NAME] has kind = "queue"'
    if stage == "lifecycle":
        return ""
    moment = hook.partition("_")[2]
    if moment == "starttls" and not _any(config.listener, lambda it: it.tls.wanted):
        return "no [listener.NAME] has tls"
    if moment == "auth" and not _any(config.listener, lambda it: it.tls.wanted or it.auth_without_tls or it.proxy_tls):
        return "no [listener.NAME] has tls or auth_without_tls"
    asked = [chains for chains in table.chains.values() if _entry(chains, rule, hook) is not None]
    if not asked:
        return "no listener runs this rule: see `rules` in [listener.NAME] and `listeners` in [rule.NAME]"
    shadows = [_shadow(chains, rule, hook) for chains in asked]
    return shadows[0] if all(shadows) else ""


def _any(tables: dict[str, Any], fits: Callable[[Any], Any]) -> bool:
    return any(fits(table) for table in tables.values())


def _entry(chains: Chains, rule: Rule, hook: str) -> Entry | None:
    return next((entry for entry in chains.by_name.get(hook, ()) if entry.rule is rule), None)


def _shadow(chains: Chains, rule: Rule, hook: str) -> str:
    """The rule before this one that decides whatever comes, in words."""
    for entry in chains.by_name[hook]:
        if entry.rule is rule or not hook.startswith("on_"):
            return ""
        decided = None if entry.skip else _decides(entry)
        if decided is not None and (decided[0] == "accept" or not chains.on_deny):
            return f"{entry.rule.name} answers {decided[0]}() before it whatever comes, at {entry.rule.file}:{decided[1]}"
    return ""


def _decides(entry: Entry) -> tuple[str, int] | None:
    """The verdict that a hook in Python gives in any case, and its line."""
    source = entry.rule.instance.source
    if source.language != "python":
        return None
    names = verdict_names(source.tree)
    for function in source.tree.body:
        if isinstance(function, ast.FunctionDef) and function.name == entry.hook.name:
            for statement in function.body:
                if isinstance(statement, ast.Return) and isinstance(statement.value, ast.Call):
                    kind = names.get(getattr(statement.value.func, "id", ""))
                    return (kind, statement.lineno) if kind else None
                if any(isinstance(node, ast.Return | ast.Raise) for node in ast.walk(statement)):
                    return None
    return None


def line_of(function: Any) -> int:
    """Where a hook begins, in either language."""
    return function.__code__.co_firstlineno if isinstance(function, FunctionType) else getattr(function, "line", 0)
