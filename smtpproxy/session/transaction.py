"""MAIL, RCPT, RSET (RFC 5321 3.3), relay permission, and which hand-off takes which recipient."""

from __future__ import annotations

from collections.abc import Iterator
from time import monotonic
from typing import TYPE_CHECKING

from smtpproxy.facts.copies import Copy
from smtpproxy.facts.mail import Mail
from smtpproxy.facts.missing import put
from smtpproxy.facts.recipient import Recipient, Sender
from smtpproxy.handoff.base import Handoff, Outlet
from smtpproxy.scripting.runner import decide
from smtpproxy.session import submission
from smtpproxy.session.login import LOG_IN, misused
from smtpproxy.session.room import NO_ROOM
from smtpproxy.session.verdicts import against
from smtpproxy.wire.address import Address, has_route
from smtpproxy.wire.command import Command, check_parameters, parse_mail, parse_rcpt
from smtpproxy.wire.order import State
from smtpproxy.wire.reply import Refusal, Reply

if TYPE_CHECKING:
    from smtpproxy.session.session import Session

SENDER_OK = Reply(250, "2.1.0", "Ok")
RESET = Reply(250, "2.0.0", "Ok")
NO_ARGUMENT = Reply(501, "5.5.4", "Syntax: RSET")
TOO_BIG = Reply(552, "5.3.4", "The message is larger than is taken here")
TOO_MANY_RECIPIENTS = Reply(452, "4.5.3", "Too many recipients")
TOO_MANY_MESSAGES = Reply(421, "4.7.0", "Enough messages for one connection; make another")
ANOTHER_TRANSACTION = Reply(452, "4.5.3", "This recipient goes another way; send it the message separately")
NOT_ASCII = Reply(501, "5.5.4", "ORCPT is not ASCII, which needs SMTPUTF8")
NO_SUCH_HANDOFF = Reply(451, "4.3.5", "Mail for this recipient cannot be routed now")


class Transaction:
    """One mail on its way through a session, and the hand-offs that take part in it."""

    __slots__ = ("_more", "_parts", "began", "committed", "given", "mail", "promised", "session")

    def __init__(self, session: Session, mail: Mail) -> None:
        self.session = session
        self.mail = mail
        self.began = monotonic()
        self.committed = False
        self.given = [mail.sender.path]
        """The sender and the recipients that were accepted, as the client has named them."""
        self.promised: list[Recipient] | None = [] if session.entrance.lmtp else None
        """In LMTP the recipients that were accepted: each is answered for in the end."""
        self._parts: dict[str, Part] = {}
        self._more: list[Part] = []
        """Those for copies, each with a hand-off of its own."""

    @property
    def parts(self) -> list[Part]:
        """The hand-offs that took at least one recipient, the durable ones first: they hold what the live one decides."""
        parts = [part for part in (*self._parts.values(), *self._more) if part.recipients]
        return sorted(parts, key=lambda part: part.outlet.live) if len(parts) > 1 else parts

    @property
    def changed(self) -> bool:
        """Rules have made the envelope another one than the hand-offs know."""
        for rcpt in self.mail.recipients:
            if not rcpt.settled or rcpt.changes:
                return True
        return self.mail.revision > 0

    def route(self, rcpt: Recipient) -> str:
        """The name of the hand-off that takes ``rcpt``: a failed rule's quarantine takes the whole mail."""
        return self.mail.held or rcpt.via or self.mail.via or self.session.entrance.handoff

    def hand_over(self, rcpt: Recipient) -> Reply:
        """Offer ``rcpt`` to its hand-off, which begins with it if it is the first one; its reply is the recipient's."""
        session, mail = self.session, self.mail
        outlet = self._outlet(self.route(rcpt))
        part = self._parts.get(outlet.name)
        if outlet.live and self.promised is None and self._other_live(part):
            return ANOTHER_TRANSACTION
        if part is None:
            self._parts[outlet.name] = part = Part(outlet, session.handoff(outlet))
            part.begin(mail)
            put(mail, "begun", True)
        return part.offer(mail, rcpt)

    def _other_live(self, part: Part | None) -> bool:
        return any(other.outlet.live and other.recipients for other in self._parts.values() if other is not part)

    def parted(self, rcpt: Recipient) -> bool:
        """``rcpt`` gets another copy than those before it, and a live hand-off carries one at a time."""
        part = self._parts.get(self._outlet(self.route(rcpt)).name) if self.promised is None else None
        return part is not None and part.outlet.live and any(other.copy is not rcpt.copy for other in part.recipients)

    def divide(self) -> list[tuple[Recipient, Reply]]:
        """Rules have made copies: each begins anew, in a hand-off of its own; the refusals are returned."""
        refused = [found for part in list(self._parts.values()) for found in self._divided(part)]
        for name in self.mail.copied_to:
            outlet = self._outlet(name)
            if outlet.live:
                raise Refusal(NO_SUCH_HANDOFF, f"a rule has a copy made at the hand-off {name!r}, which keeps no mail")
            part = self._another(outlet)
            part.aside = True
            refused += self._begun(part, list(self.mail.recipients))
        return refused

    def _divided(self, part: Part) -> Iterator[tuple[Recipient, Reply]]:
        """Refusals of a part's recipients, when it has those of several copies."""
        by_copy: dict[Copy | None, list[Recipient]] = {}
        for rcpt in sorted(part.recipients, key=lambda rcpt: rcpt.copy is not None):
            by_copy.setdefault(rcpt.copy, []).append(rcpt)
        if len(by_copy) == 1:
            part.copy = part.recipients[0].copy
        elif by_copy:
            part.handoff.abandon()
            for number, (copy, recipients) in enumerate(by_copy.items()):
                each = self._another(part.outlet) if number else part
                each.copy = copy
                yield from self._begun(each, recipients)

    def _another(self, outlet: Outlet) -> Part:
        """One more use of a way out, for this transaction alone."""
        self._more.append(Part(outlet, outlet.open(self.session.client)))
        return self._more[-1]

    def _begun(self, part: Part, recipients: list[Recipient]) -> list[tuple[Recipient, Reply]]:
        """Begin with these recipients; those that were refused."""
        part.recipients = []
        part.begin(self.mail)
        return [(rcpt, reply) for rcpt in recipients if not (reply := part.offer(self.mail, rcpt)).positive]

    def _outlet(self, name: str) -> Outlet:
        """The way out of this name, or to a server that a rule chose by its address; raises ``Refusal``."""
        services = self.session.services
        outlet = services.outlets.get(name)
        if outlet is not None:
            return outlet
        if ":" not in name or services.server is None:
            raise Refusal(NO_SUCH_HANDOFF, f"a rule chose the hand-off {name!r}, which is not configured")
        try:
            return services.server(name, self.session.entrance.handoff)
        except ValueError as wrong:
            raise Refusal(NO_SUCH_HANDOFF, f"a rule chose a server: {wrong}") from None

    def begin_again(self) -> list[tuple[Recipient, Reply]]:
        """The envelope is another one since hand-offs began: all of it once more; the refusals are returned.

        Those recipients were told 250. Where partial delivery is not allowed, nothing is committed then.
        """
        self.abandon()
        self._parts.clear()
        return [(rcpt, reply) for rcpt in list(self.mail.recipients) if not (reply := self.hand_over(rcpt)).positive]

    def abandon(self) -> None:
        """Undo whatever was not committed; of a committed mail, the hand-offs that refused all their recipients."""
        for part in (*self._parts.values(), *self._more):
            if not (self.committed and part.recipients):
                part.handoff.abandon()
        for part in self._more:
            part.handoff.close()


class Part:
    """One hand-off's share of a transaction."""

    __slots__ = ("aside", "copy", "handoff", "outlet", "recipients", "refused")

    def __init__(self, outlet: Outlet, handoff: Handoff) -> None:
        self.outlet = outlet
        self.handoff = handoff
        self.copy: Copy | None = None
        """What it takes instead of the mail."""
        self.aside = False
        """It keeps a copy of what others deliver."""
        self.recipients: list[Recipient] = []
        self.refused: Reply | None = None
        """Its answer to MAIL, when that was a refusal: the answer to every recipient (as Postfix does)."""

    def begin(self, mail: Mail) -> None:
        """Begin the transaction there."""
        self.refused = _refusal(self.handoff.begin(mail))

    def offer(self, mail: Mail, rcpt: Recipient) -> Reply:
        """The answer for one recipient."""
        if self.refused is not None:
            return self.refused
        reply = self.handoff.recipient(mail, rcpt)
        if reply.positive:
            self.recipients.append(rcpt)
        return reply


def _refusal(reply: Reply | None) -> Reply | None:
    return reply if reply is not None and not reply.positive else None


# -- commands --------------------------------------------------------------------------------------------------------


def mail(session: Session, command: Command) -> Reply:
    offer = session.offer
    assert offer is not None
    envelope = parse_mail(command.octets, offer.utf8)
    params = envelope.params
    size = 0
    if params:
        check_parameters(params, offer.mail_parameters)
        size = int(params.get("SIZE") or 0)
        if 0 < offer.size < size:
            return session.refused(TOO_BIG, f"SIZE={size}")
    if (refused := _unwelcome(session, envelope.address)) is not None:
        return refused
    if lacking := session.services.room.lacks(size):
        return session.refused(NO_ROOM, lacking)
    session.mails += 1
    mail = Mail(
        f"{session.client.id}.{session.mails}",
        session.client,
        Sender(envelope.address, params),
        params,
    )
    session.keep_trace(None)
    session.trace.begin()
    session.transaction = Transaction(session, mail)
    session.within(session.services.limits.timeouts.transaction)
    session.call.mail = mail
    session.state = State.MAIL
    if session.chains.on_mail and (refused := session.decide(session.chains.on_mail, mail, mail.sender)) is not None:
        session.end_transaction()
        return refused
    session.watch("watch_mail", mail, mail.sender)
    return SENDER_OK


def _unwelcome(session: Session, sender: Address) -> Reply | None:
    """The refusal of a mail for who sends it, and how many there were."""
    if session.entrance.auth_required and session.client.login is None:
        return session.refused(LOG_IN, "[listener] auth_required")
    if session.logins is not None and (refused := misused(session, str(sender))) is not None:
        return refused
    if session.entrance.submission and (refused := submission.unwelcome(session.client, sender)) is not None:
        return session.refused(refused, "[listener] submission")
    if 0 < session.services.limits.messages <= session.mails:
        return session.refused(TOO_MANY_MESSAGES, "[limits] messages")
    return None


def rcpt(session: Session, command: Command) -> Reply:
    offer, transaction = session.offer, session.transaction
    assert offer is not None and transaction is not None
    mail = transaction.mail
    envelope = parse_rcpt(command.octets, mail.smtputf8)
    params = envelope.params
    if params:
        check_parameters(params, offer.rcpt_parameters)
        if not mail.smtputf8 and not (params.get("ORCPT") or "").isascii():
            return NOT_ASCII
    if session.entrance.submission and (partial := submission.unqualified(envelope.address, "5.1.2")) is not None:
        return session.refused(partial, "[listener] submission", envelope.address)
    if 0 < session.services.limits.recipients <= len(mail.recipients):
        return session.refused(TOO_MANY_RECIPIENTS, "[limits] recipients")
    rcpt = Recipient(envelope.address, params)
    granted, text = False, ""
    chain = session.chains.on_rcpt
    if chain:
        verdict = decide(session.chains, chain, session.call, mail, rcpt)
        if verdict is not None:
            if verdict.refusal:
                reply = verdict.reply()
                session.note_verdict(verdict, reply, rcpt)
                return reply
            granted, text = verdict.relay, verdict.text
        if rcpt.verdict is not None and (refused := against(session, chain, rcpt)) is not None:
            return refused
    if not (granted or _may_relay(session, rcpt)):
        return session.refused(Reply(554, "5.7.1", f"<{rcpt}>: Relay access denied"), _no_relaying(session, rcpt), rcpt)
    apart = mail.copies and transaction.parted(rcpt)
    reply = ANOTHER_TRANSACTION if apart else transaction.hand_over(rcpt)
    if not reply.positive:
        return session.handed_back(reply, transaction.route(rcpt), rcpt)
    mail.accepted(rcpt, reply)
    transaction.given.append(envelope.address.path)
    if transaction.promised is not None:
        transaction.promised.append(rcpt)
    session.state = State.RCPT
    session.watch("watch_rcpt", mail, rcpt)
    return Reply(250, "2.1.5", text) if text else reply


def _may_relay(session: Session, rcpt: Recipient) -> bool:
    """Core, whatever rules said: our domains, our clients, those who logged in, those to whom a rule granted it."""
    relaying, client = session.services.relaying, session.client
    return (
        (rcpt.domain in relaying.domains and not has_route(rcpt.local_part))
        or rcpt.relay
        or not rcpt.domain  # <postmaster>: RFC 5321 4.5.1
        or client.relay
        or client.login is not None
        or client.trusted
    )


def _no_relaying(session: Session, rcpt: Recipient) -> str:
    """Why not, for the log and for `explain`."""
    if rcpt.domain in session.services.relaying.domains:
        return f"relaying: {rcpt.domain} may be sent to, but {rcpt.local_part} can be read as an address elsewhere (%, !, @)"
    return (
        f"relaying: {rcpt.domain} is not in [relaying] domains, {session.client.address} not in [relaying] networks, "
        "and no rule has granted it"
    )


def rset(session: Session, command: Command) -> Reply:
    if command.octets:
        return NO_ARGUMENT
    session.end_transaction()
    return RESET
