"""Allow and deny lists of clients, HELO names, senders and recipients, in settings and in files.

An entry is a network (`192.0.2.0/24`), a name or domain (`example.com`; `.example.com` is all below it), an address
(`user@example.com`, `user@` anywhere), or `*`. `file:PATH` stands for a file with an entry on each line, read anew
within a second when it changes; a broken line is logged, and the last good list stays. In a deny list the text behind
an entry is what the client is told.

Each list is asked where its fact is known: networks and PTR names when a client connects, then the HELO name, the
sender, each recipient. Is something in both lists, the more specific entry decides: a longer prefix, an address before
a domain, a domain before those around it; if both are the same, it is allowed. What is in no list is let pass, and so is
what is in an allow list only: an allow list alone refuses nobody. For "nobody but these", deny `*`, or `0.0.0.0/0` and
`::/0`. A network is asked first: a client that it allows is not asked for its PTR name, and one that the first or the
second allows is not asked for its HELO name and its senders.

A PTR name counts only if the address is found under it again, and it is looked up only if there is a list of names.

```toml
[rule.access]
enabled = true
deny_networks = ["203.0.113.0/24", "file:blocked-networks"]
allow_networks = ["203.0.113.25"]
deny_helo = ["mx.example.com That is my own name"]
deny_senders = [".spam.example", "news@client.example"]
```
"""

from smtpproxy.script import deny, lists, settings

order = 10


class Settings:
    allow_networks: list[str] = []
    """Clients that are let in."""
    deny_networks: list[str] = []
    """Clients that are refused."""
    allow_names: list[str] = []
    """The same by their PTR names."""
    deny_names: list[str] = []
    """The same by their PTR names."""
    allow_helo: list[str] = []
    """Names in HELO and EHLO that may be used."""
    deny_helo: list[str] = []
    """Names in HELO and EHLO that only others have, such as our own."""
    allow_senders: list[str] = []
    """Senders that may send; `<>` is the null sender."""
    deny_senders: list[str] = []
    """Senders that are refused."""
    allow_recipients: list[str] = []
    """Recipients that may be written to; relay permission is another matter."""
    deny_recipients: list[str] = []
    """Recipients that are refused; the postmaster of a domain can be denied by the full address only."""


class Lists:
    """An allow list and a deny list for one kind of fact."""

    def __init__(self, make, allow, deny):
        self.allow = make(allow)
        self.deny = make(deny)
        self.used = bool(allow or deny)

    def decide(self, fact):
        """Whether it is allowed (None: it is in no list), and what the deny list says."""
        allowed, denied = self.allow.find(fact), self.deny.find(fact)
        if denied is not None and (allowed is None or denied.rank > allowed.rank):
            return False, denied
        return (None if allowed is None else True), None


NETWORKS = Lists(lists.networks, settings.allow_networks, settings.deny_networks)
NAMES = Lists(lists.domains, settings.allow_names, settings.deny_names)
HELO = Lists(lists.domains, settings.allow_helo, settings.deny_helo)
SENDERS = Lists(lists.addresses, settings.allow_senders, settings.deny_senders)
RECIPIENTS = Lists(lists.addresses, settings.allow_recipients, settings.deny_recipients)


def refused(results, denied, what, code):
    results.add("access", "fail", entry=denied.key)
    return deny(denied.value or f"{what} is not welcome here", code=code)


def on_connect(client):
    allowed, denied = NETWORKS.decide(client.address)
    if allowed is None and NAMES.used and client.name:
        allowed, denied = NAMES.decide(client.name)
    if denied:
        return refused(client.results, denied, "Your server", "554 5.7.1")
    client.notes.access_allowed = bool(allowed)


def on_ehlo(client, name):
    _, denied = HELO.decide(name)
    if denied and not client.notes.access_allowed:
        return refused(client.results, denied, "Your HELO name", "550 5.7.1")


def on_mail(mail, sender):
    _, denied = SENDERS.decide(sender)
    if denied and not mail.client.notes.access_allowed:
        return refused(mail.results, denied, "This sender", "550 5.7.1")


def on_rcpt(mail, rcpt):
    _, denied = RECIPIENTS.decide(rcpt)
    if denied and (denied.rank == 1000 or rcpt.local_part.lower() != "postmaster"):
        return refused(mail.results, denied, "This recipient", "550 5.7.1")
