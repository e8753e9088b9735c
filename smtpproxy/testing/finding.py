"""Which rule a test is about, and which tests a rule has."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from smtpproxy.config.problem import did_you_mean
from smtpproxy.scripting import bundled
from smtpproxy.scripting.folder import is_rule_file


def files(folder: Path) -> list[Path]:
    """The rule files of a folder, and of `lua` in it."""
    places = [place for place in (folder, folder / "lua") if place.is_dir()]
    return sorted(file for place in places for file in place.iterdir() if is_rule_file(file.name))


def find(folder: Path, name: str) -> Path:
    """A rule by its name, its file's, or its path from the folder; else one that comes along. Raises LookupError."""
    known = [*files(folder), *files(bundled.FOLDER)]
    for file in known:
        if name in (file.stem, file.name, f"{file.parent.name}/{file.name}"):
            return file
    hint = did_you_mean(name, [file.stem for file in known])
    raise LookupError(f'there is no rule "{name}" in {folder}; {hint}'.rstrip("; "))


def about(test: Path) -> list[Path]:
    """The rules that a test is about by its name: test_local_people.py is about 20-local-people, in either language."""
    return [file for file in files(folder_of(test)) if _fits(test, file)]


def tests_of(rule: Path) -> Iterator[Path]:
    """The test files that are about a rule."""
    folder = rule.parent.parent if rule.parent.name == "lua" else rule.parent
    for test in sorted((folder / "tests").glob("test_*.py")):
        if _fits(test, rule):
            yield test


def folder_of(test: Path) -> Path:
    """Where the rules of a test lie: beside the folder `tests`, or beside the test."""
    return test.parent.parent if test.parent.name == "tests" else test.parent


def _fits(test: Path, rule: Path) -> bool:
    wanted = test.stem.removeprefix("test_")
    return wanted in (re.sub(r"\W", "_", name) for name in (rule.stem, re.sub(r"^\d+\W*", "", rule.stem)))
