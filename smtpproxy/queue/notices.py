"""Notices to senders: made here, and put into the queue together with the record of what they tell."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from smtpproxy.message.notice import Failure, failure_notice
from smtpproxy.message.trace import smtp_date
from smtpproxy.queue.envelope import Damaged, Envelope, Party
from smtpproxy.queue.ledger import Draft, Entry, Ledger, Result

HEADER = 64 << 10
"""Octets that are given back of a header at the most."""


class Notices:
    """`new_id` names them, `clock` tells seconds since the epoch."""

    __slots__ = ("_clock", "_hostname", "_new_id")

    def __init__(self, hostname: str, new_id: Callable[[], str], clock: Callable[[], float]) -> None:
        self._hostname = hostname
        self._new_id = new_id
        self._clock = clock

    def failure(self, ledger: Ledger, entry: Entry, failures: Sequence[Result]) -> tuple[Draft, Envelope]:
        """The notice, its body on disk. Raises LedgerError and OSError."""
        envelope, id, now = entry.envelope, self._new_id(), self._clock()
        content = failure_notice(
            id=id,
            hostname=self._hostname,
            sender=envelope.sender.path,
            date=_date(now),
            arrival=_date(envelope.time),
            failures=[Failure(envelope.recipients[it.rcpt].path, it.reply, it.host) for it in failures],
            header=_header(ledger, entry),
        )
        draft = ledger.draft(id)
        draft.dotted = b"\n." in content
        ledger.hold(draft, [content])
        params: dict[str, str | None] = {} if content.isascii() else {"BODY": "8BITMIME", "SMTPUTF8": None}
        to = [Party(envelope.sender.path)]
        return draft, Envelope(id, now, Party("", params), to, envelope.handoff, envelope.listener)


def _header(ledger: Ledger, entry: Entry) -> bytes:
    """What can be read of it."""
    found = b""
    try:
        for chunk in ledger.body(entry).content():
            found += chunk
            if b"\r\n\r\n" in found or len(found) >= HEADER:
                break
    except Damaged:
        pass
    header, mark, _ = found.partition(b"\r\n\r\n")
    if mark:
        return header + b"\r\n"
    return found[: found.rfind(b"\r\n") + 2]


def _date(moment: float) -> str:
    return smtp_date(moment, (time.localtime(moment).tm_gmtoff or 0) // 60)
