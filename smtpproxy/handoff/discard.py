"""Accept and forget: tests, honeypots, the floor of a benchmark."""

from __future__ import annotations

from smtpproxy.delivery.needs import unmet
from smtpproxy.facts.client import Client
from smtpproxy.facts.mail import Mail
from smtpproxy.facts.recipient import Recipient
from smtpproxy.handoff.base import OK
from smtpproxy.message.body import Body
from smtpproxy.wire.extensions import Extensions
from smtpproxy.wire.reply import Reply

CARRIES_ALL = Extensions.parse(["8BITMIME", "SMTPUTF8", "CHUNKING", "BINARYMIME"])


class Discard:
    """Both the configured way out and every session's use of it: there is nothing to keep apart."""

    __slots__ = ("name",)
    live = False
    whole = False

    def __init__(self, name: str) -> None:
        self.name = name

    @property
    def via(self) -> str:
        return self.name

    def announced(self) -> Extensions:
        return CARRIES_ALL

    def open(self, client: Client) -> Discard:
        return self

    def begin(self, mail: Mail) -> Reply:
        return unmet(mail, CARRIES_ALL) or OK

    def recipient(self, mail: Mail, rcpt: Recipient) -> Reply:
        return OK

    def finish(self, mail: Mail, body: Body) -> Reply:
        for _ in body.wire():  # the form that it came in: nothing is made of what nobody wants
            pass
        return Reply(250, "2.0.0", f"Ok: discarded as {mail.id}")

    def commit(self) -> None: ...

    def abandon(self) -> None: ...

    def close(self) -> None: ...
