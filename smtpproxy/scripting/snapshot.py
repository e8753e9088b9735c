"""What an observer sees: copies of the facts as they were. To change one is an error, in either language."""

from __future__ import annotations

import copy
from typing import Any, NoReturn, TypeVar

from smtpproxy.facts.capabilities import Capabilities
from smtpproxy.facts.client import Client
from smtpproxy.facts.delivery import Delivery
from smtpproxy.facts.login import Login
from smtpproxy.facts.mail import Mail
from smtpproxy.facts.missing import put
from smtpproxy.facts.notes import Notes, Results, as_dict
from smtpproxy.facts.recipient import Recipient, Sender

N = TypeVar("N", Mail, Client, Delivery)


class SnapshotChanged(AttributeError):
    """An observer tried to change what it looks on."""


class _Frozen:
    """In front of a fact: what a rule may do to it otherwise is refused."""

    __slots__ = ()
    _noun: str

    def assign(self, name: str, value: Any) -> None:
        raise SnapshotChanged(f"{self._noun}.{name} cannot be assigned by who looks on: this is a snapshot")

    def _refuse(self, *arguments: Any, **more: Any) -> NoReturn:
        raise SnapshotChanged(f"{self._noun} cannot be changed by who looks on: this is a snapshot")


class _Notes(_Frozen, Notes):
    __slots__ = ()
    _noun = "notes"
    __setattr__ = __setitem__ = __delattr__ = __delitem__ = _Frozen._refuse


class _Results(_Frozen, Results):
    __slots__ = ()
    add = _Frozen._refuse


class _Capabilities(_Frozen, Capabilities):
    __slots__ = ()
    __setitem__ = __delitem__ = _Frozen._refuse


class _Client(_Frozen, Client):
    __slots__ = ()


class _Sender(_Frozen, Sender):
    __slots__ = ()


class _Recipient(_Frozen, Recipient):
    __slots__ = ()


class _Mail(_Frozen, Mail):
    __slots__ = ()
    add_recipient = remove_recipient = copy_for = add_copy = skip_rule = keep_trace = _Frozen._refuse


class _Delivery(_Frozen, Delivery):
    __slots__ = ()


def freeze(value: Any) -> Any:
    """A fact as it is now, a login without its proof; anything else is a value already."""
    if isinstance(value, Mail):
        return _mail(value)
    if isinstance(value, Client):
        return _client(value)
    if isinstance(value, Sender | Recipient):
        return _party(value)
    if isinstance(value, Delivery):
        return _delivery(value)
    if isinstance(value, Capabilities):
        return _Capabilities(dict(value))
    if isinstance(value, Login):
        return Login(value.name, "", value.mechanism)
    return value


def _mail(mail: Mail) -> Mail:
    frozen = copy.copy(mail)
    frozen.client = _client(mail.client)
    frozen._recipients = [_party(rcpt) for rcpt in mail.recipients]
    put(frozen, "_sender", _party(mail.sender))
    frozen._header = frozen._body = None
    if mail.copies:
        twins = {copy: copy.frozen(frozen) for copy in mail.copies}
        put(frozen, "_copies", tuple(twins.values()))
        for rcpt in frozen.recipients:
            put(rcpt, "copy", twins.get(rcpt.copy) if rcpt.copy else None)
    if mail.ledger is not None:
        frozen.ledger = mail.ledger.branch()
        frozen.ledger.close()
    return _closed(frozen, _Mail, mail._notes, mail._results)


def _client(client: Client) -> Client:
    frozen = copy.copy(client)
    if not client.name_known:
        frozen._name = None  # looking on asks nothing of the world
    early = client.spoke_early
    frozen._ahead = lambda: early
    frozen.forwarded = dict(client.forwarded)
    return _closed(frozen, _Client, client._notes, client._results)


def _party(party: Any) -> Any:
    frozen = copy.copy(party)
    put(frozen, "_notes", _notes(party._notes))
    put(frozen, "__class__", _Sender if isinstance(party, Sender) else _Recipient)
    return frozen


def _delivery(delivery: Delivery) -> Delivery:
    frozen = copy.copy(delivery)
    frozen.sender = _party(delivery.sender)
    frozen.recipients = tuple(_party(rcpt) for rcpt in delivery.recipients)
    return _closed(frozen, _Delivery, delivery._notes, delivery._results)


def _closed(frozen: N, kind: type, notes: Notes | None, results: Results | None) -> N:
    put(frozen, "_notes", _notes(notes))
    put(frozen, "_results", _results(results))
    put(frozen, "__class__", kind)
    return frozen


def _notes(notes: Notes | None) -> Notes:
    copied = _Notes()
    if notes is not None:
        put(copied, "_values", as_dict(notes))
    return copied


def _results(results: Results | None) -> Results:
    copied = _Results()
    for result in results or ():
        Results.add(copied, result.name, result.value, **result.keys)
    return copied
