"""Every command and reply in the log, where somebody wants to look on ([log.levels] session = "debug")."""

from __future__ import annotations

from typing import TYPE_CHECKING

from smtpproxy.wire.reply import Reply

if TYPE_CHECKING:
    from smtpproxy.session.session import Session


def said(session: Session, line: bytes) -> None:
    """By the client; what stands behind AUTH has been taken out."""
    session.services.log("command", level="debug", id=session.call.id, line=line.decode("utf-8", "surrogateescape"))


def answered(session: Session, reply: Reply) -> None:
    """By us, or by a rule or an upstream through us."""
    session.services.log("reply", level="debug", id=session.call.id, line=str(reply))
