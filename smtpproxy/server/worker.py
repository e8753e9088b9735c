"""One serving process: listeners up, rules watched, SIGHUP takes a new configuration whole or not at all, SIGTERM drains."""

from __future__ import annotations

import gc
import resource
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gevent
from gevent.event import Event

from smtpproxy.config.load import load
from smtpproxy.config.problem import ConfigErrors
from smtpproxy.config.schema import Config
from smtpproxy.config.values import Endpoint
from smtpproxy.dns.resolver import DnsResolver, Resolver
from smtpproxy.handoff.base import Outlet
from smtpproxy.handoff.proxy import ProxyOutlet
from smtpproxy.handoff.quarantine import QuarantineOutlet
from smtpproxy.net.accept import GreenletPool
from smtpproxy.scripting.errors import FolderRefused
from smtpproxy.scripting.settings import secrets
from smtpproxy.server import build
from smtpproxy.server.clock import Ids, SystemClock
from smtpproxy.server.learned import Learned
from smtpproxy.server.listeners import Admission, Listener, bind
from smtpproxy.server.logs import Log
from smtpproxy.server.settings import SettingsWatch
from smtpproxy.server.traces import TraceKeeper
from smtpproxy.session.services import Entrance, Services, Story

LEARN_SECONDS = 1.0
"""How long the start waits for upstreams to say what they offer, before the first client is let in."""

IDLE_SWEEP = 5.0
SETTINGS_POLL = 0.3


class Refused(Exception):
    """The server cannot start with this configuration; str() says why."""


class Worker:
    """A configuration being served."""

    def __init__(
        self,
        config: Config,
        *,
        path: Path | None = None,
        story: Story | None = None,
        resolver: Resolver | None = None,
        outlets: dict[str, Outlet] | None = None,
        notify: Callable[[str], None] = lambda line: print(line, file=sys.stderr, flush=True),
        console: Callable[[str, dict[str, Any]], None] | None = None,
    ) -> None:
        self.config = config
        self.path = path
        try:
            self.log = Log(config.log, console)
        except OSError as error:
            raise Refused(f"cannot write the log: {error}") from None
        self.clock = SystemClock()
        self.ids = Ids()
        self.resolver: Resolver = resolver or DnsResolver()
        self.doors = build.doors(config, self.resolver, self.log)
        self.rules = build.rules(config, self.log, self.doors)
        self.pool = GreenletPool()
        self.admission = Admission()
        self.stopping = False
        self._notify = notify
        self._story = story
        self._extra_outlets = outlets or {}
        self._listeners: dict[tuple[str, Endpoint], Listener] = {}
        self._stop = Event()
        self._reload = Event()
        self._outlets: dict[str, Outlet] = {}
        self._learned = Learned(config.data)
        self._traces = TraceKeeper(config.trace, config.data, self.log, self._secrets)
        self._services = self._generation(config)

    # -- life ----------------------------------------------------------------------------------------------------

    def run(self) -> int:
        """Serve until SIGTERM or SIGINT; the exit status. Raises ``Refused``."""
        self.start()
        return self.wait()

    def wait(self) -> int:
        """Serve what ``start`` began, until SIGTERM or SIGINT; the exit status."""
        helpers = [gevent.spawn(task) for task in (self._reload_when_told, self._watch_settings, self._sweep)]
        self._stop.wait()
        gevent.killall(helpers)
        self.drain()
        return 0

    def start(self) -> None:
        """Bind, load the rules, learn what upstreams offer, let clients in. Raises ``Refused``."""
        self._listen_to_signals()
        try:
            build.data_folder(self.config)
            report = self.rules.load()
        except (OSError, FolderRefused) as error:
            raise Refused(str(error)) from None
        for problem in report.problems:
            self._notify(str(problem))
        if self.path is not None and any(problem.kept == "" for problem in report.problems):
            raise Refused("a rule cannot run and no earlier version of it is known: mail would pass without it")
        raise_file_limit()
        self._recover()
        opened = self._open(self.config)
        self._learn()
        self.log.start()
        self._traces.start()
        self.rules.start()
        spare_the_collector()
        self._let_in(opened)

    def _recover(self) -> None:
        """What a process that is gone had held was promised to nobody."""
        for name, outlet in self._outlets.items():
            if isinstance(outlet, QuarantineOutlet) and (dropped := outlet.recover()):
                self.log("held_dropped", handoff=name, messages=dropped)

    def _listen_to_signals(self) -> None:
        """Without a configuration to read again, SIGHUP means that the terminal has gone."""
        gevent.signal_handler(signal.SIGTERM, self._stop.set)
        gevent.signal_handler(signal.SIGINT, self._stop.set)
        gevent.signal_handler(signal.SIGHUP, (self._reload if self.path is not None else self._stop).set)

    def drain(self) -> None:
        """Let nobody in any more, let sessions finish what they are doing within the limit, close."""
        self.stopping = True
        for listener in self._listeners.values():
            listener.close()
            for session in list(listener.sessions):
                session.stop()
        self._listeners.clear()
        end = self.clock.monotonic() + self.config.limits.timeouts.drain
        while self.pool.busy and self.clock.monotonic() < end:
            gevent.sleep(0.02)
        self._keep_learned()
        self.log("stopped", sessions=len(self.pool.busy))
        for outlet in self._outlets.values():
            if isinstance(outlet, ProxyOutlet):
                outlet.pool.close()
        self.rules.stop()
        self.doors["store"].close()
        self._traces.stop()
        self.log.stop()

    def addresses(self) -> list[Endpoint]:
        """Where it listens, ports as the system chose them."""
        return [listener.address for listener in self._listeners.values()]

    # -- configuration -------------------------------------------------------------------------------------------

    def reload(self) -> bool:
        """Take the configuration anew, all of it or none of it; False when it was refused."""
        if self.path is None:
            return False
        try:
            config = load(self.path)
            self._only_what_can_change(config)
            opened = self._open(config)
            self.log.reopen(config.log)
        except (ConfigErrors, Refused, OSError) as error:
            self.log("reload_refused", level="error", error=str(error))
            self._notify(f"reload refused, the old configuration stays:\n{error}")
            return False
        for name, endpoint in list(self._listeners):
            if name not in config.listener or endpoint not in config.listener[name].bind:
                self._listeners.pop((name, endpoint)).close()
        old = self._outlets
        self._change_doors(config)
        self.config = config
        self._services = self._generation(config)
        self.rules.configure(config.rule, *build.around_rules(config))
        self.rules.refresh()
        for outlet in old.values():
            if isinstance(outlet, ProxyOutlet):
                outlet.pool.close()
        self._learn()
        self._let_in(opened)
        self.log("reloaded", listeners=len(self._listeners))
        return True

    def _only_what_can_change(self, config: Config) -> None:
        """Raises ``Refused`` for what a running process holds on to."""
        fixed = (("data", config.data, self.config.data), ("scripts.folder", config.scripts.folder, self.config.scripts.folder))
        for key, new, old in fixed:
            if new != old:
                raise Refused(f"{key} takes a restart to change from {old} to {new}")

    def _change_doors(self, config: Config) -> None:
        """What rules reach from now on; what they keep stays where it was, unless it is to be kept elsewhere."""
        new = build.doors(config, self.resolver, self.log)
        self.doors["http"] = new["http"]
        if config.store != self.config.store:
            old, self.doors["store"] = self.doors["store"], new["store"]
            old.close()

    def _generation(self, config: Config) -> Services:
        self._outlets = {**build.outlets(config, self.clock, self.log), **self._extra_outlets}
        self._learned.recall(self._outlets)
        return build.services(
            config,
            rules=self.rules,
            outlets=self._outlets,
            resolver=self.resolver,
            clock=self.clock,
            ids=self.ids,
            log=self.log,
            doors=self.doors,
            stopping=lambda: self.stopping,
            story=self._story,
            traces=self._traces,
        )

    def _secrets(self) -> Iterator[str]:
        return secrets(rule.settings for rule in self.rules.table.rules)

    def _open(self, config: Config) -> dict[tuple[str, Endpoint], Listener]:
        """Bind what is not bound yet; raises ``Refused`` with nothing of it left open."""
        opened: dict[tuple[str, Endpoint], Listener] = {}
        try:
            for name, settings in config.listener.items():
                for endpoint in settings.bind:
                    if (name, endpoint) not in self._listeners:
                        opened[name, endpoint] = self._listener(name, endpoint)
        except OSError as error:
            for listener in opened.values():
                listener.close()
            raise Refused(f"cannot listen on {endpoint} ({name}): {error.strerror or error}") from None
        return opened

    def _let_in(self, opened: dict[tuple[str, Endpoint], Listener]) -> None:
        self._listeners.update(opened)
        for (name, _), listener in opened.items():
            listener.start()
            self._notify(f"listening on {listener.address} ({name})")
            self.log("listening", listener=name, address=str(listener.address))

    def _listener(self, name: str, endpoint: Endpoint) -> Listener:
        def current() -> tuple[Entrance, Services]:
            return build.entrance(self.config, name, endpoint.host, endpoint.port), self._services

        return Listener(bind(endpoint), self.pool, self.admission, current)

    # -- in the background ---------------------------------------------------------------------------------------

    def _learn(self) -> None:
        pools = [outlet.pool for outlet in self._outlets.values() if isinstance(outlet, ProxyOutlet)]
        gevent.joinall([gevent.spawn(pool.probe_all) for pool in pools], timeout=LEARN_SECONDS)

    def _reload_when_told(self) -> None:
        while True:
            self._reload.wait()
            self._reload.clear()
            self.reload()

    def _watch_settings(self) -> None:
        """[rule.NAME] tables are live on save; everything else waits for SIGHUP."""
        if self.path is None:
            return
        watch = SettingsWatch(self.path, self.config.rule)
        while True:
            gevent.sleep(SETTINGS_POLL)
            try:
                settings = watch.changed()
            except ConfigErrors as errors:
                self.log("settings_refused", level="error", error=str(errors))
                self._notify(f"the configuration has mistakes, the old settings of rules stay:\n{errors}")
                continue
            if settings is not None:
                self.rules.configure(settings, *build.around_rules(self.config))
                self.rules.refresh()
                self.log("settings_live", rules=sorted(settings))

    def _sweep(self) -> None:
        while True:
            gevent.sleep(IDLE_SWEEP)
            for outlet in self._outlets.values():
                if isinstance(outlet, ProxyOutlet):
                    for upstream in outlet.pool.upstreams:
                        upstream.drop_idle()
            self._keep_learned()

    def _keep_learned(self) -> None:
        try:
            self._learned.keep(self._outlets)
        except OSError as error:  # the disk is full: mail goes on
            self.log("not_kept", level="error", error=str(error))


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

