"""What commands that need an instance have in common, and how whoever typed this one can type another."""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tomllib
from pathlib import Path

import smtpproxy
from smtpproxy.config.load import load
from smtpproxy.config.problem import ConfigErrors, Problem
from smtpproxy.config.schema import Config

HERE = Path()


def add_config(parser: argparse.ArgumentParser) -> None:
    """Adds --config, whose value may also stand alone."""
    parser.add_argument(
        "--config",
        metavar="FILE-OR-FOLDER",
        type=Path,
        default=HERE,
        help="the configuration: a file, or a folder of *.toml files (default: the current folder)",
    )
    parser.add_argument("folder", metavar="FILE-OR-FOLDER", type=Path, nargs="?", help="the same as --config")


def place(args: argparse.Namespace) -> Path:
    """Where the configuration is, by whichever way it was told."""
    named: Path = args.folder or args.config
    return named


def read(args: argparse.Namespace) -> Config:
    """The configuration that --config names. Raises ConfigErrors, which main prints."""
    if place(args) == HERE and not configured(HERE):
        hint = f"name one with --config, or write one: {typed()} init DIR"
        raise ConfigErrors([Problem("", "", "there is no configuration in the current folder", hint)])
    return load(place(args))


def configured(folder: Path) -> bool:
    """Whether a folder holds a configuration: pyproject.toml and the like are none, a file that is no TOML may be one."""
    known = set(Config.__struct_fields__)
    for file in folder.glob("*.toml"):
        try:
            tables = tomllib.loads(file.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return True
        if known & tables.keys():
            return True
    return False


def harmless_rules() -> list[Path]:
    """The rules that come with the product."""
    return sorted(file for suffix in ("py", "lua") for file in _shipped().glob(f"*.{suffix}"))


def samples(*, lua: bool) -> dict[str, Path]:
    """The samples that come with the product, by name, in one of the two languages."""
    found = _shipped().glob("samples/lua/*.lua" if lua else "samples/*.py")
    return {file.stem: file for file in sorted(found)}


def _shipped() -> Path:
    """Inside an installed package, beside it in a checkout."""
    package = Path(smtpproxy.__file__).parent
    return package / "scripts" if (package / "scripts").is_dir() else package.parent / "scripts"


def rule_file(folder: Path, name: str) -> Path | None:
    """The file of a rule, whichever its language; None when there is none."""
    return next((path for suffix in ("py", "lua") if (path := folder / f"{name}.{suffix}").exists()), None)


def their_tests() -> list[Path]:
    """The tests of the rules that come with the product."""
    return sorted((harmless_rules()[0].parent / "tests").glob("test_*.py"))


def typed() -> str:
    """The command as it was typed, so that what is printed for the next one works: `.venv/bin/smtpproxy`, `smtpproxy`."""
    program = sys.argv[0]
    name = os.path.basename(program)
    if name == "__main__.py":
        return f"{sys.executable} -m smtpproxy"
    found = shutil.which(name)
    return name if found and os.path.exists(program) and os.path.samefile(found, program) else program
