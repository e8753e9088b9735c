"""Sends what is due. A greenlet for each mail that is leased: its recipients by destination, each destination at its site,
and what became of them is on disk before anything forgets it.
"""

from __future__ import annotations

import traceback
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final, TypeVar

import gevent
from gevent.event import Event

from smtpproxy.delivery.route import NoRoute, Route, Routes
from smtpproxy.delivery.site import Outcome, Site
from smtpproxy.queue import dsn, promises
from smtpproxy.queue.classify import Classifier
from smtpproxy.queue.envelope import Damaged
from smtpproxy.queue.ledger import Again, Aside, Entry, Gone, Ledger, LedgerError, Result, Then
from smtpproxy.queue.notices import Notices
from smtpproxy.queue.rulings import Rulings, Wording
from smtpproxy.queue.schedule import Schedule
from smtpproxy.wire.reply import Reply

AT_ONCE: Final = 1000
"""Mails that are leased at one time."""
OF_A_DOMAIN: Final = 100
"""Mails of one domain among them."""
LOOK: Final = 1.0
"""Seconds between two looks for what has become due."""
TROUBLE: Final = 5.0
"""Seconds until a ledger that could not be read or written is tried again."""
SITES: Final = 1000
"""Sites without a delivery that are remembered."""

Log = Callable[..., None]
T = TypeVar("T")


class Sender:
    """`make_site` opens the way to a route. `clock` tells seconds since the epoch."""

    def __init__(
        self,
        routes: Routes,
        make_site: Callable[[Route], Site],
        schedule: Schedule,
        notices: Notices,
        rulings: Rulings,
        classify: Classifier,
        clock: Callable[[], float],
        log: Log,
    ) -> None:
        self._routes = routes
        self._make_site = make_site
        self._schedule = schedule
        self._notices = notices
        self._rulings = rulings
        self._classify = classify
        self._clock = clock
        self.log = log
        self._sites: dict[str, Site] = {}
        self._leased = 0
        self._domains: Counter[str] = Counter()
        self._stopping = False
        self._wakes: list[Event] = []

    @property
    def busy(self) -> int:
        """Mails that it is at."""
        return self._leased

    def serve(self, ledger: Ledger, wake: Event, *, last: bool = False) -> bool:
        """Send what the ledger has, until told to stop; `wake` is set when there is more.

        With `last` also until nothing is in it any more, whatever its state: True then.
        """
        self._wakes.append(wake)
        while not self._stopping:
            wake.clear()
            found = self._lease(ledger)
            for entry in found:
                gevent.spawn(self._mail, ledger, entry)
            if last and not found and self._emptied(ledger):
                break
            if not found:
                wake.wait(LOOK)
        self._wakes.remove(wake)
        return not self._stopping

    def _emptied(self, ledger: Ledger) -> bool:
        try:
            return ledger.empty()
        except LedgerError:
            return False

    def stop(self) -> None:
        """Begin nothing more."""
        self._stopping = True
        for wake in self._wakes:
            wake.set()

    def close(self) -> None:
        for site in self._sites.values():
            site.close()

    def sweep(self) -> None:
        """Leave connections that are idle for too long, forget sites that nobody needs."""
        for site in self._sites.values():
            for server in site.servers:
                server.drop_idle()
        idle = [name for name, site in self._sites.items() if not site.used]
        for name in idle[: max(0, len(idle) - SITES)]:
            self._sites.pop(name).close()

    # -- one mail ------------------------------------------------------------------------------------------------

    def _lease(self, ledger: Ledger) -> list[Entry]:
        room = AT_ONCE - self._leased
        if room <= 0:
            return []
        try:
            found = ledger.lease(min(room, OF_A_DOMAIN), [name for name, count in self._domains.items() if count >= OF_A_DOMAIN])
        except LedgerError as error:
            self.log("queue_failed", level="error", error=str(error))
            gevent.sleep(TROUBLE)
            return []
        for entry in found:
            self._leased += 1
            self._domains[entry.envelope.recipients[0].domain] += 1
        return found

    def _mail(self, ledger: Ledger, entry: Entry) -> None:
        try:
            self._settle(ledger, entry, self._attempt(ledger, entry))
        except Damaged as why:
            self._set_aside(ledger, entry, str(why))
        except Exception:
            self.log("internal_error", level="error", id=entry.envelope.id, trace=traceback.format_exc())
            self._set_aside(ledger, entry, "a defect of ours, see internal_error in the log")
        finally:
            domain = entry.envelope.recipients[0].domain
            self._leased -= 1
            self._domains[domain] -= 1
            if not self._domains[domain]:
                del self._domains[domain]
            if self._leased == AT_ONCE - 1 or self._domains[domain] == OF_A_DOMAIN - 1:
                for wake in self._wakes:
                    wake.set()

    def _set_aside(self, ledger: Ledger, entry: Entry, reason: str) -> None:
        self.log("queue_aside", level="error", id=entry.envelope.id, reason=reason)
        self._record(ledger, entry, [], Aside(reason))

    def _attempt(self, ledger: Ledger, entry: Entry) -> list[Result]:
        """What became of the recipients of the last destination; that of the others is recorded."""
        groups = list(self._by_site(entry))
        if len(groups) == 1:
            return self._to_site(ledger, entry, *groups[0])
        under_way = [gevent.spawn(self._one_of_several, ledger, entry, *group) for group in groups]
        gevent.joinall(under_way)
        for greenlet in under_way:
            greenlet.get()
        return []

    def _one_of_several(self, ledger: Ledger, entry: Entry, route: Route | Reply, rcpts: list[int]) -> None:
        results = self._to_site(ledger, entry, route, rcpts)
        self._record(ledger, entry, results, None)
        entry.results.update((result.rcpt, result) for result in results)
        self._rulings.after(entry, results, self._age(entry))

    def _by_site(self, entry: Entry) -> Iterator[tuple[Route | Reply, list[int]]]:
        parties = entry.envelope.recipients
        routes: dict[str, Route | Reply] = {}
        groups: dict[Any, list[int]] = {}
        for rcpt in entry.pending():
            domain = parties[rcpt].domain
            if domain not in routes:
                routes[domain] = self._route(domain)
            groups.setdefault(routes[domain], []).append(rcpt)
        yield from groups.items()

    def _route(self, domain: str) -> Route | Reply:
        try:
            return self._routes.find(domain)
        except NoRoute as none:
            return none.reply

    def _to_site(self, ledger: Ledger, entry: Entry, route: Route | Reply, rcpts: list[int]) -> list[Result]:
        envelope = entry.envelope
        refused = promises.late(envelope, self._clock()) or self._rulings.before(entry, rcpts, self._age(entry)) or route
        if isinstance(refused, Reply):
            outcomes = [Outcome(refused)] * len(rcpts)
        else:
            parties = [envelope.recipients[rcpt] for rcpt in rcpts]
            mail = promises.onward(envelope, self._clock())
            outcomes = self._site(refused).deliver(mail, parties, ledger.body(entry))
        results = [dsn.result(entry, rcpt, outcome) for rcpt, outcome in zip(rcpts, outcomes, strict=True)]
        if found := [result for result in results if result.became == "delivered"]:
            self.log("delivered", **self._about(entry, found))
        if found := [result for result in results if result.became == "deferred"]:
            self.log("deferred", **self._about(entry, found))
        if found := [result for result in results if result.became == "failed"]:
            self.log("failed", **self._about(entry, found))
        return results

    def _site(self, route: Route) -> Site:
        site = self._sites.get(route.site)
        if site is None or {server.target for server in site.servers} != set(route.targets):
            if site is not None:
                site.close()
            site = self._sites[route.site] = self._make_site(route)
        return site

    # -- what became of it ---------------------------------------------------------------------------------------

    def _settle(self, ledger: Ledger, entry: Entry, results: list[Result]) -> None:
        """The end of an attempt: forgotten, put off, or given back."""
        envelope, now = entry.envelope, self._clock()
        entry.results.update((result.rcpt, result) for result in results)
        due = self._schedule.next(entry.attempts + 1, envelope.due, now, notice=not envelope.sender.path)
        if due is None:
            expired = [result._replace(state="failed") for result in entry.results.values() if result.became == "deferred"]
            if expired:
                self.log("expired", **self._about(entry, expired))
            entry.results.update((result.rcpt, result) for result in expired)
        failures = [result for result in entry.results.values() if result.state == "failed"]
        then: Then = Again(self._notices.in_time(due, entry)) if due is not None and entry.pending() else Gone()
        owed = dsn.owed(entry, self._notices.overdue(entry))
        wording = self._rulings.bounced(entry, failures, self._age(entry)) if failures else Wording()
        if wording is None:
            owed = [result for result in owed if result.state != "failed"]
        elif failures and not envelope.sender.path and isinstance(then, Gone):
            then = Aside("a notice could not be delivered")
            self.log("queue_aside", level="warning", id=envelope.id, reason=then.reason)
        notice = self._insist(entry, lambda: self._notices.make(ledger, entry, owed, wording or Wording())) if owed else None
        told = [dsn.told(result) for result in {*failures, *owed}] if not isinstance(then, Aside) else []
        self._record(ledger, entry, [*results, *told], then, notice)
        self._rulings.after(entry, [it for it in results if entry.results[it.rcpt] == it], self._age(entry))

    def _age(self, entry: Entry) -> float:
        return self._clock() - entry.envelope.time

    def _record(self, ledger: Ledger, entry: Entry, results: Sequence[Result], then: Then | None, notice: Any = None) -> None:
        self._insist(entry, lambda: ledger.record(entry, results, then, notice))

    def _insist(self, entry: Entry, work: Callable[[], T]) -> T:
        """What became of a mail is not forgotten before it is on disk, however long that takes."""
        while True:
            try:
                return work()
            except OSError as error:
                self.log("queue_failed", level="error", id=entry.envelope.id, error=str(error))
                gevent.sleep(TROUBLE)

    def _about(self, entry: Entry, results: list[Result]) -> dict[str, Any]:
        """For the log."""
        first, envelope = results[0], entry.envelope
        return {
            "id": envelope.id,
            "from": envelope.sender.path,
            "to": [envelope.recipients[result.rcpt].path for result in results],
            "host": first.host,
            "attempt": entry.attempts + 1,
            "age": round(self._age(entry), 3),
            "reply": first.reply,
            **({"kind": kind} if (kind := self._classify(first.reply)) else {}),
        }
