"""Greylisting in ten lines: who has never written to somebody is asked to come back in five minutes.

Mail servers do; much of what sends spam does not. What is known stands in the store: all processes see it, and a restart
does not forget it. Clients of one network (/24, /64) count as one: large senders come back from another address.

    [rule.greylist-lite]
    wait = "10m"
    skip = ["authenticated", "trusted"]
"""

from ipaddress import ip_network

from smtpproxy.script import Duration, defer, settings, store


class Settings:
    wait: Duration = "5m"
    window: Duration = "1d"
    known: Duration = "35d"


def on_rcpt(mail, rcpt):
    address = mail.client.address
    network = ip_network(f"{address}/{64 if ':' in address else 24}", strict=False)
    who = f"{network} {mail.sender} {rcpt}"
    if not store.get(f"seen {who}"):
        store.set(f"seen {who}", True, expires=settings.window)
        store.set(f"wait {who}", True, expires=settings.wait)
    if store.get(f"wait {who}"):
        return defer("We do not know you yet; please come back in a few minutes", code="451 4.7.1")
    store.set(f"seen {who}", True, expires=settings.known)
