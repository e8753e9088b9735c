"""Mail of a rule's own: taken by the queue, and on disk before the rule goes on."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple, Protocol

from smtpproxy.scripting.doors.base import rule_name, running_call, through
from smtpproxy.wire.address import Address, parse_address

NAME = "submit"


class SubmitError(Exception):
    """The mail was not taken, and will not be sent; str() says why."""


class Submission(NamedTuple):
    """A mail as a rule gives it: `content` is a whole message, else one is made of `subject` and `text`."""

    rule: str
    sender: Address | None
    recipients: tuple[Address, ...]
    subject: str
    text: str
    content: bytes | None


class Submitter(Protocol):
    """Whatever takes it: the queue, or a stand-in in a test."""

    def submit(self, submission: Submission) -> str:
        """The mail's id; it is on disk then. Blocks this greenlet only. Raises SubmitError."""


def submit(
    to: str | Address | Iterable[str | Address],
    subject: str = "",
    text: str = "",
    sender: str | Address = "",
    content: str | bytes | None = None,
) -> str:
    """Send a mail: a text with its subject, or a whole message as `content`. Its id, once the queue has it on disk.

    Without a sender nobody is told when it cannot be delivered. No rule is asked about it. Raises SubmitError when the queue
    cannot take it, or this rule has submitted more than [queue] submissions allows; AddressError for what is no address.
    """
    rule = rule_name(running_call(NAME))
    recipients = tuple(map(_address, [to] if isinstance(to, str | Address) else to))
    if not recipients or not all(address.domain for address in recipients):
        raise ValueError("submit() needs recipients, each with a domain")
    if not (isinstance(subject, str) and isinstance(text, str)):
        raise TypeError("submit() takes a text, and a text for its subject")
    submission = Submission(rule, _address(sender) if sender else None, recipients, subject, text, _octets(content))

    def ask(submitter: Submitter) -> str:
        return submitter.submit(submission)

    return through(NAME, f"submit to {', '.join(map(str, recipients))}", ask)


def _address(given: str | Address) -> Address:
    return given if isinstance(given, Address) else parse_address(given)


def _octets(content: str | bytes | None) -> bytes | None:
    return content.encode("utf-8", "surrogateescape") if isinstance(content, str) else content
