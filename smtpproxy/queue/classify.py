"""What kind of failure a refusal is, by its enhanced code (RFC 3463, RFC 5248) and its words.

The first pattern of the table that is found in a reply ("550 5.1.1 No such user") decides. Words that say more than codes
stand in front of these: many servers have 5.7.1 for everything. What a configuration has of its own comes first of all.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from re import Pattern
from typing import Final

from smtpproxy.config.queue import ReplyClass

OTHER: Final = "other"

_TABLE: Final[tuple[tuple[str, str], ...]] = (
    # words that say more than any code
    ("greylisted", r"\bgr[ea]y-?list"),
    ("loop", r"\.4\.6\b|\b(?:mail|routing) loops?\b|loops back|too many hops|too many received"),
    ("blocked", r"\b(?:block|black|deny)-?list|\bd?n?s?rbl\b|dnsbl|spamhaus|spamcop|barracuda|poor reputation|\bbanned\b"),
    ("quota", r"sending (?:limit|quota)|(?:messages|mails|emails|recipients) (?:per|a|this) (?:minute|hour|day)"),
    ("full", r"\.2\.2\b|mailbox (?:is )?full|(?:over|out of|exceed\w*) (?:\w+ )?quota|quota (?:is )?(?:full|exceeded)|overquota"),
    ("tls", r"\.7\.(?:10|30)\b|starttls|requires? (?:tls|encryption)|tls (?:is )?required"),
    ("auth", r"\.7\.(?:8|9|2[0-7])\b|^53[05]\b|\b(?:spf|dkim|dmarc|ptr)\b|unauthenticated|authentication required|reverse dns"),
    ("rate", r"\.7\.28\b|\brate.?limit|throttl|too (?:fast|quickly)|too many (?:connections|messages|mails|sessions|concurrent)"),
    ("bad-domain", r"relay(?:ing)? (?:access )?(?:is )?(?:denied|not permitted|not allowed|prohibited)|null mx"),
    ("bad-mailbox", r"user unknown|(?:no such|unknown|invalid) (?:user|recipient|mailbox|address|account)"),
    ("bad-mailbox", r"(?:account|mailbox) (?:is |has been )?disabled"),
    ("spam", r"\bspam|\bjunk\b|\bvirus|malware|phish|\bbulk mail\b"),
    # codes
    ("bad-mailbox", r"^\d{3} \d\.(?:1\.[0136]|2\.1)\b"),
    ("bad-domain", r"^\d{3} \d\.(?:1\.(?:2|10)|4\.4)\b|^556\b"),
    ("too-large", r"^\d{3} \d\.(?:2\.3|3\.4)\b"),
    ("blocked", r"^\d{3} \d\.7\.(?:1 .*\bblock|25\b)"),
    ("policy", r"^\d{3} \d\.7\.\d"),
    ("rate", r"^\d{3} \d\.4\.5\b"),
    ("connection", r"^\d{3} \d\.4\.[1237]\b"),
    # words that are all that there is
    ("too-large", r"^552\b|too (?:large|big)|exceeds .{0,40}size"),
    ("bad-mailbox", r"(?:does|do)(?: not|n't) exist|mailbox (?:unavailable|not found)|recipient .{0,40}rejected"),
    ("blocked", r"\bblocked\b|access denied"),
    ("policy", r"\bpolicy\b"),
)  # fmt: skip
CLASSES: Final = (*dict.fromkeys(name for name, _ in _TABLE), OTHER)


class Classifier:
    """`own` patterns come first."""

    __slots__ = ("_patterns",)

    def __init__(self, own: Sequence[ReplyClass] = ()) -> None:
        table = tuple((name, re.compile(pattern, re.IGNORECASE)) for name, pattern in _TABLE)
        self._patterns: tuple[tuple[str, Pattern[str]], ...] = (*((it.name, it.pattern) for it in own), *table)

    def __call__(self, reply: str) -> str:
        """The kind of a refusal, one of CLASSES or of the configuration's; empty for what is none."""
        if reply[:1] not in ("4", "5"):
            return ""
        return next((name for name, pattern in self._patterns if pattern.search(reply)), OTHER)
