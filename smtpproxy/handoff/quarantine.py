"""Quarantine: the message is kept in a folder, with the reason, until somebody has looked at it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, TypeVar

import gevent

from smtpproxy.delivery.needs import unmet
from smtpproxy.facts.client import Client
from smtpproxy.facts.mail import Mail
from smtpproxy.facts.recipient import Recipient
from smtpproxy.handoff.base import OK, not_kept
from smtpproxy.handoff.discard import CARRIES_ALL
from smtpproxy.handoff.shelf import Holding, Slip, drop_orphans
from smtpproxy.message.body import Body
from smtpproxy.scripting.runner import CALL
from smtpproxy.wire.extensions import Extensions
from smtpproxy.wire.reply import Reply

Log = Callable[[str, Client], None]
T = TypeVar("T")

BATCH = 1 << 20
"""Octets that go to the disk at a time."""

REASON_NOTE = "quarantine_reason"
"""The note of the mail in which a rule says why it has sent the mail here."""


class QuarantineOutlet:
    """[handoff.NAME] kind = "quarantine"."""

    __slots__ = ("folder", "log", "name")
    live = False
    whole = True

    def __init__(self, name: str, folder: Path, log: Log) -> None:
        self.name = name
        self.folder = folder
        self.log = log

    def announced(self) -> Extensions:
        return CARRIES_ALL

    def open(self, client: Client) -> Quarantine:
        return Quarantine(self, client)

    def recover(self) -> int:
        """At the start: what a process that is gone had held was promised to nobody. How many messages were dropped."""
        return drop_orphans(self.folder)


class Quarantine:
    """One session's use of it. The disk is waited for in a thread: the others go on."""

    __slots__ = ("_client", "_holding", "_outlet", "_recipients", "via")

    def __init__(self, outlet: QuarantineOutlet, client: Client) -> None:
        self.via = outlet.name
        self._outlet = outlet
        self._client = client
        self._recipients: list[str] = []
        self._holding: Holding | None = None

    def begin(self, mail: Mail) -> Reply:
        self._recipients = []
        return unmet(mail, CARRIES_ALL) or OK

    def recipient(self, mail: Mail, rcpt: Recipient) -> Reply:
        self._recipients.append(str(rcpt))
        return OK

    def finish(self, mail: Mail, body: Body) -> Reply:
        try:
            self._holding = _in_thread(Holding, self._outlet.folder, self._slip(mail))
            for batch in _batches(body.content()):
                _in_thread(self._holding.write, batch)
            _in_thread(self._holding.sync)
        except OSError as error:
            self._outlet.log(f"{self._outlet.folder}: {error}", self._client)
            self.abandon()
            return not_kept(error)
        return Reply(250, "2.0.0", f"Ok: taken as {mail.id}")

    def commit(self) -> None:
        """Raises OSError; ``abandon`` then leaves nothing of it."""
        if self._holding is not None:
            _in_thread(self._holding.commit)
            self._holding = None

    def abandon(self) -> None:
        holding, self._holding = self._holding, None
        if holding is None:
            return
        try:
            _in_thread(holding.drop)
        except OSError as error:
            self._outlet.log(f"{self._outlet.folder}: {error}", self._client)

    def close(self) -> None:
        self.abandon()

    def _slip(self, mail: Mail) -> Slip:
        client = self._client
        about = {"address": client.address, "name": client.name if client.name_known else "", "helo": client.helo}
        rule, reason = _reason(mail)
        return Slip(
            id=mail.id,
            time=time.time(),
            sender=str(mail.sender),
            recipients=list(self._recipients),
            reason=reason,
            rule=rule,
            handoff=self._outlet.name,
            params=dict(mail.params),
            client={name: value for name, value in {**about, "login": client.login}.items() if value},
        )


def _reason(mail: Mail) -> tuple[str, str]:
    """The rule that failed and how; else what a rule has noted."""
    call = CALL.get(None)
    faults = call.trace.faults if call is not None else []
    fault = next((fault for fault in reversed(faults) if fault.declared == "quarantine"), None)
    if mail.held and fault is not None:
        rule = fault.entry.rule.name
        return rule, f"rule {rule} failed, {fault.place} in {fault.entry.hook.name}: {fault.error}"
    return "", str(mail.notes[REASON_NOTE] or "sent here by a rule or the listener")


def _batches(chunks: Iterable[bytes]) -> Iterable[list[bytes]]:
    batch: list[bytes] = []
    size = 0
    for chunk in chunks:
        batch.append(chunk)
        size += len(chunk)
        if size >= BATCH:
            yield batch
            batch, size = [], 0
    yield batch


def _in_thread(work: Callable[..., T], *arguments: Any) -> T:
    result: T = gevent.get_hub().threadpool.apply(work, arguments)
    return result
