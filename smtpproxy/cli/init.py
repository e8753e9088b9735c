"""`smtpproxy init DIR`: a documented instance that passes `smtpproxy check`."""

from __future__ import annotations

import argparse
import shutil
import sys
from pathlib import Path
from typing import Any

from smtpproxy.cli.instance import harmless_rules, their_tests, typed
from smtpproxy.config import sample


def add(subparsers: Any) -> None:
    parser: argparse.ArgumentParser = subparsers.add_parser("init", help="write a documented instance into a folder")
    parser.add_argument("folder", metavar="DIR", type=Path, help="a new or empty folder")


def run(args: argparse.Namespace) -> int:
    folder: Path = args.folder
    try:
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            print(f"{folder} is there and not an empty folder: nothing was written", file=sys.stderr)
            return 1
        written = write(folder)
    except OSError as wrong:
        print(f"{wrong.filename or folder}: {wrong.strerror}", file=sys.stderr)
        return 1
    print(f"Written into {folder}:")
    for file in written:
        print(f"  {file.relative_to(folder)}")
    print(_next(folder))
    return 0


def write(folder: Path) -> list[Path]:
    """Writes the instance; the files. Only the owner may write into its folders: rules are code."""
    scripts = folder / "scripts"
    folder.mkdir(mode=0o755, parents=True, exist_ok=True)
    scripts.mkdir(mode=0o755)
    written = []
    for name, text in sample.files().items():
        (folder / name).write_text(text, encoding="utf-8")
        written.append(folder / name)
    (scripts / "tests").mkdir(mode=0o755)
    for rule in harmless_rules():
        written.append(_copied(rule, scripts))
    for test in their_tests():
        written.append(_copied(test, scripts / "tests"))
    return written


def _copied(file: Path, folder: Path) -> Path:
    return Path(shutil.copyfile(file, folder / file.name))


def _next(folder: Path) -> str:
    command = typed()
    return f"""\
Next:
  edit handoffs.toml (where mail goes: now 127.0.0.1:10025) and relaying.toml (for whom: now example.com), then
  {command} check {folder}
  {command} test --config {folder}     # the tests of its rules
  {command} serve --config {folder}
and from another terminal, for it listens on 127.0.0.1:2525:
  {command} send --to you@example.com"""
