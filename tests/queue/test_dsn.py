"""What a sender is still to hear of stands in the ledger: a process that died behind a delivery has lost no notice of it."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from smtpproxy.delivery.site import Outcome
from smtpproxy.queue import dsn
from smtpproxy.queue.envelope import Envelope, Party
from smtpproxy.queue.ledger import Again, Entry, Ledger, Result, State
from smtpproxy.wire.reply import Reply

OK, LATER, NO = Reply(250, "2.0.0", "Ok"), Reply(451, "4.3.0", "Later"), Reply(550, "5.1.1", "No")


def envelope(*notify: str, sender: str = "a@client.example") -> Envelope:
    parties = [Party(f"r{place}@example.com", {"NOTIFY": text} if text else {}) for place, text in enumerate(notify)]
    return Envelope("m1", 1_700_000_000.0, Party(sender), parties)


@pytest.mark.parametrize(
    ("notify", "outcome", "state", "after"),
    [
        ("SUCCESS", Outcome(OK), "relayed", "delivered"), ("SUCCESS", Outcome(OK, final=True), "received", "delivered"),
        ("FAILURE", Outcome(NO), "failed", "told"), ("", Outcome(NO), "failed", "told"),
        ("", Outcome(LATER), "deferred", "warned"), ("delay", Outcome(LATER), "deferred", "warned"),
    ],
)  # fmt: skip
def test_it_is_owed_until_it_was_told_also_by_another_process(
    reopen: Callable[[], Ledger], notify: str, outcome: Outcome, state: State, after: State
) -> None:
    ledger = reopen()
    draft = ledger.draft("m1")
    ledger.hold(draft, [b"Subject: x\r\n\r\n"])
    ledger.add(draft, envelope(notify, "NEVER"))
    (entry,) = ledger.lease(1)
    found = dsn.result(entry, 0, outcome)
    assert found.state == state
    ledger.record(entry, [found])
    ledger = reopen()
    (entry,) = ledger.lease(1)
    assert dsn.owed(entry, overdue=True) == [found]
    ledger.record(entry, [dsn.told(found)], Again(0.0))
    (entry,) = ledger.lease(1)
    assert (entry.results[0].state, dsn.owed(entry, overdue=True)) == (after, [])


def test_a_warning_is_given_once_however_often_it_is_put_off() -> None:
    entry = Entry(1, envelope(""), 3, {0: Result(0, "warned", "451 4.3.0 Later")})
    again = dsn.result(entry, 0, Outcome(LATER))
    assert (again.state, again.became, entry.pending()) == ("warned", "deferred", [0])


@pytest.mark.parametrize("notify", ["NEVER", "DELAY", "FAILURE"])
def test_success_is_told_to_those_who_want_it_alone(notify: str) -> None:
    assert dsn.result(Entry(1, envelope(notify), 0, {}), 0, Outcome(OK)).state == "delivered"


def test_nothing_is_owed_to_the_null_sender() -> None:
    results = {0: Result(0, "failed", "550 No"), 1: Result(1, "deferred", "451 Later")}
    entry = Entry(1, envelope("FAILURE", "DELAY", sender=""), 0, results)
    assert dsn.owed(entry, overdue=True) == []


@pytest.mark.parametrize(
    ("host", "name"),
    [
        ("mx.example.com:25", "mx.example.com"), ("192.0.2.1:25", "[192.0.2.1]"), ("[2001:db8::1]:25", "[IPv6:2001:db8::1]"),
        ("lmtp://store.example:24", "store.example"), ("lmtp+unix:/run/lmtp", "localhost"), ("", ""),
    ],
)  # fmt: skip
def test_the_name_of_the_server_that_answered(host: str, name: str) -> None:
    assert dsn.fate(envelope(""), Result(0, "failed", "550 No", host)).mta == name


def test_xtext_is_read_back() -> None:
    assert dsn.decoded("QQ+2B+3D1") == "QQ+=1"
