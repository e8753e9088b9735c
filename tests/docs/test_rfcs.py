"""docs/rfcs.md speaks of what is there."""

from __future__ import annotations

import re
from pathlib import Path

from smtpproxy.config.limits import Limits
from smtpproxy.session.offer import own_extensions

ROOT = Path(__file__).parent.parent.parent
PAGE = (ROOT / "docs" / "rfcs.md").read_text("utf-8")


def test_the_files_it_names_exist() -> None:
    named = re.findall(r"`((?:tests|smtpproxy)/[^`]*)`", PAGE)
    assert named
    assert [name for name in named if not (ROOT / name).exists()] == []


def test_every_keyword_that_is_offered_is_in_its_table() -> None:
    table = {word for row in re.findall(r"^\| ([A-Z0-9, -]+) \|", PAGE, re.MULTILINE) for word in row.split(", ")}
    assert set(own_extensions(Limits(messages=1))) | {"STARTTLS", "AUTH", "REQUIRETLS", "XCLIENT", "XFORWARD"} <= table
