"""What an observer sees: copies of the facts as they were, whose changes reach nobody."""

from __future__ import annotations

import copy
from typing import Any, TypeVar

from smtpproxy.facts.capabilities import Capabilities
from smtpproxy.facts.client import Client
from smtpproxy.facts.delivery import Delivery
from smtpproxy.facts.login import Login
from smtpproxy.facts.mail import Mail
from smtpproxy.facts.notes import Notes, Results, as_dict
from smtpproxy.facts.recipient import Recipient, Sender

P = TypeVar("P", Sender, Recipient)


def freeze(value: Any) -> Any:
    """A fact as it is now, a login without its proof; anything else is a value already."""
    if isinstance(value, Mail):
        return _mail(value)
    if isinstance(value, Client):
        return _client(value)
    if isinstance(value, Sender):
        return _party(value)
    if isinstance(value, Recipient):
        return _party(value)
    if isinstance(value, Delivery):
        return _delivery(value)
    if isinstance(value, Capabilities):
        return Capabilities(dict(value))
    if isinstance(value, Login):
        return Login(value.name, "", value.mechanism)
    return value


def _mail(mail: Mail) -> Mail:
    frozen = copy.copy(mail)
    frozen.client = _client(mail.client)
    frozen._recipients = [_party(rcpt) for rcpt in mail.recipients]
    frozen._sender = _party(mail.sender)
    frozen._notes = _notes(mail._notes)
    frozen._results = _results(mail._results)
    frozen._header = frozen._body = None
    if mail.copies:
        twins = {copy: copy.frozen(frozen) for copy in mail.copies}
        object.__setattr__(frozen, "_copies", tuple(twins.values()))
        for rcpt in frozen.recipients:
            object.__setattr__(rcpt, "copy", twins.get(rcpt.copy) if rcpt.copy else None)
    if mail.ledger is not None:
        frozen.ledger = mail.ledger.branch()
        frozen.ledger.close()
    return frozen


def _client(client: Client) -> Client:
    frozen = copy.copy(client)
    if not client.name_known:
        frozen._name = None  # looking on asks nothing of the world
    early = client.spoke_early
    frozen._ahead = lambda: early
    frozen._notes = _notes(client._notes)
    frozen._results = _results(client._results)
    frozen.forwarded = dict(client.forwarded)
    return frozen


def _party(party: P) -> P:
    frozen = copy.copy(party)
    frozen._notes = _notes(party._notes)
    return frozen


def _delivery(delivery: Delivery) -> Delivery:
    frozen = copy.copy(delivery)
    frozen.sender = _party(delivery.sender)
    frozen.recipients = [_party(rcpt) for rcpt in delivery.recipients]
    frozen.notes = _notes(delivery.notes) or Notes()
    return frozen


def _notes(notes: Notes | None) -> Notes | None:
    if notes is None:
        return None
    copied = Notes()
    for name, value in as_dict(notes).items():
        copied[name] = value
    return copied


def _results(results: Results | None) -> Results | None:
    if results is None:
        return None
    copied = Results()
    for result in results:
        copied.add(result.name, result.value, **result.keys)
    return copied
