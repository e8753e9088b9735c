"""The message goes to its hand-offs, and their answers become one.

Copies make it several messages for one answer. Live ones end one within the other: behind the last octet of one, and before
its end is said, comes the whole of the next. So whatever is refused at first is refused before anything was delivered.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING

from smtpproxy.facts.copies import Copy
from smtpproxy.facts.mail import Mail
from smtpproxy.handoff.base import not_kept
from smtpproxy.message.body import Body
from smtpproxy.net.connection import ConnectionLost
from smtpproxy.session import faults
from smtpproxy.wire.reply import Refusal, Reply

if TYPE_CHECKING:
    from smtpproxy.session.session import Session
    from smtpproxy.session.transaction import Part

BROKEN = Reply(451, "4.3.0", "Internal error")
_TOLD = 120
"""Characters of a list of recipients in a reply."""


def hand_on(session: Session, parts: list[Part], mail: Mail, body: Body) -> tuple[Part, Reply]:
    """The durable hand-offs first, held; then the live one, whose reply decides over all of them. Whose it was, too."""
    for part in parts:
        if part.outlet.live:
            present(session)
        reply = part.handoff.finish(mail, body)
        if not reply.positive:
            return part, reply
    if not parts[-1].outlet.live:
        present(session)
    _commit(parts)
    return parts[-1], reply


def hand_on_copies(session: Session, parts: list[Part], mail: Mail, body: Body, top: bytes) -> tuple[Part, Reply]:
    """The same for parts that take copies of their own."""
    bodies = renderings(mail, body, top)
    durable = [part for part in parts if not part.outlet.live]
    live = parts[len(durable) :]
    for part in durable:
        _note(session, part)
        reply = part.handoff.finish(mail, bodies[part.copy])
        if not reply.positive:
            return part, reply
    present(session)
    if live:
        chain = _Chain(session, mail, bodies)
        refused = chain.run(live)
        if refused is not None:
            return refused if not chain.taken else _partly(session, mail, durable + chain.taken, live, refused)
        part, reply = live[0], chain.reply
    _commit(parts)
    return part, reply


def renderings(mail: Mail, body: Body, top: bytes) -> Mapping[Copy | None, Body]:
    """What goes to those who have a copy of their own, and to those who have none."""
    return {None: body, **{copy: _rendered(copy, body, top) for copy in mail.copies}}


def _rendered(copy: Copy, body: Body, top: bytes) -> Body:
    if copy.ledger is None:
        return body  # nobody has made anything of it
    copy.ledger.close()
    return copy.ledger.render(top)


def present(session: Session) -> None:
    """Nothing is promised to a client that will never hear of it: it sends the message again."""
    if session.connection.gone():
        raise ConnectionLost("the client left before the message was committed")


def _commit(parts: list[Part]) -> None:
    try:
        for part in parts:
            part.handoff.commit()
    except OSError as error:
        raise Refusal(not_kept(error), f"hand-off {part.outlet.name}: {error}") from None


class _NotTaken(Exception):
    """One of several live parts was refused: those that wait for it do not end."""

    def __init__(self, part: Part, reply: Reply) -> None:
        self.part = part
        self.reply = reply


class _Chain:
    """Live parts of one mail, each ended within the one before it."""

    __slots__ = ("_bodies", "_mail", "_session", "reply", "taken")

    def __init__(self, session: Session, mail: Mail, bodies: Mapping[Copy | None, Body]) -> None:
        self._session = session
        self._mail = mail
        self._bodies = bodies
        self.taken: list[Part] = []
        """Those that the next server has answered for."""
        self.reply = BROKEN
        """The last answer: that to the first part."""

    def run(self, parts: list[Part]) -> tuple[Part, Reply] | None:
        """The part that was refused, with its reply."""
        try:
            self._finish(parts)
        except _NotTaken as refused:
            return refused.part, refused.reply
        except Exception:
            if not self.taken:
                raise
            faults.log(self._session)
            return parts[0], BROKEN
        return None

    def _finish(self, parts: list[Part]) -> None:
        part, rest = parts[0], parts[1:]
        body = self._bodies[part.copy]
        if rest:
            body = _Followed(body, lambda: self._finish(rest))
        _note(self._session, part)
        self.reply = part.handoff.finish(self._mail, body)
        if not self.reply.positive:
            raise _NotTaken(part, self.reply)
        self.taken.append(part)


class _Followed(Body):
    """A body behind whose last octet something is done, before anybody can say that it ends there. Pulled once."""

    __slots__ = ("_body", "_then")

    def __init__(self, body: Body, then: Callable[[], None]) -> None:
        self._body = body
        self._then = then
        self.dotted = body.dotted

    @property
    def size(self) -> int:
        """See ``Body``."""
        return self._body.size

    def wire(self) -> Iterator[bytes]:
        """See ``Body``."""
        yield from self._body.wire()
        self._then()

    def content(self) -> Iterator[bytes]:
        """See ``Body``."""
        yield from self._body.content()
        self._then()


def _partly(
    session: Session, mail: Mail, taken: list[Part], live: list[Part], refused: tuple[Part, Reply]
) -> tuple[Part, Reply]:
    """Some have it, some do not, and one answer is for all: a final one, that names both.

    A reply that has the client send it again would deliver it twice, a positive one would lose it for the others.
    """
    part, reply = refused
    try:
        _commit([each for each in taken if not each.outlet.live])
    except Refusal:
        faults.log(session)
    left = [each for each in live if each not in taken]
    delivered, not_delivered = ([each for each in some if not each.aside] for some in (taken, left))
    session.services.log(
        "partly_delivered",
        level="error",
        id=mail.id,
        delivered=[rcpt.path for each in delivered for rcpt in each.recipients],
        refused=[rcpt.path for each in not_delivered for rcpt in each.recipients],
        handoff=part.outlet.name,
        reply=str(reply),
    )
    text = f"Delivered to {_names(*delivered)}; not delivered to {_names(*not_delivered)}: {reply.code} {reply.text}"
    return part, Reply(554, "5.3.0", text[:450])


def _note(session: Session, part: Part) -> None:
    what = "a copy" if part.aside else "the mail" if part.copy is None else "their copy"
    session.trace.note(f"{what} for {_names(part)} to {part.handoff.via}")


def _names(*parts: Part) -> str:
    names = ", ".join(f"<{rcpt}>" for part in parts for rcpt in part.recipients)
    return names if len(names) <= _TOLD else f"{names[:_TOLD]}..."
