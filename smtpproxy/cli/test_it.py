"""`smtpproxy test`: run the tests of rules, in Python or Lua, as the server would run the rules: see docs/testing-rules.md."""

from __future__ import annotations

import argparse
import importlib.util
import os
import sys
from pathlib import Path
from typing import Any

from smtpproxy.cli.instance import HERE, typed
from smtpproxy.cli.try_it import looked_at

PLUGIN = "smtpproxy.testing.plugin"
TIMEOUT = 120.0
"""Seconds: a rule inside of a C function that never returns can be stopped by nobody."""
NO_TESTS = 5
STATUS = {0: 0, 1: 1, NO_TESTS: NO_TESTS}
"""Of pytest, to ours: whatever else went wrong is 2."""


def add(subparsers: Any) -> None:
    parser = subparsers.add_parser(
        "test",
        help="run the tests of rules",
        description=__doc__,
        epilog="Exits with 0 when all tests passed, 1 when one failed, 5 when there is none, 2 when they could not be run.",
    )
    option = parser.add_argument
    option("files", nargs="*", type=Path, metavar="FILE", help="tests, rules or a folder (default: all tests of the rules)")
    option("--config", type=Path, default=HERE, metavar="FILE-OR-FOLDER", help="the configuration (default: the current folder)")
    option("-k", dest="words", metavar="WORDS", help="only tests whose names fit, as for pytest")
    option("-x", dest="first", action="store_true", help="end with the first that fails")
    option("-v", dest="verbose", action="store_true", help="name every test")
    option("--timeout", type=float, default=TIMEOUT, metavar="SECONDS", help="end all when one test takes longer; default 120")
    option("--pdb", action="store_true", help="the debugger where a test fails")
    parser.set_defaults(folder=None)


def run(args: argparse.Namespace) -> int:
    if importlib.util.find_spec("pytest") is None:
        print(f"smtpproxy test: pytest is not installed; {sys.executable} -m pip install 'smtpproxy[test]'", file=sys.stderr)
        return 2
    try:
        tests = _tests(args)
    except LookupError as error:
        print(f"smtpproxy test: {error.args[0]}", file=sys.stderr)
        return NO_TESTS
    except OSError as error:
        print(f"smtpproxy test: {error.filename}: {error.strerror}", file=sys.stderr)
        return 2
    return _run(tests, args)


def _run(tests: list[Path], args: argparse.Namespace) -> int:
    import pytest

    sys.dont_write_bytecode = True  # the folder of rules stays as it is
    options = ["-p", PLUGIN, "-p", "no:cacheprovider", "-c", os.devnull, "--rootdir", ".", "--import-mode", "importlib"]
    options += ["-o", f"faulthandler_timeout={args.timeout}", "-o", "faulthandler_exit_on_timeout=true"]
    options += ["-k", args.words] if args.words else []
    wanted = {"-x": args.first, "-v": args.verbose, "--pdb": args.pdb, "-q": not args.verbose}
    status = int(pytest.main([*options, *[word for word, given in wanted.items() if given], *map(str, tests)]))
    if status == NO_TESTS:
        print(f"smtpproxy test: there is no test in {', '.join(map(str, tests))}", file=sys.stderr)
    return STATUS.get(status, 2)


def _tests(args: argparse.Namespace) -> list[Path]:
    """Files and folders for pytest. Raises LookupError when there is nothing to run, OSError for what is not there."""
    if not args.files:
        return [_in(looked_at(args).scripts.folder)]
    return [test for file in args.files for test in _of(file)]


def _of(file: Path) -> list[Path]:
    from smtpproxy.testing.finding import tests_of

    if file.is_dir():
        return [_in(file)]
    file.stat()
    if file.name.startswith("test_"):
        return [file]
    found = list(tests_of(file))
    if not found:
        name = file.stem.lstrip("0123456789-_").replace("-", "_")
        raise LookupError(f"{file} has no test; write {file.parent / 'tests' / f'test_{name}.py'}")
    return found


def _in(folder: Path) -> Path:
    if (folder / "tests").is_dir():
        return folder / "tests"
    if folder.name == "tests" or list(folder.glob("test_*.py")):
        return folder
    raise LookupError(f"there are no tests: {folder / 'tests'} is not there; `{typed()} test --help`, docs/testing-rules.md")
