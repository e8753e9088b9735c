"""Reads a configuration: a folder of TOML files, merged, or one file with all tables."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any, Final

from smtpproxy.config.checks import cross_checks
from smtpproxy.config.convert import Converter
from smtpproxy.config.fields import settings
from smtpproxy.config.lines import Keys, dotted, key_lines
from smtpproxy.config.problem import ConfigErrors, Problem
from smtpproxy.config.schema import Config

_NAMED: Final = frozenset(name for name, setting in settings(Config).items() if setting.named_tables)


def load(path: Path | str) -> Config:
    """The configuration in a folder or file. Raises ConfigErrors with every mistake at once."""
    reader = _Reader(Path(path))
    config = reader.read()
    if reader.problems or config is None:
        raise ConfigErrors(sorted(reader.problems, key=lambda problem: (problem.file, problem.line)))
    return config


def origin(config: Config, key: str) -> str:
    """Where a setting stands, as "listeners.toml:3"; "" when it has its default."""
    return config.origins.get(key, "")


class _Reader:
    def __init__(self, path: Path) -> None:
        self.path = path
        self.folder = (path if path.is_dir() else path.parent).absolute()
        self.problems: list[Problem] = []
        self.origins: dict[Keys, tuple[str, int]] = {}
        self.merged: dict[str, Any] = {}

    def read(self) -> Config | None:
        for file in self._files():
            self._add(file)
        readable = not self.problems
        config = Converter(self.folder, self._report).table(
            Config, self.merged, folder=self.folder, origins=self._origins()
        )
        # A file that could not be read may hold what the other tables refer to.
        if readable and config is not None:
            cross_checks(config, self.merged, self._report)
        return config

    def _files(self) -> list[Path]:
        if self.path.is_file():
            return [self.path]
        if not self.path.is_dir():
            self._problem("", f"{self.path}: no such file or folder")
            return []
        found = sorted(file for file in self.path.glob("*.toml") if file.is_file())
        if not found:
            hint = f"`smtpproxy init {self.path}` writes an instance"
            self._problem("", f"{self.path}: no *.toml file in this folder", hint)
        return found

    def _add(self, file: Path) -> None:
        try:
            text = file.read_text(encoding="utf-8")
            tables = tomllib.loads(text)
        except OSError as wrong:
            return self._problem(file.name, f"cannot be read: {wrong.strerror}")
        except UnicodeDecodeError as wrong:
            return self._problem(file.name, f"is not UTF-8: {wrong.reason} at octet {wrong.start}")
        except tomllib.TOMLDecodeError as wrong:
            return self._problem(file.name, f"is not TOML: {wrong}")
        lines = key_lines(text, tables)
        for name, value in tables.items():
            self._merge(file.name, lines, (name,), value, self.merged)
        for keys, line in lines.items():
            self.origins.setdefault(keys, (file.name, line))

    def _merge(self, file: str, lines: dict[Keys, int], keys: Keys, value: Any, into: dict[str, Any]) -> None:
        name = keys[-1]
        if name not in into:
            into[name] = value
        elif len(keys) == 1 and name in _NAMED and isinstance(value, dict) and isinstance(into[name], dict):
            merged = into[name] = dict(into[name])
            for inner, table in value.items():
                self._merge(file, lines, (*keys, inner), table, merged)
        else:
            text = f"stands in {self._place(keys)[0]} too; keep one"
            self.problems.append(Problem(file, dotted(keys), text, line=lines[keys]))

    def _place(self, keys: Keys) -> tuple[str, int]:
        """The file and line of a key, or of the table around it."""
        while keys and keys not in self.origins:
            keys = keys[:-1]
        return self.origins.get(keys, ("", 0))

    def _report(self, keys: Keys, text: str, suggestion: str) -> None:
        file, line = self._place(keys)
        self.problems.append(Problem(file, dotted(keys), text, suggestion, line))

    def _problem(self, file: str, text: str, suggestion: str = "") -> None:
        self.problems.append(Problem(file, "", text, suggestion))

    def _origins(self) -> dict[str, str]:
        return {dotted(keys): f"{file}:{line}" for keys, (file, line) in self.origins.items()}
