"""Ways out that answer what they are told and remember what became of each mail: the contract of handoff/base.py, to look at.

A live one has delivered a message when it answered its end positively; a durable one holds it until `commit`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from smtpproxy.facts.client import Client
from smtpproxy.facts.mail import Mail
from smtpproxy.facts.recipient import Recipient
from smtpproxy.message.body import Body
from smtpproxy.testing.acts import Order
from smtpproxy.wire.extensions import Extensions
from smtpproxy.wire.reply import Reply

Act = Reply | BaseException | Callable[[], Any] | None


class Letter:
    """A message as a hand-off took it: envelope and content."""

    __slots__ = ("content", "recipients", "sender")

    def __init__(self, sender: str, recipients: list[str], content: bytes) -> None:
        self.sender = sender
        self.recipients = recipients
        self.content = content

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Letter) and self.__repr__() == other.__repr__()

    def __hash__(self) -> int:
        return hash(self.__repr__())

    def __repr__(self) -> str:
        return f"<{self.sender} to {self.recipients}: {self.content!r}>"


class FakeOutlet:
    """[handoff.NAME] of a test. `journal` may be shared, to see who was asked when: "out: recipient b@example.com"."""

    def __init__(self, name: str, *, live: bool, whole: bool = False, journal: list[str] | None = None) -> None:
        self.name = name
        self.live = live
        self.whole = whole
        self.offers = Extensions.parse(["8BITMIME", "SMTPUTF8"])
        self.journal = [] if journal is None else journal
        self.opened: list[FakeHandoff] = []
        self.held: list[Letter] = []
        self.delivered: list[Letter] = []
        self._orders: list[Order] = []

    def on(self, stage: str, *acts: Act, argument: str = "") -> None:
        """Answer like this at "begin", "recipient" or "finish": a reply, an exception to raise, a call to make first."""
        self._orders.insert(0, Order(stage, argument, acts))

    def announced(self) -> Extensions:
        return self.offers

    def open(self, client: Client) -> FakeHandoff:
        handoff = FakeHandoff(self)
        self.opened.append(handoff)
        return handoff

    def note(self, what: str) -> None:
        self.journal.append(f"{self.name}: {what}")

    def answer(self, stage: str, argument: str, usual: Reply | None) -> Reply | None:
        """What was ordered for this stage, else the usual."""
        for order in self._orders:
            if order.fits(stage, argument):
                act = order.next()
                if isinstance(act, BaseException):
                    raise act
                if callable(act):
                    act()
                    return usual
                return usual if act is None else act
        return usual


class FakeHandoff:
    """One session's use of a `FakeOutlet`."""

    def __init__(self, outlet: FakeOutlet) -> None:
        self.outlet = outlet
        self.via = outlet.name
        self.closed = False
        self._recipients: list[str] = []
        self._held: list[Letter] = []

    def begin(self, mail: Mail) -> Reply | None:
        self.outlet.note(f"begin {mail.sender}")
        self._recipients = []
        return self.outlet.answer("begin", str(mail.sender), None)

    def recipient(self, mail: Mail, rcpt: Recipient) -> Reply:
        self.outlet.note(f"recipient {rcpt}")
        reply = self.outlet.answer("recipient", str(rcpt), Reply(250, "2.1.5", "Ok"))
        assert reply is not None
        if reply.positive:
            self._recipients.append(str(rcpt))
        return reply

    def finish(self, mail: Mail, body: Body) -> Reply:
        self.outlet.note("finish")
        content = b"".join(body.content())
        reply = self.outlet.answer("finish", str(mail.sender), Reply(250, "2.0.0", f"Ok: taken by {self.via}"))
        assert reply is not None
        if reply.positive:
            letter = Letter(str(mail.sender), self._recipients, content)
            if self.outlet.live:
                self.outlet.delivered.append(letter)
            else:
                self._held.append(letter)
                self.outlet.held.append(letter)
        return reply

    def commit(self) -> None:
        self.outlet.note("commit")
        self.outlet.delivered += self._held
        self._release()

    def abandon(self) -> None:
        self.outlet.note("abandon")
        self._release()

    def close(self) -> None:
        self.outlet.note("close")
        self.closed = True

    def _release(self) -> None:
        for letter in self._held:
            self.outlet.held.remove(letter)
        self._held = []
        self._recipients = []


def live(name: str = "out", **options: Any) -> FakeOutlet:
    """A way out whose next server answers while the client waits."""
    return FakeOutlet(name, live=True, **options)


def durable(name: str = "store", **options: Any) -> FakeOutlet:
    """A way out that keeps what it took, held until it is committed."""
    return FakeOutlet(name, live=False, **options)
