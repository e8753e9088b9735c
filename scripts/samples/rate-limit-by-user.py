"""Rate limit: a user who has logged in may send to so many recipients within an hour.

The counter stands in the store: it is the same for all processes, and a restart does not set it back. What is above the
limit is deferred, so that a mail program sends it later and a stolen password sends little.

    [rule.rate-limit-by-user]
    recipients = 500
    within = "1d"
"""

from smtpproxy.script import Duration, defer, log, settings, store


class Settings:
    recipients: int = 200
    within: Duration = "1h"


def on_rcpt(mail, rcpt):
    user = mail.client.login
    if user is None:
        return None
    sent = store.hit(user, within=settings.within)
    if sent > settings.recipients:
        log.warning("over the limit", user=user, recipients=sent)
        return defer("Too many recipients for now, try again later", code="450 4.7.1")
