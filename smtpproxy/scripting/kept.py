"""A trace as it is kept on disk: plain values, secrets taken out, ready to be told again by another process."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime
from typing import Any

import msgspec
from msgspec import Struct

from smtpproxy.scripting.trace import Fault, Refusal, Told, Trace, lines, tell

TEXT_LIMIT = 2000
"""Characters of one text; an author's repr() may be of any size."""

Hide = Callable[[str], str]
"""Takes secrets out of a text."""


class Kept(Struct, frozen=True, omit_defaults=True):
    """One mail, or the part of a session that is no mail. Times are seconds since the epoch.

    `why` is "failed", "refused", "deferred", "asked" or "sampled"; `refusals` have their `at` in seconds since the epoch.
    """

    id: str
    session: str
    time: float
    why: str
    client: dict[str, str] = {}
    mail: bool = False
    sender: str = ""
    recipients: tuple[str, ...] = ()
    outcome: str = ""
    refusals: tuple[Refusal, ...] = ()
    failures: tuple[str, ...] = ()
    results: tuple[str, ...] = ()
    events: tuple[Told, ...] = ()
    table: str = ""
    """The hash of the table of rules."""

    def concerns(self, address: str) -> bool:
        """Whether an address is its sender or one of its recipients, those refused too. Case does not count."""
        wanted = address.casefold()
        everybody = [*self.recipients, *(refusal.to for refusal in self.refusals), *([self.sender] if self.mail else [])]
        return any(one.casefold() == wanted for one in everybody)


class Snapshot:
    """What a trace holds now, put into words later: off the message's way."""

    __slots__ = ("_trace", "client", "id", "mail", "why")

    def __init__(self, trace: Trace, client: Any, mail: Any, why: str) -> None:
        copy = Trace(trace.id, trace.events.maxlen or 1)
        copy.started = trace.started
        copy.prelude = trace.prelude
        copy.events.extend(trace.events)
        copy.refusals = list(trace.refusals)
        copy.faults = list(trace.faults)
        copy.accepted = trace.accepted
        copy.table = trace.table
        self._trace = copy
        self.id: str = mail.id if mail is not None else trace.id
        self.client = client
        self.mail = mail
        self.why = why

    def kept(self, hide: Hide) -> Kept:
        """In words, without what `hide` takes out."""
        trace, mail, client = self._trace, self.mail, self.client
        epoch = time.time() - time.monotonic()

        def clean(text: object) -> str:
            return _writable(hide(str(text))[:TEXT_LIMIT])

        def cleaned(texts: Iterable[object]) -> tuple[str, ...]:
            return tuple(map(clean, texts))

        return Kept(
            id=self.id,
            session=trace.id,
            time=epoch + (trace.events[0][1] if trace.events else trace.started),
            why=self.why,
            client={name: clean(value) for name, value in _client(client)},
            mail=mail is not None,
            sender=clean(mail.sender) if mail is not None else "",
            recipients=cleaned(mail.recipients) if mail is not None else (),
            outcome=clean(trace.outcome),
            refusals=tuple(
                refusal._replace(at=epoch + refusal.at, why=clean(refusal.why), reply=clean(refusal.reply), to=clean(refusal.to))
                for refusal in trace.refusals
            ),
            failures=cleaned(map(failed_words, trace.faults)),
            results=cleaned(result for about in (client, mail) if about is not None for result in about.results),
            table=trace.table,
            events=tuple(event._replace(text=clean(event.text), more=cleaned(event.more)) for event in tell(trace)),
        )


def failed_words(fault: Fault) -> str:
    """A rule's failure in one line: which rule, where, how."""
    rule, hook = fault.entry.rule, fault.entry.hook.name
    return f"rule {rule.name} failed, {fault.place or rule.file} in {hook}: {fault.error} -> {fault.declared}"


def _writable(text: str) -> str:
    """JSON is UTF-8; octets of a client that are not stand as \\xHH."""
    if text.isascii():
        return text
    try:
        octets = text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:  # a rule may make surrogates that stand for no octet
        octets = text.encode("utf-8", "backslashreplace")
    return octets.decode("utf-8", "backslashreplace")


def _client(client: Any) -> Iterator[tuple[str, str]]:
    yield "address", client.address
    if client.name_known and client.name:
        yield "name", client.name
    if client.helo:
        yield "helo", client.helo
    if client.login:
        yield "login", client.login
    yield "listener", client.listener.name


def encode(kept: Kept) -> bytes:
    """One line of JSON."""
    return msgspec.json.encode(kept) + b"\n"


def decode(line: bytes) -> Kept | None:
    """The record of a line; None for one that was torn."""
    try:
        return msgspec.json.decode(line, type=Kept)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None


# -- for people ------------------------------------------------------------------------------------------------------


def plainly(kept: Kept) -> dict[str, Any]:
    """A record for other programs, every value by its name."""
    record: dict[str, Any] = msgspec.to_builtins(kept)
    record["refusals"] = [refusal._asdict() for refusal in kept.refusals]
    record["events"] = [event._asdict() for event in kept.events]
    return record


def answer(kept: Kept, address: str = "") -> list[str]:
    """Why it was refused, or what became of it: of that recipient first. At least one line."""
    asked = address.casefold()
    found = sorted(kept.refusals, key=lambda refusal: refusal.to.casefold() != asked) if asked else kept.refusals
    said = [_because(kept, refusal) for refusal in found]
    if not said or kept.outcome:
        said.append(f"{'the message' if kept.mail else 'the session'} at {stamp(kept.time)}: {kept.outcome or _unfinished(kept)}")
    return said + list(kept.failures if not any(refusal.by == "failure" for refusal in kept.refusals) else ())


def _because(kept: Kept, refusal: Refusal) -> str:
    subject = f"<{refusal.to}>" if refusal.to else "the message" if kept.mail else f"client {kept.client.get('address', '')}"
    done = "was deferred" if refusal.reply.startswith("4") else "was refused"
    return f"{subject} {done} at {stamp(refusal.at)} {refusal.why} {refusal.reply}"


def _unfinished(kept: Kept) -> str:
    return "given up before its end, by the client or with the connection" if kept.mail else "nothing was refused"


def retold(kept: Kept) -> list[str]:
    """The whole story, without the answer at its head."""
    about = ", ".join(f"{name} {value}" for name, value in kept.client.items())
    head = [f"id {kept.id}, kept because: {kept.why}", f"client: {about}"]
    if kept.mail:
        to = dict.fromkeys([f"<{rcpt}>" for rcpt in kept.recipients] + [f"<{r.to}> (refused)" for r in kept.refusals if r.to])
        head.append(f"from <{kept.sender}> to {', '.join(to) or 'no recipient'}")
    if kept.table:
        head.append(f"rules: table {kept.table}")
    if kept.results:
        head.append(f"results: {'; '.join(kept.results)}")
    return [*head, "", *lines(kept.events)]


def stamp(seconds: float) -> str:
    """A moment in local time."""
    return datetime.fromtimestamp(seconds).strftime("%Y-%m-%d %H:%M:%S")
