"""The live hand-off: every stage is mirrored to an upstream server while the client waits, and its reply is our reply.

We never own the mail, so there is nothing to lose: a positive reply is the upstream's, everything else is 4xx or 5xx.
"""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic
from typing import NamedTuple

from smtpproxy.delivery.needs import mail_command, rcpt_command, unkept, unmet
from smtpproxy.delivery.pool import NoUpstream, Pool
from smtpproxy.delivery.smtp import LAST_CHUNK, SmtpClient, TurnedAway, UpstreamLost
from smtpproxy.delivery.upstream import Upstream
from smtpproxy.facts.client import Client
from smtpproxy.facts.mail import Mail
from smtpproxy.facts.recipient import Recipient
from smtpproxy.handoff.identity import IDENTITY_REFUSED, forward_commands, introduce, own_connection, preface
from smtpproxy.handoff.tap import Tap
from smtpproxy.message.body import Body
from smtpproxy.net.deadlines import NEVER, from_now
from smtpproxy.scripting.runner import CALL
from smtpproxy.wire.extensions import Extensions
from smtpproxy.wire.reply import Refusal, Reply

Log = Callable[[str, Client], None]

ONE_RECIPIENT = Reply(452, "4.5.3", "One recipient at a time for this destination")
NO_UPSTREAM = Reply(451, "4.4.1", "No server for this mail can be reached now")
LOST = Reply(451, "4.4.2", "The connection to the next server was lost")
NONSENSE = Reply(451, "4.5.0", "The next server gave an answer that makes no sense")
LAST_WORDS = 2.0
"""Seconds to wait for the reply of a server that has closed on us."""

RECIPIENT_ACCEPTED = frozenset({250, 251, 252})


def several(client: Client, mail: Mail) -> bool:
    """Whether each recipient may have an answer of its own. Binary mail goes by BDAT, and may be refused amid for all."""
    return client.listener.protocol == "lmtp" and not mail.binary


class ProxyOutlet:
    """[handoff.NAME] kind = "proxy"."""

    __slots__ = ("identity", "log", "name", "pool", "proxy_version")
    live = True
    whole = False

    def __init__(self, name: str, pool: Pool, identity: str, log: Log, proxy_version: str = "v2") -> None:
        self.name = name
        self.proxy_version = proxy_version
        self.pool = pool
        self.identity = identity
        self.log = log

    def announced(self) -> Extensions | None:
        return self.pool.announced()

    def open(self, client: Client) -> Proxy:
        return Proxy(self, client)


class _Link(NamedTuple):
    upstream: Upstream
    smtp: SmtpClient
    identity: tuple[object, ...] | None
    """Whose connection it is (XCLIENT, PROXY); None: anybody's."""


class Proxy:
    """One session's upstream connection; with XCLIENT or PROXY it belongs to that client alone until the session ends."""

    __slots__ = ("_begun", "_client", "_due", "_link", "_outlet", "_refused", "_settled", "_several", "_taken", "via")

    def __init__(self, outlet: ProxyOutlet, client: Client) -> None:
        self.via = outlet.name
        self._outlet = outlet
        self._client = client
        self._link: _Link | None = None
        self._due = NEVER
        """When the client must have heard the answer: it has sent everything, and waits ten minutes (RFC 5321 4.5.3.2.6)."""
        self._begun = False
        """The upstream is between MAIL and the end of the message."""
        self._settled = False
        """The reply to MAIL was read."""
        self._refused: Reply | None = None
        """What answers every recipient of this transaction."""
        self._taken: list[Recipient] = []
        self._several = False
        """An LMTP server may be given several recipients: the client hears what became of each."""

    # -- the contract --------------------------------------------------------------------------------------------

    def begin(self, mail: Mail) -> Reply | None:
        return self._start(mail, fresh=False)

    def recipient(self, mail: Mail, rcpt: Recipient) -> Reply:
        if self._refused is not None:
            return self._refused
        try:
            return self._ask(rcpt)
        except UpstreamLost as lost:
            if self._settled or not self._smtp.uses:
                return self._fail(LOST, str(lost))
        # MAIL and RCPT went out on a kept connection that had died meanwhile: once more on a fresh one
        self._drop()
        if (refused := self._start(mail, fresh=True)) is not None:
            return refused
        try:
            return self._ask(rcpt)
        except UpstreamLost as lost:
            return self._fail(LOST, str(lost))

    def finish(self, mail: Mail, body: Body) -> Reply:
        if self._link is None:
            return self._refused or LOST  # the upstream went away at a recipient behind the accepted ones
        smtp = self._smtp
        if body.size >= 0:
            self.answer_in_time()
            smtp.connection.end_at(self._due)
        try:
            if (refused := self._send(mail, body)) is not None:
                return self._fail(NONSENSE, f"DATA: {refused}") if refused.positive else self._passed(refused)
            reply = smtp.end_of_data(LAST_CHUNK if mail.binary else b".")
        except UpstreamLost as lost:
            return self._midstream(lost)
        except BaseException:
            self._drop()  # no dot was sent: the upstream throws away what it has
            raise
        self._begun = mail.binary and not reply.positive  # RFC 3030 2: RSET is due
        return self._final(reply) if len(self._taken) < 2 or not smtp.lmtp else self._final_of_each(reply)

    def answer_in_time(self) -> None:
        """The message is complete: whatever the next server takes its time for, it has no more than for its last answer."""
        if self._due == NEVER:
            self._due = from_now(self._outlet.pool.upstreams[0].timeouts.final)

    def _send(self, mail: Mail, body: Body) -> Reply | None:
        """The message without its end; the upstream's answer if it does not want it."""
        smtp = self._smtp
        if mail.binary:
            return smtp.chunks(body.content())
        reply = smtp.data()
        if reply.code != 354:
            return reply
        smtp.body(body.wire())
        return None

    def commit(self) -> None:
        self._rest()

    def abandon(self) -> None:
        if self._begun:
            try:
                if not self._settled:
                    self._settle()
                at_rest = self._smtp.command(b"RSET").positive
            except UpstreamLost:
                at_rest = False
            if not at_rest:
                self._drop()
        self._rest()

    def close(self) -> None:
        link = self._link
        if link is None:
            return
        if self._begun:
            self._drop()
        else:
            self._link = None
            self._outlet.pool.leave(link.upstream, link.smtp)

    # -- one transaction -----------------------------------------------------------------------------------------

    @property
    def _smtp(self) -> SmtpClient:
        assert self._link is not None
        return self._link.smtp

    def _start(self, mail: Mail, fresh: bool) -> Reply | None:
        self._refused = None
        self._taken = []
        self._several = several(self._client, mail)
        try:
            self._open_transaction(mail, fresh)
        except UpstreamLost as lost:
            if not fresh and self._link is not None and self._smtp.uses:
                self._drop()
                return self._start(mail, fresh=True)
            return self._fail(LOST, str(lost))
        except NoUpstream as none:
            return self._fail(NO_UPSTREAM, str(none))
        except TurnedAway as away:
            return self._fail(away.reply.completed(), str(away))
        except Refusal as refusal:
            return self._fail(refusal.reply, refusal.cause)
        return self._refused

    def _open_transaction(self, mail: Mail, fresh: bool) -> None:
        smtp = self._attach(fresh)
        if self._due < NEVER:
            smtp.connection.end_at(self._due)
        if (lacking := unmet(mail, smtp.extensions)) is not None:
            self._refused = lacking
            return
        commands = forward_commands(self._client, mail, smtp.extensions) if self._outlet.identity == "xforward" else []
        self._begun, self._settled = True, False
        if "PIPELINING" not in smtp.extensions:
            for command in commands:
                self._forwarded(smtp.command(command, "XFORWARD"))
            smtp.send(mail_command(mail, smtp.extensions))
            self._settle()
            return
        for command in (*commands, mail_command(mail, smtp.extensions)):
            smtp.send(command)
        for _ in commands:
            self._forwarded(smtp.reply("XFORWARD", smtp.timeouts.mail))

    def _attach(self, fresh: bool) -> SmtpClient:
        """The connection for this transaction: this client's own, one at rest, or a new one."""
        outlet, client = self._outlet, self._client
        identity = own_connection(client) if outlet.identity in ("xclient", "proxy") else None
        if self._link is not None:
            if not fresh and self._link.identity == identity and self._smtp.connection.quiet():
                return self._smtp
            self._drop()
        said_first = preface(client, outlet.proxy_version) if outlet.identity == "proxy" else None
        upstream, smtp = outlet.pool.take(fresh=fresh or identity is not None, preface=said_first)
        self._link = _Link(upstream, smtp, identity)
        self.via = str(upstream)
        if (call := CALL.get(None)) is not None:
            smtp.tap = Tap(call.trace)
        if identity is not None and said_first is None:
            introduce(client, smtp, self.via)
        return smtp

    def _forwarded(self, reply: Reply) -> None:
        """The reply to XFORWARD."""
        self._closed_at_rest("XFORWARD", reply)
        if not reply.positive:
            raise Refusal(IDENTITY_REFUSED, f"{self.via} refused XFORWARD: {reply}")

    def _closed_at_rest(self, phase: str, reply: Reply) -> None:
        """A 421 on a connection that was kept is about that connection: as good as lost, and tried again."""
        if reply.code == 421 and self._smtp.uses:
            raise UpstreamLost(phase, f"kept connection closed: {reply}")

    def _settle(self) -> None:
        """Read the reply to MAIL."""
        reply = self._smtp.reply("MAIL", self._smtp.timeouts.mail)
        self._closed_at_rest("MAIL", reply)
        self._settled = True
        if reply.code != 250:
            self._refused = self._fail(NONSENSE, f"MAIL: {reply}") if reply.positive else self._passed(reply)

    def _ask(self, rcpt: Recipient) -> Reply:
        smtp = self._smtp
        if smtp.lmtp and self._taken and not self._several:
            return ONE_RECIPIENT
        if rcpt.params and (lacking := unkept(rcpt, smtp.extensions)) is not None:
            return lacking
        smtp.send(rcpt_command(rcpt, smtp.extensions))
        if not self._settled:
            self._settle()
            if self._link is None:
                return LOST if self._refused is None else self._refused
        reply = smtp.reply("RCPT", smtp.timeouts.mail)
        if self._refused is not None:
            return self._refused  # the upstream has refused MAIL; what it says of RCPT then is of no interest
        if reply.positive and reply.code not in RECIPIENT_ACCEPTED:
            return self._fail(NONSENSE, f"RCPT: {reply}")
        if reply.positive:
            self._taken.append(rcpt)
        return self._passed(reply)

    def _final(self, reply: Reply) -> Reply:
        """An answer to the end of the message."""
        return self._fail(NONSENSE, f"end of data: {reply}") if reply.positive and reply.code != 250 else self._passed(reply)

    def _final_of_each(self, first: Reply) -> Reply:
        """LMTP answers for each recipient (RFC 2033 4.2); whoever has none when it hangs up counts as refused for now."""
        replies = [first]
        try:
            while len(replies) < len(self._taken):
                replies.append(self._smtp.final_reply())
        except UpstreamLost as lost:
            self._fail(LOST, str(lost))
        for place, rcpt in enumerate(self._taken):
            rcpt.reply = self._final(replies[place]) if place < len(replies) else LOST
        found = [rcpt.reply for rcpt in self._taken if rcpt.reply is not None]
        return next((reply for reply in found if reply.positive), max(found, key=lambda reply: reply.code))

    # -- replies and ends ----------------------------------------------------------------------------------------

    def _passed(self, reply: Reply) -> Reply:
        """The upstream's reply as ours: unchanged, but for an enhanced code where it has none (RFC 2034)."""
        if reply.code == 421:
            self._drop()  # it closes; the session does the same
            self._refused = reply.completed()
        return reply.completed()

    def _fail(self, reply: Reply, cause: str) -> Reply:
        """Our fault or the upstream's: the peer gets general words, the log the cause."""
        cause = f"{self.via}: {cause}"
        self._outlet.log(cause, self._client)
        if (call := CALL.get(None)) is not None:
            now = monotonic()
            call.trace.upstream("", cause, now, now)
        self._drop()
        self._refused = reply
        return reply

    def _midstream(self, lost: UpstreamLost) -> Reply:
        """The upstream closed while it took the message; a refusal that it left behind is its answer."""
        if lost.phase == "message":
            try:
                reply = self._smtp.reply("message", LAST_WORDS)
            except UpstreamLost:
                pass
            else:
                if not reply.positive:
                    self._drop()
                    return reply.completed()
        return self._fail(LOST, str(lost))

    def _rest(self) -> None:
        """The upstream is between transactions: kept for anybody, unless it carries this client's identity."""
        self._begun = False
        link = self._link
        self._due, due = NEVER, self._due
        if link is None:
            return
        if due < NEVER:
            link.smtp.connection.end_at(NEVER)
        if link.identity is None:
            self._link = None
            link.smtp.tap = None
            self._outlet.pool.keep(link.upstream, link.smtp)
        else:
            link.smtp.uses += 1

    def _drop(self) -> None:
        link, self._link = self._link, None
        self._begun = False
        if link is not None:
            self._outlet.pool.drop(link.upstream, link.smtp)
