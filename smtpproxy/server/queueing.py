"""From [queue] and [route] to the queue of one process."""

from __future__ import annotations

from smtpproxy.config.schema import Config
from smtpproxy.config.values import Target
from smtpproxy.delivery.route import Route, Routes
from smtpproxy.delivery.site import Site
from smtpproxy.delivery.tlspolicy import TlsPolicy
from smtpproxy.delivery.upstream import Upstream
from smtpproxy.dns.resolver import Resolver
from smtpproxy.net.tls import Trust
from smtpproxy.queue.classify import Classifier
from smtpproxy.queue.notices import Notices
from smtpproxy.queue.queue import Queue
from smtpproxy.queue.rulings import Rulings
from smtpproxy.queue.schedule import Schedule
from smtpproxy.queue.sender import Sender
from smtpproxy.queue.submissions import Bounds, Submissions
from smtpproxy.server.build import timeouts
from smtpproxy.server.clock import Ids, SystemClock
from smtpproxy.server.keys import Keys
from smtpproxy.session.services import LogLine

FOLDER = "queue"
"""In the data folder."""


def queue(
    config: Config,
    keys: Keys,
    clock: SystemClock,
    resolver: Resolver,
    log: LogLine,
    rulings: Rulings,
    classify: Classifier,
) -> Queue | None:
    """Not opened yet; None where no hand-off needs one."""
    if not any(handoff.kind == "queue" for handoff in config.handoff.values()):
        return None
    settings = config.queue
    schedule = Schedule(settings.retry, settings.lifetime, settings.notice_lifetime)
    trust, limits, hello = Trust(), timeouts(settings.timeouts), settings.helo or config.hostname

    tables = {name.lower(): table for name, table in config.route.items()}

    def site(route: Route) -> Site:
        table = tables.get(route.static)
        level = table.tls if table is not None else "may"
        policy = TlsPolicy(level, Trust(verify=True) if level == "verify" else trust)
        login = keys.route_logins.get(route.static)
        servers = [Upstream(target, limits, hello, clock.monotonic, tls=policy, login=login) for target in route.targets]
        return Site(servers, settings.connections)

    static = {name: table.to for name, table in tables.items()}
    sender = Sender(
        Routes(static, resolver, config.hostname, _addresses(config)),
        site,
        schedule,
        Notices(config.hostname, Ids(), clock.time, settings.warn, settings.lifetime, settings.notice),
        rulings,
        classify,
        clock.time,
        log,
    )
    return Queue(config.data / FOLDER, sender, clock.time, log, max(schedule.longest, settings.hold), settings.min_free)


def submissions(config: Config, queue: Queue | None, clock: SystemClock, log: LogLine) -> Submissions:
    """What rules reach as submit()."""
    limits = config.limits
    bounds = Bounds(limits.message_size, limits.recipients, limits.received, config.queue.submissions)
    return Submissions(queue, config.hostname, Ids(), clock, log, bounds)


def _addresses(config: Config) -> set[str]:
    """Where we listen as a mail exchanger does."""
    port = Target.parse("smtp://127.0.0.1").port
    return {endpoint.host for listener in config.listener.values() for endpoint in listener.bind if endpoint.port == port}
