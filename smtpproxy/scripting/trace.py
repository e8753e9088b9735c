"""What happened in a session: a small ring of tuples, told as a story when somebody asks.

Recording is on the hot path and formats nothing: one tuple an event, (kind, began, ended, what, answer). Telling is
lazy.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any

from smtpproxy.scripting.verdict import Verdict

COMMAND, HOOK, REPLY, UPSTREAM, DOOR, EDIT, FAILURE, NOTE = range(8)
LIMIT = 400

Event = tuple[int, float, float, Any, Any]


class Trace:
    """The events of one session: what came before the first transaction, and those of the newest transaction.

    Times are seconds of `time.monotonic`. Older events than the newest LIMIT of a transaction are forgotten.
    """

    __slots__ = ("append", "events", "id", "prelude", "started")

    def __init__(self, id: str, limit: int = LIMIT) -> None:
        self.id = id
        self.started = time.monotonic()
        self.prelude: tuple[Event, ...] = ()
        self.events: deque[Event] = deque(maxlen=limit)
        self.append: Callable[[Event], None] = self.events.append

    def begin(self) -> None:
        """A transaction begins: what the one before it left is forgotten, the greeting is kept."""
        if not self.prelude:
            self.prelude = tuple(self.events)
        self.events.clear()

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


def story(trace: Trace, mail: Any = None) -> list[str]:
    """The newest transaction for people, a line an event: milliseconds since the connection, then who did what.

    `mail` (or anything with id, sender and recipients) heads it with the names of sender and recipients, those refused too.
    """
    lines = list(_heading(trace, mail))
    lines += _told(trace, trace.prelude)
    if len(trace.events) == trace.events.maxlen:
        lines.append("            ... earlier events of this transaction were forgotten ...")
    lines += _told(trace, trace.events)
    return lines


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


def _told(trace: Trace, events: Iterable[Event]) -> Iterable[str]:
    for kind, began, ended, what, answer in events:
        text, *more = _WORDS[kind](what, answer)
        took = f"  ({(ended - began) * 1000:.2f} ms)" if kind in (HOOK, UPSTREAM, DOOR) else ""
        yield f"{(began - trace.started) * 1000:9.1f}  {text}{took}"
        yield from (f"{'':13}{line}" for line in more)


def _text(line: str | bytes) -> str:
    return line.decode("utf-8", "backslashreplace") if isinstance(line, bytes) else line


def _command(line: bytes | str, _answer: object) -> list[str]:
    line = _text(line)
    verb, _, argument = line.partition(" ")
    if verb.upper() == "AUTH":
        line = f"{verb} {argument.split(' ')[0]} ..." if argument else verb
    return [f"client    {line}"]


def _hook(entry: Any, verdict: object) -> list[str]:
    if verdict is None:
        answer = "continue"
    elif isinstance(verdict, Verdict):
        answer = f"{verdict} at line {verdict.line}"
    else:
        answer = type(verdict).__name__
    return [f"rule      {entry.hook.name} {entry.rule.name} [{entry.rule.version}]: {answer}"]


def _failure(entry: Any, lines: tuple[str, ...]) -> list[str]:
    return [f"failed    {entry.hook.name} {entry.rule.name} [{entry.rule.version}]: {lines[0]}", *lines[1:]]


_WORDS: dict[int, Callable[[Any, Any], list[str]]] = {
    COMMAND: _command,
    HOOK: _hook,
    FAILURE: _failure,
    REPLY: lambda reply, _: [f"reply     {reply}"],
    UPSTREAM: lambda command, reply: [f"upstream  {_text(command)} -> {reply}"],
    DOOR: lambda question, answer: [f"asked     {question} -> {answer}"],
    EDIT: lambda text, _: [f"edit      {text}"],
    NOTE: lambda text, _: [f"note      {text}"],
}
