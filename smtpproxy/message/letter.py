"""A message of ours: a text with what a header needs (RFC 5322 3.6)."""

from __future__ import annotations

from collections.abc import Sequence
from email.message import EmailMessage
from email.policy import SMTP


def letter(*, id: str, hostname: str, sender: str, to: Sequence[str], subject: str, text: str, date: str) -> bytes:
    """The message, its lines ended by CRLF, of seven bits but for addresses that are not (RFC 6532).

    `date` is of ``smtp_date``. Raises ValueError for a subject with a line end in it.
    """
    utf8 = not "".join((sender, *to)).isascii()
    message = EmailMessage(policy=SMTP.clone(utf8=utf8, cte_type="7bit"))
    message["From"] = sender
    message["To"] = ", ".join(to)
    message["Subject"] = _text(subject)
    message["Date"] = date
    message["Message-ID"] = f"<{id}@{hostname}>"
    message["Auto-Submitted"] = "auto-generated"  # RFC 3834 5
    message.set_content(_text(text))
    return message.as_bytes()


def _text(text: str) -> str:
    """Octets of a peer's that are no UTF-8 have no place in a text."""
    return text.encode("utf-8", "replace").decode()
