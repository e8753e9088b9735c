"""Sessions in front of a hand-off that does as it is told."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from smtpproxy.testing.front import Front
from smtpproxy.testing.handoffs import FakeOutlet, live


@pytest.fixture
def out() -> FakeOutlet:
    return live()


@pytest.fixture
def front(tmp_path: Path, out: FakeOutlet) -> Iterator[Callable[..., Front]]:
    """Sessions in front of `out`, with this rule and what else Front takes."""
    fronts = []

    def make(rule: str = "", *more: FakeOutlet, language: str = "py", **options: object) -> Front:
        rules = {f"10-rule.{language}": rule} if rule else {}
        fronts.append(Front(out, *more, folder=tmp_path, rules=rules, **options))  # type: ignore[arg-type]
        return fronts[-1]

    yield make
    for it in fronts:
        it.close()
