"""Bundled rules, run alone and in front of a hand-off."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from smtpproxy.scripting.bundled import FOLDER
from smtpproxy.testing.front import Front
from smtpproxy.testing.handoffs import FakeOutlet
from smtpproxy.testing.rules import Outcome, run_rule

OPTIONS = ("doors", "relaying", "resolver", "xclient_from")
"""What goes to Front; other names are rules."""


@pytest.fixture
def ask() -> Callable[..., Outcome]:
    """Run one hook of a bundled rule: ask("access", "on_mail", settings={...}); that it failed fails the test."""

    def asked(rule: str, hook: str, **facts: Any) -> Outcome:
        outcome = run_rule(FOLDER / f"{rule}.py", hook, **facts)
        failed = [fields for event, fields in outcome.logged if event == "rule_failed"]
        assert not failed, failed
        return outcome

    return asked


@pytest.fixture
def front(tmp_path: Path) -> Iterator[Callable[..., Front]]:
    """Sessions with bundled rules, over the hand-off "out", or those given: front(access={...})."""
    fronts: list[Front] = []

    def make(*outlets: Any, rules: dict[str, str] | None = None, **settings: Any) -> Front:
        options = {name: settings.pop(name) for name in OPTIONS if name in settings}
        tables = {name: {"enabled": True, **table} for name, table in settings.items()}
        made = Front(
            *(outlets or [FakeOutlet("out", live=True)]), folder=tmp_path, rules=rules or {}, settings=tables, **options
        )
        fronts.append(made)
        return made

    yield make
    for made in fronts:
        made.close()
