"""The page of limits knows every one of them, with its default; the tests that it names are there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from smtpproxy.config.fields import settings
from smtpproxy.config.limits import Limits, LimitTimeouts

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/limits.md").read_text("utf-8")
ROWS = [[cell.strip() for cell in line.strip("|").split("|")] for line in PAGE.splitlines() if re.match(r"\| (?!limit )", line)]
MANUAL = (ROOT / "docs/operating.md").read_text("utf-8")


def test_every_limit_is_there() -> None:
    known = {name for name in settings(Limits) if name != "timeouts"} | {f"timeouts.{name}" for name in settings(LimitTimeouts)}
    assert known - set(re.findall(r"`([\w.]+)`", PAGE)) == set()


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0])
def test_a_row(row: list[str]) -> None:
    _, setting, default, answer, log, shown = row
    key = setting.strip("`")
    if setting.startswith("`"):
        kind, name = (LimitTimeouts, key.partition(".")[2]) if key.startswith("timeouts.") else (Limits, key)
        told = str(settings(kind)[name].default)
        assert default.split(" ")[0].rstrip(",") == ("none" if told == "0" else told)
    assert answer
    for event in re.findall(r"`(\w+)`", log):
        assert f"| `{event}` |" in MANUAL
    folder = ""
    for path in shown.split(", "):
        folder = path.rpartition("/")[0] or folder
        assert (ROOT / folder / path.rpartition("/")[2]).exists()
