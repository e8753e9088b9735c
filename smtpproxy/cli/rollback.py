"""`smtpproxy rollback`: an earlier version of a rule is live again, until the rule's file changes.

A server that runs takes it within a second; without one it counts from the next start. The file itself is not touched.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import Any

from smtpproxy.cli.instance import HERE, typed
from smtpproxy.cli.try_it import looked_at
from smtpproxy.config.schema import Config

PATIENCE = 3.0
LOOK = 0.05


def add(subparsers: Any) -> None:
    parser = subparsers.add_parser("rollback", help="have an earlier version of a rule run", description=__doc__)
    parser.add_argument("--config", type=Path, default=HERE, metavar="FILE-OR-FOLDER", help="default: the current folder")
    parser.add_argument("name", metavar="NAME", help="the rule")
    parser.add_argument("hash", metavar="HASH", nargs="?", help="the version, or how it begins (default: the one before)")
    parser.add_argument("--undo", action="store_true", help="let the file as it is run again")
    parser.set_defaults(folder=None)


def run(args: argparse.Namespace) -> int:
    config = looked_at(args)
    try:
        return _undo(config, args.name) if args.undo else _roll_back(config, args.name, args.hash or "")
    except (LookupError, OSError) as wrong:
        print(f"smtpproxy rollback: {wrong.args[0] if isinstance(wrong, LookupError) else wrong}", file=sys.stderr)
        return 1


def _roll_back(config: Config, name: str, wanted: str) -> int:
    from smtpproxy.cli.history import Versions
    from smtpproxy.scripting.kept import stamp
    from smtpproxy.scripting.rollbacks import Pin

    versions = Versions(config)
    file = versions.file(name)
    live = versions.live(file)
    recipe = (_chosen(versions, file, wanted) if wanted else _before(versions, file, live)).recipe
    if recipe.version == live:
        raise LookupError(f"version {live} of {file} is live already")
    now = time.time()
    versions.rollbacks.put(file, Pin(versions.digest(file), recipe, f"by hand at {stamp(now)}", now))
    status = _wait(config, file, recipe.version, f"version {recipe.version}")
    print(f"It stays until {file} changes, or: {typed()} rollback {name} --undo")
    return status


def _undo(config: Config, name: str) -> int:
    from smtpproxy.cli.history import Versions

    versions = Versions(config)
    file = versions.file(name)
    pin = versions.pin(file)
    if pin is None:
        raise LookupError(f"{file} is not rolled back")
    versions.rollbacks.drop(file)
    return _wait(config, file, "", "the file as it is")


def _chosen(versions: Any, file: str, wanted: str) -> Any:
    found = {entry.version: entry for entry in versions.archive.history(file) if entry.version.startswith(wanted)}
    if len(found) != 1:
        known = ", ".join(dict.fromkeys(entry.version for entry in versions.archive.history(file)))
        raise LookupError(f'"{wanted}" is {"ambiguous" if found else "no version"} of {file}; there is {known}')
    return next(iter(found.values()))


def _before(versions: Any, file: str, live: str) -> Any:
    entry = versions.archive.before(file, live)
    if entry is None:
        raise LookupError(f"no version of {file} before {live or 'the newest'} is known")
    return entry


def _wait(config: Config, file: str, wanted: str, what: str) -> int:
    """Until every process that serves says that the rule is rolled back to this version; "" is the file as it is."""
    from smtpproxy.cli.history import rule_of
    from smtpproxy.server.running import running

    rule = rule_of(file)
    end = time.monotonic() + PATIENCE
    while True:
        processes = running(config.data)
        waiting = [one.pid for one in processes if rule in one.versions and wanted != one.rolled_back.get(rule, "")]
        if not waiting or time.monotonic() > end:
            break
        time.sleep(LOOK)
    if waiting:
        print(f"{rule}: process {waiting[0]} has not taken {what}: its log says why", file=sys.stderr)
        return 1
    print(f"{rule}: {what} {'is live' if processes else 'runs from the next start on'}")
    return 0
