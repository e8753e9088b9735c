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
from smtpproxy.queue.queue import Queue
from smtpproxy.wire.extensions import Extensions
from smtpproxy.wire.reply import Reply

Log = Callable[[str, Client], None]

CARRIES = Extensions.parse(["8BITMIME", "SMTPUTF8", "CHUNKING", "DSN"])
BATCH = 1 << 20
"""Octets of a message that are in memory at a time."""


class QueueOutlet:
    """[handoff.NAME] kind = "queue"."""

    __slots__ = ("clock", "log", "name", "queue")
    live = False
    whole = False

    def __init__(self, name: str, queue: Queue, clock: Callable[[], float], log: Log) -> None:
        self.name = name
        self.queue = queue
        self.clock = clock
        self.log = log

    def announced(self) -> Extensions:
        return CARRIES

    def open(self, client: Client) -> Queued:
        return Queued(self, client)


class Queued:
    """One session's use of it."""

    __slots__ = ("_client", "_draft", "_mail", "_outlet", "_recipients", "via")

    def __init__(self, outlet: QueueOutlet, client: Client) -> None:
        self.via = outlet.name
        self._outlet = outlet
        self._client = client
        self._recipients: list[Recipient] = []
        self._mail: Mail | None = None
        self._draft: Draft | None = None

    def begin(self, mail: Mail) -> Reply:
        self._recipients = []
        self._mail = mail
        if (lacking := self._outlet.queue.lacking(mail.size_declared or 0)) is not None:
            self._outlet.log(f"queue: {lacking}", self._client)
            return FULL
        return unmet(mail, CARRIES) or OK

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
