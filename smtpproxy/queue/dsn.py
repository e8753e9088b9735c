"""What senders want to hear of their recipients (RFC 3461), and what they have heard: it stands in the state of a result."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final, Literal

from smtpproxy.config.values import BadValue, Target
from smtpproxy.delivery.site import Outcome
from smtpproxy.message.notice import Action, Fate
from smtpproxy.message.trace import address_literal
from smtpproxy.queue.envelope import Envelope, Party
from smtpproxy.queue.ledger import Entry, Result, State
from smtpproxy.queue.promises import deliver_by

WORDS: Final = 500
"""Characters that are kept of a reply."""

_ACTIONS: Final[Mapping[State, Action]] = {
    "failed": "failed", "deferred": "delayed", "relayed": "relayed", "received": "delivered",
}  # fmt: skip
_TOLD: Final[Mapping[State, State]] = {
    "failed": "told", "deferred": "warned", "relayed": "delivered", "received": "delivered",
}  # fmt: skip
_HEX = re.compile(r"\+([0-9A-F]{2})")

Moment = Literal["SUCCESS", "FAILURE", "DELAY"]


def result(entry: Entry, rcpt: int, outcome: Outcome) -> Result:
    """The outcome of an attempt; where the sender is still to hear of it, its state says so."""
    reply, before = outcome.reply, entry.results.get(rcpt)
    state: State = "failed"
    if reply.positive:
        state = _success(entry.envelope, rcpt, outcome)
    elif reply.transient:
        state = "warned" if before is not None and before.state == "warned" else "deferred"
    return Result(rcpt, state, str(reply)[:WORDS], outcome.host)


def _success(envelope: Envelope, rcpt: int, outcome: Outcome) -> State:
    """RFC 3461 5.2.1, 5.2.2: a server that knows DSN tells the sender itself, for any other we do."""
    party = envelope.recipients[rcpt]
    if not envelope.sender.path:
        return "delivered"
    if _traced(envelope, party, outcome) or (wants(party, "SUCCESS") and not (outcome.onward or outcome.final)):
        return "relayed"
    return "received" if outcome.final and not outcome.onward and wants(party, "SUCCESS") else "delivered"


def _traced(envelope: Envelope, party: Party, outcome: Outcome) -> bool:
    """RFC 2852 4.1.4: each relaying is told if that was asked for, and one that ends the promise in any case."""
    by = deliver_by(envelope)
    if by is None or outcome.final or (party.params.get("NOTIFY") or "").upper() == "NEVER":
        return False
    return by.trace or not outcome.timed


def wants(party: Party, moment: Moment) -> bool:
    """RFC 3461 4.1; who says nothing hears of failures and delays."""
    return moment in (party.params.get("NOTIFY") or "FAILURE,DELAY").upper().split(",")


def owed(entry: Entry, overdue: bool) -> list[Result]:
    """What the sender is to be told now; `overdue`: also of recipients who still wait."""
    if not entry.envelope.sender.path:
        return []  # RFC 3461 6.2, RFC 5321 4.5.5
    return [it for it in entry.results.values() if _owed(it.state, entry.envelope.recipients[it.rcpt], overdue)]


def _owed(state: State, party: Party, overdue: bool) -> bool:
    if state == "deferred":
        return overdue and wants(party, "DELAY")
    return state in ("relayed", "received") or (state == "failed" and wants(party, "FAILURE"))


def told(result: Result) -> Result:
    """As it stands when the sender knows, or does not want to."""
    return result._replace(state=_TOLD[result.state])


def fate(envelope: Envelope, result: Result) -> Fate:
    """What a notice says of a recipient to whom something is owed."""
    party = envelope.recipients[result.rcpt]
    original = decoded(party.params.get("ORCPT") or "").replace(";", "; ", 1)
    return Fate(_ACTIONS[result.state], party.path, result.reply, _mta(result.host), original)


def decoded(xtext: str) -> str:
    """RFC 3461 4; the grammar has let through what is printable alone."""
    return _HEX.sub(lambda match: chr(int(match[1], 16)), xtext)


def _mta(host: str) -> str:
    """The name of a server, as Remote-MTA has it (RFC 3464 2.3.5)."""
    try:
        target = Target.parse(host) if host else None
    except BadValue:
        return host
    if target is None:
        return ""
    numeric = ":" in target.host or target.host.replace(".", "").isdigit()
    return address_literal(target.host) if numeric or target.path else target.host
