"""Mail that rules submit goes into the queue as any other, with a Received line of ours; no rule is asked about it again."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, Protocol

from smtpproxy.config.values import Rate
from smtpproxy.message.header import end_of_header
from smtpproxy.message.letter import letter
from smtpproxy.message.rendering import with_crlf
from smtpproxy.message.trace import count_received, received_here
from smtpproxy.queue.envelope import Envelope, Party
from smtpproxy.queue.queue import Queue
from smtpproxy.queue.sender import Log
from smtpproxy.scripting.doors.submit import Submission, SubmitError
from smtpproxy.stores.memory import MemoryStore


class Clock(Protocol):
    """`time` tells seconds since the epoch, `date` is of ``smtp_date``."""

    def time(self) -> float: ...
    def date(self) -> str: ...


class Bounds(NamedTuple):
    """Of a mail `size` in octets, `recipients` and `hops` (RFC 5321 6.3), 0 for none; of a rule `rate`."""

    size: int
    recipients: int
    hops: int
    rate: Rate


class Submissions:
    """What rules reach as ``submit``. `queue` is None where no hand-off needs one; `new_id` names the mails."""

    __slots__ = ("_bounds", "_clock", "_hostname", "_new_id", "_queue", "_rates", "log")

    def __init__(
        self, queue: Queue | None, hostname: str, new_id: Callable[[], str], clock: Clock, log: Log, bounds: Bounds
    ) -> None:
        self._queue = queue
        self._hostname = hostname
        self._new_id = new_id
        self._clock = clock
        self.log = log
        self._bounds = bounds
        self._rates = MemoryStore(clock.time)

    def submit(self, submission: Submission) -> str:
        """See ``Submitter``."""
        if self._queue is None:
            raise SubmitError('no hand-off is of kind = "queue", which would take it')
        self._count(submission)
        id = self._new_id()
        content = self._content(submission, id)
        envelope = Envelope(
            id,
            self._clock.time(),
            Party(submission.sender.path if submission.sender else "", _params(submission, content)),
            [Party(address.path) for address in submission.recipients],
        )
        self._keep(self._queue, envelope, content)
        recipients = [party.path for party in envelope.recipients]
        self.log("submitted", id=id, rule=submission.rule, to=recipients, size=len(content), **{"from": envelope.sender.path})
        return id

    def _count(self, submission: Submission) -> None:
        most, rate = self._bounds.recipients, self._bounds.rate
        if most and len(submission.recipients) > most:
            raise SubmitError(f"it is to more than {most} recipients ([limits] recipients)")
        if self._rates.hits(submission.rule, rate.within) >= rate.count:
            raise SubmitError(f"this rule has submitted {rate} ([queue] submissions)")
        self._rates.hit(submission.rule, rate.within)

    def _content(self, submission: Submission, id: str) -> bytes:
        content = submission.content
        if content is None:
            content = self._letter(submission, id)
        content = with_crlf(content)
        hops, size = self._bounds.hops, self._bounds.size
        if hops and count_received(_header(content)) > hops:
            raise SubmitError(f"it has come through more than {hops} servers: a loop ([limits] received)")
        if size and len(content) > size:
            raise SubmitError(f"it has {len(content)} octets, more than {size} ([limits] message_size)")
        received = received_here(hostname=self._hostname, rule=submission.rule, id=id, date=self._clock.date())
        return received + content + (b"" if content.endswith(b"\r\n") else b"\r\n")

    def _letter(self, submission: Submission, id: str) -> bytes:
        return letter(
            id=id,
            hostname=self._hostname,
            sender=submission.sender.path if submission.sender else f"postmaster@{self._hostname}",
            to=[address.path for address in submission.recipients],
            subject=submission.subject,
            text=submission.text,
            date=self._clock.date(),
        )

    def _keep(self, queue: Queue, envelope: Envelope, content: bytes) -> None:
        if (lacking := queue.lacking(len(content))) is not None:
            raise SubmitError(lacking)
        try:
            draft = queue.ledger.draft(envelope.id)
            draft.dotted = b"\n." in content
            try:
                queue.ledger.hold(draft, [content])
                queue.add(draft, envelope)
            except BaseException:
                queue.ledger.drop(draft)
                raise
        except OSError as error:
            raise SubmitError(f"it could not be kept: {error}") from None


def _params(submission: Submission, content: bytes) -> dict[str, str | None]:
    """What the next server has to be able to do (RFC 6152, RFC 6531)."""
    params: dict[str, str | None] = {}
    if not content.isascii():
        params["BODY"] = "8BITMIME"
    paths = [address.path for address in (*submission.recipients, submission.sender) if address]
    if not (_header(content).isascii() and "".join(paths).isascii()):
        params["SMTPUTF8"] = None
    return params


def _header(content: bytes) -> bytes:
    end = end_of_header(content)
    return content if end < 0 else content[:end]
