"""What upstreams announced, kept in the data folder, so that a restart while one is down offers what it can do."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path

import msgspec

from smtpproxy.delivery.upstream import Upstream
from smtpproxy.handoff.base import Outlet
from smtpproxy.handoff.proxy import ProxyOutlet
from smtpproxy.wire.extensions import Extensions


class Learned:
    """``upstreams.json``: EHLO answers by upstream."""

    __slots__ = ("_kept", "_path")

    def __init__(self, folder: Path) -> None:
        self._path = folder / "upstreams.json"
        self._kept: dict[str, dict[str, str]] = {}

    def recall(self, outlets: Mapping[str, Outlet]) -> None:
        """Give upstreams that were not reached yet what they announced in an earlier run."""
        try:
            self._kept = msgspec.json.decode(self._path.read_bytes(), type=dict[str, dict[str, str]])
        except (OSError, msgspec.DecodeError):
            return
        for upstream in _upstreams(outlets):
            if upstream.announced is None and (known := self._kept.get(str(upstream))) is not None:
                upstream.announced = Extensions(known)

    def keep(self, outlets: Mapping[str, Outlet]) -> None:
        """Write what changed since the last time."""
        now = {str(upstream): dict(upstream.announced) for upstream in _upstreams(outlets) if upstream.announced is not None}
        if not now or now.items() <= self._kept.items():
            return
        self._kept = {**self._kept, **now}
        temporary = self._path.with_suffix(f".{os.getpid()}.new")
        temporary.write_bytes(msgspec.json.encode(self._kept))
        os.replace(temporary, self._path)


def _upstreams(outlets: Mapping[str, Outlet]) -> Iterator[Upstream]:
    for outlet in outlets.values():
        if isinstance(outlet, ProxyOutlet):
            yield from outlet.pool.upstreams
