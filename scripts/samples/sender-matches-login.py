"""A user who has logged in sends under an address of their own, and nobody else's.

That is the login name, if it is an address, and what `also` gives them: addresses, or "@example.com" for a whole domain.
The null sender is everybody's: receipts and other automatic answers have it.

    [rule.sender-matches-login]
    also = { "ann@example.com" = ["office@example.com", "@lists.example.com"] }
"""

from smtpproxy.script import deny, settings

on_error = "deny"


class Settings:
    also: dict[str, list[str]] = {}


def on_mail(mail, sender):
    user = mail.client.login
    if user and sender and not {str(sender), f"@{sender.domain}"} & {user, *settings.also.get(user, ())}:
        return deny(f"{sender} is not an address of {user}", code="553 5.7.1")
