"""Limits how much a client, a sender, a domain or a user may send within a time.

A limit is a list of rates such as `["100/1h", "1000/1d"]`: each is a sliding window, and all of them hold. Clients are
counted by network (`ipv4_prefix`, `ipv6_prefix`), senders by the envelope's address and by its domain (the null sender is
not counted), users by login. What has no room is refused and not counted: who tries again gets in when there is room.

Counted are connections when they come; errors (replies of 4xx and 5xx) when their connection has ended; recipients when
they are accepted; messages and octets when the message was taken, though their room is taken at MAIL already, so that many
connections at once do not overrun a limit. `client_concurrent` are connections at one time.

Unless set, only logins are limited. Clients in [relaying] networks are limited like others; `skip = ["trusted"]` spares them.

The counts stand in the store, the same for all processes. When it cannot answer, nothing is limited. The client is told
`text` whatever the limit is; the log says which it was, and `results`, name `limits`.
"""

from functools import lru_cache
from ipaddress import ip_network
from typing import Literal

from smtpproxy.script import Rate, cache, close, defer, deny, lists, log, settings, store

order = 5
on_error = "continue"

PARTIES = ("client", "sender", "domain", "user")
PLACE_KEPT = "1h"


class Settings:
    client_concurrent: int = 0
    """Connections of one network at one time; 0: any number. One that lasts longer than an hour counts no more."""
    client_connections: list[Rate] = []
    """Connections of one network; a server in front of this one that gives XCLIENT belongs into `exempt`."""
    client_errors: list[Rate] = []
    """Errors of one network; above it, its connections are refused."""
    client_messages: list[Rate] = []
    """Messages from one network."""
    client_recipients: list[Rate] = []
    """Recipients of what comes from one network."""
    client_bytes: list[Rate] = []
    """Octets from one network, `["500MB/1d"]`. What MAIL does not declare (SIZE) is known when the message is in."""
    sender_messages: list[Rate] = []
    """Messages of one sender's address."""
    sender_recipients: list[Rate] = []
    """Recipients of one sender's address."""
    sender_bytes: list[Rate] = []
    """Octets of one sender's address."""
    domain_messages: list[Rate] = []
    """Messages of all senders in one domain."""
    domain_recipients: list[Rate] = []
    """Recipients of all senders in one domain."""
    domain_bytes: list[Rate] = []
    """Octets of all senders in one domain."""
    user_messages: list[Rate] = []
    """Messages of one login."""
    user_recipients: list[Rate] = ["1000/1d"]
    """Recipients of one login."""
    user_bytes: list[Rate] = []
    """Octets of one login."""
    ipv4_prefix: int = 32
    """IPv4 clients count together when so many bits are the same."""
    ipv6_prefix: int = 64
    """The same for IPv6, where one machine has a whole /64."""
    exempt: list[str] = []
    """Networks whose clients are not limited; `file:PATH` for a list in a file."""
    exempt_users: list[str] = []
    """Logins that are not limited."""
    outcome: Literal["defer", "deny"] = "defer"
    """451 (421 for a connection), or 550 (554)."""
    text: str = "Too much for now, try again later"
    """What the client is told."""


EXEMPT = lists.networks(settings.exempt)


def configured(what):
    """[("client", "client_messages", [(100, 3600.0), ...]), ...]: who has limits of this kind."""
    rates = {party: getattr(settings, f"{party}_{what}") for party in PARTIES}
    return [(party, f"{party}_{what}", [(rate.count, rate.within) for rate in found]) for party, found in rates.items() if found]


MESSAGES, RECIPIENTS, BYTES = configured("messages"), configured("recipients"), configured("bytes")
COUNTED = {party for party, _, _ in (*MESSAGES, *RECIPIENTS, *BYTES)}
"""Parties that a mail counts for."""
BY_CONNECTION = bool(settings.client_concurrent or settings.client_connections or settings.client_errors)


def on_load():
    for name, bits in (("ipv4_prefix", 32), ("ipv6_prefix", 128)):
        if not 0 < getattr(settings, name) <= bits:
            raise ValueError(f"{name}: from 1 to {bits}")


# -- connections and errors ------------------------------------------------------------------------------------------


def on_connect(client):
    network = network_of(client.address)
    if not BY_CONNECTION or network is None or exempt(client):
        return None
    wanted = windows("client_connections", network, 1) + windows("client_errors", network, 0)
    if settings.client_concurrent:
        leave(client)
        place = f"client_concurrent {network}"
        wanted.append((place, settings.client_concurrent, PLACE_KEPT, client.id))
    if full := store.take(wanted):
        note(client.results, full)
        return close(settings.text, code="421 4.7.0" if settings.outcome == "defer" else "554 5.7.1")
    if settings.client_concurrent:
        cache.set(f"place {client.id}", place, expires=PLACE_KEPT)


def on_disconnect(client):
    counted = settled(client)
    network = network_of(client.address)
    if client.errors and network is not None and not exempt(client):
        counted += unlimited(windows("client_errors", network, client.errors))
    if counted:
        store.take(counted)
    if BYTES:
        cache.set(f"bytes {client.id}", None)
    if settings.client_concurrent:
        leave(client)


def leave(client):
    """Give back the place of this connection, whoever its client was: XCLIENT may have said another one since."""
    if place := cache.get(f"place {client.id}"):
        store.remove(place, client.id)
        cache.set(f"place {client.id}", None)


# -- mail ------------------------------------------------------------------------------------------------------------


def on_mail(mail, sender):
    client = mail.client
    who = parties(client, sender)
    if not who or exempt(client):
        return None
    declared = mail.size_declared or 0
    wanted = settled(client) + claims(MESSAGES, who, 1) + claims(BYTES, who, declared)
    if wanted and (full := store.take(wanted)):
        return refused(mail, full)
    mail.notes.limits = who
    if BYTES:
        expected = unlimited(claims(BYTES, who, 0))
        cache.set(f"bytes {client.id}", (client.octets, declared, expected), expires="1d")


def on_rcpt(mail, rcpt):
    who = mail.notes.limits
    if not RECIPIENTS or not who:
        return None
    wanted = claims(RECIPIENTS, who, 1)
    if wanted and (full := store.take(wanted)):
        return refused(mail, full)
    mail.notes.limits_taken = (mail.notes.limits_taken or 0) + 1


def on_data(mail):
    """Recipients that were refused by others are given back."""
    over = (mail.notes.limits_taken or 0) - len(mail.recipients)
    if over > 0 and (back := claims(RECIPIENTS, mail.notes.limits, -over)):
        store.take(back)
        mail.notes.limits_taken -= over


def on_reset(mail):
    """Nothing came of it: all is given back."""
    who = mail.notes.limits
    if not who:
        return
    back = claims(MESSAGES, who, -1) + claims(BYTES, who, -(mail.size_declared or 0))
    if taken := mail.notes.limits_taken:
        back += claims(RECIPIENTS, who, -taken)
    if back:
        store.take(back)
    if BYTES:
        cache.set(f"bytes {mail.client.id}", None)


def settled(client):
    """What the last mail was larger, or smaller, than it was said to be."""
    last = cache.get(f"bytes {client.id}") if BYTES else None
    if last is None:
        return []
    octets, declared, expected = last
    difference = client.octets - octets - declared
    return [(key, limit, within, difference) for key, limit, within, _ in expected] if difference else []


# -- what is counted ---------------------------------------------------------------------------------------------------


def parties(client, sender):
    """Under which names this mail counts."""
    who = {}
    if "client" in COUNTED and (network := network_of(client.address)):
        who["client"] = network
    if "sender" in COUNTED and sender:
        who["sender"] = str(sender).lower()
    if "domain" in COUNTED and sender:
        who["domain"] = sender.domain
    if "user" in COUNTED and client.login:
        who["user"] = client.login
    return who


def claims(limits, who, by):
    return [
        (f"{name} {who[party]}", count, within, by) for party, name, rates in limits if party in who for count, within in rates
    ]


def windows(name, network, by):
    return [(f"{name} {network}", rate.count, rate.within, by) for rate in getattr(settings, name)]


def unlimited(wanted):
    """To be counted whether there is room or not: it has happened."""
    return [(key, 0, within, by) for key, _, within, by in wanted]


@lru_cache(10_000)
def network_of(address):
    if not address:
        return None
    prefix = settings.ipv6_prefix if ":" in address else settings.ipv4_prefix
    return str(ip_network(f"{address}/{prefix}", strict=False))


def exempt(client):
    return (client.login is not None and client.login in settings.exempt_users) or client.address in EXEMPT


def refused(mail, full):
    note(mail.results, full)
    if settings.outcome == "defer":
        return defer(settings.text, code="451 4.7.1")
    return deny(settings.text, code="550 5.7.1")


def note(results, full):
    (limit, _, who), allowed, within = full[0].partition(" "), full[1], full[2]
    results.add("limits", "fail", limit=limit, who=who, allowed=allowed, within=within)
    log.warning("over the limit", limit=limit, who=who, allowed=allowed, within=within)
