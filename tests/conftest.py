"""Fixtures that every room's tests share."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from smtpproxy.testing.process import RunningServer, start_server
from smtpproxy.testing.upstream import FakeUpstream


@pytest.fixture
def upstream() -> Iterator[FakeUpstream]:
    """A fake upstream on the loopback."""
    with FakeUpstream() as server:
        yield server


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., RunningServer]]:
    """Start servers of ours in processes of their own: start(toml, {"10-x.py": source}); they end with the test."""
    servers: list[RunningServer] = []

    def starter(toml: str, rules: dict[str, str] | None = None) -> RunningServer:
        server = start_server(tmp_path / f"server{len(servers)}", toml, rules)
        servers.append(server)
        return server

    yield starter
    for server in servers:
        server.stop()
