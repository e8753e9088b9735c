"""Per-domain routing: mail for some domains goes to another server than the listener's.

A route names a [handoff.NAME] by domain; one that begins with a dot is for all subdomains. A message goes to one live
server at a time: a client that sends one mail for two of them is asked to send it again for the second (452), as RFC
5321 foresees for recipients that are too many.

    [rule.per-domain-routing]
    routes = { "example.net" = "exchange", ".example.org" = "lists" }
"""

from smtpproxy.script import settings


class Settings:
    routes: dict[str, str] = {}


def on_rcpt(mail, rcpt):
    domain = rcpt.domain
    while domain and rcpt.via is None:
        rcpt.via = settings.routes.get(domain)
        _, dot, parent = domain.lstrip(".").partition(".")
        domain = dot + parent
