"""`smtpproxy rules`: per hook, which rules run in which order, with version, failure verdict and budget.

Also what servers run at this moment: which earlier versions are still in use, and by how many sessions.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from itertools import groupby
from typing import Any

from smtpproxy.cli.instance import HERE, add_config, configured, place, read, typed
from smtpproxy.cli.try_it import instance
from smtpproxy.config.schema import Config


def add(subparsers: Any) -> None:
    parser = subparsers.add_parser(
        "rules",
        help="show which rules run at which hook, and in which order",
        description="Which rules run at which hook, and in which order. Without a configuration: those of `smtpproxy try`. "
        "`rules new NAME` begins a rule, `rules add SAMPLE` copies a sample.",
    )
    parser.add_argument("--all", action="store_true", help="also those that come with smtpproxy and are off")
    add_config(parser)
    parser.add_argument(
        "--history", metavar="NAME", nargs="?", const="", help="which versions went live when, of one rule or of all"
    )


def run(args: argparse.Namespace) -> int:
    from smtpproxy.scripting.errors import FolderRefused
    from smtpproxy.scripting.table import describe

    config = _config(args)
    if args.history is not None:
        return _history(config, args.history)
    try:
        report = load(config)
    except (FolderRefused, OSError) as error:
        print(f"smtpproxy rules: {error}", file=sys.stderr)
        return 1
    print(f"table {report.table.hash}, {_count(len(report.table.rules))} from {config.scripts.folder}")
    for line in _now(config, report.table):
        print(line)
    for hook, rows in groupby(describe(report.table), key=lambda row: row.hook):
        print(hook)
        for row in rows:
            print(f"  {_line(row)}")
    if args.all:
        print("off")
        for about in _off(report.table):
            print(f"  {about.name:<27} {about.summary}")
    for problem in report.problems:
        print(problem, file=sys.stderr)
    return 1 if report.problems else 0


def _history(config: Config, name: str) -> int:
    from smtpproxy.cli.history import Versions

    try:
        lines = list(Versions(config).lines(name))
    except LookupError as unknown:
        print(f"smtpproxy rules: {unknown.args[0]}", file=sys.stderr)
        return 1
    print("\n".join(lines) if lines else f"no version was live yet: {config.data} knows of none")
    return 0


def _now(config: Config, table: Any) -> Iterator[str]:
    """What runs otherwise than the files say, and what the servers that run have not got rid of yet."""
    from smtpproxy.server.running import running

    for rule in table.rules:
        if rule.rolled_back:
            undo = f"{typed()} rollback {rule.name} --undo"
            yield f"ROLLED BACK: {rule.name} runs version {rule.version}, {rule.rolled_back}; its file does not run. Undo: {undo}"
    for process in running(config.data):
        other = "" if process.table == table.hash else f", which is not what is in the files: that is {table.hash}"
        yield f"process {process.pid} runs table {process.table}{other}"
        for old in process.draining:
            held = f"{old.sessions} session{'' if old.sessions == 1 else 's'}, {old.transactions} in a transaction"
            yield f"  still in use: {old.rule} {old.version}, by {held}"


def load(config: Config) -> Any:
    """The report of loading the rules of ``config`` for a look only. Raises FolderRefused, OSError."""
    return look(config)[1]


def look(config: Config) -> tuple[Any, Any]:
    """The rules of ``config``, loaded for a look only and stopped, and the report. Raises FolderRefused, OSError."""
    from smtpproxy.scripting.list_files import ListFiles
    from smtpproxy.scripting.loader import Rules

    rules = Rules(
        config.scripts.folder,
        config.rule,
        {name: listener.rules for name, listener in config.listener.items()},
        log=lambda *_, **__: None,
        doors={"lists": ListFiles(config.folder, lambda *_, **__: None, config.handoff)},
        handoffs={name: handoff.kind for name, handoff in config.handoff.items()},
        data=config.data,
        live=False,
    )
    try:
        return rules, rules.load()
    finally:
        rules.stop()


def _off(table: Any) -> list[Any]:
    """What comes with smtpproxy and does not run."""
    from smtpproxy.scripting import bundled

    running = {rule.file for rule in table.rules}
    return [bundled.about(source) for file, source in bundled.sources().items() if file not in running]


def _config(args: argparse.Namespace) -> Config:
    if place(args) == HERE and not configured(HERE):
        return instance()
    return read(args)


def _count(number: int) -> str:
    return f"{number} rule{'' if number == 1 else 's'}"


def _line(row: Any) -> str:
    words = [
        f"{row.order}. {row.rule:<24} {row.version}  on error {row.on_error}, on timeout {row.on_timeout},",
        f"{row.wall:g} s a call, {row.chain_budget:g} s the chain",
    ]
    if row.listeners:
        words.append(f"only on {', '.join(row.listeners)}")
    if row.skip:
        words.append(f"not for {', '.join(row.skip)}")
    if row.rolled_back:
        words.append(f"ROLLED BACK: {row.rolled_back}")
    elif row.broken:
        words.append(f"(the newest save is not live: {row.broken})")
    return " ".join(words)
