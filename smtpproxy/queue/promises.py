"""What a client may ask of a queue: to hold mail back (FUTURERELEASE, RFC 4865), to be done by a time (DELIVERBY, RFC 2852), to
prefer it (MT-PRIORITY, RFC 6710). Times are seconds since the epoch."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Final, NamedTuple

from msgspec.structs import replace

from smtpproxy.queue.envelope import Envelope, Party
from smtpproxy.wire.reply import Refusal, Reply

NO_TIME: Final = Reply(501, "5.5.4", "HOLDUNTIL is no time that there is")
ONE_OF_THEM: Final = Reply(501, "5.5.4", "HOLDFOR and HOLDUNTIL exclude each other")
TOO_LATE: Final = Reply(501, "5.5.4", "Mail is not held for so long")
NOT_POSITIVE: Final = Reply(501, "5.5.4", "BY=...;R needs a time that is yet to come")
EXPIRED: Final = Reply(550, "5.4.7", "It could not be delivered within the time that its sender has set")

Params = Mapping[str, str | None]


class By(NamedTuple):
    """`moment` when it is to be delivered; later it `returns`, or its sender is told of the delay. `trace`: each relaying too."""

    moment: float
    returns: bool
    trace: bool


def release(params: Params, now: float, longest: float) -> float:
    """When to begin with it, at most `longest` seconds from now; 0 for at once. Raises Refusal."""
    if "HOLDFOR" in params and "HOLDUNTIL" in params:
        raise Refusal(ONE_OF_THEM)
    if "HOLDFOR" in params:
        moment = now + int(params["HOLDFOR"] or 0)
    elif "HOLDUNTIL" in params:
        moment = _moment(params["HOLDUNTIL"] or "")
    else:
        return 0.0
    if moment > now + longest:
        raise Refusal(TOO_LATE)
    return max(moment, now)


def _moment(text: str) -> float:
    try:
        return datetime.fromisoformat(text).timestamp()
    except ValueError:
        raise Refusal(NO_TIME) from None


def check_by(params: Params) -> None:
    """Raises Refusal for a time of return that is over (RFC 2852 4)."""
    seconds, _, mode = (params.get("BY") or "1;N").upper().partition(";")
    if mode.startswith("R") and int(seconds) <= 0:
        raise Refusal(NOT_POSITIVE)


def deliver_by(envelope: Envelope) -> By | None:
    """Counted from when the mail was to be sent first."""
    text = envelope.params.get("BY")
    if not text:
        return None
    seconds, _, mode = text.upper().partition(";")
    return By(envelope.due + int(seconds), mode.startswith("R"), mode.endswith("T"))


def late(envelope: Envelope, now: float) -> Reply | None:
    """The end of a mail that is not to be delivered any more."""
    by = deliver_by(envelope) if "BY" in envelope.params else None
    return EXPIRED if by is not None and by.returns and now >= by.moment else None


def priority(params: Params, trusted: bool) -> int:
    """From -9 to 9; strangers do not get in front of others (RFC 6710 5)."""
    asked = int(params.get("MT-PRIORITY") or 0)
    return asked if trusted else min(asked, 0)


def onward(envelope: Envelope, now: float) -> Envelope:
    """As the next server is asked: what is left of the time (RFC 2852 4.1.4), and nothing that was kept here."""
    params = envelope.sender.params
    if not params.keys() & {"BY", "HOLDFOR", "HOLDUNTIL", "MT-PRIORITY"}:
        return envelope
    passed = {name: text for name, text in params.items() if name not in ("HOLDFOR", "HOLDUNTIL")}
    if (by := deliver_by(envelope)) is not None:
        left = max(-999_999_999, round(by.moment - now))
        passed["BY"] = f"{max(left, 1) if by.returns else left};{'R' if by.returns else 'N'}{'T' if by.trace else ''}"
    if "MT-PRIORITY" in passed:
        passed["MT-PRIORITY"] = str(envelope.priority)
    return replace(envelope, sender=Party(envelope.sender.path, passed))


def latest(now: float, longest: float) -> str:
    """The time up to which mail is held, as EHLO has it (RFC 4865 3, RFC 3339)."""
    return datetime.fromtimestamp(int(now + longest), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
