"""What rules decide about single recipients, by `rcpt.verdict`: also about those that were told 250 before."""

from __future__ import annotations

from time import monotonic
from typing import TYPE_CHECKING

from smtpproxy.facts.mail import Mail
from smtpproxy.facts.recipient import Recipient
from smtpproxy.scripting.runner import Chain, decide
from smtpproxy.scripting.trace import HOOK
from smtpproxy.scripting.verdict import Verdict
from smtpproxy.session.each import leave_out
from smtpproxy.wire.reply import Reply

if TYPE_CHECKING:
    from smtpproxy.session.session import Session


ANSWERED = frozenset(["VRFY", "EXPN"])
"""Commands that ask for nothing but words."""


def ask(session: Session, chain: Chain, mail: Mail) -> Reply | None:
    """Run a chain over a mail; the reply if it refuses the mail, or one of its recipients.

    There is one answer for all of them: the worst one (`partial = "refuse"`). In LMTP each recipient has its own.
    """
    refused = session.decide(chain, mail)
    return refused if refused is not None else of_recipients(session, chain, mail)


def of_command(session: Session, verb: str, argument: str) -> Reply | None:
    """What rules say to a command in our place: a refusal; to VRFY and EXPN, `accept` with the words of the answer."""
    verdict = decide(session.chains, session.chains.on_command, session.call, session.client, verb, argument)
    if verdict is None:
        return None
    if verdict.refusal:
        reply = verdict.reply()
        session.note_verdict(verdict, reply)
        return reply
    return Reply(250, "2.1.5", verdict.text) if verdict.text and verb in ANSWERED else None


def of_recipients(session: Session, chain: Chain, mail: Mail) -> Reply | None:
    """The worst verdict on a recipient, of those that rules of this chain have assigned."""
    judged = [rcpt for rcpt in mail.recipients if rcpt.verdict is not None]
    refused = [(rcpt, reply) for rcpt in judged if (reply := against(session, chain, rcpt))]
    if session.entrance.lmtp:
        return leave_out(mail, refused)
    return max((reply for _, reply in refused), key=lambda reply: reply.code, default=None)


def against(session: Session, chain: Chain, rcpt: Recipient) -> Reply | None:
    """The reply of the verdict on a recipient, if `on_deny` lets it stand. It is logged, and traced to its rule."""
    verdict: Verdict = rcpt.verdict
    _trace(session, chain, verdict, rcpt)
    if session.chains.on_deny:
        overruled = decide(session.chains, session.chains.on_deny, session.call, session.client, session.call.mail, verdict)
        if overruled is not None and overruled.kind == "accept":
            rcpt.verdict = None
            return None
        verdict = overruled or verdict
    reply = verdict.reply()
    session.note_verdict(verdict, reply, rcpt)
    return reply


def _trace(session: Session, chain: Chain, verdict: Verdict, rcpt: Recipient) -> None:
    """As if its rule had returned it. A verdict that was made in a helper is known to be of a rule only if there is one."""
    entry = next((entry for entry in chain if entry.rule.file == verdict.file), chain[0] if len(chain) == 1 else None)
    session.trace.note(f"verdict on <{rcpt}>: {verdict}")
    verdict.given_by(entry.rule.name if entry is not None else verdict.file, verdict.hook)
    if entry is not None:
        now = monotonic()
        session.trace.append((HOOK, now, now, entry, verdict))
