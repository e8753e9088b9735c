"""An LMTP listener answers for each recipient: whatever hand-offs take them, and whatever becomes of one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from smtpproxy.net.connection import ConnectionLost
from smtpproxy.testing.client import FakeClient
from smtpproxy.testing.front import Front
from smtpproxy.testing.handoffs import FakeOutlet, durable, live
from smtpproxy.testing.waiting import until
from smtpproxy.wire.reply import Reply

MESSAGE = b"Subject: x\r\n\r\nhello\r\n"
OFF = "def on_rcpt(mail, rcpt):\n    if '-' in rcpt.local_part:\n        rcpt.via = rcpt.local_part.split('-')[1]\n"
KEEP = "def on_message(mail):\n    mail.add_copy('archive')\n"
TAG = """
def on_message(mail):
    for rcpt in mail.recipients:
        if rcpt.local_part == "vip":
            mail.copy_for(rcpt).header["X-Copy"] = "vip"
"""
FULL = Reply(452, "4.2.2", "Full")
SPAM = Reply(554, "5.7.1", "Spam")

Begin = Callable[..., Front]


@pytest.fixture
def front(tmp_path: Path) -> Iterator[Begin]:
    """An LMTP listener in front of these hand-offs, with this rule."""
    fronts = []

    def make(*outlets: FakeOutlet, rule: str = OFF) -> Front:
        fronts.append(Front(*outlets, folder=tmp_path, rules={"10-rule.py": rule}, lmtp=True))
        return fronts[-1]

    yield make
    for it in fronts:
        it.close()


def sent(here: Front, *users: str) -> dict[str, str]:
    """What is answered for each of these users of example.com."""
    with here.client("LHLO client.example") as client:
        client.send("MAIL FROM:<a@client.example>")
        for user in users:
            assert client.send(f"RCPT TO:<{user}@example.com>").code == 250
        assert client.send("DATA").code == 354
        client.raw(MESSAGE + b".\r\n")
        answers = {user: str(client.reply()) for user in users}
        assert client.send("NOOP").code == 250
        return answers


def got(outlet: FakeOutlet) -> list[list[str]]:
    return [letter.recipients for letter in outlet.delivered]


def test_several_live_hand_offs_in_one_transaction(front: Begin) -> None:
    one, two = live("one"), live("two")
    two.on("finish", FULL)
    answers = sent(front(one, two), "a", "b-two", "c")
    assert answers == {"a": "250 2.0.0 Ok: taken by one", "b-two": "452 4.2.2 Full", "c": "250 2.0.0 Ok: taken by one"}
    assert got(one) == [["a@example.com", "c@example.com"]] and got(two) == []
    assert "two: abandon" in two.journal and "one: commit" in one.journal


def test_a_durable_one_keeps_what_is_its_own_when_the_live_one_refuses(front: Begin) -> None:
    one, store = live("one"), durable("store")
    one.on("finish", SPAM)
    here = front(one, store)
    assert sent(here, "a", "b-store") == {"a": "554 5.7.1 Spam", "b-store": "250 2.0.0 Ok: taken by store"}
    assert got(store) == [["b-store@example.com"]] and store.held == []
    (message,) = here.logged("message")
    assert message["to"] == ["b-store@example.com"]
    (refused,) = here.logged("refused")
    assert (refused["to"], refused["reply"]) == ("a@example.com", "554 5.7.1 Spam")


def test_a_durable_one_that_cannot_keep_it_refuses_its_own_only(front: Begin) -> None:
    one, store = live("one"), durable("store")
    store.on("finish", FULL)
    assert sent(front(one, store), "a", "b-store") == {"a": "250 2.0.0 Ok: taken by one", "b-store": "452 4.2.2 Full"}
    assert got(one) == [["a@example.com"]] and got(store) == []


def test_all_refuse_each_in_its_own_words(front: Begin) -> None:
    one, two = live("one"), live("two")
    one.on("finish", SPAM)
    two.on("finish", FULL)
    here = front(one, two)
    assert sent(here, "a", "b-two") == {"a": "554 5.7.1 Spam", "b-two": "452 4.2.2 Full"}
    assert one.delivered == two.delivered == []


def test_a_copy_to_keep_is_kept_for_those_who_get_the_mail(front: Begin) -> None:
    one, archive = live("one"), durable("archive")
    assert sent(front(one, archive, rule=KEEP), "a", "b").popitem()[1] == "250 2.0.0 Ok: taken by one"
    assert got(archive) == [["a@example.com", "b@example.com"]]


def test_nobody_gets_it_and_nothing_is_kept(front: Begin) -> None:
    one, archive = live("one"), durable("archive")
    one.on("finish", SPAM)
    assert set(sent(front(one, archive, rule=KEEP), "a", "b").values()) == {"554 5.7.1 Spam"}
    assert archive.held == archive.delivered == []


def test_a_copy_that_cannot_be_kept_stops_the_mail(front: Begin) -> None:
    one, archive = live("one"), durable("archive")
    archive.on("finish", FULL)
    assert set(sent(front(one, archive, rule=KEEP), "a", "b").values()) == {"452 4.2.2 Full"}
    assert one.delivered == []


def test_a_copy_for_one_is_refused_for_that_one(front: Begin) -> None:
    one = live("one")
    one.on("finish", None, SPAM)
    assert sent(front(one, rule=TAG), "a", "vip") == {"a": "250 2.0.0 Ok: taken by one", "vip": "554 5.7.1 Spam"}
    assert got(one) == [["a@example.com"]]


def test_a_change_of_the_envelope_that_is_refused_is_refused_for_that_one(front: Begin) -> None:
    moved = "def on_message(mail):\n    mail.recipients[0].address = 'elsewhere@example.com'\n"
    one = live("one")
    one.on("recipient", Reply(550, "5.1.1", "No such user"), argument="elsewhere@example.com")
    answers = sent(front(one, rule=moved), "a", "b")
    assert answers == {"a": "550 5.1.1 No such user", "b": "250 2.0.0 Ok: taken by one"}
    assert got(one) == [["b@example.com"]]


def test_a_defect_in_the_second_one_does_not_undo_the_first(front: Begin) -> None:
    one, two = live("one"), live("two")
    two.on("finish", RuntimeError("broken"))
    here = front(one, two)
    assert sent(here, "a", "b-two") == {"a": "250 2.0.0 Ok: taken by one", "b-two": "451 4.3.0 Internal error"}
    assert len(here.logged("internal_error")) == 1


def test_a_client_that_is_gone_is_promised_nothing(front: Begin) -> None:
    one = live("one")
    here = front(one)
    client: FakeClient = here.client("LHLO client.example")
    for line in ("MAIL FROM:<a@client.example>", "RCPT TO:<a@example.com>", "RCPT TO:<b@example.com>", "DATA"):
        client.send(line)
    client.raw(MESSAGE)
    client.close()
    until(lambda: not here.sessions)
    assert one.delivered == [] and not here.logged("message")


def test_many_refusals_at_the_end_count_as_one_error(front: Begin) -> None:
    one = live("one")
    one.on("finish", SPAM)
    users = [f"u{number}" for number in range(30)]
    assert list(sent(front(one), *users).values()) == ["554 5.7.1 Spam"] * 30


def test_a_lost_client_amid_the_hand_off(front: Begin) -> None:
    one = live("one")
    one.on("finish", ConnectionLost("gone"))
    here = front(one)
    client: Any = here.client("LHLO client.example")
    for line in ("MAIL FROM:<a@client.example>", "RCPT TO:<a@example.com>", "DATA"):
        client.send(line)
    client.raw(MESSAGE + b".\r\n")
    assert client.closed() and one.delivered == []
