"""The process that holds the sockets and keeps others serving on them. It has no hub, no thread and no rule in it.

    start    bind, fork the workers, say that we listen when all of them are ready
    SIGHUP   read the configuration; fork the next generation beside the running one; when all of its workers are ready, the
             old ones let nobody in any more and end with their sessions; when one is not, the next generation is given up
    SIGTERM  workers finish what they are doing within the limit (SIGINT likewise; a second one ends them at once)
    SIGUSR2  execute the program anew with our sockets; when that one serves, we end as after a reload
    a worker that dies is replaced, one that does not answer is killed and replaced

Signals only set a flag; one loop acts.
"""

from __future__ import annotations

import os
import signal
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from gevent.monkey import get_original

from smtpproxy.config.difference import difference
from smtpproxy.config.load import load
from smtpproxy.config.problem import ConfigErrors
from smtpproxy.config.schema import Config
from smtpproxy.server import privileges, systemd
from smtpproxy.server.child import Child, State
from smtpproxy.server.family import Become, Death, Family
from smtpproxy.server.generation import Generation, made_folder, open_log
from smtpproxy.server.keys import Keys
from smtpproxy.server.logs import Log
from smtpproxy.server.refused import Refused
from smtpproxy.server.rollout import Rollout
from smtpproxy.server.sockets import Sockets, activated, address, close_all, handed_over, open_missing, wanted
from smtpproxy.server.upgrade import Upgrade

TICK = 0.25
CERTIFICATES = 2.0
"""Seconds between two looks whether certificates were renewed."""
GRACE = 5.0
"""Seconds beyond the drain limit before workers that still run are killed."""

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR2, signal.SIGCHLD)


class Master:
    """``become`` is what children do, each in a process of its own."""

    def __init__(self, path: Path, config: Config, become: Become, tell: Callable[[str], None]) -> None:
        self._path = path
        self._tell = tell
        self._family = Family(become)
        self._rollout = Rollout(self._family)
        self._generation = Generation(config, Keys(config), {}, open_log(config))
        self._next: Generation | None = None
        self._upgrade: Upgrade | None = None
        self._flags: set[int] = set()
        self._stopping = 0.0
        """When to kill what still runs; 0 while we serve."""
        self._looked = 0.0
        """When certificates were looked at."""
        self._wake: tuple[int, int] = (-1, -1)

    def run(self) -> int:
        """Serve until told to stop; the exit status. Raises ``Refused`` when it cannot begin."""
        config = self._generation.config
        privileges.check(config.user)
        privileges.give(made_folder(config), config.user)
        inherited = {**activated(config, os.environ), **handed_over(os.environ)}
        try:
            opened = open_missing(config, inherited)
            self._listen_to_signals()
            held = {**inherited, **opened}
            first = self._generation
            self._begin(Generation(config, first.keys, {key: held[key] for key in wanted(config)}, first.log))
            close_all(sock for key, sock in inherited.items() if key not in self._wanted.sockets)
            while self._family.children or not self._stopping:
                try:
                    self._turn()
                except Exception:  # a defect of ours is no reason to end those who serve
                    self.log("internal_error", level="error", trace=traceback.format_exc())
                    get_original("time", "sleep")(TICK)
            if self._generation.problem:
                raise Refused(self._generation.problem)
            self.log("stopped")
            return 0
        finally:
            self._end()

    @property
    def log(self) -> Log:
        return self._generation.log

    # -- the loop ------------------------------------------------------------------------------------------------

    def _turn(self) -> None:
        self._wait()
        self._act_on_signals()
        for child in self._family:
            self._hear(child)
        for death in self._family.reap():
            self._bury(death)
        self._look_after()
        self.log.flush()

    def _wait(self) -> None:
        channels = [child.channel for child in self._family]
        readable = [self._wake[0], *(channel for channel in channels if not channel.closed)]
        writable = [channel for channel in channels if channel.flush()]
        if self._upgrade is not None:
            readable.append(self._upgrade.descriptor)
        ready, _, _ = get_original("select", "select")(readable, writable, (), TICK)
        if self._wake[0] in ready:
            os.read(self._wake[0], 4096)

    def _listen_to_signals(self) -> None:
        self._wake = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(self._wake[1], warn_on_full_buffer=False)
        for number in SIGNALS:
            signal.signal(number, lambda number, _: self._flags.add(number))

    def _act_on_signals(self) -> None:
        flags, self._flags = self._flags, set()
        if flags & {signal.SIGTERM, signal.SIGINT}:
            self._stop()
        if self._stopping:
            return
        if signal.SIGHUP in flags:
            self._reload()
        if signal.SIGUSR2 in flags and self._upgrade is None:
            self._execute_anew()
        if self._upgrade is not None:
            self._watch_upgrade(self._upgrade)

    # -- generations ---------------------------------------------------------------------------------------------

    @property
    def _wanted(self) -> Generation:
        return self._next or self._generation

    def _begin(self, generation: Generation) -> None:
        self._next = generation
        self._fork("gate", generation)

    def _reload(self) -> None:
        if self._next is not None:
            self._give_up(self._next, "a newer configuration has come")
        systemd.notify("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}")
        try:
            self._replace(load(self._path))
        except (ConfigErrors, Refused, OSError) as error:
            self._refuse(str(error))

    def _renew(self) -> None:
        """Certificates have changed on disk: another generation has them."""
        try:
            self._replace(self._generation.config)
        except (Refused, OSError) as error:
            self.log("certificates_refused", level="error", error=str(error))

    def _replace(self, config: Config) -> None:
        """Have another generation come up beside the running one. Raises ``Refused``, OSError."""
        old = self._generation
        privileges.check(config.user)
        privileges.give(made_folder(config), config.user)
        keys = Keys(config)
        log = open_log(config)
        try:
            held = {**old.sockets, **open_missing(config, old.sockets)}
        except Refused:
            log.stop()
            raise
        self._begin(Generation(config, keys, {key: held[key] for key in wanted(config)}, log))

    def _settle(self, new: Generation) -> None:
        """All of its workers serve: it takes the place of the one before."""
        old, self._generation, self._next = self._generation, new, None
        self._rollout.answer(new, "")
        if old.log is not new.log:
            old.log.stop()
        self._retire(old)
        gone = [sock for key, sock in old.sockets.items() if key not in new.sockets]
        for (name, endpoint), sock in new.sockets.items():
            if (name, endpoint) not in old.sockets:
                self._tell(f"listening on {address(sock)} ({name})")
                self.log("listening", listener=name, address=str(address(sock)))
        close_all(gone)
        for complaint in new.keys.complaints:
            self.log("certificate", level="warning", text=complaint)
            self._tell(complaint)
        if old.sockets:
            changes = difference(old.config, new.config)
            for change in changes:
                self._tell(change)
            self.log("reloaded", listeners=len(new.sockets), changes=len(changes))
        systemd.notify("READY=1", f"MAINPID={os.getpid()}", f"STATUS=serving with {new.config.workers} workers")
        Upgrade.report_ready(os.environ)

    def _give_up(self, new: Generation, why: str) -> None:
        """The next generation cannot serve: the running one stays."""
        self._next = None
        for child in self._family.of(new):
            child.kill(signal.SIGKILL)
        close_all(sock for key, sock in new.sockets.items() if key not in self._generation.sockets)
        if new.log is not self._generation.log:
            new.log.stop()
        if not self._generation.sockets:
            self._generation.problem = why
            self._stopping = time.monotonic()
            return
        self._refuse(why)

    def _refuse(self, why: str) -> None:
        self.log("reload_refused", level="error", error=why)
        self._tell(f"reload refused, the old configuration stays:\n{why}")
        systemd.notify("READY=1")

    def _retire(self, generation: Generation) -> None:
        self._rollout.forget()
        for child in self._family.of(generation):
            child.state = State.RETIRING
            child.channel.send(do="retire")

    # -- children ------------------------------------------------------------------------------------------------

    def _fork(self, kind: str, generation: Generation) -> None:
        def tidy() -> None:
            for descriptor in self._wake:
                os.close(descriptor)
            close_all(sock for key, sock in self._held().items() if kind == "gate" or key not in generation.sockets)

        self._family.fork(kind, generation, tidy)

    def _hear(self, child: Child) -> None:
        for message in child.channel.receive():
            match message["say"]:
                case "ready":
                    self._ready(child)
                case "offer":
                    child.state = State.READY
                    self._offered(child.generation, message["offer"])
                case "prepared":
                    self._rollout.prepared(child, message["table"], message["why"])
                case "refused":
                    child.problem = message["why"]

    def _ready(self, child: Child) -> None:
        child.state = State.READY
        child.beaten = time.monotonic()
        self._rollout.catch_up(child)
        if child.generation is self._generation:
            self.log("worker_ready", pid=child.pid)
        elif self._next is not None and child.generation is self._next and self._family.complete(self._next):
            self._settle(self._next)

    def _offered(self, generation: Generation, offer: dict[str, Any]) -> None:
        """The gate has made a table: workers are forked with the first one, later ones are rolled out to them."""
        if generation.offer is not None:
            self._rollout.offered(generation, offer)
            return
        generation.offer = offer
        for _ in range(generation.config.workers):
            self._fork("worker", generation)

    def _bury(self, death: Death) -> None:
        child = death.child
        self._hear(child)
        self._family.bury(child)
        self._rollout.died(death)
        if self._stopping or child.state in (State.RETIRING, State.DRAINING):
            return
        if self._next is not None and child.generation is self._next:
            self._give_up(self._next, child.problem or death.told)
            return
        self.log(
            "worker_died",
            level="error",
            pid=child.pid,
            kind=child.kind,
            status=death.status,
            rule_at=death.at,
            error=child.problem,
            stack=None if death.found else death.stack,
        )
        why = self._family.blame(death)
        if why and death.found:
            self.log("rule_banned", level="error", file=death.found.file, why=why)

    def _look_after(self) -> None:
        now = time.monotonic()
        if self._stopping:
            if now > self._stopping:
                self._family.kill_all()
            return
        for child in self._family.end_the_stuck():
            self.log("worker_stuck", level="error", pid=child.pid, kind=child.kind)
        self._rollout.decide()
        if self._next is None and now > self._looked + CERTIFICATES:
            self._looked = now
            if self._generation.keys.renewed():
                self._renew()
        if self._generation.sockets:
            for kind in self._family.missing(self._generation):
                self._fork(kind, self._generation)

    # -- the end -------------------------------------------------------------------------------------------------

    def _stop(self) -> None:
        if self._stopping:
            self._family.kill_all()
            return
        systemd.notify("STOPPING=1")
        self._stopping = time.monotonic() + self._generation.config.limits.timeouts.drain + GRACE
        close_all(self._held().values())
        for child in self._family:
            child.state = State.DRAINING
        self._family.tell(do="drain")

    def _held(self) -> Sockets:
        return {**self._generation.sockets, **(self._next.sockets if self._next else {})}

    def _end(self) -> None:
        self._family.kill_all()
        close_all(self._held().values())
        self.log.stop()

    # -- upgrade -------------------------------------------------------------------------------------------------

    def _execute_anew(self) -> None:
        self.log.flush()
        self._upgrade = Upgrade.start(self._generation.sockets)
        self.log("upgrade_started", pid=self._upgrade.pid)

    def _watch_upgrade(self, upgrade: Upgrade) -> None:
        outcome = upgrade.outcome()
        if outcome is None:
            return
        self._upgrade = None
        if outcome:
            self.log("upgraded", pid=upgrade.pid)
            self._stopping = float("inf")
            close_all(self._held().values())
            self._retire(self._generation)
        else:
            self.log("upgrade_refused", level="error", pid=upgrade.pid)
            self._tell("the upgrade did not come up: the running program stays")
