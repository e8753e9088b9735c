"""From a configuration to the record of doors: the one place that knows every room."""

from __future__ import annotations

import ssl
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import gevent

from smtpproxy.accounts.base import Accounts
from smtpproxy.accounts.hashing import Hashing
from smtpproxy.config import schema
from smtpproxy.config.queue import QueueTimeouts
from smtpproxy.config.schema import Config, Handoff, HandoffTimeouts
from smtpproxy.config.values import Target
from smtpproxy.delivery.login import Credentials
from smtpproxy.delivery.pool import Pool
from smtpproxy.delivery.smtp import Timeouts
from smtpproxy.delivery.tlspolicy import TlsPolicy
from smtpproxy.delivery.upstream import Upstream
from smtpproxy.dns.resolver import Resolver, addresses
from smtpproxy.facts.client import Client, ListenerFacts
from smtpproxy.handoff.base import Outlet
from smtpproxy.handoff.discard import Discard
from smtpproxy.handoff.proxy import ProxyOutlet
from smtpproxy.handoff.quarantine import QuarantineOutlet
from smtpproxy.handoff.queue import QueueOutlet
from smtpproxy.handoff.relay import RelayOutlet
from smtpproxy.net.http import HttpClient
from smtpproxy.net.tls import Trust
from smtpproxy.queue.queue import Queue
from smtpproxy.scanners.clamav import ClamAV
from smtpproxy.scanners.clamav import Timeouts as ScanTimeouts
from smtpproxy.scripting.doors.cache import Kept
from smtpproxy.scripting.list_files import ListFiles
from smtpproxy.scripting.loader import Rules
from smtpproxy.server.clock import Ids, SystemClock
from smtpproxy.server.keys import Keys
from smtpproxy.server.log_levels import Levels
from smtpproxy.server.logins import accounts
from smtpproxy.server.outlets import LIKE, Outlets
from smtpproxy.session.offer import Offers, own_extensions
from smtpproxy.session.room import Room
from smtpproxy.session.services import Entrance, LogLine, Services, Story, Traces
from smtpproxy.stores.base import Store
from smtpproxy.stores.memory import MemoryStore
from smtpproxy.stores.sqlite import SqliteStore
from smtpproxy.wire.proxyheader import LOCAL_V1, LOCAL_V2

NOBODY: Mapping[str, Accounts] = {}


def rules(config: Config, log: LogLine, doors: dict[str, Any], **more: Any) -> Rules:
    """The rules of ``config``, not loaded yet; ``more`` is what else Rules takes."""
    listeners, handoffs = around_rules(config)
    return Rules(
        config.scripts.folder, config.rule, listeners, log=log, handoffs=handoffs, doors=doors, data=config.data,
        breaker=config.scripts.breaker, history=config.scripts.history, **more,
    )  # fmt: skip


def doors(config: Config, resolver: Resolver, log: LogLine, secret: bytes = b"") -> dict[str, Any]:
    """What rules reach by name; `secret` is the same in all processes."""
    return {
        "dns": resolver,
        "log": log,
        "cache": Kept(),
        "clock": time.time,
        "sleep": gevent.sleep,
        "lists": ListFiles(config.folder, log, config.handoff),
        "store": store(config),
        "clamav": clamav(config.scanner.clamav),
        "http": HttpClient(lambda name: addresses(resolver, name), config.scripts.http_allow),
        "users": users(config, log, secret),
    }


def users(config: Config, log: LogLine, secret: bytes) -> dict[str, Accounts]:
    """Every [users.NAME]; nothing is asked before somebody logs in, or a rule wants to know."""
    hashing = Hashing(secret)
    return {name: accounts(name, settings, hashing, log, config.hostname) for name, settings in config.users.items()}


def clamav(settings: schema.ClamAV) -> ClamAV:
    """[scanner.clamav]; nothing is connected before somebody asks."""
    given = settings.timeouts
    timeouts = ScanTimeouts(given.connect, given.block, given.answer)
    return ClamAV(settings.to, timeouts, size=settings.size, refuse_large=settings.too_large == "error")


def store(config: Config) -> Store:
    """[store], not opened before somebody asks."""
    return MemoryStore() if config.store.kind == "memory" else SqliteStore(config.data / "store.sqlite")


def around_rules(config: Config) -> tuple[dict[str, tuple[str, ...]], dict[str, str]]:
    """What rules must know of the rest: which of them run at which listener, and the kinds of the hand-offs."""
    listeners = {name: listener.rules for name, listener in config.listener.items()}
    return listeners, {name: handoff.kind for name, handoff in config.handoff.items()}


def services(
    config: Config,
    *,
    rules: Rules,
    outlets: Outlets,
    resolver: Resolver,
    clock: SystemClock,
    ids: Ids,
    log: LogLine,
    doors: dict[str, Any],
    room: Room,
    stopping: Callable[[], bool],
    story: Story | None = None,
    traces: Traces | None = None,
) -> Services:
    """One generation of the doors."""
    return Services(
        rules=rules,
        pin=config.scripts.pin,
        limits=config.limits,
        relaying=config.relaying,
        outlets=outlets,
        server=outlets.server,
        offers=Offers(own_extensions(config.limits)),
        resolver=resolver,
        clock=clock,
        new_id=ids,
        log=log,
        room=room,
        dialogue=Levels(config.log).shows("session", "debug"),
        spool=str(config.data),
        story=story,
        traces=traces,
        stopping=stopping,
        doors=doors,
    )


def outlets(
    config: Config, keys: Keys, clock: SystemClock, log: LogLine, extra: dict[str, Outlet], queue: Queue | None = None
) -> Outlets:
    """Every [handoff.NAME], ready to be opened; `extra` in place of those of the same name."""

    def make(name: str, settings: Handoff) -> Outlet:
        return outlet(name, settings, config, keys, clock, log, queue)

    made = {name: make(name, handoff) for name, handoff in config.handoff.items()}
    return Outlets({**made, **extra}, config.handoff, make)


def outlet(
    name: str,
    settings: Handoff,
    config: Config,
    keys: Keys,
    clock: SystemClock,
    log: LogLine,
    queue: Queue | None = None,
) -> Outlet:
    if settings.kind == "discard":
        return Discard(name)

    def told(event: str, upstream: Upstream) -> None:
        log("upstream", handoff=name, upstream=str(upstream), state=event)

    def refused(cause: str, client: Client) -> None:
        log("handoff_failed", handoff=name, id=client.id, client=client.address, cause=cause)

    if settings.kind == "quarantine":
        return QuarantineOutlet(name, config.data / settings.folder, refused)
    if settings.kind == "queue":
        assert queue is not None
        return QueueOutlet(name, queue, clock.time, refused, config.queue.hold)
    trust = keys.trusts.get(name.rpartition(LIKE)[2]) or (None if settings.tls == "none" else Trust())
    policy, login = TlsPolicy(settings.tls, trust), keys.logins.get(name)
    upstreams = [upstream(settings, target, config.hostname, clock, policy, login) for target in settings.to]
    pool = Pool(upstreams, even=settings.balance == "even", on_change=told)
    made = RelayOutlet if settings.kind == "relay" else ProxyOutlet
    return made(name, pool, settings.identity, refused, settings.proxy_version)


def upstream(
    settings: Handoff, target: Target, hostname: str, clock: SystemClock, tls: TlsPolicy, login: Credentials | None
) -> Upstream:
    """One server of a hand-off's."""
    hello_name = settings.helo or hostname
    limits, header = timeouts(settings.timeouts), _own_header(settings)
    return Upstream(target, limits, hello_name, clock.monotonic, settings.connections, tls, header, login)


def _own_header(settings: Handoff) -> bytes:
    """Of our own connections to a server that wants a PROXY header: they are nobody's."""
    if settings.identity != "proxy":
        return b""
    return LOCAL_V1 if settings.proxy_version == "v1" else LOCAL_V2


def timeouts(settings: HandoffTimeouts | QueueTimeouts) -> Timeouts:
    return Timeouts(
        connect=settings.connect,
        greeting=settings.greeting,
        mail=settings.mail,
        data=settings.data,
        block=settings.block,
        final=settings.final,
    )


def entrance(
    config: Config,
    name: str,
    address: str,
    port: int,
    context: ssl.SSLContext | None = None,
    users: Mapping[str, Accounts] = NOBODY,
) -> Entrance:
    """How sessions see [listener.NAME] on one of its addresses."""
    listener = config.listener[name]
    hostname = listener.hostname or config.hostname
    return Entrance(
        facts=ListenerFacts(name, address, port, hostname, listener.protocol),
        handoff=listener.handoff,
        hostname=hostname,
        banner=listener.banner or f"{'LMTP' if listener.protocol == 'lmtp' else 'ESMTP'} smtpproxy",
        xclient_from=listener.xclient_from,
        xforward_from=listener.xforward_from,
        xclient_login=listener.xclient_login,
        proxy_from=listener.proxy_from,
        proxy_optional=listener.proxy_mode == "allow",
        proxy_tls=listener.proxy_tls,
        lmtp=listener.protocol == "lmtp",
        accounts=users.get(listener.auth),
        mechanisms=listener.auth_mechanisms,
        auth_in_clear=listener.auth_without_tls,
        auth_required=listener.auth_required,
        own_senders=listener.senders == "login",
        normalize=listener.bare_newline == "normalize",
        drains=listener.refused_body == "read",
        submission=listener.submission,
        tls=context,
        tls_required=listener.tls.mode == "required",
        tls_implicit=listener.tls.mode == "implicit",
        tls_exempt=listener.tls.exempt,
    )


def data_folder(config: Config) -> Path:
    """The data folder, made if it is absent; raises OSError."""
    config.data.mkdir(mode=0o700, parents=True, exist_ok=True)
    return config.data
