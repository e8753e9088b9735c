"""No spoofing: nobody outside sends as one of us.

Mail whose envelope sender is in our domains is taken from clients that have logged in, from [relaying] networks, and from
`hosts` (confirmed names; a leading dot for all hosts of a domain): those who send in our name, such as a newsletter
service.

    [rule.no-spoofing]
    domains = ["example.com"]
    hosts = [".newsletters.example.net"]
"""

from smtpproxy.script import deny, settings


class Settings:
    domains: set[str] = {"example.com"}
    hosts: list[str] = []


def on_mail(mail, sender):
    client = mail.client
    if sender.domain not in settings.domains or client.login or client.trusted:
        return None
    if client.name and any(f".{client.name}".endswith(f".{host.lstrip('.')}") for host in settings.hosts):
        return None
    return deny(f"Mail from {sender.domain} is not taken from your host; log in", code="550 5.7.1")
