"""Room: memory for messages and edits, space on the disk. What there is none for is told 452 and comes again."""

from __future__ import annotations

import gc
from collections.abc import Callable

import pytest

from smtpproxy.config.limits import Limits
from smtpproxy.config.values import Size
from smtpproxy.message.body import BodyWriter
from smtpproxy.message.budget import Budget
from smtpproxy.message.edits import Ledger, NoRoom
from smtpproxy.message.header import HeaderBlock
from smtpproxy.testing.front import ENVELOPE, Front
from smtpproxy.testing.handoffs import FakeOutlet
from smtpproxy.testing.waiting import until

KILO = 1 << 10
STORE = "def on_message(mail): pass\n"
HOLD = """
from smtpproxy.script import sleep
def on_message(mail):
    if mail.body.size > 1000: sleep(1)
"""
LARGE = b"Subject: x\r\n\r\n" + b"y" * 50 * KILO + b"\r\n"

Begin = Callable[..., Front]


@pytest.fixture
def front(front: Begin) -> Begin:
    def make(rule: str = "", **limits: int) -> Front:
        given = Limits(**{name: Size(value) for name, value in limits.items()})
        return front(rule, limits=given)

    return make


def test_a_message_that_would_not_fit_is_refused_at_mail_and_the_next_one_is_taken(front: Begin, out: FakeOutlet) -> None:
    it = front(STORE, memory=100 * KILO)
    client = it.client()
    assert str(client.send(f"MAIL FROM:<a@client.example> SIZE={101 * KILO}")).startswith("452 4.3.1")
    assert it.logged("refused")[-1]["by"].startswith("[limits] memory")
    for line in ENVELOPE:
        client.send(line)
    assert client.message(LARGE).code == 250
    assert len(out.delivered) == 1


def test_what_is_used_up_is_told_at_data_and_given_back(front: Begin) -> None:
    it = front(STORE, memory=100 * KILO)
    client = it.begun()
    it.services.room.budget.beside = 101 * KILO  # a rule's heap
    assert str(client.send("DATA")).startswith("452 4.3.1")
    it.services.room.budget.beside = 0
    assert client.message(LARGE).code == 250
    assert until(lambda: gc.collect() >= 0 and it.services.room.budget.used == 0)


def test_bdat_is_told_so_too(front: Begin) -> None:
    it = front(STORE, memory=100 * KILO)
    client = it.begun()
    it.services.room.budget.beside = 101 * KILO
    client.raw(b"BDAT 3 LAST\r\nabc")
    assert client.reply().code in (452, 502)  # 502: this hand-off offers no CHUNKING
    assert client.send("NOOP").code == 250


def test_many_at_once_stay_within_the_budget(front: Begin, out: FakeOutlet) -> None:
    """Those for whom no memory is left go to a file."""
    it = front(HOLD, memory=120 * KILO)
    clients = [it.begun() for _ in range(8)]
    for client in clients:
        client.send("DATA")
        client.raw(LARGE + b".\r\n")
    budget = it.services.room.budget
    assert until(lambda: sum("body" in str(record) for record in it.sessions) >= 0 and budget.used > 50 * KILO)
    assert budget.used <= budget.limit
    assert [client.reply().code for client in clients] == [250] * 8
    assert all(message.content.endswith(LARGE) for message in out.delivered)
    assert until(lambda: budget.used == 0)


def test_an_edit_without_room_is_a_failure_of_the_rule(front: Begin, out: FakeOutlet) -> None:
    it = front("def on_message(mail): mail.body.replace('x' * 200_000)\n", memory=100 * KILO)
    client = it.begun()
    assert client.message(b"Subject: x\r\n\r\ntext\r\n").code == 451
    assert "no memory is left" in it.logged("rule_failed")[-1]["error"]
    assert not out.delivered


def test_a_full_disk_is_told_at_mail(front: Begin) -> None:
    it = front(free_disk=KILO)
    client = it.client()
    it.services.room.free = 4 * KILO
    assert str(client.send(f"MAIL FROM:<a@client.example> SIZE={3 * KILO}")).startswith("452 4.3.1")
    assert it.logged("refused")[-1]["by"].startswith("[limits] free_disk")
    assert client.send(f"MAIL FROM:<a@client.example> SIZE={KILO}").code == 250
    it.services.room.free = KILO - 1
    client.send("RSET")
    assert client.send("MAIL FROM:<a@client.example>").code == 452


def test_without_limits_there_is_always_room(front: Begin) -> None:
    it = front(STORE, memory=0, free_disk=0)
    it.services.room.free = 0
    it.services.room.budget.beside = 1 << 60
    assert it.begun().message(LARGE).code == 250


def test_a_body_holds_its_share_as_long_as_it_lives() -> None:
    budget = Budget(100 * KILO)
    bodies = []
    for _ in range(3):
        writer = BodyWriter(KILO << 10, None, budget)
        writer.write(b"x" * 40 * KILO)
        bodies.append(writer.finish(False))
    assert [body.in_file for body in bodies] == [False, False, True]
    assert budget.used == 80 * KILO
    assert all(b"".join(body.content()) == b"x" * 40 * KILO for body in bodies)
    del bodies[0]
    assert budget.used == 40 * KILO
    bodies.clear()
    del writer
    assert budget.used == 0


def test_edits_and_branches_share_the_budget() -> None:
    budget = Budget(KILO)
    writer = BodyWriter()
    writer.write(b"Subject: x\r\n\r\ntext\r\n")
    ledger = Ledger(writer.finish(False), HeaderBlock.parse(b"Subject: x\r\n\r\n"), budget)
    ledger.splice(0, 0, b"y" * 600)
    branch = ledger.branch()
    with pytest.raises(NoRoom):
        branch.splice(0, 0, b"z" * 600)
    assert len(branch.ops) == 1
    branch.add_field("X-Small", "it fits")
    del ledger
    assert budget.used > 600
    del branch
    assert budget.used == 0
