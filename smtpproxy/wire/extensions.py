"""Service extensions: what an EHLO reply offers (RFC 5321 4.1.1.1) and the parameters that come with each."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from re import Pattern

from smtpproxy.wire.reply import Reply

_KEYWORD_LINE = re.compile(r"([A-Za-z0-9][A-Za-z0-9_-]*)(?:[ \t=]+(.*))?")
_SIZE = re.compile(r"[0-9]{1,20}")


class Extensions(Mapping[str, str]):
    """Keywords in upper case with their parameter text ("" when none), in the order offered. Never changes."""

    __slots__ = ("_offered",)

    def __init__(self, offered: Mapping[str, str] | Iterable[tuple[str, str]] = ()) -> None:
        self._offered = {keyword.upper(): parameters for keyword, parameters in dict(offered).items()}

    @classmethod
    def parse(cls, lines: Sequence[str]) -> Extensions:
        """From the text lines of an EHLO reply after the first.

        Tolerant: lines that are no keyword are passed over, "AUTH=PLAIN" of old servers reads as "AUTH PLAIN",
        a keyword that comes twice gets the parameters of both.
        """
        offered: dict[str, list[str]] = {}
        for line in lines:
            match = _KEYWORD_LINE.fullmatch(line.strip())
            if match is not None:
                words = offered.setdefault(match[1].upper(), [])
                words.extend(word for word in (match[2] or "").split() if word not in words)
        return cls({keyword: " ".join(words) for keyword, words in offered.items()})

    @property
    def size(self) -> int | None:
        """The greatest message size in octets (RFC 1870 4); None when absent or 0: no limit is known."""
        words = self.get("SIZE", "").split()
        return (int(words[0]) or None) if words and _SIZE.fullmatch(words[0]) else None

    def limit(self, name: str) -> int:
        """One of the LIMITS (RFC 9422), "MAILMAX"; 0 where there is none."""
        return _limits(self.get("LIMITS", "")).get(name, 0)

    def reply(self, hostname: str, greeting: str = "") -> Reply:
        """The answer to EHLO. It carries no enhanced status code (RFC 2034 4)."""
        first = f"{hostname} {greeting}" if greeting else hostname
        return Reply(250, "", first, *[f"{key} {text}" if text else key for key, text in self._offered.items()])

    def __getitem__(self, keyword: str) -> str:
        return self._offered[keyword]

    def __contains__(self, keyword: object) -> bool:
        return keyword in self._offered

    def __iter__(self) -> Iterator[str]:
        return iter(self._offered)

    def __len__(self) -> int:
        return len(self._offered)

    def __repr__(self) -> str:
        return f"Extensions({self._offered!r})"


# What a proxy may offer depends on who has to keep the promise. These go to the upstream with the mail: offered only
# when both sides have them, with the upstream's parameters. Everything else is between the client and us.
_UPSTREAM_KEEPS = frozenset(
    ["8BITMIME", "BINARYMIME", "SMTPUTF8", "DSN", "MT-PRIORITY", "FUTURERELEASE", "DELIVERBY", "REQUIRETLS"]
)
# Offered to a client while nothing is known of the upstream: what we can keep whatever it turns out to be, and what
# ends at this hop anyway.
_WITHOUT_UPSTREAM = frozenset(["PIPELINING", "SIZE", "ENHANCEDSTATUSCODES", "STARTTLS", "AUTH", "XCLIENT", "XFORWARD"])


def intersect(ours: Extensions, upstream: Extensions | None) -> Extensions:
    """What to offer in front of an upstream; None: its offer was never learned. Nothing but ours is ever offered.

    SIZE and LIMITS are the smaller of both; REQUIRETLS stays out of `ours` unless the upstream hop is verified TLS
    (RFC 8689 4.2.1), which only the caller knows.
    """
    if upstream is None:
        return Extensions({keyword: text for keyword, text in ours.items() if keyword in _WITHOUT_UPSTREAM})
    offered: dict[str, str] = {}
    for keyword, text in ours.items():
        if keyword not in _UPSTREAM_KEEPS:
            offered[keyword] = _smaller(keyword, ours, upstream)
        # RFC 3030 3: BINARYMIME needs CHUNKING on both hops.
        elif keyword in upstream and (keyword != "BINARYMIME" or ("CHUNKING" in upstream and "CHUNKING" in ours)):
            offered[keyword] = upstream[keyword] or text
    return Extensions(offered)


def _smaller(keyword: str, ours: Extensions, upstream: Extensions) -> str:
    if keyword == "SIZE" and upstream.size is not None:
        return str(upstream.size if ours.size is None else min(ours.size, upstream.size))
    if keyword == "LIMITS" and "LIMITS" in upstream:
        limits = _limits(ours["LIMITS"])
        for name, value in _limits(upstream["LIMITS"]).items():
            limits[name] = min(value, limits.get(name, value))
        return " ".join(f"{name}={value}" for name, value in limits.items())
    return ours[keyword]


def _limits(text: str) -> dict[str, int]:
    """RFC 9422 3: names with a number; limits of other kinds are passed over."""
    pairs = (word.partition("=") for word in text.split())
    return {name.upper(): int(value) for name, _, value in pairs if _SIZE.fullmatch(value)}


# RFC 3461 4: xtext; the one below of text that is printable ASCII, as an ENVID and an ORCPT must be (4.2, 4.4): what it
# stands for comes into the fields of a notice.
_XTEXT = r"(?:[!-*,-<>-~]|\+[0-9A-F]{2})"
_PRINTABLE = r"(?:[!-*,-<>-~]|\+(?:[2-6][0-9A-F]|7[0-9A-E]))"
_UNITEXT = r"(?:[!-*,-<>-~\x80-\U0010ffff]|\+(?:[2-6][0-9A-F]|7[0-9A-E]))"
# RFC 3339 5.6
_DATE = r"[0-9]{4}-[0-9]{2}-[0-9]{2}"
_TIME = r"[0-9]{2}:[0-9]{2}:[0-9]{2}"

MAIL_PARAMETERS: Mapping[str, Mapping[str, Pattern[str] | None]] = {
    "SIZE": {"SIZE": _SIZE},  # RFC 1870 3
    "8BITMIME": {"BODY": re.compile(r"7BIT|8BITMIME", re.IGNORECASE)},  # RFC 6152 2
    "BINARYMIME": {"BODY": re.compile(r"7BIT|8BITMIME|BINARYMIME", re.IGNORECASE)},  # RFC 3030 3
    "SMTPUTF8": {"SMTPUTF8": None},  # RFC 6531 3.4
    "AUTH": {"AUTH": re.compile(rf"<>|{_XTEXT}+")},  # RFC 4954 5
    "DSN": {  # RFC 3461 4.3, 4.4
        "RET": re.compile(r"FULL|HDRS", re.IGNORECASE),
        "ENVID": re.compile(rf"(?=.{{1,100}}\Z){_PRINTABLE}+"),
    },
    "REQUIRETLS": {"REQUIRETLS": None},  # RFC 8689 2
    "MT-PRIORITY": {"MT-PRIORITY": re.compile(r"-?[0-9]")},  # RFC 6710 4
    "FUTURERELEASE": {  # RFC 4865 4
        "HOLDFOR": re.compile(r"[1-9][0-9]{0,8}"),
        "HOLDUNTIL": re.compile(rf"{_DATE}T{_TIME}(?:\.[0-9]+)?(?:Z|[+-][0-9]{{2}}:[0-9]{{2}})"),
    },
    "DELIVERBY": {"BY": re.compile(r"-?[0-9]{1,9};[NR]T?", re.IGNORECASE)},  # RFC 2852 4
}
"""Extension keyword to the MAIL parameters it brings and the form of their values; None: takes no value."""

RCPT_PARAMETERS: Mapping[str, Mapping[str, Pattern[str] | None]] = {
    "DSN": {  # RFC 3461 4.1, 4.2
        "NOTIFY": re.compile(r"NEVER|(?:SUCCESS|FAILURE|DELAY)(?:,(?:SUCCESS|FAILURE|DELAY)){0,2}", re.IGNORECASE),
        # RFC 6533 3: an address that is not ASCII has the type utf-8
        "ORCPT": re.compile(rf"(?=.{{1,500}}\Z)(?:[A-Za-z0-9-]+;{_PRINTABLE}+|(?i:utf-8);{_UNITEXT}+)"),
    },
}
"""Extension keyword to the RCPT parameters it brings and the form of their values."""


def parameters(
    offered: Iterable[str], table: Mapping[str, Mapping[str, Pattern[str] | None]]
) -> dict[str, Pattern[str] | None]:
    """What check_parameters wants: the parameters in `table` of all extensions in `offered`."""
    known: dict[str, Pattern[str] | None] = {}
    for keyword in sorted(offered):  # BINARYMIME comes behind 8BITMIME and widens BODY
        known.update(table.get(keyword, {}))
    return known
