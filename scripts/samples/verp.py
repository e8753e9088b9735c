"""VERP: each copy of a list's mail has a sender of its own, so that a bounce says who it is about.

Mail from news@lists.example.com to ann@example.org leaves with the sender news+ann=example.org@lists.example.com. That
takes one recipient a message: the others are deferred at once, and a mail server sends them by themselves. What comes
back is logged, and `rcpt.notes.bounced` names the reader.

    [rule.verp]
    senders = ["news@lists.example.com"]
"""

from smtpproxy.script import defer, log, settings

on_error = {"on_rcpt": "continue"}  # an address too long for it goes without


class Settings:
    senders: set[str] = {"news@lists.example.com"}


def on_rcpt(mail, rcpt):
    list_, plus, reader = rcpt.local_part.partition("+")
    if not mail.sender and plus and f"{list_}@{rcpt.domain}" in settings.senders:
        rcpt.notes.bounced = "@".join(reader.rsplit("=", 1))
        log.info("bounce of a list", list=list_, reader=rcpt.notes.bounced)
    elif mail.notes.list or str(mail.sender) in settings.senders:
        if mail.recipients:
            return defer("One recipient at a time", code="452 4.5.3")
        mail.notes.list = mail.notes.list or str(mail.sender)
        list_, _, domain = mail.notes.list.rpartition("@")
        mail.sender = f"{list_}+{rcpt.local_part}={rcpt.domain}@{domain}"
