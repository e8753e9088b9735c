"""An answer for each recipient: what sets an LMTP listener apart (RFC 2033 4.2).

Every hand-off decides for its own recipients, and one that is refused takes nothing from the others: no answer has to stand
for two fates. `rcpt.reply` is what became of a recipient; None means what became of the mail.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from smtpproxy.facts.copies import Copy
from smtpproxy.facts.mail import Mail
from smtpproxy.facts.recipient import Recipient
from smtpproxy.handoff.base import not_kept
from smtpproxy.message.body import Body
from smtpproxy.session import faults
from smtpproxy.session.finish import BROKEN, present
from smtpproxy.wire.reply import Reply

if TYPE_CHECKING:
    from smtpproxy.session.session import Session
    from smtpproxy.session.transaction import Part, Transaction

Refused = tuple[Recipient, Reply]


def leave_out(mail: Mail, refused: Iterable[Refused]) -> Reply | None:
    """The mail goes on without these recipients; the worst of their replies when nobody else is left."""
    worst: Reply | None = None
    for rcpt, reply in refused:
        rcpt.reply = reply
        mail.leave_out(rcpt)
        if worst is None or reply.code > worst.code:
            worst = reply
    return None if mail.recipients else worst


def hand_on_each(
    session: Session, parts: list[Part], mail: Mail, bodies: Mapping[Copy | None, Body]
) -> tuple[Part, Reply]:
    """The durable hand-offs first, held, then the live ones; the first that has taken it, else who has refused it, and why.

    A copy that somebody wants kept is kept for those who get the mail; where it cannot be, nobody gets it.
    """
    taken: list[tuple[Part, Reply]] = []
    refused: list[tuple[Part, Reply]] = []
    promised = False
    for part in parts:
        if part.outlet.live and not promised:
            present(session)
        reply = _finish(session, part, mail, bodies[part.copy], promised)
        if part.aside and not reply.positive:
            return part, reply
        (taken if reply.positive else refused).append((part, reply))
        promised = promised or (part.outlet.live and reply.positive)
    if not promised:
        present(session)
    if any(not part.aside for part, _ in taken):
        taken = [(part, reply) for part, reply in taken if _committed(session, part, refused)]
    delivered = [found for found in taken if not found[0].aside]
    for part, reply in taken + refused:
        _answer(part, reply)
    if not delivered:
        return max(refused, key=lambda found: found[1].code)
    for part, _ in refused:
        part.handoff.abandon()
    return delivered[0]


def _finish(session: Session, part: Part, mail: Mail, body: Body, promised: bool) -> Reply:
    """``promised``: another one has taken the mail for some of the recipients, and they are answered whatever happens."""
    try:
        return part.handoff.finish(mail, body)
    except Exception:
        if not promised:
            raise
        faults.log(session)
        return BROKEN


def _committed(session: Session, part: Part, refused: list[tuple[Part, Reply]]) -> bool:
    try:
        part.handoff.commit()
    except OSError as error:
        faults.log(session)
        refused.append((part, not_kept(error)))
        return False
    return True


def _answer(part: Part, reply: Reply) -> None:
    if part.aside:
        return
    for rcpt in part.recipients:
        if rcpt.reply is None:
            rcpt.reply = reply


def note_refused(session: Session, parts: list[Part]) -> None:
    """Log those that were refused where others were not."""
    for part in parts:
        for rcpt in part.recipients:
            if not part.aside and rcpt.reply is not None and not rcpt.reply.positive:
                session.handed_back(rcpt.reply, part.outlet.name, rcpt)


def delivered(mail: Mail) -> list[Recipient]:
    """Those who get it."""
    return [rcpt for rcpt in mail.recipients if rcpt.reply is None or rcpt.reply.positive]


def expect(transaction: Transaction) -> None:
    """The message is about to come: of its recipients nothing is known yet."""
    for rcpt in transaction.promised or ():
        rcpt.reply = None


def answered(session: Session, transaction: Transaction, reply: Reply) -> Reply | None:
    """``reply``, where there is one for all. Else None: one was given for each recipient that was accepted, in their order.

    ``reply`` then is for those of whom nothing else is known.
    """
    if not transaction.promised:
        return reply
    replies = [rcpt.reply or reply for rcpt in transaction.promised]
    for each in replies:
        session.say(each)
    if any(each.code == 421 for each in replies):
        session.closing = True
    if not any(each.positive for each in replies):
        session.count_error(replies[0])
    return None
