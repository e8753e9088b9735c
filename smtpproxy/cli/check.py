"""`smtpproxy check`: whether a configuration and its rules can be used; every problem at once."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from typing import Any

from smtpproxy.cli.instance import add_config, read
from smtpproxy.config.checks import warnings
from smtpproxy.config.schema import Config, Handoff


def add(subparsers: Any) -> None:
    parser: argparse.ArgumentParser = subparsers.add_parser(
        "check", help="say whether a configuration and its rules can be used"
    )
    add_config(parser)


def run(args: argparse.Namespace) -> int:
    config = read(args)
    names, broken, doubtful = rules(config)
    from smtpproxy.server.keys import Keys
    from smtpproxy.server.refused import Refused

    try:
        complaints = Keys(config).complaints
    except Refused as refused:
        complaints, broken = [], [str(refused), *broken]
    for warning in (*complaints, *warnings(config), *doubtful):
        print(f"warning: {warning}", file=sys.stderr)
    for problem in broken:
        print(problem, file=sys.stderr)
    if broken:
        return 1
    print("ok")
    for line in summary(config, names):
        print(f"  {line}")
    return 0


def rules(config: Config) -> tuple[list[str], list[str], list[str]]:
    """Names of the rules, what is wrong with them, and what is probably not meant. Nothing is kept."""
    # gevent is behind it: only once there is a usable configuration.
    from smtpproxy.cli.check_logins import doubts
    from smtpproxy.cli.rules import look
    from smtpproxy.scripting.errors import FolderRefused
    from smtpproxy.scripting.lint.look import findings

    try:
        loaded, report = look(config)
    except (FolderRefused, OSError) as wrong:
        return [], [str(wrong)], []
    names = [rule.name for rule in report.table.rules]
    problems = [f"{problem.at or problem.file}: {problem.text}" for problem in report.problems]
    doubtful = list(map(str, findings(loaded.folder.sources.values(), report.table, config)))
    return names, problems, [*doubtful, *doubts(config, report.table)]


def summary(config: Config, names: list[str]) -> Iterator[str]:
    """A line for each listener, what is taken, and the rules."""
    for name, listener in config.listener.items():
        binds = ", ".join(map(str, listener.bind))
        yield f"{name}: {binds} -> {listener.handoff} ({_way(config.handoff[listener.handoff])})"
    domains, networks = config.relaying.domains, config.relaying.networks
    yield f"mail for {', '.join(sorted(domains)) or 'no domain'}; from {', '.join(networks) or 'no network'} to anybody"
    yield f"rules: {', '.join(names) or 'none'}"


def _way(handoff: Handoff) -> str:
    targets = f" to {', '.join(map(str, handoff.to))}" if handoff.to else ""
    identity = f", {handoff.identity}" if handoff.identity != "none" else ""
    return f"{handoff.kind}{targets}{identity}"
