"""What EHLO offers: ours, intersected with what the next server can carry, and the MAIL and RCPT parameters that follow."""

from __future__ import annotations

from collections.abc import Mapping
from re import Pattern

from smtpproxy.config.limits import Limits
from smtpproxy.wire.extensions import MAIL_PARAMETERS, RCPT_PARAMETERS, Extensions, intersect, parameters


class Offer:
    """What one EHLO answer offered, ready to be said, and the parameters that MAIL and RCPT may therefore carry."""

    __slots__ = ("extensions", "mail_parameters", "rcpt_parameters", "reply", "size", "utf8")

    def __init__(self, extensions: Extensions, hostname: str) -> None:
        self.extensions = extensions
        self.reply = extensions.reply(hostname)
        self.size = extensions.size or 0
        self.utf8 = "SMTPUTF8" in extensions
        self.mail_parameters: Mapping[str, Pattern[str] | None] = parameters(extensions, MAIL_PARAMETERS)
        self.rcpt_parameters: Mapping[str, Pattern[str] | None] = parameters(extensions, RCPT_PARAMETERS)


class Offers:
    """The offers that most sessions share, made once per state of the upstream."""

    __slots__ = ("_made", "encrypted", "ours")

    def __init__(self, ours: Extensions) -> None:
        self.ours = ours
        """What this server can do by itself."""
        self.encrypted: Offers = self if "REQUIRETLS" in ours else Offers(Extensions({**ours, "REQUIRETLS": ""}))
        """Those for clients that speak TLS (RFC 8689 4.1)."""
        self._made: dict[tuple[str, bool, str], tuple[Extensions | None, Offer]] = {}

    def get(self, announced: Extensions | None, hostname: str, starttls: bool, auth: str) -> Offer:
        """The offer in front of an upstream that announced ``announced`` (None: never learned)."""
        known = self._made.get((hostname, starttls, auth))
        if known is not None and known[0] is announced:
            return known[1]
        offer = Offer(intersect(with_security(self.ours, starttls, auth), announced), hostname)
        self._made[hostname, starttls, auth] = (announced, offer)
        return offer


def with_security(extensions: Extensions, starttls: bool, auth: str) -> Extensions:
    """STARTTLS where it can begin now (RFC 3207), and AUTH with its mechanisms (RFC 4954 3) where there are some."""
    more = {"STARTTLS": ""} if starttls else {}
    return Extensions({**extensions, **more, **({"AUTH": auth} if auth else {})}) if starttls or auth else extensions


def own_extensions(limits: Limits) -> Extensions:
    """What we do ourselves, within the limits of RFC 1870 4 (0: none) and RFC 9422."""
    most = {"RCPTMAX": limits.recipients, "MAILMAX": limits.messages}
    announced = " ".join(f"{name}={most}" for name, most in most.items() if most)
    return Extensions(
        {
            "PIPELINING": "",
            "SIZE": f"{int(limits.message_size)}",
            "8BITMIME": "",
            "SMTPUTF8": "",
            "CHUNKING": "",
            "BINARYMIME": "",
            "DSN": "",
            "FUTURERELEASE": "",
            "DELIVERBY": "",
            "MT-PRIORITY": "",
            "ENHANCEDSTATUSCODES": "",
            **({"LIMITS": announced} if announced else {}),
        }
    )
