"""What rules have noted about a mail, on its way through the queue: into the envelope, and to the hooks of its deliveries."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec

from smtpproxy.facts.delivery import Delivery
from smtpproxy.facts.mail import Mail
from smtpproxy.facts.notes import Notes, as_dict
from smtpproxy.facts.recipient import Recipient
from smtpproxy.queue.envelope import Envelope, Party

LIMIT: Final = 1 << 16
"""Octets that an envelope has for notes and results, of mail, sender and recipients together."""

_encode = msgspec.msgpack.Encoder().encode


def carry(about: Mail | Delivery, rcpts: Sequence[Recipient], envelope: Envelope, parties: Sequence[Party]) -> None:
    """Into the envelope: what is noted of the mail, and of these recipients into these places."""
    if about._notes is not None:
        envelope.notes = as_dict(about._notes)
    if about._results is not None:
        envelope.results = [(result.name, result.value, result.keys) for result in about._results]
    for address, party in zip((about.sender, *rcpts), (envelope.sender, *parties), strict=True):
        if address._notes is not None:
            party.notes = as_dict(address._notes)


def fit(envelope: Envelope) -> list[str]:
    """Leave out what there is no room for and what cannot be written down; the names of that."""
    room = _Room()
    envelope.notes = room.notes("mail", envelope.notes)
    envelope.results = [result for result in envelope.results if room.takes(f"results {result[0]}", result)]
    for party in (envelope.sender, *envelope.recipients):
        party.notes = room.notes(party.path, party.notes)
    return room.left_out


def offer(envelope: Envelope, parties: Sequence[Party], delivery: Delivery) -> None:
    """Out of the envelope: what ``carry`` has put there, to a delivery to these recipients."""
    for name, word, keys in envelope.results:
        delivery.results.add(name, word, **keys)
    _note(envelope.notes, delivery.notes)
    for party, address in zip((envelope.sender, *parties), (delivery.sender, *delivery.recipients), strict=True):
        if party.notes:
            _note(party.notes, address.notes)


def _note(values: Mapping[str, Any], notes: Notes) -> None:
    for name, value in values.items():
        notes[name] = value


class _Room:
    """How much is left, and what found none."""

    __slots__ = ("left", "left_out")

    def __init__(self) -> None:
        self.left = LIMIT
        self.left_out: list[str] = []

    def notes(self, owner: str, notes: dict[str, Any]) -> dict[str, Any]:
        return {name: value for name, value in notes.items() if self.takes(f"{owner} {name}", (name, value))}

    def takes(self, title: str, value: Any) -> bool:
        try:
            size = len(_encode(value))
        except UnicodeEncodeError:  # octets of a peer's that are no UTF-8
            size = LIMIT + 1
        if size > self.left:
            self.left_out.append(title)
            return False
        self.left -= size
        return True
