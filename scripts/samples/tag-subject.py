"""Tag the Subject of mail from outside, so that nobody takes it for a colleague's.

From outside is who has not logged in and comes from none of [relaying] networks. A Subject that has the tag already
(an answer) stays as it is. Let this run behind what verifies DKIM: a changed Subject breaks most signatures.

    [rule.tag-subject]
    tag = "[EXTERNAL]"
"""

from smtpproxy.script import settings


class Settings:
    tag: str = "[EXTERNAL]"


def on_header(mail):
    if mail.client.login or mail.client.trusted:
        return
    subject = mail.header.get("Subject", "")
    if settings.tag not in subject:
        mail.header["Subject"] = f"{settings.tag} {subject}"
