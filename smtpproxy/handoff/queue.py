"""Queue: the message is ours when it is on disk; it is sent afterwards, for as long as that takes."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from smtpproxy.delivery.needs import unmet
from smtpproxy.facts.client import Client
from smtpproxy.facts.mail import Mail
from smtpproxy.facts.recipient import Recipient
from smtpproxy.handoff.base import FULL, OK, not_kept
from smtpproxy.message.body import Body
from smtpproxy.queue.envelope import Envelope, Party
from smtpproxy.queue.ledger import Draft
from smtpproxy.queue.noted import carry, fit
from smtpproxy.queue.promises import check_by, latest, priority, release
from smtpproxy.queue.queue import Queue
from smtpproxy.wire.extensions import Extensions
from smtpproxy.wire.reply import Refusal, Reply

Log = Callable[[str, Client], None]

CARRIES = Extensions.parse(["8BITMIME", "SMTPUTF8", "CHUNKING", "DSN", "DELIVERBY", "MT-PRIORITY", "REQUIRETLS"])
HOUR = 3600.0
BATCH = 1 << 20
"""Octets of a message that are in memory at a time."""


class QueueOutlet:
    """[handoff.NAME] kind = "queue"."""

    __slots__ = ("_announced", "_renewed", "clock", "hold", "log", "name", "queue")
    live = False
    whole = False

    def __init__(self, name: str, queue: Queue, clock: Callable[[], float], log: Log, hold: float = 0.0) -> None:
        """Mail may be held back for `hold` seconds (RFC 4865); 0: that is not offered."""
        self.name = name
        self.hold = hold
        self._announced = CARRIES
        self._renewed = 0.0
        self.queue = queue
        self.clock = clock
        self.log = log

    def announced(self) -> Extensions:
        """The time up to which mail is held moves on; it is never later than that of the promise."""
        now = self.clock()
        if self.hold and not 0 <= now - self._renewed < HOUR:
            self._renewed = now
            self._announced = Extensions({**CARRIES, "FUTURERELEASE": f"{int(self.hold)} {latest(now, self.hold)}"})
        return self._announced

    def open(self, client: Client) -> Queued:
        return Queued(self, client)


class Queued:
    """One session's use of it."""

    __slots__ = ("_client", "_draft", "_mail", "_outlet", "_recipients", "_release", "via")

    def __init__(self, outlet: QueueOutlet, client: Client) -> None:
        self.via = outlet.name
        self._outlet = outlet
        self._client = client
        self._recipients: list[Recipient] = []
        self._mail: Mail | None = None
        self._draft: Draft | None = None
        self._release = 0.0

    def begin(self, mail: Mail) -> Reply:
        self._recipients = []
        self._mail = mail
        if (lacking := self._outlet.queue.lacking(mail.size_declared or 0)) is not None:
            self._outlet.log(f"queue: {lacking}", self._client)
            return FULL
        try:
            self._release = release(mail.params, self._outlet.clock(), self._outlet.hold)
            check_by(mail.params)
        except Refusal as refused:
            return refused.reply
        return unmet(mail, self._outlet.announced()) or OK

    def recipient(self, mail: Mail, rcpt: Recipient) -> Reply:
        self._recipients.append(rcpt)
        return OK

    def finish(self, mail: Mail, body: Body) -> Reply:
        try:
            self._draft = self._outlet.queue.ledger.draft(mail.id)
        except OSError as error:
            self._outlet.log(f"queue: {error}", self._client)
            return not_kept(error)
        try:
            for last, batch in _batches(body.content()):
                if (refused := self._keep(self._draft, batch, last, body.dotted)) is not None:
                    self.abandon()
                    return refused
        except BaseException:
            self.abandon()
            raise
        return Reply(250, "2.0.0", f"Ok: queued as {mail.id}")

    def _keep(self, draft: Draft, batch: list[bytes], last: bool, dotted: bool) -> Reply | None:
        """The refusal when the disk does not take it."""
        ledger = self._outlet.queue.ledger
        try:
            if not last:
                ledger.write(draft, batch)
                return None
            draft.dotted = dotted
            ledger.hold(draft, batch)
        except OSError as error:
            self._outlet.log(f"queue: {error}", self._client)
            return not_kept(error)
        return None

    def commit(self) -> None:
        """Raises OSError; ``abandon`` then leaves nothing of it."""
        draft, mail = self._draft, self._mail
        if draft is not None and mail is not None:
            self._outlet.queue.add(draft, self._envelope(mail))
            self._draft = None

    def abandon(self) -> None:
        draft, self._draft = self._draft, None
        if draft is None:
            return
        try:
            self._outlet.queue.ledger.drop(draft)
        except OSError as error:
            self._outlet.log(f"queue: {error}", self._client)

    def close(self) -> None:
        self.abandon()

    def _envelope(self, mail: Mail) -> Envelope:
        client = self._client
        about = {"address": client.address, "helo": client.helo, "login": client.login}
        envelope = Envelope(
            mail.id,
            self._outlet.clock(),
            Party(mail.sender.path, dict(mail.params)),
            [Party(rcpt.path, dict(rcpt.params)) for rcpt in self._recipients],
            self._outlet.name,
            client.listener.name,
            {name: value for name, value in about.items() if value},
            release=self._release,
            priority=priority(mail.params, trusted=client.login is not None or client.trusted or client.relay),
        )
        carry(mail, self._recipients, envelope, envelope.recipients)
        if left_out := fit(envelope):
            self._outlet.queue.log("notes_left_out", level="warning", id=mail.id, names=left_out)
        return envelope


def _batches(chunks: Iterable[bytes]) -> Iterable[tuple[bool, list[bytes]]]:
    """Whether it is the last one, and the chunks."""
    batch: list[bytes] = []
    size = 0
    for chunk in chunks:
        if size >= BATCH:
            yield False, batch
            batch, size = [], 0
        batch.append(chunk)
        size += len(chunk)
    yield True, batch
