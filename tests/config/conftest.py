"""An instance in a folder, from the text of its files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from smtpproxy.config.load import load
from smtpproxy.config.problem import ConfigErrors
from smtpproxy.config.schema import Config

LISTENER = '[listener.mx]\nbind = "127.0.0.1:0"\nhandoff = "in"\n[handoff.in]\nkind = "discard"\n'


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    """write(a="...", b="...") makes a.toml and b.toml; the folder. A listener is there unless listener=False."""

    def writer(listener: bool = True, **files: str) -> Path:
        if listener:
            (tmp_path / "zz.toml").write_text(LISTENER, "utf-8")
        for name, text in files.items():
            (tmp_path / f"{name}.toml").write_text(text, "utf-8")
        return tmp_path

    return writer


@pytest.fixture
def loaded(write: Callable[..., Path]) -> Callable[..., Config]:
    return lambda **files: load(write(**files))


@pytest.fixture
def problems(write: Callable[..., Path]) -> Callable[..., list[str]]:
    """What load() has to say against these files."""

    def told(**files: str) -> list[str]:
        with pytest.raises(ConfigErrors) as raised:
            load(write(**files))
        return str(raised.value).split("\n")

    return told
