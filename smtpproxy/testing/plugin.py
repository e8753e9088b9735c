"""The pytest plugin behind `smtpproxy test`: the fixture `rule`. By itself: pytest -p smtpproxy.testing.plugin"""

from __future__ import annotations

from gevent import monkey

if not monkey.is_module_patched("socket"):
    monkey.patch_all()  # as in the server: a rule that waits holds nobody up, and can be stopped

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from smtpproxy.testing.author import RuleUnderTest, World
from smtpproxy.testing.finding import about, find, folder_of

WORLD = pytest.StashKey[World]()
TOLD = 3
"""Stories of the last runs that a failed test shows."""


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """A test of a rule that is there in both languages runs for both."""
    marks = metafunc.definition.iter_markers("parametrize")
    own = any("rule" in re.findall(r"\w+", str(mark.args[0])) for mark in marks)
    if "rule" in metafunc.fixturenames and not own:
        found = about(metafunc.definition.path)
        if len(found) > 1:
            metafunc.parametrize("rule", found, ids=[file.name for file in found], indirect=True)


@pytest.fixture
def rule(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[RuleUnderTest]:
    """The rule that this file's name is about; rule("NAME") is another one, rule("A", "B") are two together."""
    world = World(folder_of(request.path))
    request.node.stash[WORLD] = world
    monkeypatch.setattr("time.time", world.clock)
    wanted = getattr(request, "param", None)
    files = about(request.path) if wanted is None else [wanted if isinstance(wanted, Path) else find(world.folder, wanted)]
    yield RuleUnderTest(world, files)
    world.close()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[Any]) -> Iterator[None]:
    """A test that failed tells what the rules did."""
    report: pytest.TestReport = yield  # type: ignore[assignment]
    if report.failed and WORLD in item.stash:
        for run in item.stash[WORLD].runs[-TOLD:]:
            report.sections.append((f"what the rules did: {run!r}", run.story))
    return report  # type: ignore[return-value]
