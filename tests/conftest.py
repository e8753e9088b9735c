"""Fixtures that every room's tests share."""

from __future__ import annotations

import gc
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from smtpproxy.testing.process import RunningServer, start_server
from smtpproxy.testing.upstream import FakeUpstream

# One run of the suite is like the next one; `make prove` looks for new cases. How fast an example runs says how busy the
# machine is: time has tests of its own, by CPU time.
settings.register_profile("prove", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("suite", settings.get_profile("prove"), derandomize=True)
settings.load_profile("prove" if os.environ.get("SMTPPROXY_PROVE") else "suite")


@pytest.fixture(autouse=True, scope="module")
def collected() -> None:
    """The collector leaves alone what is there, as in the server: its walk would be charged to the rule that runs just then."""
    gc.collect()
    gc.freeze()


@pytest.fixture
def upstream() -> Iterator[FakeUpstream]:
    """A fake upstream on the loopback."""
    with FakeUpstream() as server:
        yield server


@pytest.fixture
def folder() -> Iterator[Path]:
    """One that other users reach, too; pytest's own are for its user alone, and every run of pytest sees to that."""
    path = Path(tempfile.mkdtemp(prefix="smtpproxy-"))
    path.chmod(0o755)
    yield path
    shutil.rmtree(path, ignore_errors=True)


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


@pytest.fixture(scope="session")
def vectors() -> Path:
    """The published test vectors, which are not part of the project: beside the checkout, or where SMTPPROXY_SHARED says."""
    folder = Path(os.environ.get("SMTPPROXY_SHARED") or Path(__file__).parents[2] / "shared") / "vectors"
    if not folder.is_dir():
        pytest.fail(f"there is no folder {folder}: SMTPPROXY_SHARED names the one that holds vectors/", pytrace=False)
    return folder


class Proof:
    """How long a proof runs: shortened, unless SMTPPROXY_PROVE is set (`make prove`)."""

    full = bool(os.environ.get("SMTPPROXY_PROVE"))

    def rounds(self, short: int, full: int) -> int:
        """How often, or how many."""
        return full if self.full else short

    def lasting(self, short: float, full: float = 600.0) -> Iterator[int]:
        """Numbers from 0 until so many seconds are over; SMTPPROXY_PROVE_SECONDS says otherwise how many in full."""
        seconds = float(os.environ.get("SMTPPROXY_PROVE_SECONDS") or full) if self.full else short
        end = time.monotonic() + seconds
        number = 0
        while time.monotonic() < end:
            yield number
            number += 1

    def figure(self, what: str, value: object) -> None:
        """A measured figure, for docs/proofs.md."""
        print(f"\n    {what}: {value}", end="", flush=True)


@pytest.fixture
def proof() -> Proof:
    """The length of a proof, and where its figures go."""
    return Proof()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """In full length a proof takes as long as it takes."""
    for item in items:
        if Proof.full and item.get_closest_marker("proof"):
            item.add_marker(pytest.mark.timeout(7200), append=False)
