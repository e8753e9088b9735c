"""The master's children: made, listened to for a heartbeat, buried, and blamed on a rule where one has cost them."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from gevent.monkey import get_original

from smtpproxy.server.blame import Blame, Culprit, culprit
from smtpproxy.server.board import Board
from smtpproxy.server.channel import Channel
from smtpproxy.server.child import STACK_SIGNAL, Child, State, fork
from smtpproxy.server.generation import Generation
from smtpproxy.server.pulse import Pulse
from smtpproxy.server.respawn import Backoff
from smtpproxy.server.tally import Tally

STUCK = 3.0
"""Seconds without a heartbeat after which a child is replaced."""
PATIENCE = 30.0
"""Seconds that one has which waits for the processor or the disk."""
LAST_WORDS = 0.2
"""Seconds that it then has to say where it is stuck."""
START = 60.0
"""Seconds that it may take to become ready."""

Become = Callable[[str, Generation, Channel, Tally, Blame], int]
"""What a child runs: as "gate" or "worker", with its generation, its end of the channel, its column of the board, and what is
known of rules that cost processes.
"""


class Death(NamedTuple):
    """A child that is gone; `found` is the rule that it was at, if it was at one."""

    child: Child
    status: int
    stack: str
    found: Culprit | None

    @property
    def at(self) -> str | None:
        return self.found.at if self.found else None

    @property
    def told(self) -> str:
        """For people, of one that had not begun to serve."""
        return f"a {self.child.kind} ended with {self.status} before it was ready" + (f", in {self.at}" if self.at else "")


class Family:
    """`children` by process id."""

    def __init__(self, become: Become) -> None:
        self.children: dict[int, Child] = {}
        self._become = become
        self._board = Board()
        self._blame = Blame()
        self._backoff = Backoff()

    def __iter__(self) -> Iterator[Child]:
        return iter(list(self.children.values()))

    def of(self, generation: Generation, kind: str = "") -> list[Child]:
        return [child for child in self if child.generation is generation and kind in ("", child.kind)]

    def ready(self, generation: Generation) -> list[Child]:
        """The workers that serve."""
        return [child for child in self.of(generation, "worker") if child.state is State.READY]

    def complete(self, generation: Generation) -> bool:
        return len(self.ready(generation)) == generation.config.workers

    def fork(self, kind: str, generation: Generation, tidy: Callable[[], None]) -> None:
        """``tidy`` closes, in the child, what only the master needs."""
        column = self._board.take()
        generation.log.flush()

        def run(channel: Channel) -> int:
            for child in self:
                child.close()
            tidy()
            return self._become(kind, generation, channel, Tally(self._board, column), self._blame)

        child = fork(kind, column, generation, time.monotonic(), run)
        child.table = generation.table
        self.children[child.pid] = child

    def missing(self, generation: Generation) -> list[str]:
        """The kinds of those that are to be made now, in place of those that have died."""
        wanted = ["worker"] * (generation.config.workers - len(self.of(generation, "worker")))
        wanted += [] if self.of(generation, "gate") else ["gate"]
        return wanted if wanted and self._backoff.may_start(time.monotonic()) else []

    def reap(self) -> Iterator[Death]:
        """Those that have ended since the last time; their channels can still be read, until they are buried."""
        waitpid = get_original("os", "waitpid")
        for child in self:
            pid, status = waitpid(child.pid, os.WNOHANG)
            if pid:
                stack = child.last_words()
                found = culprit(stack, child.generation.config.scripts.folder)
                yield Death(child, os.waitstatus_to_exitcode(status), stack, found)

    def bury(self, child: Child) -> None:
        """What it counted is forgotten."""
        del self.children[child.pid]
        self._board.free(child.column)
        child.close()

    def blame(self, death: Death) -> str:
        """Count the death against the rule that it was at; why that is taken out from now on, or ""."""
        self._backoff.died(time.monotonic() - death.child.began)
        if death.found is None:
            return ""
        if death.child.kind == "gate":
            self._blame.refuse(death.found)
            return ""
        if not self._blame.strike(death.found):
            return ""
        why = self._blame.banned[death.found.digest]
        self.tell(do="ban", digest=death.found.digest, why=why)
        return why

    def end_the_stuck(self) -> list[Child]:
        """Kill those without a heartbeat, once they have said what they are at."""
        now, stuck = time.monotonic(), []
        for child in self:
            beats = self._board.beats(child.column)
            if beats != child.beats:
                child.beats, child.beaten, child.pulse = beats, now, Pulse.of(child.pid)
            elif self._is_stuck(child, now - child.beaten):
                child.beaten = now
                child.kill(STACK_SIGNAL)
                stuck.append(child)
        if stuck:
            get_original("time", "sleep")(LAST_WORDS)
        for child in stuck:
            child.kill(signal.SIGKILL)
        return stuck

    def _is_stuck(self, child: Child, silent: float) -> bool:
        if child.state is State.STARTING or silent <= STUCK:
            return silent > START
        return silent > PATIENCE or not Pulse.of(child.pid).waits(child.pulse)

    def tell(self, **message: Any) -> None:
        """Everybody."""
        for child in self:
            child.channel.send(**message)

    def kill_all(self) -> None:
        for child in self:
            child.kill(signal.SIGKILL)
