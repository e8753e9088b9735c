"""One serving process: listeners up, rules watched; told to retire it lets nobody in any more, told to stop it drains."""

from __future__ import annotations

import gc
import os
import resource
import signal
import sys
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import gevent
import msgspec
from gevent.event import Event

from smtpproxy.config.schema import Config
from smtpproxy.config.values import Endpoint
from smtpproxy.dns.resolver import DnsResolver, Resolver
from smtpproxy.handoff.base import Outlet
from smtpproxy.handoff.proxy import ProxyOutlet
from smtpproxy.handoff.quarantine import QuarantineOutlet
from smtpproxy.net.accept import BATCH, GreenletPool
from smtpproxy.queue.classify import Classifier
from smtpproxy.queue.queue import QueueRefused
from smtpproxy.queue.rulings import Rulings
from smtpproxy.scripting.errors import FolderRefused, RuleError
from smtpproxy.scripting.offer import Offer
from smtpproxy.scripting.source import Source
from smtpproxy.server import build
from smtpproxy.server.clock import Ids, SystemClock
from smtpproxy.server.keys import Keys
from smtpproxy.server.learned import Learned
from smtpproxy.server.link import Link
from smtpproxy.server.listeners import Admission, Listener
from smtpproxy.server.logs import Log
from smtpproxy.server.pressure import Pressure
from smtpproxy.server.queueing import queue, submissions
from smtpproxy.server.refused import Refused
from smtpproxy.server.running import StateFile, sweep
from smtpproxy.server.sockets import Sockets, open_missing
from smtpproxy.server.tally import Tally
from smtpproxy.server.traces import TraceKeeper
from smtpproxy.session.room import Room
from smtpproxy.session.services import Services, Story
from smtpproxy.session.session import Session

LEARN_SECONDS = 1.0
"""How long the start waits for upstreams to say what they offer, before the first client is let in."""

IDLE_SWEEP = 5.0
BOARD_POLL = 0.3


class Worker:
    """A configuration being served.

    With a `link` a master has forked us: it holds the `sockets`, reads the configuration anew and says when to end. Without
    one the sockets are our own and signals end us. With an `offer` the rules are those of a gate, without one we watch the
    folder ourselves.
    """

    def __init__(
        self,
        config: Config,
        *,
        link: Link | None = None,
        tally: Tally | None = None,
        sockets: Sockets | None = None,
        log: Log | None = None,
        keys: Keys | None = None,
        shipped: Mapping[str, Source] | None = None,
        offer: Offer | None = None,
        story: Story | None = None,
        outlets: dict[str, Outlet] | None = None,
        notify: Callable[[str], None] = lambda line: print(line, file=sys.stderr, flush=True),
    ) -> None:
        self.config = config
        try:
            self.log = log or Log(config.log)
        except OSError as error:
            raise Refused(f"cannot write the log: {error}") from None
        self.clock = SystemClock()
        self.resolver: Resolver = DnsResolver()
        self._keys = keys or Keys(config)
        self.doors = build.doors(config, self.resolver, self.log, self._keys.secret)
        self.rules = build.rules(config, self.log, self.doors, shipped=shipped)
        self.log.hide = self.rules.library.hiding
        self.pool = GreenletPool()
        self.stopping = False
        self._offer = offer
        self._link = link
        self._admission = Admission(config.limits, tally or Tally.alone())
        self._sockets = sockets
        self._notify = notify
        self._listeners: list[Listener] = []
        self._retire = Event()
        self._stop = Event()
        self._learned = Learned(config.data)
        self._traces = TraceKeeper(config.trace, config.data, self.log, self.rules.library.hiding)
        classify = Classifier(config.queue.classes)
        rulings = Rulings(self.rules, self.doors, classify)
        self._queue = queue(config, self._keys, self.clock, self.resolver, self.log, rulings, classify)
        self.doors["submit"] = submissions(config, self._queue, self.clock, self.log)
        self._outlets = build.outlets(config, self._keys, self.clock, self.log, outlets or {}, self._queue)
        self._learned.recall(self._outlets)
        self._state_file = StateFile(config.data, self.rules, self._sessions)
        self._room = Room(config.limits)
        self._pressure = Pressure(config.limits, config.data, self._admission, self._room, self.rules.library.heaps, self.log)
        self._services = self._open_doors(story)

    # -- life ----------------------------------------------------------------------------------------------------

    def run(self) -> int:
        """Serve until told to stop; the exit status. Raises ``Refused``."""
        self.start()
        return self.wait()

    def wait(self) -> int:
        """Serve what ``start`` began, until told to stop; the exit status."""
        helpers = [gevent.spawn(task) for task in (self._tell_running, self._sweep, self._pressure.run)]
        first = gevent.wait((self._retire, self._stop), count=1)[0]
        if first is self._retire:
            self._finish_sessions()
        gevent.killall(helpers)
        self.drain()
        return 0

    def start(self) -> None:
        """Load the rules, learn what upstreams offer, let clients in. Raises ``Refused``."""
        self._be_told()
        try:
            build.data_folder(self.config)
            sweep(self.config.data)
            gevent.get_hub().SYSTEM_ERROR = ()  # a greenlet of a rule's that exits ends itself, and not this process
            self.rules.budget.start()  # what is loaded may begin greenlets that spin
            self._load_rules()
        except (OSError, FolderRefused, RuleError) as error:
            raise Refused(str(error)) from None
        raise_file_limit()
        self._pressure.look()
        self._recover()
        self._listen()
        self._learn()
        self.log.start()
        self._traces.start()
        self.rules.start(watch=self._offer is None)
        spare_the_collector()
        self._let_in()

    def _load_rules(self) -> None:
        """What the gate has made, else what the folder holds: then broken rules are told, and pass nothing on."""
        if self._offer is not None:
            self.rules.prepare(self._offer)
            self.rules.take(self._offer.table)
            return
        for problem in self.rules.load().problems:
            self._notify(str(problem))

    def _prepare(self, offer: dict[str, Any]) -> None:
        why, assembled = "", msgspec.convert(offer, Offer)
        try:
            self.rules.prepare(assembled)
        except RuleError as error:
            why = f"{error.at}: {error.text}" if error.at else error.text
        assert self._link is not None
        self._link.prepared(assembled.table, why)

    def _be_told(self) -> None:
        """When to end: by the master, or by signals (a terminal that has gone ends us, too)."""
        if self._link is None:
            for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
                gevent.signal_handler(number, self._stop.set)
            return
        self._link.start(
            {
                "retire": self._retire.set,
                "drain": self._stop.set,
                "ban": self.rules.ban,
                "prepare": self._prepare,
                "take": self.rules.take,
                "drop": self.rules.drop,
            }
        )

    def _recover(self) -> None:
        """What a process that is gone had held was promised to nobody."""
        for name, outlet in self._outlets.items():
            if isinstance(outlet, QuarantineOutlet) and (dropped := outlet.recover()):
                self.log("held_dropped", handoff=name, messages=dropped)
        if self._queue is not None:
            try:
                self._queue.start()
            except QueueRefused as refused:
                raise Refused(str(refused)) from None

    def _finish_sessions(self) -> None:
        """Another process lets clients in from now on: ours may stay as long as a silent client may."""
        self._close_listeners()
        end = self.clock.monotonic() + self.config.limits.timeouts.command
        while not self.pool.empty() and self.clock.monotonic() < end and not self._stop.wait(0.05):
            pass

    def drain(self) -> None:
        """Let nobody in any more, let sessions finish what they are doing within the limit, close."""
        self.stopping = True
        self._close_listeners()
        for listener in self._listeners:
            for session in list(listener.sessions):
                session.stop()
        end = self.clock.monotonic() + self.config.limits.timeouts.drain
        while not self.pool.empty() and self.clock.monotonic() < end:
            gevent.sleep(0.02)
        if self._queue is not None:
            self._queue.stop(max(0.0, end - self.clock.monotonic()))
        self._keep_learned()
        if self._link is None:
            self.log("stopped", sessions=len(self.pool.busy))
        else:
            self.log("worker_ended", pid=os.getpid(), sessions=len(self.pool.busy))
            self._link.stop()
        for outlet in list(self._outlets.values()):
            if isinstance(outlet, ProxyOutlet):
                outlet.pool.close()
        self.rules.stop()
        self.doors["store"].close()
        self._traces.stop()
        self._state_file.end()
        self.log.stop()

    def _close_listeners(self) -> None:
        for listener in self._listeners:
            listener.close()

    def addresses(self) -> list[Endpoint]:
        """Where it listens, ports as the system chose them."""
        return [listener.address for listener in self._listeners]

    # -- parts ----------------------------------------------------------------------------------------------------

    def _open_doors(self, story: Story | None) -> Services:
        return build.services(
            self.config,
            rules=self.rules,
            outlets=self._outlets,
            resolver=self.resolver,
            clock=self.clock,
            ids=Ids(),
            log=self.log,
            doors=self.doors,
            room=self._room,
            stopping=lambda: self.stopping,
            story=story,
            traces=self._traces,
        )

    def _listen(self) -> None:
        """Raises ``Refused`` when an address cannot be bound."""
        sockets = open_missing(self.config, {}) if self._sockets is None else self._sockets
        batch = BATCH if self.config.workers == 1 else 1  # who shares a socket leaves the rest of the queue to others
        for (name, endpoint), sock in sockets.items():
            context, users = self._keys.contexts.get(name), self.doors["users"]
            entrance = build.entrance(self.config, name, _place(endpoint), endpoint.port, context, users)
            self._listeners.append(Listener(sock, self.pool, self._admission, entrance, self._services, batch))

    def _let_in(self) -> None:
        for listener in self._listeners:
            listener.start()
        if self._link is not None:
            self._link.ready()
            return
        for listener in self._listeners:
            self._notify(f"listening on {listener.address} ({listener.name})")
            self.log("listening", listener=listener.name, address=str(listener.address))

    # -- in the background ---------------------------------------------------------------------------------------

    def _learn(self) -> None:
        pools = [outlet.pool for outlet in self._outlets.values() if isinstance(outlet, ProxyOutlet)]
        gevent.joinall([gevent.spawn(pool.probe_all) for pool in pools], timeout=LEARN_SECONDS)

    def _sessions(self) -> Iterator[Session]:
        return (session for listener in self._listeners for session in listener.sessions)

    def _tell_running(self) -> None:
        """For `smtpproxy rules`, which may look at any time."""
        told = True
        while True:
            try:
                self._state_file.tell()
                told = True
            except OSError as error:
                if told:
                    self.log("not_kept", level="error", error=str(error))
                told = False
            gevent.sleep(BOARD_POLL)

    def _sweep(self) -> None:
        while True:
            gevent.sleep(IDLE_SWEEP)
            for outlet in list(self._outlets.values()):
                if isinstance(outlet, ProxyOutlet):
                    for upstream in outlet.pool.upstreams:
                        upstream.drop_idle()
            self._keep_learned()

    def _keep_learned(self) -> None:
        try:
            self._learned.keep(self._outlets)
        except OSError as error:  # the disk is full: mail goes on
            self.log("not_kept", level="error", error=str(error))


def _place(endpoint: Endpoint) -> str:
    """The address that rules see."""
    return str(endpoint) if endpoint.path else endpoint.host


def spare_the_collector() -> None:
    """What is there at the start stays: the cyclic collector need not walk through it at every turn.

    Sessions and mails hold no cycles, so it may come round more rarely, too: 14 ms a turn with 20,000 connections.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 50)


def raise_file_limit() -> None:
    """As many open files as the system allows this process."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))

