"""The rules of scripts/ and the samples: each has a test, in the form that rules are tested in, and all of them pass."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from smtpproxy.scripting.hooks import HOOKS

SCRIPTS = Path(__file__).parents[2] / "scripts"
SAMPLES = SCRIPTS / "samples"
PYTHON = sorted(SAMPLES.glob("*.py"))
LUA = sorted(SAMPLES.glob("lua/*.lua"))


@pytest.mark.parametrize("folder", [SCRIPTS, SAMPLES], ids=lambda folder: folder.name)
def test_they_do_what_their_tests_say(folder: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "smtpproxy", "test", str(folder)], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("sample", PYTHON, ids=lambda sample: sample.stem)
def test_each_has_a_test(sample: Path) -> None:
    tests = SAMPLES / "tests" / f"test_{sample.stem.replace('-', '_')}.py"
    assert "def test_" in tests.read_text()


def test_at_least_half_of_them_are_there_in_both_languages() -> None:
    assert {file.stem for file in LUA} <= {file.stem for file in PYTHON}
    assert len(LUA) * 2 >= len(PYTHON)


@pytest.mark.parametrize("sample", PYTHON + LUA, ids=lambda sample: sample.name)
def test_each_is_short_and_says_what_it_does_first(sample: Path) -> None:
    text = sample.read_text()
    assert 10 <= len(text.splitlines()) <= 40
    first = text.lstrip().splitlines()[0]
    assert first.startswith(('"""', "-- "))
    assert first.endswith(".")
    assert any(f"{word} {hook}(" in text for hook in HOOKS for word in ("def", "function"))


@pytest.mark.parametrize("sample", LUA, ids=lambda sample: sample.stem)
def test_both_languages_say_the_same(sample: Path) -> None:
    said = (SAMPLES / f"{sample.stem}.py").read_text().lstrip('"').splitlines()[0]
    assert sample.read_text().splitlines()[0] == f"-- {said}"
