"""Defects of ours: the peer is told to come back, the log says where they are, and the next client is served."""

from __future__ import annotations

import traceback
from time import monotonic
from typing import TYPE_CHECKING

from smtpproxy.scripting.trace import Refusal
from smtpproxy.wire.reply import Reply

if TYPE_CHECKING:
    from smtpproxy.session.session import Session


def answer(session: Session) -> Reply:
    """What the peer is told while an exception is handled; what was under way is given up."""
    reply = Reply(451, "4.3.0", f"Internal error, id {session.call.id}")
    log(session)
    session.trace_refusal(Refusal(monotonic(), "failure", "because of a defect in the server:", str(reply)))
    if session.chunks is None:
        session.end_transaction()
    else:
        session.closing = True  # whoever pulls the message ends it
    return reply


def log(session: Session) -> None:
    """The exception that is handled now, with its traceback."""
    trace = traceback.format_exc()
    session.services.log("internal_error", level="error", id=session.call.id, client=session.client.address, trace=trace)
    session.trace.note(trace)
