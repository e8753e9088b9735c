"""`smtpproxy rules new NAME`: the beginnings of a rule, which does nothing yet, in the folder of rules."""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path
from typing import Any

from smtpproxy.cli.instance import HERE, rule_file, typed
from smtpproxy.cli.try_it import looked_at

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")

PYTHON = '''\
"""{name}: say here what it is for."""

from smtpproxy.script import deny, log, settings


class Settings:
    refused: set[str] = set()


def on_rcpt(mail, rcpt):
    if str(rcpt) in settings.refused:
        log.info("refused", recipient=str(rcpt), sender=str(mail.sender))
        return deny("No such user", code="550 5.1.1")
'''
LUA = """\
-- {name}: say here what it is for.

settings = {{ refused = set{{}} }}

function on_rcpt(mail, rcpt)
  if settings.refused[tostring(rcpt)] then
    log.info("refused", {{ recipient = tostring(rcpt), sender = tostring(mail.sender) }})
    return deny("No such user", {{ code = "550 5.1.1" }})
  end
end
"""


def add(subparsers: Any) -> None:
    parser = subparsers.add_parser("rules new", help="write the beginnings of a rule", description=__doc__)
    parser.add_argument("--config", type=Path, default=HERE, metavar="FILE-OR-FOLDER", help="default: the current folder")
    parser.add_argument("name", metavar="NAME", help="such as 30-partners: the number says where it stands among the rules")
    parser.add_argument("--lua", action="store_true", help="in Lua (else in Python)")
    parser.set_defaults(folder=None)


def run(args: argparse.Namespace) -> int:
    name, lua = _named(args.name, args.lua)
    folder = looked_at(args).scripts.folder
    if not _NAME.fullmatch(name):
        print(f'smtpproxy rules new: "{name}" is no name: letters, digits, hyphens and underscores', file=sys.stderr)
        return 1
    if (there := rule_file(folder, name)) is not None:
        print(f"smtpproxy rules new: {there} is there already: nothing was written", file=sys.stderr)
        return 1
    path = folder / f"{name}.{'lua' if lua else 'py'}"
    try:
        folder.mkdir(mode=0o755, parents=True, exist_ok=True)
        with path.open("x", encoding="utf-8") as file:
            file.write((LUA if lua else PYTHON).format(name=name))
    except OSError as wrong:
        print(f"smtpproxy rules new: {path}: {wrong.strerror}", file=sys.stderr)
        return 1
    print(f"Written: {path}\nA server that runs has taken it already; it refuses nobody yet.\n{whats_next(path)}")
    return 0


def _named(name: str, lua: bool) -> tuple[str, bool]:
    """The rule's name, and whether it is for Lua: "30-x.lua" says so, too."""
    stem, _, suffix = name.rpartition(".")
    return (stem, lua or suffix == "lua") if stem and suffix in ("py", "lua") else (name, lua)


def whats_next(path: Path) -> str:
    """What to do with a rule that has just been written."""
    return f"""\
Next: edit it, then
  {typed()} lint {path}
  {typed()} send --to you@example.com
  {typed()} explain last"""
