"""One mail to one server over a connection at rest: an answer for each recipient.

MAIL and RCPT go out together where the server takes that (RFC 2920). A refusal of MAIL for now is about the server, not about
the mail: the next server is tried.
"""

from __future__ import annotations

from collections.abc import Sequence

from smtpproxy.delivery.needs import Mail, Party, mail_command, rcpt_command, unmet
from smtpproxy.delivery.smtp import SmtpClient, UpstreamLost
from smtpproxy.message.body import Body
from smtpproxy.wire.reply import Reply

AFTER_DOT = "end of data"
"""The phase of an ``UpstreamLost`` from which on nobody knows whether the message was taken (RFC 1047)."""


class TryNext(Exception):
    """The server takes nothing now."""

    def __init__(self, reply: Reply) -> None:
        super().__init__(str(reply))
        self.reply = reply


def transact(client: SmtpClient, mail: Mail, recipients: Sequence[Party], body: Body) -> list[Reply]:
    """What the server said of each recipient in the end: 2xx is delivered, 4xx put off, 5xx refused.

    The connection is at rest then. Raises ``TryNext``, ``UpstreamLost`` and what ``body`` raises: then it is to be closed.
    """
    offered = client.extensions
    if (lacking := unmet(mail, offered, client.lmtp)) is not None:
        return [lacking] * len(recipients)
    replies = _envelope(client, mail, recipients)
    taken = [place for place, reply in enumerate(replies) if reply.positive]
    if not taken:
        _reset(client)
        return replies
    reply = client.data()
    if reply.code != 354:
        if reply.positive:
            raise UpstreamLost("DATA", f"nonsense: {reply}")
        _reset(client)
        finals = [reply] * len(taken)
    else:
        client.body(body.wire())
        finals = _finals(client, len(taken))
    for place, final in zip(taken, finals, strict=True):
        replies[place] = final
    return replies


def _envelope(client: SmtpClient, mail: Mail, recipients: Sequence[Party]) -> list[Reply]:
    """The answers to RCPT; to MAIL where that was refused."""
    offered = client.extensions
    together = "PIPELINING" in offered
    client.send(mail_command(mail, offered))
    if together:
        for rcpt in recipients:
            client.send(rcpt_command(rcpt, offered))
    first = client.reply("MAIL", client.timeouts.mail)
    if not first.positive:
        if first.transient:
            raise TryNext(first)
        for _ in recipients if together else ():
            client.reply("RCPT", client.timeouts.mail)
        return [first] * len(recipients)
    return [_ask(client, rcpt, together) for rcpt in recipients]


def _ask(client: SmtpClient, rcpt: Party, asked: bool) -> Reply:
    if not asked:
        client.send(rcpt_command(rcpt, client.extensions))
    reply = client.reply("RCPT", client.timeouts.mail)
    if reply.code == 421:
        raise TryNext(reply)
    return reply


def _finals(client: SmtpClient, count: int) -> list[Reply]:
    """LMTP answers for each recipient (RFC 2033 4.2)."""
    first = client.end_of_data()
    if not client.lmtp:
        return [first] * count
    finals = [first]
    while len(finals) < count:
        try:
            finals.append(client.final_reply())
        except UpstreamLost as lost:
            client.close()
            finals += [Reply(451, "4.4.2", f"The server hung up: {lost}")] * (count - len(finals))
    return finals


def _reset(client: SmtpClient) -> None:
    if not client.command(b"RSET").positive:
        raise UpstreamLost("RSET", "refused")
