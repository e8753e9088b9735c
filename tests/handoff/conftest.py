"""What the tests of hand-offs share."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


@pytest.fixture
def synced(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of what is synced and renamed, in this order; the calls are done."""
    names: list[str] = []
    fsync, rename = os.fsync, os.rename

    def spy(descriptor: int) -> None:
        names.append(Path(os.readlink(f"/proc/self/fd/{descriptor}")).name)
        fsync(descriptor)

    def renamed(old: Path, new: Path) -> None:
        names.append(f"rename {Path(new).name}")
        rename(old, new)

    monkeypatch.setattr(os, "fsync", spy)
    monkeypatch.setattr(os, "rename", renamed)
    return names
