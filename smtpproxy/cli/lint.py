"""`smtpproxy lint`: what is probably a mistake in your rules, with file and line; status 1 if there is anything.

Verdicts that are not returned, hooks that can never run, settings that nothing reads or declares, names that the API
does not have, calls that hold everybody up. Nothing of a rule's hooks is run.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from smtpproxy.cli.instance import HERE
from smtpproxy.cli.try_it import looked_at
from smtpproxy.config.schema import Config


def add(subparsers: Any) -> None:
    words = "point out what is probably a mistake in rules"
    parser = subparsers.add_parser("lint", help=words, description=__doc__)
    parser.add_argument("--config", type=Path, default=HERE, metavar="FILE-OR-FOLDER", help="default: the current folder")
    parser.add_argument("file", metavar="FILE", type=Path, nargs="?", help="a rule (default: all of the folder of rules)")
    parser.set_defaults(folder=None)


def run(args: argparse.Namespace) -> int:
    from smtpproxy.scripting.errors import FolderRefused
    from smtpproxy.scripting.folder import is_rule_file

    config, file = looked_at(args), args.file
    if file is not None and not (file.is_file() and is_rule_file(file.name)):
        print(f"smtpproxy lint: {file} is no rule: a *.py or *.lua whose name does not begin with . or _", file=sys.stderr)
        return 2
    try:
        found, count = linted(config, file)
    except (FolderRefused, OSError) as error:
        print(f"smtpproxy lint: {error}", file=sys.stderr)
        return 1
    for finding in found:
        print(finding)
    if not found:
        print(f"nothing to complain about in {count} file{'' if count == 1 else 's'}")
    return 1 if found else 0


def linted(config: Config, file: Path | None = None) -> tuple[list[Any], int]:
    """What is found in one file, or in all of the folder of rules; how many files that were. Raises FolderRefused, OSError."""
    from msgspec.structs import replace

    from smtpproxy.cli.rules import look
    from smtpproxy.scripting.lint.look import findings, told

    folder = file.absolute().parent if file is not None else config.scripts.folder
    rules, report = look(replace(config, scripts=replace(config.scripts, folder=folder)))
    assert rules.folder is not None
    sources = [source for name, source in rules.folder.sources.items() if file is None or name == file.name]
    found = [told(problem) for problem in report.problems] + findings(sources, report.table, config)
    if file is not None:
        found = [finding for finding in found if finding.file in (file.name, f"[rule.{file.stem}]")]
    return list(dict.fromkeys(found)), len(sources)
