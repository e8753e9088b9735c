"""Headers: what must be there, what must not be there twice, dates, loops, sizes (RFC 5322 3.6, RFC 5321 6.3).

Each check refuses, tags or is off, as its setting says. A tag is a field that names what is wrong, and in any case
`mail.results` says it under `headers`. Servers that send for their own users may leave out a Date or a From: say
`skip = ["authenticated"]` where users send.

```toml
[rule.headers]
enabled = true
required = ["From", "Date", "Message-ID"]
date = "refuse"
skip = ["authenticated"]
```
"""

from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Literal

from smtpproxy.script import deny, settings

order = 40

Answer = Literal["refuse", "tag", "off"]


class Settings:
    required: list[str] = ["From", "Date"]
    """Fields that must be there."""
    missing: Answer = "refuse"
    """What becomes of mail that lacks one."""
    singular: list[str] = [
        "Date", "From", "Sender", "Reply-To", "To", "Cc", "Bcc", "Message-ID", "In-Reply-To", "References", "Subject",
    ]  # fmt: skip
    """Fields that may be there once."""
    repeated: Answer = "refuse"
    """What becomes of mail that has one twice."""
    days_old: float = 15
    """How old a Date may be, in days."""
    days_new: float = 2
    """How far in the future it may be, in days."""
    date: Answer = "tag"
    """What becomes of mail with such a Date, or with one that is no date."""
    max_received: int = 50
    """How many servers it may have come through."""
    loop: Answer = "refuse"
    """What becomes of mail that came through more, or has one of its recipients in Delivered-To: it goes in circles."""
    max_size: int = 131072
    """Octets that the header may have."""
    max_fields: int = 1000
    """Fields that it may have."""
    size: Answer = "refuse"
    """What becomes of mail with a larger header."""
    tag: str = "X-Header-Check"
    """The field that names what is wrong."""


def missing(mail):
    for name in settings.required:
        if not (mail.header[name] or "").strip():
            return f"{name} is missing"


def repeated(mail):
    for name in settings.singular:
        if len(mail.header.get_all(name)) > 1:
            return f"{name} is there more than once"


def date(mail):
    text = mail.header["Date"]
    if text is None:
        return None
    try:
        found = parsedate_to_datetime(text)
        age = datetime.now(UTC) - (found if found.tzinfo else found.replace(tzinfo=UTC))
    except (ValueError, TypeError, OverflowError):
        return "Date is no date"
    if age > timedelta(days=settings.days_old):
        return "Date is too long ago"
    if age < timedelta(days=-settings.days_new):
        return "Date is in the future"


def loop(mail):
    if len(mail.header.get_all("Received")) > settings.max_received:
        return f"came through more than {settings.max_received} servers"
    delivered = {address.strip(" <>\t").lower() for address in mail.header.get_all("Delivered-To")}
    for rcpt in mail.recipients if delivered else ():
        if str(rcpt).lower() in delivered:
            return "was delivered to its recipient before"


def size(mail):
    if len(mail.header) > settings.max_fields:
        return f"has more than {settings.max_fields} fields"
    if sum(len(name) + len(value) + 4 for name, value in mail.header) > settings.max_size:
        return f"has more than {settings.max_size} octets"


CHECKS = (
    (loop, settings.loop, "554 5.4.6"),
    (size, settings.size, "552 5.3.4"),
    (missing, settings.missing, "550 5.6.0"),
    (repeated, settings.repeated, "550 5.6.0"),
    (date, settings.date, "550 5.6.0"),
)


def on_header(mail):
    found = [(check(mail), answer, code) for check, answer, code in CHECKS if answer != "off"]
    wrong = [(text, answer, code) for text, answer, code in found if text]
    mail.results.add("headers", "fail" if wrong else "pass", wrong=[text for text, _, _ in wrong])
    mail.header.remove(settings.tag)
    for text, answer, code in wrong:
        if answer == "refuse":
            return deny(f"The header of this mail is refused: {text}", code=code)
    if wrong:
        mail.header.prepend(settings.tag, "; ".join(text for text, _, _ in wrong))
