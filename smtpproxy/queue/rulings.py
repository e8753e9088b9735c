"""What rules say of deliveries: on_deliver before one, on_delivered, on_deferred and on_bounced behind it.

Asked are the rules of the listener where the mail came in, by the newest table.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any, NamedTuple

from smtpproxy.facts.client import Client, ListenerFacts
from smtpproxy.facts.delivery import Delivery
from smtpproxy.facts.missing import put
from smtpproxy.facts.recipient import Recipient, Sender
from smtpproxy.queue.classify import Classifier
from smtpproxy.queue.envelope import Party
from smtpproxy.queue.ledger import Entry, Result
from smtpproxy.queue.noted import carry, offer
from smtpproxy.scripting.loader import Rules
from smtpproxy.scripting.observers import observe
from smtpproxy.scripting.runner import Call, Chains, decide
from smtpproxy.scripting.trace import Trace
from smtpproxy.scripting.verdict import Verdict
from smtpproxy.wire.address import Address, parse_address
from smtpproxy.wire.reply import Reply

_REPLY = re.compile(r"(\d{3})(?: ([245]\.\d{1,3}\.\d{1,3}))? ?(.*)", re.DOTALL)


class Wording(NamedTuple):
    """What a rule writes to a sender; empty where it leaves that to the configuration."""

    subject: str = ""
    text: str = ""


class Rulings:
    """`doors` are what rules reach by name."""

    __slots__ = ("_classify", "_doors", "_rules")

    def __init__(self, rules: Rules, doors: Mapping[str, Any], classify: Classifier) -> None:
        self._rules = rules
        self._classify = classify
        self._doors = doors

    def before(self, entry: Entry, rcpts: Sequence[int], age: float) -> Reply | None:
        """The refusal of an attempt for these recipients: 4xx puts it off, 5xx ends it."""
        chains = self._chains(entry)
        if chains is None or not (chains.on_deliver or chains.observed):
            return None
        verdict, _ = self._ask(chains, "deliver", entry, [Result(rcpt, "deferred", "") for rcpt in rcpts], age)
        return verdict.reply() if verdict is not None and verdict.refusal else None

    def after(self, entry: Entry, results: Sequence[Result], age: float) -> None:
        """It is on disk what became of them."""
        chains = self._chains(entry)
        if chains is None or not (chains.on_delivered or chains.on_deferred or chains.observed):
            return
        for state in ("delivered", "deferred"):
            if found := [result for result in results if result.became == state]:
                self._ask(chains, state, entry, found, age)

    def bounced(self, entry: Entry, results: Sequence[Result], age: float) -> Wording | None:
        """They have failed for good: in which words the sender is to hear of it, None if not at all."""
        chains = self._chains(entry)
        if chains is None or not (chains.on_bounced or chains.observed):
            return Wording()
        verdict, delivery = self._ask(chains, "bounced", entry, results, age)
        return None if verdict is not None and verdict.refusal else Wording(delivery.notice_subject, delivery.notice)

    def _chains(self, entry: Entry) -> Chains | None:
        return self._rules.table.chains.get(entry.envelope.listener)

    def _ask(
        self, chains: Chains, moment: str, entry: Entry, results: Sequence[Result], age: float
    ) -> tuple[Verdict | None, Delivery]:
        envelope, parties = entry.envelope, [entry.envelope.recipients[result.rcpt] for result in results]
        delivery = Delivery(
            envelope.id,
            Sender(_address(envelope.sender), envelope.sender.params),
            [Recipient(_address(party), party.params) for party in parties],
            host=results[0].host,
            reply=_reply(results[0].reply),
            kind=self._classify(results[0].reply),
            attempts=entry.attempts + 1,
            age=age,
            bounced=moment == "bounced",
        )
        offer(envelope, parties, delivery)
        call = Call(trace=Trace(entry.envelope.id), doors=self._doors, client=_client(entry))
        verdict = decide(chains, chains.by_name.get(f"on_{moment}", ()), call, delivery)
        carry(delivery, delivery.recipients, envelope, parties)
        if chains.observed:
            observe(chains, f"watch_{moment}", call, delivery)
        return verdict, delivery


def _client(entry: Entry) -> Client:
    """As far as the envelope remembers who has sent it to us."""
    about = entry.envelope.client
    client = Client(entry.envelope.id, about.get("address", ""), 0, ListenerFacts(entry.envelope.listener, "", 0, "", "smtp"))
    put(client, "helo", about.get("helo", ""))
    put(client, "login", about.get("login"))
    return client


def _address(party: Party) -> Address:
    return parse_address(party.path) if party.path else Address("", "", "")


def _reply(text: str) -> Reply | None:
    match = _REPLY.fullmatch(text)
    if match is None:
        return None
    with suppress(ValueError):
        return Reply(int(match[1]), match[2] or "", match[3])
    return Reply(int(match[1]), "", match[3])
