"""Archive: a copy of every mail to some domains is kept in a folder, one file each, whoever delivers the mail.

The copy is on disk before the client hears 250, and is dropped if the mail is refused after all. While the folder's disk
is full, mail for these domains is deferred: what must be archived is not delivered without.

    [handoff.archive]
    kind = "quarantine"
    folder = "archive"

    [rule.archive-copy]
    domains = ["example.com"]
"""

from smtpproxy.script import settings


class Settings:
    domains: set[str] = {"example.com"}
    handoff: str = "archive"


def on_message(mail):
    if any(rcpt.domain in settings.domains for rcpt in mail.recipients):
        mail.notes.quarantine_reason = "a copy for the archive"
        mail.add_copy(settings.handoff)
