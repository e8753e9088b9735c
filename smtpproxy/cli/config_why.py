"""`smtpproxy config --why KEY`: what a setting is, what it means and where that stands."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from typing import Any

from msgspec import Struct

from smtpproxy.cli.instance import add_config, read
from smtpproxy.config.fields import Setting, settings
from smtpproxy.config.lines import Keys, dotted, split
from smtpproxy.config.load import origin
from smtpproxy.config.problem import did_you_mean
from smtpproxy.config.sample import literal
from smtpproxy.config.schema import Config
from smtpproxy.scripting.secret import HIDDEN, secret_name


class NoSuchSetting(LookupError):
    """str() says which part of the key leads nowhere."""


def add(subparsers: Any) -> None:
    parser: argparse.ArgumentParser = subparsers.add_parser(
        "config", help="say what a setting is, and where that stands"
    )
    parser.add_argument("--why", metavar="KEY", required=True, help="a setting or a table, such as listener.mx.bind")
    add_config(parser)


def run(args: argparse.Namespace) -> int:
    config = read(args)
    try:
        for line in explain(config, args.why):
            print(line)
    except NoSuchSetting as wrong:
        print(wrong, file=sys.stderr)
        return 1
    return 0


def explain(config: Config, key: str) -> Iterator[str]:
    """Lines for people. Raises NoSuchSetting."""
    keys = split(key)
    value, setting = _find(config, keys)
    for inner_keys, inner, about in _leaves(keys, value, setting):
        name = dotted(inner_keys)
        hidden = inner_keys[0] == "rule" and any(map(secret_name, inner_keys[2:]))
        yield f"{name} = {literal(HIDDEN if hidden else inner)}"
        yield f"  {origin(config, name) or 'the default'}"
        if about and about.help:
            yield f"  {about.help}"


def _find(config: Config, keys: Keys) -> tuple[Any, Setting | None]:
    value: Any = config
    setting: Setting | None = None
    for depth, name in enumerate(keys):
        known = settings(type(value)) if isinstance(value, Struct) else {}
        inside = {word: getattr(value, word) for word in known} if known else value
        if not isinstance(inside, dict) or name not in inside:
            within = f"in [{dotted(keys[:depth])}]" if depth else "at the top"
            hint = did_you_mean(name, inside) if isinstance(inside, dict) else ""
            raise NoSuchSetting(f'there is no "{name}" {within}' + (f"; {hint}" if hint else ""))
        value, setting = inside[name], known.get(name)
    return value, setting


def _leaves(keys: Keys, value: Any, setting: Setting | None) -> Iterator[tuple[Keys, Any, Setting | None]]:
    """The settings at and below a key."""
    if isinstance(value, Struct):
        for name, inner in settings(type(value)).items():
            yield from _leaves((*keys, name), getattr(value, name), inner)
    elif isinstance(value, dict):
        for name, item in value.items():
            yield from _leaves((*keys, name), item, None)
    else:
        yield keys, value, setting
