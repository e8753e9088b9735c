"""`smtpproxy rules add SAMPLE`: copy one of the samples that come with the product into the folder of rules."""

from __future__ import annotations

import argparse
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from smtpproxy.cli.instance import HERE, rule_file, samples
from smtpproxy.cli.rules_new import whats_next
from smtpproxy.cli.try_it import looked_at


def add(subparsers: Any) -> None:
    parser = subparsers.add_parser("rules add", help="copy a sample into the folder of rules", description=__doc__)
    parser.add_argument("--config", type=Path, default=HERE, metavar="FILE-OR-FOLDER", help="default: the current folder")
    parser.add_argument("name", metavar="SAMPLE", nargs="?", help="which one; without: list them")
    parser.add_argument("--lua", action="store_true", help="the one in Lua (else that in Python)")
    parser.set_defaults(folder=None)


def run(args: argparse.Namespace) -> int:
    known = samples(lua=args.lua)
    if args.name is None:
        print("\n".join(_list(known)))
        return 0
    if args.name not in known:
        print(f"smtpproxy rules add: {_unknown(args.name, args.lua)}", file=sys.stderr)
        return 1
    sample, folder = known[args.name], looked_at(args).scripts.folder
    if (there := rule_file(folder, args.name)) is not None:
        print(f"smtpproxy rules add: {there} is there already: nothing was written", file=sys.stderr)
        return 1
    try:
        folder.mkdir(mode=0o755, parents=True, exist_ok=True)
        path = Path(shutil.copyfile(sample, folder / sample.name))
    except OSError as wrong:
        print(f"smtpproxy rules add: {wrong.filename or folder}: {wrong.strerror}", file=sys.stderr)
        return 1
    print("\n".join([f"Written: {path}", f"  {_about(path)}", *_settings(path), whats_next(path)]))
    return 0


def _unknown(name: str, lua: bool) -> str:
    from smtpproxy.config.problem import did_you_mean

    if name in samples(lua=not lua):
        return f'"{name}" is there in {"Python: leave --lua out" if lua else "Lua: add --lua"}'
    hint = did_you_mean(name, samples(lua=lua))
    listed = "\n".join(_list(samples(lua=lua)))
    return f'there is no sample "{name}"{f"; {hint}" if hint.startswith("did") else ""}\n{listed}'


def _list(known: dict[str, Path]) -> Iterator[str]:
    for name, path in known.items():
        yield f"{name:<26}  {_about(path)}"


def _about(path: Path) -> str:
    """The first sentence of the file."""
    first = path.read_text("utf-8").lstrip().splitlines()[0]
    return first.strip('"- ')


def _settings(path: Path) -> Iterator[str]:
    """What can be set, with the values that hold now, as it stands in a configuration."""
    from smtpproxy.scripting.list_files import ListFiles
    from smtpproxy.scripting.loader import Rules
    from smtpproxy.scripting.settings import settings_of

    doors = {"lists": ListFiles(path.parent.parent, lambda *_, **__: None)}
    rules = Rules(path.parent, log=lambda *_, **__: None, doors=doors, live=False)
    try:
        table = rules.load().table
        yield from (f"Not live yet: {problem.text}" for problem in table.problems if problem.file == path.name)
        values = next((settings_of(rule.settings) for rule in table.rules if rule.file == path.name), {})
    finally:
        rules.stop()
    if values:
        yield "Its settings, with the values that hold unless the configuration (a *.toml) says otherwise, live on save:"
        yield f"  [rule.{path.stem}]"
        yield from (f"  {name} = {_toml(value)}" for name, value in values.items() if value is not None)


def _toml(value: Any) -> str:
    from smtpproxy.config.sample import literal

    if isinstance(value, set | frozenset | list | tuple):
        return f"[{', '.join(sorted(map(_toml, value)) if isinstance(value, set | frozenset) else map(_toml, value))}]"
    return literal(value if isinstance(value, bool | int | float | str | dict) else str(value))
