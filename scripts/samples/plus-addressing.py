"""Plus addressing: ann+shop@example.com is ann@example.com, and the message says where it was sent to.

The tag is in `rcpt.notes.tag` for the rules behind this one. The field is added to mail for one recipient only: others
need not know under which address somebody was told of in a Bcc. Rules that check recipients belong behind this one.

    [rule.plus-addressing]
    domains = ["example.com"]
    separator = "-"
"""

from smtpproxy.script import settings


class Settings:
    domains: set[str] = {"example.com"}
    separator: str = "+"
    field: str = "X-Original-To"


def on_rcpt(mail, rcpt):
    user, separator, tag = rcpt.local_part.partition(settings.separator)
    if separator and user and rcpt.domain in settings.domains:
        rcpt.local_part = user
        rcpt.notes.tag = tag


def on_header(mail):
    if len(mail.recipients) == 1 and mail.recipients[0].notes.tag is not None:
        mail.header.add(settings.field, mail.recipients[0].original)
