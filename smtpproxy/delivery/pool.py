"""The servers of one hand-off: whose turn it is, fail-over at once, a dead one costs no client a stall.

A server that failed is set behind the others and looked after by a probe in the background; only when none is left
alive does a message try the dead ones again itself, and then always: nobody is refused from memory.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import gevent
from gevent.event import Event

from smtpproxy.delivery.smtp import SmtpClient, UpstreamLost
from smtpproxy.delivery.upstream import Preface, Upstream
from smtpproxy.net.connection import FOREVER
from smtpproxy.wire.extensions import Extensions, intersect

PATIENCE = 1.0
"""Seconds that a server may take to connect, greet and answer EHLO before the next one is tried, if there is a next one."""

PROBE_WAITS = (1.0, 2.0, 4.0, 8.0, 15.0, 30.0)


class NoUpstream(Exception):
    """No server took the connection; str() names each with its reason."""


class Pool:
    """Connections to one of ``upstreams``, the first that works or all in turn."""

    __slots__ = ("_even", "_freed", "_log", "_turn", "closed", "upstreams")

    def __init__(
        self,
        upstreams: Sequence[Upstream],
        *,
        even: bool = False,
        on_change: Callable[[str, Upstream], None] = lambda event, upstream: None,
    ) -> None:
        self.upstreams = tuple(upstreams)
        self._even = even
        self._turn = 0
        self._freed = Event()
        self._log = on_change
        self.closed = False

    def announced(self) -> Extensions | None:
        """What every server that was ever reached offers; None while none was."""
        known = [upstream.announced for upstream in self.upstreams if upstream.announced is not None]
        if not known:
            return None
        common = known[0]
        for other in known[1:]:
            common = intersect(common, other)
        return common

    def take(self, *, fresh: bool = False, preface: Preface | None = None) -> tuple[Upstream, SmtpClient]:
        """A connection at rest: kept from earlier (unless ``fresh``) or new. Raises ``NoUpstream``.

        One with a ``preface`` is one client's from the beginning, and new; it also raises ``TurnedAway``.
        Where every server has as many as it may have, waits for one as long as a connection may take to be made.
        """
        first = self.upstreams[0]
        end = first.clock() + (first.timeouts.connect or FOREVER)
        while (taken := self._take(fresh or preface is not None, preface)) is None:
            self._freed.clear()
            if not self._freed.wait(max(end - first.clock(), 0.0)):
                raise NoUpstream("every connection to the upstream is in use")
        return taken

    def keep(self, upstream: Upstream, client: SmtpClient) -> None:
        """Give back a connection at rest."""
        self._release(upstream)
        if self.closed:
            client.leave()
        else:
            upstream.keep(client)

    def leave(self, upstream: Upstream, client: SmtpClient) -> None:
        """Give back a connection at rest that nobody else may use: it is one client's."""
        self._release(upstream)
        client.leave()

    def drop(self, upstream: Upstream, client: SmtpClient) -> None:
        """Give back a connection in any other state: it is closed."""
        self._release(upstream)
        client.close()

    def probe_all(self) -> None:
        """Reach every server once, to learn what it offers; failures are only remembered."""
        for upstream in self.upstreams:
            try:
                upstream.keep(upstream.open())
            except UpstreamLost as lost:
                self._log(f"unreachable: {lost}", upstream)

    def close(self) -> None:
        """Keep nothing any more: another configuration has taken its place, or the server stops."""
        self.closed = True
        for upstream in self.upstreams:
            upstream.drop_idle(everything=True)

    def _release(self, upstream: Upstream) -> None:
        upstream.used -= 1
        self._freed.set()

    def _take(self, fresh: bool, preface: Preface | None) -> tuple[Upstream, SmtpClient] | None:
        """One of them; None when all that are alive have no room."""
        reasons: dict[Upstream, UpstreamLost] = {}
        candidates = list(self._candidates())
        full = False
        for upstream in candidates:
            if not upstream.failed and not fresh and (client := upstream.take()) is not None:
                upstream.used += 1
                return upstream, client
            if not upstream.room():
                full = True
                continue
            try:
                return upstream, self._open(upstream, preface, patient=len(candidates) == 1)
            except UpstreamLost as lost:
                reasons[upstream] = lost
        if full:
            return None
        # None is left to turn to: those that were only slow get all the time there is.
        slow = [upstream for upstream, lost in reasons.items() if lost.silent and len(candidates) > 1]
        for upstream in slow:
            try:
                return upstream, self._open(upstream, preface, patient=True)
            except UpstreamLost as lost:
                reasons[upstream] = lost
        raise NoUpstream("; ".join(f"{upstream}: {lost}" for upstream, lost in reasons.items()))

    def _candidates(self) -> Iterator[Upstream]:
        ups = self.upstreams
        if self._even:
            self._turn = (self._turn + 1) % len(ups)
            ups = ups[self._turn :] + ups[: self._turn]
        yield from (upstream for upstream in ups if not upstream.failed)
        yield from (upstream for upstream in ups if upstream.failed)

    def _open(self, upstream: Upstream, preface: Preface | None, patient: bool) -> SmtpClient:
        limits = upstream.timeouts
        if not patient:
            limits = limits._replace(
                connect=_patience(limits.connect), greeting=_patience(limits.greeting), mail=_patience(limits.mail)
            )
        upstream.used += 1
        try:
            return upstream.open(limits, preface)
        except BaseException as error:
            self._release(upstream)
            if isinstance(error, UpstreamLost):
                self._look_after(upstream, error, patient)
            raise

    def _look_after(self, upstream: Upstream, lost: UpstreamLost, patient: bool) -> None:
        self._log(f"failed: {lost}", upstream)
        if upstream.failed and not patient and not upstream.probing:
            upstream.probing = True
            gevent.spawn(self._probe, upstream)

    def _probe(self, upstream: Upstream) -> None:
        """Look after a server that failed until it answers again, so that no client has to."""
        try:
            for wait in _back_off():
                gevent.sleep(wait)
                if not upstream.failed or self.closed:
                    return
                try:
                    upstream.keep(upstream.open())
                except UpstreamLost:
                    continue
                self._log("alive again", upstream)
                return
        finally:
            upstream.probing = False


def _patience(limit: float) -> float:
    return min(PATIENCE, limit or PATIENCE)


def _back_off() -> Iterator[float]:
    yield from PROBE_WAITS
    while True:
        yield PROBE_WAITS[-1]
