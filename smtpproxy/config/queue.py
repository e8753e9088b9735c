"""[queue] and [route.DOMAIN]: mail that is kept here and delivered afterwards."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Literal

from msgspec import Meta, Struct

from smtpproxy.config.about import Count, about
from smtpproxy.config.template import NoticeText
from smtpproxy.config.values import BadValue, Duration, Rate, Size, Target

_KIND = re.compile(r"[a-z][a-z0-9-]*")


class ReplyClass:
    """A kind of refusal and the words by which it is known. Written "greylisted: come back later"; the words are a regular
    expression, upper and lower case alike."""

    __slots__ = ("name", "pattern")

    def __init__(self, name: str, pattern: re.Pattern[str]) -> None:
        self.name = name
        self.pattern = pattern

    @classmethod
    def parse(cls, raw: object) -> ReplyClass:
        name, _, pattern = raw.partition(":") if isinstance(raw, str) else ("", "", "")
        if not _KIND.fullmatch(name) or not pattern.strip():
            raise BadValue(f"expected a kind and a pattern, got {raw!r}", '"greylisted: come back later"')
        try:
            return cls(name, re.compile(pattern.strip(), re.IGNORECASE))
        except re.error as wrong:
            raise BadValue(f"{pattern.strip()!r} is no regular expression: {wrong}") from None

    def __str__(self) -> str:
        return f"{self.name}: {self.pattern.pattern}"


class QueueTimeouts(Struct, frozen=True, kw_only=True):
    """How long a server may take at each step when mail is sent from the queue (RFC 5321 4.5.3.2)."""

    connect: Annotated[Duration, about("To accept the connection.")] = Duration(30)
    greeting: Annotated[Duration, about("From the connection to its greeting, and to answer EHLO.")] = Duration(300)
    mail: Annotated[Duration, about("To answer MAIL and each RCPT.")] = Duration(300)
    data: Annotated[Duration, about("To answer DATA.")] = Duration(120)
    block: Annotated[Duration, about("To take each block of the message.")] = Duration(180)
    final: Annotated[Duration, about("To answer the end of the message. Whoever is less patient delivers twice.")] = Duration(600)


class Notice(Struct, frozen=True, kw_only=True):
    """Notices to senders. The texts have places for values: %(recipients)s with what was said of each, %(sender)s, %(hostname)s,
    %(id)s of the mail, %(arrival)s, and %(until)s, when the last attempt is made."""

    full: Annotated[
        Size, about("A mail up to this size is given back whole where its sender wants that (RET=FULL); of others the header is.")
    ] = Size(64 << 10)
    failed_subject: Annotated[str, about("The subject where a recipient could not be reached.")] = "Mail could not be delivered"
    failed: Annotated[NoticeText, about("The text for those recipients.")] = NoticeText(
        "Your mail could not be delivered to these recipients:\n\n%(recipients)s"
    )
    delayed_subject: Annotated[str, about("The subject of a warning.")] = "Mail is delayed"
    delayed: Annotated[NoticeText, about("The text for those recipients.")] = NoticeText(
        "Your mail could not be delivered to these recipients yet. We go on trying until\n%(until)s; "
        "it need not be sent again.\n\n%(recipients)s"
    )
    relayed_subject: Annotated[str, about("The subject where the next server sends no notices.")] = "Mail was handed on"
    relayed: Annotated[NoticeText, about("The text for those recipients.")] = NoticeText(
        "Your mail was handed to the servers of these recipients, which may send no notice\nof its delivery:\n\n%(recipients)s"
    )
    delivered_subject: Annotated[str, about("The subject where all was delivered.")] = "Mail was delivered"
    delivered: Annotated[NoticeText, about("The text for those recipients.")] = NoticeText(
        "Your mail was delivered to these recipients:\n\n%(recipients)s"
    )


class Queue(Struct, frozen=True, kw_only=True):
    """Mail that is kept here and delivered afterwards: what a hand-off of kind queue takes."""

    retry: Annotated[
        tuple[Duration, ...], Meta(min_length=1, description="Waits between the attempts; the last one repeats.")
    ] = (Duration(300), Duration(1800), Duration(7200), Duration(21600))
    lifetime: Annotated[
        Duration, about("What could not be delivered for so long goes back to its sender.")
    ] = Duration(5 * 86400)
    notice_lifetime: Annotated[
        Duration, about("The same for mail with the null sender, which is set aside then; at most `lifetime`.")
    ] = Duration(2 * 86400)
    warn: Annotated[
        Duration, about("After so long the sender of a mail that still waits is told of it, once; 0 for never.")
    ] = Duration(4 * 3600)
    hold: Annotated[
        Duration, about("For so long clients may have mail held back (FUTURERELEASE, RFC 4865); 0: that is not offered.")
    ] = Duration(0)
    classes: Annotated[
        tuple[ReplyClass, ...],
        about(
            'Refusals by their words, before the kinds that are known: "greylisted: come back later". The words are a regular '
            "expression; the kind stands in the log and is `delivery.kind` for rules."
        ),
    ] = ()
    connections: Annotated[Count, about("Connections at one time to one destination, for each worker; 0 for any number.")] = 20
    min_free: Annotated[
        Size, about("Octets of the disk that stay free: mail that would need them is answered 452 at RCPT; 0 for no such floor.")
    ] = Size(75 << 20)
    submissions: Annotated[
        Rate, about("Mails that a rule may submit() in so much time, for each rule and each worker; then it is an error there.")
    ] = Rate.parse("1000/1h")
    helo: Annotated[str, about("The name given in EHLO; empty for the instance's hostname.")] = ""
    timeouts: Annotated[QueueTimeouts, about("How long a server may take.")] = QueueTimeouts()
    notice: Annotated[Notice, about("What senders are told.")] = Notice()


class Route(Struct, frozen=True, kw_only=True):
    """Where mail for a domain goes instead of to its mail exchangers. The name is the domain; "*" is for all others."""

    to: Annotated[
        tuple[Target, ...],
        Meta(
            min_length=1,
            description='Servers, tried in this order: "host:port", "smtp://host:port", "lmtp://host:port" or "lmtp+unix:/path".',
        ),
    ]
    tls: Annotated[
        Literal["none", "may", "must", "verify"],
        about(
            "may: encrypted when the server offers STARTTLS, whatever its certificate; not on the loopback. "
            "must: encrypted or not at all. verify: its certificate must be good for its name, too."
        ),
    ] = "may"
    login: Annotated[str, about("The name that we log in with there: over TLS, or on this machine.")] = ""
    password_file: Annotated[Path | None, about("The password of that name: the first line of this file.")] = None
