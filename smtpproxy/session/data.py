"""DATA (RFC 5321 4.1.1.4): read the message, ask the rules, hand it on, answer for it."""

from __future__ import annotations

from time import monotonic
from typing import TYPE_CHECKING

from gevent import Timeout

from smtpproxy.facts.mail import Mail
from smtpproxy.facts.missing import put
from smtpproxy.facts.notes import in_short
from smtpproxy.facts.recipient import Recipient
from smtpproxy.message.body import Body
from smtpproxy.message.edits import Ledger
from smtpproxy.message.rendering import Untouched
from smtpproxy.message.trace import protocol_name, received_from, received_line
from smtpproxy.net.connection import ConnectionLost, Expired
from smtpproxy.scripting.trace import EDIT
from smtpproxy.session import each, faults, submission
from smtpproxy.session.blame import of_handoff
from smtpproxy.session.finish import hand_on, hand_on_copies, renderings
from smtpproxy.session.intake import Arriving, Dotted, Intake, Interrupted
from smtpproxy.session.repeats import Taken, earlier
from smtpproxy.session.room import NO_ROOM
from smtpproxy.session.verdicts import ask, of_recipients
from smtpproxy.wire.command import Command
from smtpproxy.wire.reply import Refusal, Reply

if TYPE_CHECKING:
    from smtpproxy.session.session import Session
    from smtpproxy.session.transaction import Part, Transaction

GO_AHEAD = Reply(354, "", "End data with <CR><LF>.<CR><LF>")
NO_ARGUMENT = Reply(501, "5.5.4", "Syntax: DATA")
NEEDS_BDAT = Reply(503, "5.5.1", "BODY=BINARYMIME needs BDAT")
NOBODY_LEFT = Reply(554, "5.5.1", "No valid recipients")


def data(session: Session, command: Command) -> Reply | None:
    if command.octets:
        return NO_ARGUMENT
    transaction = session.transaction
    assert transaction is not None
    if transaction.mail.binary:
        return NEEDS_BDAT  # RFC 3030 3
    each.expect(transaction)
    if session.chains.on_data and (refused := ask(session, session.chains.on_data, transaction.mail)) is not None:
        return refused
    if lacking := session.services.room.lacks(transaction.mail.size_declared or 0):
        return session.refused(NO_ROOM, lacking)
    session.watch("watch_data", transaction.mail)
    session.answer(GO_AHEAD)
    intake = Dotted(session.connection, session.services.limits, session.entrance.normalize, session.end)
    return receive(session, transaction, intake)


def receive(session: Session, transaction: Transaction, intake: Intake) -> Reply | None:
    """The message, to the end of its transaction; the reply to it, or to the part of it that is refused.

    None: each recipient was answered for.
    """
    try:
        reply = _message(session, transaction, intake)
    except Refusal as refusal:
        reply = session.refused(refusal.reply, refusal.cause)
    except (ConnectionLost, Expired, Interrupted):
        raise
    except (Exception, Timeout):  # a gevent.Timeout that a rule has left behind
        reply = faults.answer(session)
    if not intake.ended and not (session.entrance.drains and intake.drain()):
        session.closing = True
    session.end_transaction()
    return each.answered(session, transaction, reply) if intake.last else reply


def _message(session: Session, transaction: Transaction, intake: Intake) -> Reply:
    """From the first octet to the answer; raises ``Refusal`` for what is wrong with the message itself."""
    intake.read_head()
    body = Arriving(intake, session.connection)
    chains = session.chains
    ledger: Ledger | None = None
    if chains.on_header or chains.on_message or chains.on_route or chains.observed or session.entrance.submission:
        ledger = Ledger(body, intake.header(), session.services.room.budget)
        if session.entrance.submission:
            submission.complete(session, ledger, transaction.mail.id)
    refused = _ask_rules(session, transaction, ledger, body, intake) if ledger is not None else None
    if refused is not None:
        return refused
    mail = transaction.mail
    copied = mail.copied
    if (transaction.changed or copied) and (refused := _settle(session, transaction, copied)) is not None:
        return refused
    parts = transaction.parts
    if not parts:
        return session.refused(NOBODY_LEFT, "rules have removed every recipient")
    if len(parts) > 1 or parts[-1].outlet.whole:
        _store(session, body)
    top = _received(session, transaction)
    if ledger is None:
        rendered: Body = Untouched(body, top)
    else:
        _trace_edits(session, ledger, mail)
        ledger.close()
        rendered = ledger.render(top)
    part, reply = _hand_on(session, transaction, parts, rendered, top)
    transaction.committed = reply.positive
    if reply.positive:
        session.taken = _taken(session, transaction, intake)
        session.trace.accepted = (part.handoff.via if len(parts) == 1 else ", ".join(p.handoff.via for p in parts), reply)
    else:
        session.trace_refusal(of_handoff(session.trace, part.outlet.name, part.handoff.via, reply, ""))
    _tell(session, transaction, parts[-1].handoff.via, intake.size, reply)
    return reply


def _hand_on(
    session: Session, transaction: Transaction, parts: list[Part], body: Body, top: bytes
) -> tuple[Part, Reply]:
    mail = transaction.mail
    if transaction.promised is not None:
        part, reply = each.hand_on_each(session, parts, mail, renderings(mail, body, top))
        if reply.positive:
            each.note_refused(session, parts)
        return part, reply
    if mail.copied:
        return hand_on_copies(session, parts, mail, body, top)
    return hand_on(session, parts, mail, body)


def _settle(session: Session, transaction: Transaction, copied: bool) -> Reply | None:
    """What rules have made of the envelope reaches the hand-offs; the answer where a rule or a hand-off refuses that."""
    mail, steps = transaction.mail, [transaction.divide] if copied else []
    if transaction.changed:
        chains = session.chains
        if (reply := of_recipients(session, (*chains.on_mail, *chains.on_rcpt), mail)) is not None:
            return reply
        steps.insert(0, transaction.begin_again)
    for step in steps:
        refused = step()
        if refused and (reply := _without(session, transaction, refused)) is not None:
            return reply
    return None


def _without(session: Session, transaction: Transaction, refused: list[tuple[Recipient, Reply]]) -> Reply | None:
    """Recipients that were told 250 are refused: the answer to all, unless the mail can go on without them."""
    if transaction.promised is None:
        rcpt, reply = max(refused, key=lambda found: found[1].code)
        return session.handed_back(reply, transaction.route(rcpt), rcpt)
    for rcpt, reply in refused:
        session.handed_back(reply, transaction.route(rcpt), rcpt)
    return each.leave_out(transaction.mail, refused)


def _ask_rules(
    session: Session, transaction: Transaction, ledger: Ledger, body: Arriving, intake: Intake
) -> Reply | None:
    chains, mail = session.chains, transaction.mail
    mail.arrived(ledger, complete=False)
    if chains.on_header and (refused := ask(session, chains.on_header, mail)) is not None:
        return refused
    session.watch("watch_header", mail)
    if not (chains.on_message or chains.on_route or chains.observed):
        return None
    _store(session, body)
    mail.arrived(ledger, complete=True)
    taken = _taken(session, transaction, intake)  # not what they belong to: it would live until the next collection
    put(mail, "_earlier", lambda: earlier(session, taken))
    if chains.on_message and (refused := ask(session, chains.on_message, mail)) is not None:
        return refused
    if chains.on_route and (refused := ask(session, chains.on_route, mail)) is not None:
        return refused
    session.watch("watch_route", mail)
    return None


def _taken(session: Session, transaction: Transaction, intake: Intake) -> Taken:
    return Taken(transaction.mail.id, transaction.given, intake.head, intake.size, session.commands)


def _trace_edits(session: Session, ledger: Ledger, mail: Mail) -> None:
    now = monotonic()
    for op in ledger.ops:
        session.trace.append((EDIT, now, now, op, None))
    for copy in mail.copies:
        for op in copy.own_ops:
            session.trace.append((EDIT, now, now, op, copy))


def _store(session: Session, body: Arriving) -> None:
    try:
        body.store(session.services.limits.message_memory, session.services.spool, session.services.room.budget)
    except (ConnectionLost, Expired):
        raise
    except OSError as error:
        raise Refusal(NO_ROOM, str(error)) from None


def _received(session: Session, transaction: Transaction) -> bytes:
    mail, recipients = transaction.mail, transaction.mail.recipients
    recipient = recipients[0].path if len(recipients) == 1 else None
    return received_line(_origin(session, mail), id=mail.id, recipient=recipient, date=session.services.clock.date())


def _origin(session: Session, mail: Mail) -> str:
    """Who has sent it and how, in the words of a Received field; made once for all mails of a session that are alike."""
    client = session.client
    name = client.name if client.name_known else None
    known = (name, client.address, client.helo, client.esmtp, client.tls, client.login, mail.smtputf8)
    if session.origin is None or session.origin[0] != known:
        tls = client.tls
        protocol = protocol_name(
            esmtp=client.esmtp,
            tls=tls is not None,
            login=client.login is not None,
            utf8=mail.smtputf8,
            lmtp=session.entrance.lmtp,
        )
        text = received_from(
            client_name=name,
            client_address=client.address,
            helo=client.helo,
            hostname=session.entrance.hostname,
            protocol=protocol,
            tls=None if tls is None else str(tls),
        )
        session.origin = known, text
    return session.origin[1]


def _tell(session: Session, transaction: Transaction, via: str, size: int, reply: Reply) -> None:
    """Log and observers; whatever goes wrong here, the answer stands: what was committed must not be sent again."""
    try:
        if reply.positive:
            session.errors = 0
            client = session.client
            put(client, "mails", client.mails + 1)
            put(client, "octets", client.octets + size)
            session.watch("watch_message", transaction.mail)
        else:
            session.watch("watch_refused", session.client, transaction.mail, reply)
        _log(session, transaction, via, size, reply)
    except Exception:
        faults.log(session)


def _log(session: Session, transaction: Transaction, via: str, size: int, reply: Reply) -> None:
    mail, client = transaction.mail, session.client
    more: dict[str, object] = {}
    recipients = each.delivered(mail) if transaction.promised and reply.positive else mail.recipients
    if client.tls is not None:
        more["tls"] = client.tls.version
    if client.login is not None:
        more["login"] = client.login
    if found := in_short(client, mail):
        more["results"] = found
    if mail.copied:
        more["copies"] = [*mail.copied_to, *map(str, mail.copies)]
    session.services.log(
        "message",
        id=mail.id,
        client=client.address,
        helo=client.helo,
        **{"from": mail.sender.path},
        to=[rcpt.path for rcpt in recipients],
        size=size,
        via=via,
        reply=str(reply),
        ms=int((monotonic() - transaction.began) * 10_000) / 10,
        rules=session.table.hash,
        **more,
    )
