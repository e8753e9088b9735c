"""Relay: take the whole message first, then hand it on in one go while the client waits; no queue, nothing of ours to lose.

The upstream hears of a mail only when it is complete: slow clients cost it nothing, and rules that change the envelope
do so before it is told.  The other side of it: a refused recipient refuses the message.
"""

from __future__ import annotations

from smtpproxy.facts.client import Client
from smtpproxy.facts.mail import Mail
from smtpproxy.facts.recipient import Recipient
from smtpproxy.handoff.base import OK
from smtpproxy.handoff.proxy import ONE_RECIPIENT, Proxy, ProxyOutlet, several
from smtpproxy.message.body import Body
from smtpproxy.wire.reply import Reply


class RelayOutlet(ProxyOutlet):
    """[handoff.NAME] kind = "relay"."""

    __slots__ = ()
    whole = True

    def open(self, client: Client) -> Relay:  # type: ignore[override]
        return Relay(self, client)


class Relay:
    """A ``Proxy`` whose every step waits for ``finish``."""

    __slots__ = ("_client", "_lmtp", "_proxy", "_recipients")

    def __init__(self, outlet: RelayOutlet, client: Client) -> None:
        self._proxy = Proxy(outlet, client)
        self._client = client
        self._lmtp = any(upstream.target.protocol == "lmtp" for upstream in outlet.pool.upstreams)
        self._recipients: list[Recipient] = []

    @property
    def via(self) -> str:
        return self._proxy.via

    def begin(self, mail: Mail) -> Reply:
        self._recipients = []
        return OK

    def recipient(self, mail: Mail, rcpt: Recipient) -> Reply:
        if self._lmtp and self._recipients and not several(self._client, mail):
            return ONE_RECIPIENT
        self._recipients.append(rcpt)
        return OK

    def finish(self, mail: Mail, body: Body) -> Reply:
        proxy = self._proxy
        proxy.answer_in_time()
        if (refused := proxy.begin(mail)) is not None:
            return refused
        replies = [proxy.recipient(mail, rcpt) for rcpt in self._recipients]
        worst = max(replies, key=lambda reply: reply.code)
        if not worst.positive and not (self._client.listener.protocol == "lmtp" and any(reply.positive for reply in replies)):
            return worst
        for rcpt, reply in zip(self._recipients, replies, strict=True):
            if not reply.positive:
                rcpt.reply = reply
        return proxy.finish(mail, body)

    def commit(self) -> None:
        self._proxy.commit()

    def abandon(self) -> None:
        self._proxy.abandon()

    def close(self) -> None:
        self._proxy.close()
