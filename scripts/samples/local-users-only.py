"""Local users only: refuse recipients of our domains that nobody has.

An entry of `users` is an address, a name in all domains (`postmaster@`), or a file of such entries, one a line, which is
read again when it changes.

    [rule.local-users-only]
    domains = ["example.com", "example.org"]
    users = ["postmaster@", "alice@example.com", "file:users"]
"""

from smtpproxy.script import deny, lists, settings


class Settings:
    domains: set[str] = {"example.com"}
    users: list[str] = ["postmaster@", "abuse@"]


def on_rcpt(mail, rcpt):
    if rcpt.domain in settings.domains and not lists.addresses(settings.users).has(rcpt):
        return deny("No such user", code="550 5.1.1")
