"""Refuse mail with a virus, as ClamAV's clamd sees it. [scanner.clamav] says where clamd is.

While no clamd can be asked, mail is deferred and its senders try again: nothing passes unscanned. A scan of a large mail
takes longer than the five seconds that a rule usually has:

    [rule.virus-scan]
    wall = "60s"
"""

from smtpproxy.script import clamav, deny, log

on_error = "defer"
on_timeout = "defer"


def on_message(mail):
    scan = clamav.scan(mail)
    if scan.infected:
        log.info("virus", name=scan.name, sender=str(mail.sender))
        return deny(f"Virus found: {scan.name}", code="554 5.7.1")
