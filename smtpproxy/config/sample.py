"""The documented configuration that `smtpproxy init` writes: every setting and its words, defaults commented out."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterator, Mapping
from pathlib import PurePath
from typing import Any, Final, NamedTuple

from msgspec import Struct

from smtpproxy.config.directory import LdapServer
from smtpproxy.config.fields import Setting, settings
from smtpproxy.config.limits import Limits
from smtpproxy.config.log import Log
from smtpproxy.config.queue import Queue, Route
from smtpproxy.config.schema import (
    ClamAV,
    Config,
    Handoff,
    Listener,
    Relaying,
    RuleKeys,
    Scripts,
    Store,
    Trace,
)
from smtpproxy.config.users import Users
from smtpproxy.config.values import Duration, Endpoint, Rate, ScannerTarget, Size, Target

WIDTH: Final = 100


class Table(NamedTuple):
    """A table as it stands in the sample: `header` as in TOML ("" at the top), and what is set in it."""

    header: str
    kind: type[Struct]
    given: Mapping[str, str] = {}
    live: bool = True


FILES: Final[Mapping[str, tuple[Table, ...]]] = {
    "smtpproxy.toml": (
        Table("", Config),
        Table("log", Log),
        Table("trace", Trace),
    ),
    "listeners.toml": (Table("listener.mx", Listener, {"bind": '["127.0.0.1:2525"]', "handoff": '"inbound"'}),),
    "handoffs.toml": (
        Table("handoff.inbound", Handoff, {"kind": '"proxy"', "to": '["127.0.0.1:10025"]', "identity": '"none"'}),
    ),
    "queue.toml": (Table("queue", Queue), Table("route.DOMAIN", Route, live=False)),
    "relaying.toml": (Table("relaying", Relaying, {"domains": '["example.com"]', "networks": "[]"}),),
    "users.toml": (Table("users.NAME", Users, live=False),),
    "rules.toml": (
        Table("scripts", Scripts),
        Table("store", Store),
        Table("rule.NAME", RuleKeys, live=False),
    ),
    "scanners.toml": (Table("scanner.clamav", ClamAV),),
    "limits.toml": (Table("limits", Limits),),
}

_EXAMPLES: Final = {"hostname": '"mx.example.com"', "to": '["10.0.0.5:25"]', "kind": '"file"', "path": '"users"'}
_TOP: Final = """\
All *.toml files of this folder are read as one; a table stands in one of them. Relative paths start here. \
Durations are "30s", "5m", "2h", "5d", sizes "64KB", "50MB". \
A setting behind a # shows its default. \
After a change: smtpproxy check, then SIGHUP or a restart; rules and their settings are live on save."""


def files() -> dict[str, str]:
    """The sample: file names and what they hold."""
    found = {}
    for name, tables in FILES.items():
        top = _comment(_TOP) if name == "smtpproxy.toml" else ""
        found[name] = top + "\n".join(_table(table) for table in tables)
    return found


def literal(value: Any) -> str:
    """A setting's value as TOML."""
    match value:
        case None:
            return '""'
        case bool():
            return str(value).lower()
        case Duration() | Size():
            return f'"{value}"' if value else "0"
        case int() | float():
            return str(value)
        case dict():
            return "{ " + ", ".join(f"{key} = {literal(item)}" for key, item in value.items()) + " }"
        case str() | PurePath() | Rate() | Endpoint() | Target() | ScannerTarget() | LdapServer():
            return json.dumps(str(value), ensure_ascii=False)
        case frozenset():
            return literal(sorted(value))
        case _:
            return f"[{', '.join(map(literal, value))}]"


def words(setting: Setting) -> str:
    """The help, with the words to choose from where it does not name them."""
    missing = any(choice not in setting.help for choice in setting.choices)
    return f"{setting.help} ({' | '.join(setting.choices)})" if missing else setting.help


def default_text(setting: Setting) -> str:
    """The default as TOML, or an example where there is none."""
    if callable(setting.default) or setting.required or setting.default is None:
        return _EXAMPLES.get(setting.name, "10" if setting.type == int | None else '""')
    return literal(setting.default)


def _table(table: Table) -> str:
    mark = "" if table.live else "#"
    lines = [_comment(table.kind.__doc__ or "").rstrip()] if table.header else []
    lines += [f"{mark}[{table.header}]"] if table.header else []
    inner = []
    for setting in settings(table.kind).values():
        if setting.table and table.header:
            inner.append(_table(Table(f"{table.header}.{setting.name}", setting.table, live=table.live)))
        elif not setting.table and not setting.named_tables:
            lines += _entry(setting, table.given)
    return "\n".join([*lines, ""]) + "".join(f"\n{text}" for text in inner)


def _entry(setting: Setting, given: Mapping[str, str]) -> Iterator[str]:
    yield ""
    yield _comment(words(setting)).rstrip()
    if setting.name in given:
        yield f"{setting.name} = {given[setting.name]}"
    else:
        yield f"#{setting.name} = {default_text(setting)}"


def _comment(text: str) -> str:
    return "".join(f"# {line}\n" for line in textwrap.wrap(" ".join(text.split()), WIDTH - 2))
