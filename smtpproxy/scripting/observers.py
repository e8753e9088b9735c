"""Rules that look on: after the reply, in the background, from a bounded queue.

They can neither delay nor break mail.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

import gevent
from gevent.event import Event

from smtpproxy.scripting.errors import Ended
from smtpproxy.scripting.hooks import CALL_BUDGET
from smtpproxy.scripting.runner import Call, Chain, Chains, decide
from smtpproxy.scripting.trace import Trace

QUEUE_LIMIT = 1000


class Observers:
    """The queue and its one greenlet. `dropped` counts what found the queue full; the log says when that begins and ends.

    `freeze` makes the snapshot of an argument.
    """

    def __init__(self, freeze: Callable[[Any], Any], doors: Mapping[str, Any], limit: int = QUEUE_LIMIT) -> None:
        self.freeze = freeze
        self.doors = doors
        self.limit = limit
        self.dropped = 0
        self._lost = 0
        """Of those, what the log has not been told yet."""
        self.waiting: deque[tuple[Chains, Chain, Call, tuple[Any, ...]]] = deque()
        self._there = Event()
        self._greenlet: gevent.Greenlet[..., None] | None = None

    def put(self, chains: Chains, chain: Chain, call: Call, arguments: tuple[Any, ...]) -> None:
        """Queue one event for its watchers; never blocks."""
        if len(self.waiting) >= self.limit:
            self.dropped += 1
            self._lost += 1
            if self._lost == 1:
                chains.log("watch_dropped", level="warning", state="begun", waiting=len(self.waiting))
            return
        try:
            frozen = tuple(self.freeze(argument) for argument in arguments)
        except Exception as error:  # whatever it is, the mail goes on
            self.dropped += 1
            chains.log("watch_failed", level="error", id=call.id, error=f"{type(error).__name__}: {error}")
            return
        background = Call(trace=Trace(call.id), doors=self.doors, client=call.client)
        background.abandoned = self._go_on
        self.waiting.append((chains, chain, background, frozen))
        self._there.set()

    def drain(self) -> None:
        """Run what is queued now."""
        while self.waiting:
            chains, chain, call, arguments = self.waiting.popleft()
            decide(chains, chain, call, *arguments)
            if self._lost and len(self.waiting) <= self.limit // 2:
                lost, self._lost = self._lost, 0
                chains.log("watch_dropped", level="warning", state="over", events=lost)

    def start(self) -> None:
        if self._greenlet is None:
            self._greenlet = gevent.spawn(self._run)

    def stop(self) -> None:
        if self._greenlet is not None:
            self._greenlet.kill(Ended, timeout=CALL_BUDGET)
            self._greenlet = None

    def _go_on(self) -> None:
        """The greenlet was given up in the middle of a rule: another one takes what is queued behind."""
        self._greenlet = gevent.spawn(self._run)
        self._there.set()

    def _run(self) -> None:
        while True:
            self._there.wait()
            self._there.clear()
            self.drain()


def observe(chains: Chains, hook: str, call: Call, *arguments: Any) -> None:
    """An event for its watchers, by the name of their hook ("watch_message"). Returns at once."""
    chain = chains.by_name.get(hook, ())
    if chain:
        chains.observers.put(chains, chain, call, arguments)
