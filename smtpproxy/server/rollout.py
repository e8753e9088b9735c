"""Rules on their way from the gate to the workers: prepared by all of them, then taken by all of them, or by none."""

from __future__ import annotations

import time
from typing import Any

from smtpproxy.server.child import Child
from smtpproxy.server.family import Death, Family
from smtpproxy.server.generation import Generation

PATIENCE = 20.0
"""Seconds that workers have to prepare a table."""


class Rollout:
    """One table at a time: the gate offers the next one when it has its answer."""

    def __init__(self, family: Family) -> None:
        self._family = family
        self._generation: Generation | None = None
        self._offer: dict[str, Any] = {}
        self._waiting: set[int] = set()
        self._until = 0.0
        self._why = ""

    def offered(self, generation: Generation, offer: dict[str, Any]) -> None:
        """The gate has made a table while workers serve."""
        if offer["table"] == generation.table:
            self.answer(generation, "")
            return
        workers = self._family.ready(generation)
        self._generation, self._offer, self._why = generation, offer, ""
        self._waiting = {child.pid for child in workers}
        self._until = time.monotonic() + PATIENCE
        for child in workers:
            child.channel.send(do="prepare", offer=offer)

    def prepared(self, child: Child, table: str, why: str) -> None:
        """A worker has answered."""
        if self._generation is not None and table == self._offer["table"]:
            self._waiting.discard(child.pid)
            self._why = self._why or why

    def died(self, death: Death) -> None:
        """A worker that had not answered has answered by that."""
        if death.child.pid in self._waiting:
            told = f"the worker that tried it has died{f', at {death.at}' if death.at else ''}"
            self.prepared(death.child, self._offer["table"], told)

    def decide(self) -> None:
        """When everybody has answered, or somebody never will, it is taken or dropped."""
        generation = self._generation
        if generation is None:
            return
        if self._waiting and time.monotonic() > self._until:
            self._why = self._why or f"workers did not answer within {PATIENCE:g} s"
        if self._waiting and not self._why:
            return
        self.forget()
        if not self._why:
            generation.offer = self._offer
        for child in self._family.ready(generation):
            if self._why:
                child.channel.send(do="drop")
            else:
                self._take(child, generation)
        self.answer(generation, self._why)

    def catch_up(self, child: Child) -> None:
        """The others have taken another table while this one came up."""
        generation = child.generation
        if child.table != generation.table:
            child.channel.send(do="prepare", offer=generation.offer)
            self._take(child, generation)

    def answer(self, generation: Generation, why: str) -> None:
        """Tell the gate: its table is live, or why not."""
        for gate in self._family.of(generation, "gate"):
            gate.channel.send(do="answer", why=why)

    def forget(self) -> None:
        """Nothing is on its way any more."""
        self._generation = None
        self._waiting = set()

    def _take(self, child: Child, generation: Generation) -> None:
        child.table = generation.table
        child.channel.send(do="take", table=child.table)
