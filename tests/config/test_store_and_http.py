"""[store], and what the server makes of it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from smtpproxy.config.load import load
from smtpproxy.config.schema import Config
from smtpproxy.dns.zone import Zone
from smtpproxy.net.http import HttpError, Request
from smtpproxy.server import build
from smtpproxy.stores.memory import MemoryStore
from smtpproxy.stores.sqlite import SqliteStore


def nothing(event: str, **fields: Any) -> None:
    """A log that nobody reads."""


def test_a_file_in_the_data_folder_unless_told_otherwise(loaded: Callable[..., Config], tmp_path: Path) -> None:
    config = loaded()
    store = build.store(config)
    assert isinstance(store, SqliteStore)
    build.data_folder(config)
    store.set("k", 1)
    store.close()
    assert (config.data / "store.sqlite").is_file()


def test_memory(loaded: Callable[..., Config]) -> None:
    assert isinstance(build.store(loaded(a='[store]\nkind = "memory"')), MemoryStore)


def test_another_kind_is_refused(problems: Callable[..., list[str]]) -> None:
    (problem,) = problems(a='[store]\nkind = "memry"')
    assert 'did you mean "memory"?' in problem


def test_networks_that_rules_may_ask(write: Callable[..., Path]) -> None:
    zone = Zone({"inner.example": {"A": ["127.0.0.1"]}})
    closed, opened = (
        build.doors(load(write(a=text)), zone, nothing)["http"]
        for text in ("[scripts]", '[scripts]\nhttp_allow = ["127.0.0.0/8"]')
    )
    with pytest.raises(HttpError, match="http_allow may allow it"):
        closed.fetch(Request("GET", "http://inner.example:1/"))
    with pytest.raises(HttpError, match="ConnectionRefused"):
        opened.fetch(Request("GET", "http://inner.example:1/"))
