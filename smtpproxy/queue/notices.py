"""Notices to senders: made here, and put into the queue together with the record of what they tell."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Final

from smtpproxy.config.queue import Notice
from smtpproxy.config.template import Template
from smtpproxy.message.notice import Action, Fate, Report, Returned
from smtpproxy.message.trace import smtp_date
from smtpproxy.queue import dsn
from smtpproxy.queue.envelope import Damaged, Envelope, Party
from smtpproxy.queue.ledger import Draft, Entry, Ledger, Result
from smtpproxy.queue.promises import deliver_by
from smtpproxy.queue.rulings import Wording

HEADER: Final = 64 << 10
"""Octets that are given back of a header at the most."""
ORDER: Final[tuple[Action, ...]] = ("failed", "delayed", "relayed", "delivered")
"""The worst first: it has the subject."""


class Notices:
    """`new_id` names them, `clock` tells seconds since the epoch, a mail is tried for
    `lifetime` seconds, and its sender is warned after `warn` (0: never)."""

    __slots__ = ("_clock", "_hostname", "_lifetime", "_new_id", "_settings", "_texts", "_warn")

    def __init__(
        self,
        hostname: str,
        new_id: Callable[[], str],
        clock: Callable[[], float],
        warn: float,
        lifetime: float,
        settings: Notice,
    ) -> None:
        self._hostname = hostname
        self._new_id = new_id
        self._clock = clock
        self._warn = warn
        self._lifetime = lifetime
        self._settings = settings
        self._texts = {action: Template(getattr(settings, action)) for action in ORDER}

    def overdue(self, entry: Entry) -> bool:
        """It is time for a warning, if there has been none yet."""
        now, by = self._clock(), deliver_by(entry.envelope)
        return 0 < self._warn <= now - entry.envelope.due or (by is not None and not by.returns and by.moment <= now)

    def in_time(self, due: float, entry: Entry) -> float:
        """`due`, or the moment of a warning or of the end if that comes first: it tells of an attempt that has just been made."""
        now, by = self._clock(), deliver_by(entry.envelope)
        moments = [entry.envelope.due + self._warn, by.moment if by is not None else 0.0]
        return min([due, *(moment for moment in moments if moment > now)])

    def make(self, ledger: Ledger, entry: Entry, results: Sequence[Result], wording: Wording) -> tuple[Draft, Envelope]:
        """The notice of what is owed, its body on disk; `wording` is for those who failed. Raises LedgerError, OSError."""
        envelope, id, now = entry.envelope, self._new_id(), self._clock()
        fates = sorted((dsn.fate(envelope, it) for it in results), key=lambda fate: ORDER.index(fate.action))
        content = Report(
            id=id,
            hostname=self._hostname,
            sender=envelope.sender.path,
            date=_date(now),
            subject=self._subject(fates[0].action, wording),
            text=self._text(envelope, fates, wording),
            mail=envelope.id,
            arrival=_date(envelope.time),
            fates=fates,
            returned=self._returned(ledger, entry, failed=fates[0].action == "failed"),
            envid=dsn.decoded(envelope.params.get("ENVID") or ""),
            until=_date(self._end(envelope)),
            utf8=envelope.smtputf8 or not all(fate.recipient.isascii() for fate in fates),
        ).content()
        draft = ledger.draft(id)
        draft.dotted = b"\n." in content
        ledger.hold(draft, [content])
        return draft, self._envelope(envelope, id, now, content)

    def _end(self, envelope: Envelope) -> float:
        """When the last attempt is made."""
        by, end = deliver_by(envelope), envelope.due + self._lifetime
        return min(end, by.moment) if by is not None and by.returns else end

    def _envelope(self, mail: Envelope, id: str, now: float, content: bytes) -> Envelope:
        params: dict[str, str | None] = {} if content.isascii() else {"BODY": "8BITMIME"}
        if not (mail.sender.path + "".join(rcpt.path for rcpt in mail.recipients)).isascii() or mail.smtputf8:
            params["SMTPUTF8"] = None
        if "REQUIRETLS" in mail.params:
            params["REQUIRETLS"] = None  # RFC 8689 5
        return Envelope(id, now, Party("", params), [Party(mail.sender.path)], mail.handoff, mail.listener)

    def _subject(self, action: Action, wording: Wording) -> str:
        own = wording.subject if action == "failed" else ""
        return own or str(getattr(self._settings, f"{action}_subject"))

    def _text(self, envelope: Envelope, fates: Sequence[Fate], wording: Wording) -> str:
        values = {
            "sender": envelope.sender.path,
            "hostname": self._hostname,
            "id": envelope.id,
            "arrival": _date(envelope.time),
            "until": _date(self._end(envelope)),
        }
        found = []
        for action in ORDER:
            about = [fate.words() for fate in fates if fate.action == action]
            if about and action == "failed" and wording.text:
                found.append(wording.text)
            elif about:
                found.append(self._texts[action].fill({**values, "recipients": "\n".join(about)}, str))
        return "\n".join(found)

    def _returned(self, ledger: Ledger, entry: Entry, *, failed: bool) -> Returned:
        """RET is about failures alone (RFC 3461 4.3), and nothing to what must not be read on the way (RFC 8689 5)."""
        params = entry.envelope.params
        full = (params.get("RET") or "").upper() == "FULL" and "REQUIRETLS" not in params
        if failed and full and entry.envelope.size <= self._settings.full:
            found, complete = _read(ledger, entry, whole=True)
            if complete:
                return Returned(found, whole=True)
        found, _ = _read(ledger, entry, whole=False)
        header, mark, _ = found.partition(b"\r\n\r\n")
        return Returned(header + b"\r\n" if mark else found[: found.rfind(b"\r\n") + 2])


def _read(ledger: Ledger, entry: Entry, *, whole: bool) -> tuple[bytes, bool]:
    """What can be read of a body, as far as it is wanted, and whether all of it is there."""
    found = b""
    try:
        for chunk in ledger.body(entry).content():
            found += chunk
            if not whole and (b"\r\n\r\n" in found or len(found) >= HEADER):
                break
    except Damaged:
        return found, False
    return found, True


def _date(moment: float) -> str:
    return smtp_date(moment, (time.localtime(moment).tm_gmtoff or 0) // 60)
