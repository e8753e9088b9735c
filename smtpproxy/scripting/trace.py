"""What happened in a session: a small ring of tuples, told as a story when somebody asks.

Recording is on the hot path and formats nothing: one tuple an event, (kind, began, ended, what, answer), and of the rules
of a chain that had nothing to say one list with the moments at which they returned. Telling is lazy. Refusals and failures
stand beside the ring: however much happens after them, why is never forgotten.
"""

from __future__ import annotations

import re
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from signal import ITIMER_PROF, getitimer
from typing import Any, NamedTuple

from smtpproxy.scripting.verdict import Verdict

COMMAND, HOOK, REPLY, UPSTREAM, DOOR, EDIT, FAILURE, NOTE, CPU, CALLS = range(10)
LIMIT = 400
CALLS_LIMIT = 4000
"""Calls of rules that had nothing to say, of one transaction: 32 octets each."""
REFUSALS = 100
"""Of one transaction; those after them stand in the ring and in the log."""

FORGOTTEN = "... earlier events of this transaction were forgotten ..."

Event = tuple[int, float, float, Any, Any]


class Refusal(NamedTuple):
    """One refusal: when (`time.monotonic`), by whom ("rule", "failure", "core", "upstream"), why, of which recipient.

    `place` is "file:line" of the rule's answer; a failure's is where it failed.
    """

    at: float
    by: str
    why: str
    reply: str
    to: str = ""
    hook: str = ""
    rule: str = ""
    version: str = ""
    place: str = ""


class Fault(NamedTuple):
    """A rule has failed: its entry in the chain, type and text of the error, "file:line", the verdict declared for it."""

    entry: Any
    error: str
    place: str
    declared: str


class Trace:
    """The events of one session: what came before the first transaction, and those of the newest transaction.

    Times are seconds of `time.monotonic`. Older events than the newest LIMIT of a transaction are forgotten.
    """

    __slots__ = ("accepted", "append", "called", "events", "faults", "id", "prelude", "refusals", "started", "table")

    def __init__(self, id: str, limit: int = LIMIT) -> None:
        self.id = id
        self.started = time.monotonic()
        self.prelude: tuple[Event, ...] = ()
        self.events: deque[Event] = deque(maxlen=limit)
        self.append: Callable[[Event], None] = self.events.append
        self.called = 0
        """Calls that stand in the ring, those that are only expected too."""
        self.refusals: list[Refusal] = []
        self.faults: list[Fault] = []
        self.accepted: tuple[str, object] | None = None
        """Who took the message and the reply to it, when nobody refused it."""
        self.table = ""
        """The hash of the table of rules that is asked."""

    def begin(self) -> None:
        """A transaction begins: what the one before it left is forgotten, the greeting is kept."""
        if not self.prelude:
            self.prelude = tuple(self.events)
        self.events.clear()
        self.called = 0
        self.told()

    def told(self) -> None:
        """Whoever wanted to know why has been told."""
        if self.refusals or self.faults:
            self.refusals = []
            self.faults = []
        self.accepted = None

    @property
    def outcome(self) -> str:
        """What became of the message, "" when it was not taken."""
        return "accepted by {}: {}".format(*self.accepted) if self.accepted is not None else ""

    @property
    def remarkable(self) -> str:
        """Why this is worth keeping: "failed", "refused", "deferred"; "" when nothing went wrong."""
        if self.faults or any(refusal.by == "failure" for refusal in self.refusals):
            return "failed"
        if not self.refusals:
            return ""
        return "refused" if any(refusal.reply.startswith("5") for refusal in self.refusals) else "deferred"

    def refusal(self, refusal: Refusal) -> None:
        """Somebody refused: rule, core or upstream."""
        if len(self.refusals) < REFUSALS:
            self.refusals.append(refusal)

    def failure(self, fault: Fault, frames: tuple[str, ...], began: float | None = None) -> None:
        """A rule failed; `frames` are the author's own, `began` is when it was called."""
        now = time.monotonic()
        words = f"{fault.error} at {fault.place} -> {fault.declared}"
        self.append((FAILURE, now if began is None else began, now, fault.entry, (words, *frames)))
        if len(self.faults) < REFUSALS:
            self.faults.append(fault)

    def calls(self, began: float, entries: Sequence[Any]) -> Callable[[float | None], None]:
        """These rules are asked now: gives what is told of each in turn when it returned, None when it was left out.

        Whoever has something to say has an event of its own, and the calls behind it are another row of calls.
        """
        self.called += len(entries)
        if self.called > CALLS_LIMIT:
            self._forget()
        moments: list[float | None] = []
        self.append((CALLS, began, began, entries, moments))
        return moments.append

    def _forget(self) -> None:
        """The older half of the events; the first of those that stay says so."""
        for _ in range(len(self.events) // 2):
            kind, _, _, entries, _ = self.events.popleft()
            self.called -= len(entries) if kind == CALLS else 0
        now = time.monotonic()
        self.events.appendleft((NOTE, now, now, FORGOTTEN, None))

    def author(self, verdict: Verdict) -> Any:
        """The chain's entry whose rule gave this verdict, None when it is no longer known."""
        return next((entry for kind, _, _, entry, given in reversed(self.events) if kind == HOOK and given is verdict), None)

    def command(self, line: bytes | str) -> None:
        """The client's command as it came; credentials are left out."""
        now = time.monotonic()
        self.append((COMMAND, now, now, line, None))

    def reply(self, reply: object) -> None:
        """What we answered the client."""
        now = time.monotonic()
        self.append((REPLY, now, now, reply, None))

    def upstream(self, command: str, reply: object, began: float, ended: float) -> None:
        """A command to the upstream and its reply (or the error that stands for it)."""
        self.append((UPSTREAM, began, ended, command, reply))

    def door(self, question: str, answer: object, began: float, ended: float) -> None:
        """What a rule asked of the world, and the answer."""
        self.append((DOOR, began, ended, question, answer))

    def edit(self, text: str) -> None:
        """An edit of the message, as its ledger prints it."""
        now = time.monotonic()
        self.append((EDIT, now, now, text, None))

    def note(self, text: str) -> None:
        """Anything else worth a line."""
        now = time.monotonic()
        self.append((NOTE, now, now, text, None))


class Told(NamedTuple):
    """An event in words: milliseconds since the connection, the kind, what happened, how long it took (None: no time).

    `waited` and `cpu` are the milliseconds in which a rule's call waited and computed; None: less than the meter sees.
    """

    at: float
    kind: str
    text: str
    ms: float | None = None
    waited: float = 0.0
    more: tuple[str, ...] = ()
    cpu: float | None = None


def tell(trace: Trace) -> list[Told]:
    """The greeting and the newest transaction in words."""
    told = _told(trace, trace.prelude)
    if len(trace.events) == trace.events.maxlen:
        told.append(Told(0.0, "", FORGOTTEN))
    return told + _told(trace, tuple(trace.events))


def story(trace: Trace, mail: Any = None) -> list[str]:
    """The newest transaction for people, a line an event: milliseconds since the connection, then who did what.

    `mail` (or anything with id, sender and recipients) heads it with the names of sender and recipients, those refused too.
    """
    return [*_heading(trace, mail), *lines(tell(trace))]


def lines(events: Iterable[Told]) -> Iterable[str]:
    """Events for people."""
    for event in events:
        if not event.kind:
            yield f"{'':11} {event.text}"
            continue
        yield f"{event.at:9.1f}  {event.kind:<9} {event.text}{_took(event)}"
        yield from (f"{'':13}{line}" for line in event.more)


def _took(event: Told) -> str:
    if event.ms is None:
        return ""
    if event.kind not in (_WORDS[HOOK][0], _WORDS[FAILURE][0]):
        return f"  ({event.ms:.2f} ms)"
    cpu = f"{event.cpu:.2f}" if event.cpu is not None else "hardly any"
    return f"  ({event.ms:.2f} ms: {event.waited:.2f} waiting, {cpu} CPU)" if event.waited else f"  ({event.ms:.2f} ms CPU)"


def _heading(trace: Trace, mail: Any) -> Iterable[str]:
    if mail is None:
        yield f"session {trace.id}"
        return
    recipients = ", ".join([f"<{recipient}>" for recipient in mail.recipients] + list(_refused(trace))) or "no recipient"
    yield f"message {mail.id}  from <{mail.sender}>  to {recipients}"


def _refused(trace: Trace) -> Iterable[str]:
    """The recipients that were asked for in vain: who they were is half of the story."""
    asked = ""
    for kind, _, _, what, _ in trace.events:
        if kind == COMMAND:
            verb, _, argument = _text(what).partition(":")
            asked = argument.strip().partition(" ")[0] if verb.upper().startswith("RCPT") else ""
        elif kind == REPLY and asked:
            if getattr(what, "code", 0) >= 400:
                yield f"{asked} (refused)"
            asked = ""


def _told(trace: Trace, events: tuple[Event, ...]) -> list[Told]:
    found = []
    doors: list[tuple[float, float]] = []
    metered: float | None = None
    tick = getitimer(ITIMER_PROF)[1]
    for kind, began, ended, what, answer in _unrolled(events):
        if kind == CPU:
            metered = answer
            continue
        word, words = _WORDS[kind]
        text, *more = words(what, answer)
        ms, waited, cpu = None, 0.0, None
        if kind in (HOOK, FAILURE):
            inside = _union([door for door in doors if door[0] >= began]) if doors else 0.0
            waited, cpu = _spent(ended - began, inside, metered, tick)
            doors, metered = [], None
        elif kind == DOOR:
            doors.append((began, ended))
        if kind in (HOOK, UPSTREAM, DOOR, FAILURE):
            ms = (ended - began) * 1000
        at = (began - trace.started) * 1000
        found.append(Told(at, word, text, ms, waited * 1000, tuple(more), cpu * 1000 if cpu is not None else None))
    return found


def _unrolled(events: Iterable[Event]) -> Iterator[Event]:
    """Rows of calls as an event each, among what happened meanwhile: an event stands behind all that had ended before it."""
    calls: deque[Event] = deque()
    for event in events:
        while calls and (event[0] == CALLS or calls[0][2] <= event[2]):
            yield calls.popleft()
        if event[0] == CALLS:
            calls.extend(_row(event))
        else:
            yield event
    yield from calls


def _row(event: Event) -> Iterator[Event]:
    _, began, _, entries, moments = event
    for entry, ended in zip(entries, moments, strict=False):
        if ended is not None:
            yield HOOK, began, ended, entry, None
            began = ended


def _spent(took: float, doors: float, metered: float | None, tick: float) -> tuple[float, float | None]:
    """Seconds in which a call waited, and in which it computed (None: below what the meter can see).

    Whatever computes for longer than one tick of the meter (`preemption.py`; 0: it is off) was seen by it. What is shorter
    did nothing else than compute while it did not wait for a door.
    """
    if metered is not None:
        return max(0.0, took - metered), min(metered, took)
    if not tick or took - doors <= tick:
        return doors, took - doors
    return took - tick, None


def _union(spans: list[tuple[float, float]]) -> float:
    """Seconds in which at least one of the doors was waited for: together() asks several at a time."""
    total, reached = 0.0, 0.0
    for began, ended in sorted(spans):
        total += max(0.0, ended - max(began, reached))
        reached = max(reached, ended)
    return total


def _text(line: str | bytes) -> str:
    return line.decode("utf-8", "backslashreplace") if isinstance(line, bytes) else line


_AUTH = re.compile(r"(\s*AUTH\b(?:\s+[A-Z0-9_-]{1,20}(?=\s|$))?).*", re.IGNORECASE | re.DOTALL)
"""A login (RFC 4954 4): the mechanism may be told, what stands behind it is a password."""


def _command(line: bytes | str) -> str:
    line = _text(line)
    hidden = _AUTH.fullmatch(line)
    return f"{hidden[1]} ..." if hidden else line


def _upstream(command: bytes | str, reply: object) -> list[str]:
    return [f"{_command(command)} -> {reply}" if command else f"failed: {reply}"]


def _hook(entry: Any, verdict: object) -> list[str]:
    if verdict is None:
        answer = "continue"
    elif isinstance(verdict, Verdict):
        answer = f"{verdict} at line {verdict.line}"
    else:
        answer = str(verdict)
    return [f"{entry.title}: {answer}"]


def _failure(entry: Any, lines: tuple[str, ...]) -> list[str]:
    return [f"{entry.title}: {lines[0]}", *lines[1:]]


_WORDS: dict[int, tuple[str, Callable[[Any, Any], list[str]]]] = {
    COMMAND: ("client", lambda line, _: [_command(line)]),
    HOOK: ("rule", _hook),
    FAILURE: ("failed", _failure),
    REPLY: ("reply", lambda reply, _: [str(reply)]),
    UPSTREAM: ("upstream", _upstream),
    DOOR: ("asked", lambda question, answer: [f"{question} -> {answer}"]),
    EDIT: ("edit", lambda text, copy: [f"{text} ({copy})" if copy is not None else str(text)]),
    NOTE: ("note", lambda text, _: [str(text)]),
}
