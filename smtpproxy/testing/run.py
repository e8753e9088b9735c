"""What came of a run: the answer, the facts as the rules left them, the edits, the log, the story."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from difflib import unified_diff
from functools import cached_property
from typing import Any

from smtpproxy.facts.client import Client
from smtpproxy.facts.mail import Mail
from smtpproxy.facts.notes import Results
from smtpproxy.scripting.trace import Trace, story
from smtpproxy.scripting.verdict import Verdict
from smtpproxy.testing.doors import Logged
from smtpproxy.testing.handoffs import Letter
from smtpproxy.testing.rehearsal import Played

FAILED = ("rule_failed", "rule_parked")
Records = Iterable[tuple[str, Mapping[str, Any]]]


class Run:
    """One hook, or one whole mail.

    `reply` is the refusal, "550 5.1.1 No such user", or "" when nobody refused; of a whole mail the reply that decided.
    """

    def __init__(
        self, what: str, reply: str, *, client: Client, mail: Mail, trace: Trace, records: Records, original: bytes
    ) -> None:
        self.what = what
        self.reply = reply
        self.client = client
        self.mail = mail
        self.original = original
        """The message as it came."""
        self.message = original
        """As it goes on, edited; without the Received field that is ours."""
        self.verdict: Verdict | None = None
        """Of a single hook."""
        self.replies: dict[str, str] = {}
        """By recipient, of a whole mail."""
        self.offer: Mapping[str, str] = {}
        """What EHLO would offer, of on_capabilities."""
        self.delivered: dict[str, Letter] = {}
        """What each hand-off was given, by its name; of a whole mail."""
        self.copies: list[Letter] = []
        """What they were given for recipients with a copy of their own, besides; of a whole mail."""
        self.log = [logged(fields) for event, fields in records if event == "rule"]
        """What the rules have logged."""
        self.failures = [failure(fields) for event, fields in records if event in FAILED]
        """How rules failed, "10-x.py:12: ValueError: ..."."""
        self._trace = trace

    @property
    def refused(self) -> bool:
        """Somebody said 4xx or 5xx."""
        return self.reply[:1] in ("4", "5")

    @property
    def accepted(self) -> bool:
        """Nobody refused."""
        return not self.refused

    @property
    def results(self) -> Results:
        """What checks found about the mail."""
        return self.mail.results

    @cached_property
    def story(self) -> str:
        """Everything that happened, as `smtpproxy try` tells it."""
        return "\n".join(story(self._trace, self.mail))

    @cached_property
    def diff(self) -> str:
        """The edits as `diff -u` prints them, "" without any."""
        return difference(self.original, self.message)

    def __repr__(self) -> str:
        """For whoever reads why a test failed."""
        said = self.reply or (str(self.verdict) if self.verdict is not None else "continue")
        return f"<{self.what}: {said}>"


def of_hook(hook: str, verdict: Verdict | None, facts: Mapping[str, Any], trace: Trace, records: Records, message: bytes) -> Run:
    """The run of one hook."""
    mail: Mail = facts["mail"]
    reply = str(verdict.reply()) if verdict is not None and verdict.refusal else ""
    run = Run(hook, reply, client=facts["client"], mail=mail, trace=trace, records=records, original=message)
    run.verdict = verdict
    run.offer = dict(facts["offer"])
    if mail.ledger is not None:
        run.message = b"".join(mail.ledger.view().content())
    return run


def of_mail(played: Played, mail: Mail, records: Records, message: bytes) -> Run:
    """The run of a whole mail; `mail` stands for it where it did not come to one."""
    facts = played.mail or mail
    run = Run(
        "mail", played.reply, client=played.client, mail=facts, trace=played.trace, records=records, original=message
    )
    run.replies = {command[5:]: str(reply) for command, reply in played.replies if command.startswith("RCPT ")}
    run.delivered = played.letters
    run.copies = played.copies
    for letter in played.letters.values():
        run.message = without_received(letter.content)
    return run


def logged(fields: Mapping[str, Any]) -> Logged:
    own = {name: value for name, value in fields.items() if name not in ("level", "rule", "text", "id")}
    return Logged(fields["level"], fields["rule"], fields["text"], own)


def failure(fields: Mapping[str, Any]) -> str:
    """In one line."""
    return f"{fields['at']}: {fields['error']}"


def without_received(content: bytes) -> bytes:
    """A message without its first field, which is the one that we put on top."""
    at = content.index(b"\r\n") + 2
    while content[at : at + 1] in (b" ", b"\t"):
        at = content.index(b"\r\n", at) + 2
    return content[at:]


def difference(before: bytes, after: bytes) -> str:
    """Two messages, line by line."""
    return "\n".join(unified_diff(_lines(before), _lines(after), "as it came", "as it goes", lineterm=""))


def _lines(content: bytes) -> list[str]:
    return content.decode("utf-8", "backslashreplace").removesuffix("\r\n").split("\r\n")
