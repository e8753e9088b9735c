"""Everything that can be found out about the operator's rules without running them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from smtpproxy.config.schema import Config
from smtpproxy.scripting.errors import Problem
from smtpproxy.scripting.lint.finding import Finding
from smtpproxy.scripting.lint.lua import lua
from smtpproxy.scripting.lint.python import PythonText
from smtpproxy.scripting.lint.reach import unreached
from smtpproxy.scripting.source import Source
from smtpproxy.scripting.table import Table


def findings(sources: Iterable[Source], table: Table, config: Config) -> list[Finding]:
    """By file and line; what the load of the table told stands in `table.problems`, see `told`."""
    found = [finding for source in sources for finding in (*_text(source), *_disabled(source, config))]
    return sorted({*found, *unreached(table, config)})


def told(problem: Problem) -> Finding:
    """What is wrong with a file, as a finding."""
    file, _, line = problem.at.rpartition(":")
    return Finding(file, int(line), problem.text) if line.isdecimal() else Finding(problem.at or problem.file, 0, problem.text)


def _text(source: Source) -> Iterator[Finding]:
    if source.language == "lua":
        yield from lua(source)
        return
    try:
        text = PythonText(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return  # its load says what is wrong
    yield from text.findings()


def _disabled(source: Source, config: Config) -> Iterator[Finding]:
    if config.rule.get(source.name, {}).get("enabled") is False:
        yield Finding(source.file, 0, f"[rule.{source.name}] enabled = false: none of its hooks can run")
