"""The loop: line -> command -> order -> rules -> handler -> reply."""

from __future__ import annotations

from time import monotonic
from typing import TYPE_CHECKING

from gevent import GreenletExit, Timeout

from smtpproxy.facts.client import NOTHING, Client
from smtpproxy.facts.mail import Mail
from smtpproxy.facts.notes import in_short
from smtpproxy.handoff.base import Handoff, Outlet
from smtpproxy.net.connection import NEVER, Connection, ConnectionLost, Expired
from smtpproxy.scripting.observers import observe
from smtpproxy.scripting.runner import CALL, Call, Chain, Chains, decide
from smtpproxy.scripting.table import Table
from smtpproxy.scripting.trace import COMMAND, REPLY, Refusal, Trace
from smtpproxy.scripting.verdict import Verdict
from smtpproxy.session import blame, dialogue, encryption, ending, faults, hop, login, repeats
from smtpproxy.session.commands import COMMANDS, UNKNOWN, Row
from smtpproxy.session.greeting import STOPPING, welcome
from smtpproxy.session.offer import Offer
from smtpproxy.session.services import Entrance, Services, Ticket
from smtpproxy.wire.command import Command, looks_like_http, looks_like_tls, parse
from smtpproxy.wire.lines import LineFlood, LineTooLong
from smtpproxy.wire.order import State, refuse
from smtpproxy.wire.proxyheader import looks_like_proxy
from smtpproxy.wire.reply import Refusal as Refused
from smtpproxy.wire.reply import Reply

if TYPE_CHECKING:
    from smtpproxy.session.chunks import Chunks
    from smtpproxy.session.transaction import Transaction

TOO_MANY_ERRORS = Reply(421, "4.7.0", "Too many errors")
TOO_MUCH_JUNK = Reply(421, "4.7.0", "Too many commands that do nothing")
NOT_SMTP = Reply(421, "4.7.0", "This is an SMTP server")
GIVEN_UP = Reply(421, "4.3.0", "Temporary failure in a rule, closing connection")


class Stopping(Exception):
    """The server goes down while the client is idle."""


class Session:
    """One client, from the greeting until it leaves."""

    __slots__ = (
        "call", "chains", "chunks", "client", "closing", "commands", "connection", "end", "ended", "entrance", "errors",
        "handoffs", "junk", "logins", "mails", "offer", "origin", "over", "refusal", "services", "state", "table", "taken",
        "ticket", "trace", "transaction", "unknown",
    )  # fmt: skip

    def __init__(
        self,
        connection: Connection,
        client: Client,
        entrance: Entrance,
        services: Services,
        ticket: Ticket | None = None,
    ) -> None:
        self.connection = connection
        self.client = client
        self.entrance = entrance
        self.services = services
        self.ticket = ticket
        self.table: Table = services.rules.table
        self.chains: Chains = self.table.chains_for(entrance.facts.name)
        self.trace = Trace(client.id)
        self.trace.table = self.table.hash
        self.call = Call(trace=self.trace, doors=services.doors, client=client)
        self.state = State.CONNECTED
        self.offer: Offer | None = None
        self.transaction: Transaction | None = None
        self.chunks: Chunks | None = None
        """The message that comes by BDAT, while it does."""
        self.handoffs: dict[str, Handoff] = {}
        self.origin: tuple[object, str] | None = None
        """The beginning of its Received fields, and what that was made of."""
        self.commands = 0
        self.logins: login.Logins | None = None
        self.mails = 0
        self.errors = 0
        self.unknown = 0
        self.junk = 0
        self.refusal: Reply | None = None
        """What a rule answered at on_connect: the answer to everything but QUIT (RFC 5321 3.1)."""
        self.closing = False
        self.taken: repeats.Taken | None = None
        """The last mail that was answered 250."""
        self.over: Mail | None = None
        """The mail whose transaction has just ended, until its story was told."""
        self.ended = ""
        """How, for the log: see ``ending.py``."""
        timeouts = services.limits.timeouts
        self.end = connection.now() + timeouts.session if timeouts.session else NEVER
        self.within(timeouts.greeting)

    # -- the dialogue --------------------------------------------------------------------------------------------

    def run(self) -> None:
        """Serve until the client leaves or is told to; never raises for anything that a client or a rule can do."""
        CALL.set(self.call)
        try:
            self._converse()
        except Expired as expired:
            self._last_words(ending.too_late(self, expired))
        except Stopping:
            self._last_words(STOPPING)
        except ConnectionLost:
            self.ended = ending.LOST
        except LineFlood:
            self._last_words(login.COMMAND_TOO_LONG)
        except GreenletExit:  # nobody of ours ends a session so: a rule does
            self._last_words(GIVEN_UP)
        finally:
            self._end()

    def abandon(self) -> None:
        """A rule holds this session's greenlet for good: tell the client and end, in another one."""
        CALL.set(self.call)
        try:
            self._last_words(GIVEN_UP)
        finally:
            self._end()

    def stop(self) -> None:
        """The server goes down: an idle client is told so now, a busy one at its next transaction (RFC 5321 3.8)."""
        if self.transaction is None:
            self.connection.interrupt(Stopping())

    def _converse(self) -> None:
        connection, entrance = self.connection, self.entrance
        if entrance.proxy_from and self.client.connected_address in entrance.proxy_from and not hop.announced(self):
            return
        encrypted = entrance.tls_implicit
        if encrypted and not encryption.shake_hands(self, connection.lines.rest()):
            return
        self.answer(welcome(self))
        if not self.closing and not encrypted:
            first = ending.first_octets(self)
            if looks_like_tls(first) or looks_like_http(first.split(b"\n", 1)[0].rstrip(b"\r")):
                self.answer(NOT_SMTP)
            elif looks_like_proxy(first):
                hop.refuse(self, hop.NO_STRANGERS, "a stranger has sent one")
            connection.lines.feed(first)
        while not self.closing:
            self.turn()
            if self.transaction is None and self.services.stopping() and not len(connection.lines):
                self.answer(STOPPING)
        connection.flush()

    def turn(self) -> None:
        """One line of the client's, and its answer."""
        try:
            line = self.connection.read_line()
        except LineTooLong as dropped:
            self.answer(login.too_long(self, dropped.beginning))
        except Timeout as late:
            ending.left_behind(self, late)
        else:
            self._perform(line)

    def within(self, seconds: float) -> None:
        """What comes next may take so long in all, whatever each wait may (0: no such limit); never longer than the session."""
        moment = self.connection.now() + seconds if seconds else NEVER
        self.connection.end_at(moment if moment < self.end else self.end)

    def _perform(self, line: bytes) -> None:
        self.commands += 1
        command: Command | None = None
        try:
            command = parse(line)
            now = monotonic()
            told = line if self.logins is None and command.verb != "AUTH" else login.told(self, command)
            self.trace.append((COMMAND, now, now, told, None))
            if self.services.dialogue:
                dialogue.said(self, told)
            reply = self.execute(command)
        except Refused as refused:
            hidden = command is None and login.unreadable(self, line)
            reply = self.refused(refused.reply, "unreadable command" if hidden else refused.cause)
        except (ConnectionLost, Expired, LineFlood, Stopping):
            raise
        except (Exception, Timeout):  # a gevent.Timeout that a rule has left behind
            reply = faults.answer(self)
        if reply is not None:
            self.answer(reply)
        if self.over is not None:
            self._tell()

    def _tell(self) -> None:
        mail, self.over = self.over, None
        if self.services.story is not None:
            self.services.story(self.trace, mail)
        self.keep_trace(mail)

    def keep_trace(self, mail: Mail | None) -> None:
        """The mail, or without one a part of the session, is over: whoever keeps traces takes it if it is worth it."""
        if self.services.traces is not None and (mail is not None or self.trace.remarkable):
            self.services.traces.keep(self.trace, self.client, mail, over=True)
        self.trace.told()

    def execute(self, command: Command) -> Reply | None:
        """What one command comes to; None: its answer comes later, or was given."""
        row = COMMANDS.get(command.verb, UNKNOWN)
        if row.ends and self.chunks is not None:
            self.chunks.command = command
            return None
        refused = self._refuse(command, row)
        if refused is None:
            return row.handler(self, command)
        return refused if row.refuse is None else row.refuse(self, command, refused)

    def _refuse(self, command: Command, row: Row) -> Reply | None:
        """The refusal of what does not get as far as its handler."""
        verb = command.verb
        self.refresh()
        if self.refusal is not None and verb != "QUIT":
            return self.refusal
        if row.junk and (idle := self.idle()) is not None:
            return idle
        if (self.chains.observed or self.chains.on_command) and (answered := login.show(self, command)) is not None:
            return answered
        if self.entrance.tls_required and (in_the_clear := encryption.missing(self, verb)) is not None:
            return in_the_clear
        if row.ordered and (out_of_order := refuse(verb, self.state)) is not None:
            return out_of_order
        if row.begins and self.services.stopping():
            return STOPPING
        return None

    def idle(self) -> Reply | None:
        """One more command that does nothing for the mail; the answer when there were too many."""
        self.junk += 1
        return TOO_MUCH_JUNK if 0 < self.services.limits.junk_commands < self.junk else None

    def answer(self, reply: Reply) -> None:
        """Queue ``reply``; count it when it refuses, hang up when it is a 421 (RFC 5321 3.8)."""
        self.say(reply)
        if reply.code >= 400:
            self.count_error(reply)

    def say(self, reply: Reply) -> None:
        """Queue ``reply``, whatever it means."""
        self.connection.write(bytes(reply))
        now = monotonic()
        self.trace.append((REPLY, now, now, reply, None))
        if self.services.dialogue:
            dialogue.answered(self, reply)

    def count_error(self, reply: Reply) -> None:
        self.errors += 1
        self.client.errors += 1
        if reply.code == 421 or self.closing:
            self.closing = True
            self.ended = str(reply)
        elif 0 < self.services.limits.errors < self.errors or 0 < self.services.limits.unknown_commands < self.unknown:
            self.answer(TOO_MANY_ERRORS)

    # -- rules ---------------------------------------------------------------------------------------------------

    def refresh(self) -> None:
        """Take the newest rules, unless what is running now is pinned to the ones it began with."""
        services = self.services
        table = services.rules.table
        if table is not self.table and services.pin != "session" and (self.transaction is None or services.pin == "hook"):
            self.table = table
            self.trace.table = table.hash
            self.chains = table.chains_for(self.entrance.facts.name)

    def decide(self, chain: Chain, *arguments: object) -> Reply | None:
        """Run a chain; the reply if it refuses. A rule's ``accept`` is of interest to those who call ``scripting`` itself."""
        verdict = decide(self.chains, chain, self.call, *arguments)
        if verdict is None or not verdict.refusal:
            return None
        reply = verdict.reply()
        self.note_verdict(verdict, reply)
        return reply

    def note_verdict(self, verdict: Verdict, reply: Reply, recipient: object = None) -> None:
        """A rule refused: log it, tell those who look on, hang up if it said so."""
        by = f"rule {verdict.rule}:{verdict.line}" if verdict.line else f"rule {verdict.rule}"
        self._note_refusal(blame.of_rule(self.trace, verdict, reply, _text(recipient)), by)
        self.watch("watch_deny", self.client, self.call.mail, verdict)
        if verdict.hang_up:
            self.closing = True
            self.ended = str(reply)

    def watch(self, hook: str, *arguments: object) -> None:
        """Tell those who look on; they run in the background, after the reply."""
        if self.chains.observed:
            observe(self.chains, hook, self.call, *arguments)

    # -- refusals ------------------------------------------------------------------------------------------------

    def refused(self, reply: Reply, cause: str = "", recipient: object = None) -> Reply:
        """Log a refusal of the core's and tell those who look on; gives the reply back."""
        self._note_refusal(blame.of_core(reply, cause or str(reply), _text(recipient)), cause or "core")
        self.watch("watch_refused", self.client, self.call.mail, reply)
        return reply

    def handed_back(self, reply: Reply, name: str, recipient: object = None) -> Reply:
        """A hand-off refused: log it and tell those who look on; gives the reply back."""
        via = self.handoffs[name].via if name in self.handoffs else name
        refusal = blame.of_handoff(self.trace, name, via, reply, _text(recipient))
        self._note_refusal(refusal, f"upstream {via}" if refusal.by == "upstream" else f"hand-off {name}")
        self.watch("watch_refused", self.client, self.call.mail, reply)
        return reply

    def _note_refusal(self, refusal: Refusal, by: str) -> None:
        if refusal.to:
            self.client.recipients_refused += 1
        transaction = self.transaction
        mail: Mail | None = transaction.mail if transaction is not None else None
        client = self.client
        fields = {"id": mail.id if mail is not None else client.id, "client": client.address, "helo": client.helo}
        if mail is not None:
            fields["from"] = str(mail.sender)
        if found := in_short(client, mail):
            fields["results"] = found
        self.services.log("refused", **fields, to=refusal.to, reply=refusal.reply, by=by, rules=self.table.hash)
        self.trace_refusal(refusal)

    def trace_refusal(self, refusal: Refusal) -> None:
        """Why somebody was refused, for `smtpproxy explain`, which may ask while the client is still here."""
        self.trace.refusal(refusal)
        if self.services.traces is not None:
            self.services.traces.keep(self.trace, self.client, self.call.mail, over=False)

    def _last_words(self, reply: Reply) -> None:
        self.connection.timeout = 1.0
        self.answer(reply)

    # -- hand-offs and transactions --------------------------------------------------------------------------------

    def handoff(self, outlet: Outlet) -> Handoff:
        """This session's use of ``outlet``, opened at the first need."""
        handoff = self.handoffs.get(outlet.name)
        if handoff is None:
            handoff = self.handoffs[outlet.name] = outlet.open(self.client)
        return handoff

    def end_transaction(self) -> None:
        """Give up what is running, if anything is: RSET, a new greeting, a refusal, a hang-up."""
        transaction, self.transaction = self.transaction, None
        if self.state > State.GREETED:
            self.state = State.GREETED
        if self.client.forwarded:
            self.client.forwarded = NOTHING  # it spoke of this mail only
        if transaction is None:
            return
        transaction.abandon()
        if not transaction.committed:
            if self.chains.on_reset:
                decide(self.chains, self.chains.on_reset, self.call, transaction.mail)
            self.watch("watch_reset", transaction.mail)
        self.call.mail = None
        self.over = transaction.mail
        self.within(self.services.limits.timeouts.greeting)

    def _end(self) -> None:
        try:
            self.end_transaction()
            self._tell() if self.over is not None else self.keep_trace(None)
            for handoff in self.handoffs.values():
                handoff.close()
            repeats.remember(self)
            self.refresh()
            if self.chains.on_disconnect:
                decide(self.chains, self.chains.on_disconnect, self.call, self.client)
            self.watch("watch_disconnect", self.client)
        finally:
            self.connection.finish()
            ending.log(self)


def _text(recipient: object) -> str:
    return "" if recipient is None else str(recipient)
