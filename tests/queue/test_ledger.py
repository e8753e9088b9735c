"""What every engine of the queue promises: kept when it says so, one holder at a time, each recipient's result remembered."""

from __future__ import annotations

from collections.abc import Callable

import gevent

from smtpproxy.queue.envelope import Envelope, Party
from smtpproxy.queue.ledger import Again, Aside, Draft, Entry, Gone, Ledger, Result
from smtpproxy.testing.waiting import FixedClock

Reopen = Callable[[], Ledger]
CONTENT = b"Subject: x\r\n\r\ntext\r\n"


def envelope(clock: FixedClock, *names: str, id: str = "m1") -> Envelope:
    return Envelope(id, clock(), Party("a@client.example"), [Party(f"{name}@example.com") for name in names or ("b",)])


def held(ledger: Ledger, id: str = "m1", content: bytes = CONTENT) -> Draft:
    draft = ledger.draft(id)
    ledger.hold(draft, [content])
    return draft


def put(ledger: Ledger, mail: Envelope, content: bytes = CONTENT) -> None:
    ledger.add(held(ledger, mail.id, content), mail)


def content(ledger: Ledger, entry: Entry) -> bytes:
    return b"".join(ledger.body(entry).content())


def delivered(rcpt: int = 0) -> Result:
    return Result(rcpt, "delivered", "250 2.0.0 Ok", "mx.example.com:25")


def test_a_mail_is_there_with_its_envelope_and_body(reopen: Reopen, clock: FixedClock) -> None:
    put(reopen(), envelope(clock, "b", "c"))
    ledger = reopen()
    (entry,) = ledger.lease(10)
    assert entry.envelope.sender == Party("a@client.example")
    assert [party.path for party in entry.envelope.recipients] == ["b@example.com", "c@example.com"]
    assert (entry.attempts, entry.pending(), content(ledger, entry)) == (0, [0, 1], CONTENT)


def test_what_is_held_is_nobodys(reopen: Reopen, clock: FixedClock) -> None:
    ledger = reopen()
    held(ledger)
    assert ledger.lease(10) == []
    assert reopen().lease(10) == []


def test_what_was_dropped_is_gone(ledger: Ledger) -> None:
    draft = held(ledger)
    ledger.drop(draft)
    ledger.drop(draft)
    assert ledger.lease(10) == []


def test_a_body_may_come_in_pieces(ledger: Ledger, clock: FixedClock) -> None:
    draft = ledger.draft("m1")
    for number in range(20):
        ledger.write(draft, [b"%d\r\n" % number])
    ledger.hold(draft, [b"end\r\n"])
    ledger.add(draft, envelope(clock))
    (entry,) = ledger.lease(1)
    assert content(ledger, entry).endswith(b"19\r\nend\r\n")
    assert entry.envelope.size == len(content(ledger, entry))


def test_one_mail_may_be_kept_twice(ledger: Ledger, clock: FixedClock) -> None:
    drafts = [held(ledger, content=text) for text in (b"one\r\n", b"two\r\n")]
    for draft in drafts:
        ledger.add(draft, envelope(clock))
    assert [content(ledger, entry) for entry in ledger.lease(10)] == [b"one\r\n", b"two\r\n"]


def test_many_at_once_are_all_there(reopen: Reopen, clock: FixedClock) -> None:
    ledger = reopen()
    gevent.joinall([gevent.spawn(put, ledger, envelope(clock, id=f"m{n}")) for n in range(300)], raise_error=True)
    ledger = reopen()
    assert {entry.envelope.id for entry in ledger.lease(1000)} == {f"m{n}" for n in range(300)}


def test_a_leased_mail_is_nobody_elses(ledger: Ledger, clock: FixedClock) -> None:
    put(ledger, envelope(clock))
    assert len(ledger.lease(10)) == 1
    assert ledger.lease(10) == []


def test_what_its_holder_never_ended_is_due_again(reopen: Reopen, clock: FixedClock) -> None:
    ledger = reopen()
    put(ledger, envelope(clock))
    ledger.lease(10)
    assert len(reopen().lease(10)) == 1


def test_a_settled_mail_is_forgotten(reopen: Reopen, clock: FixedClock) -> None:
    ledger = reopen()
    put(ledger, envelope(clock))
    (entry,) = ledger.lease(10)
    ledger.record(entry, [delivered()], Gone())
    assert reopen().lease(10) == []


def test_a_mail_that_was_put_off_comes_at_its_time_and_not_before(ledger: Ledger, clock: FixedClock) -> None:
    put(ledger, envelope(clock))
    (entry,) = ledger.lease(10)
    ledger.record(entry, [Result(0, "deferred", "451 Later")], Again(clock() + 300))
    clock.now += 299
    assert ledger.lease(10) == []
    clock.now += 1
    (entry,) = ledger.lease(10)
    assert (entry.attempts, entry.results) == (1, {0: Result(0, "deferred", "451 Later")})


def test_who_has_it_is_remembered_by_the_next_process(reopen: Reopen, clock: FixedClock) -> None:
    ledger = reopen()
    put(ledger, envelope(clock, "b", "c", "d"))
    (entry,) = ledger.lease(10)
    ledger.record(entry, [delivered(1), Result(2, "failed", "550 No")])
    (entry,) = reopen().lease(10)
    assert entry.pending() == [0]
    assert entry.results[1] == delivered(1)


def test_the_clock_may_go_back(ledger: Ledger, clock: FixedClock) -> None:
    put(ledger, envelope(clock))
    clock.now -= 10 * 86400
    ledger.lease(10)
    assert len(ledger.lease(10)) == 1


def test_busy_domains_are_passed_over(ledger: Ledger, clock: FixedClock) -> None:
    put(ledger, envelope(clock))
    other = Envelope("m2", clock(), Party(""), [Party("x@Other.example")])
    put(ledger, other)
    (entry,) = ledger.lease(10, busy=["example.com"])
    assert entry.envelope.id == "m2"


def test_a_notice_comes_with_the_record_of_what_it_tells(reopen: Reopen, clock: FixedClock) -> None:
    ledger = reopen()
    put(ledger, envelope(clock))
    (entry,) = ledger.lease(10)
    notice = Envelope("n1", clock(), Party(""), [entry.envelope.sender])
    ledger.record(entry, [], Gone(), (held(ledger, "n1"), notice))
    (entry,) = reopen().lease(10)
    assert (entry.envelope.id, entry.envelope.sender.path) == ("n1", "")


def test_what_is_set_aside_is_not_sent(reopen: Reopen, clock: FixedClock) -> None:
    ledger = reopen()
    put(ledger, envelope(clock))
    (entry,) = ledger.lease(10)
    ledger.record(entry, [], Aside("odd"))
    assert reopen().lease(10) == []
