"""The session keeps the contract of handoff/base.py: one live hand-off, durable ones held until it has answered."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from smtpproxy.testing.client import FakeClient
from smtpproxy.testing.front import ENVELOPE, Front
from smtpproxy.testing.handoffs import FakeOutlet, durable, live
from smtpproxy.testing.waiting import until
from smtpproxy.wire.reply import Reply

CHOOSE = '''
def on_rcpt(mail, rcpt):
    way = {"keep": "store", "other": "second", "copy": "copies"}.get(rcpt.local_part)
    if way:
        rcpt.via = way
'''

MESSAGE = b"Subject: x\r\n\r\nhello\r\n"
NO_SUCH_USER = Reply(550, "5.1.1", "No such user")
LATER = Reply(451, "4.3.0", "Later")

Begin = Callable[..., Front]


@pytest.fixture
def front(tmp_path: Path) -> Iterator[Begin]:
    """Sessions in front of these hand-offs, with these rules."""
    fronts = []

    def make(*outlets: FakeOutlet, rule: str = CHOOSE, **options: object) -> Front:
        folder = tmp_path / "scripts"
        folder.mkdir()
        fronts.append(Front(*outlets, folder=folder, rules={"10-rule.py": rule} if rule else {}, **options))  # type: ignore[arg-type]
        return fronts[-1]

    yield make
    for it in fronts:
        it.close()


def rcpt(client: FakeClient, *names: str) -> list[int]:
    return [client.send(f"RCPT TO:<{name}@example.com>").code for name in names]


def ended(front: Front) -> None:
    until(lambda: not front.sessions)


# -- one live hand-off -------------------------------------------------------------------------------------------------


def test_a_hand_off_begins_with_the_first_recipient(front: Begin) -> None:
    out = live()
    client = front(out).client()
    client.send(ENVELOPE[0])
    assert out.journal == []
    rcpt(client, "b", "c")
    assert out.journal == ["out: begin a@client.example", "out: recipient b@example.com", "out: recipient c@example.com"]


def test_a_delivered_message_holds_what_was_sent_below_our_received_field(front: Begin) -> None:
    out = live()
    assert front(out).begun().message(MESSAGE) == "250 2.0.0 Ok: taken by out"
    (letter,) = out.delivered
    assert (letter.sender, letter.recipients) == ("a@client.example", ["b@example.com"])
    assert letter.content.startswith(b"Received: from client.example")
    assert letter.content.endswith(MESSAGE)


def test_a_recipient_for_a_second_live_hand_off_comes_again(front: Begin) -> None:
    out, second = live(), live("second")
    client = front(out, second).begun()
    assert client.send("RCPT TO:<other@example.com>").startswith("452 4.5.3")
    assert client.message(MESSAGE).code == 250
    assert (len(out.delivered), second.journal) == (1, [])


def test_after_that_the_second_one_has_its_own_transaction(front: Begin) -> None:
    out, second = live(), live("second")
    client = front(out, second).begun()
    client.message(MESSAGE)
    client.send(ENVELOPE[0])
    assert rcpt(client, "other") == [250]
    assert client.message(MESSAGE).code == 250
    assert [letter.recipients for letter in second.delivered] == [["other@example.com"]]


def test_a_live_one_that_refused_its_recipients_makes_room_but_never_comes_back(front: Begin) -> None:
    out, second = live(), live("second")
    out.on("recipient", NO_SUCH_USER, argument="b@")
    client = front(out, second).client()
    client.send(ENVELOPE[0])
    assert rcpt(client, "b", "other", "c") == [550, 250, 452]
    assert client.message(MESSAGE).code == 250
    assert (len(out.delivered), len(second.delivered)) == (0, 1)


# -- durable ones join -------------------------------------------------------------------------------------------------


def test_durable_hand_offs_join_and_are_released_by_the_live_one(front: Begin) -> None:
    journal: list[str] = []
    out, store = live(journal=journal), durable(journal=journal)
    client = front(out, store).begun()
    assert rcpt(client, "keep") == [250]
    assert client.message(MESSAGE) == "250 2.0.0 Ok: taken by out"
    assert journal[4:7] == ["store: finish", "out: finish", "store: commit"]
    assert [letter.recipients for letter in out.delivered + store.delivered] == [["b@example.com"], ["keep@example.com"]]
    assert store.delivered[0].content == out.delivered[0].content


def test_a_durable_one_holds_the_message_until_the_live_one_has_answered(front: Begin) -> None:
    out, store = live(), durable()
    seen: list[tuple[int, int]] = []
    out.on("finish", lambda: seen.append((len(store.held), len(store.delivered))))
    client = front(out, store).begun((*ENVELOPE, "RCPT TO:<keep@example.com>"))
    client.message(MESSAGE)
    assert seen == [(1, 0)]
    assert (len(store.held), len(store.delivered)) == (0, 1)


@pytest.mark.parametrize("reply", [Reply(554, "5.7.1", "Spam"), LATER, Reply(421, "4.3.2", "Going down")], ids=str)
def test_a_refusal_of_the_live_one_drops_what_the_durable_one_held(front: Begin, reply: Reply) -> None:
    out, store = live(), durable()
    out.on("finish", reply)
    client = front(out, store).begun((*ENVELOPE, "RCPT TO:<keep@example.com>"))
    assert client.message(MESSAGE) == str(reply)
    until(lambda: "store: abandon" in store.journal)
    assert (store.held, store.delivered) == ([], [])


def test_a_durable_failure_refuses_before_the_live_one_is_asked(front: Begin) -> None:
    out, store = live(), durable()
    store.on("finish", Reply(452, "4.3.1", "Disk full"))
    client = front(out, store).begun((*ENVELOPE, "RCPT TO:<keep@example.com>"))
    assert client.message(MESSAGE) == "452 4.3.1 Disk full"
    assert "out: finish" not in out.journal
    assert "out: commit" not in out.journal


def test_the_second_durable_one_fails_and_the_first_lets_go(front: Begin) -> None:
    store, copies = durable(), durable("copies")
    copies.on("finish", LATER)
    client = front(store, copies).begun((*ENVELOPE, "RCPT TO:<copy@example.com>"))
    assert client.message(MESSAGE).code == 451
    assert (store.held, store.delivered) == ([], [])


def test_a_hand_off_that_breaks_is_our_fault_and_nothing_is_delivered(front: Begin) -> None:
    out, store = live(), durable()
    out.on("finish", ZeroDivisionError())
    it = front(out, store)
    client = it.begun((*ENVELOPE, "RCPT TO:<keep@example.com>"))
    assert client.message(MESSAGE).startswith("451 4.3.0")
    assert (store.held, store.delivered) == ([], [])
    assert "ZeroDivisionError" in it.logged("internal_error")[0]["trace"]
    assert client.send("NOOP").code == 250


def test_a_hand_off_that_nobody_configured(front: Begin) -> None:
    it = front(live())
    assert it.begun().send("RCPT TO:<keep@example.com>").startswith("451 4.3.5")
    assert "'store'" in it.logged("refused")[0]["by"]


# -- refusals at the envelope ------------------------------------------------------------------------------------------


def test_a_refused_sender_answers_the_first_recipient_and_the_later_ones(front: Begin) -> None:
    out = live()
    out.on("begin", Reply(550, "5.1.8", "Bad sender"))
    client = front(out).client()
    assert client.send(ENVELOPE[0]).code == 250
    assert [client.send(f"RCPT TO:<{name}@example.com>") for name in "bc"] == ["550 5.1.8 Bad sender"] * 2
    assert client.send("DATA").code == 503
    assert "out: recipient b@example.com" not in out.journal


def test_a_refused_recipient_is_not_in_the_message(front: Begin) -> None:
    out = live()
    out.on("recipient", NO_SUCH_USER, argument="c@")
    client = front(out).begun()
    assert rcpt(client, "c", "d") == [550, 250]
    client.message(MESSAGE)
    assert out.delivered[0].recipients == ["b@example.com", "d@example.com"]


def test_each_transaction_begins_anew(front: Begin) -> None:
    out = live()
    out.on("begin", Reply(450, "4.7.1", "Greylisted"), None)
    client = front(out).client()
    client.send(ENVELOPE[0])
    assert rcpt(client, "b") == [450]
    client.send("RSET")
    client.send(ENVELOPE[0])
    assert rcpt(client, "b") == [250]


# -- the envelope changes ----------------------------------------------------------------------------------------------


def change(hook: str, statement: str) -> str:
    return f"def {hook}(mail):\n    {statement}\n"


CHANGES = {
    "another sender": ('mail.sender = "new@client.example"', "new@client.example", ["b@example.com", "c@example.com"]),
    "the null sender": ('mail.sender = ""', "", ["b@example.com", "c@example.com"]),
    "one more recipient": (
        'mail.add_recipient("d@example.net")',
        "a@client.example",
        ["b@example.com", "c@example.com", "d@example.net"],
    ),
    "one less": ('mail.remove_recipient("b@example.com")', "a@client.example", ["c@example.com"]),
}


@pytest.mark.parametrize("hook", ["on_data", "on_header", "on_message"])
@pytest.mark.parametrize("what", CHANGES)
def test_a_changed_envelope_is_begun_again(front: Begin, hook: str, what: str) -> None:
    statement, sender, recipients = CHANGES[what]
    out = live()
    client = front(out, rule=change(hook, statement)).begun((*ENVELOPE, "RCPT TO:<c@example.com>"))
    assert client.message(MESSAGE).code == 250
    (letter,) = out.delivered
    assert (letter.sender, letter.recipients) == (sender, recipients)
    again = out.journal.index("out: abandon")
    assert out.journal[again + 1] == f"out: begin {sender}"


def test_another_route_is_begun_again_there(front: Begin) -> None:
    out, second = live(), live("second")
    client = front(out, second, rule=change("on_message", 'mail.via = "second"')).begun()
    assert client.message(MESSAGE) == "250 2.0.0 Ok: taken by second"
    assert (len(out.delivered), len(second.delivered)) == (0, 1)
    assert "out: abandon" in out.journal


def test_another_route_of_one_recipient_after_it_was_accepted(front: Begin) -> None:
    out, store = live(), durable()
    client = front(out, store, rule=change("on_data", 'mail.recipients[0].via = "store"')).begun()
    assert client.message(MESSAGE).code == 250
    assert (out.delivered, len(store.delivered)) == ([], 1)


def test_a_route_chosen_before_the_first_recipient_needs_no_second_beginning(front: Begin) -> None:
    out, second = live(), live("second")
    rule = 'def on_mail(mail, sender):\n    mail.via = "second"\n'
    client = front(out, second, rule=rule).begun()
    assert client.message(MESSAGE).code == 250
    assert out.journal == []
    assert "second: abandon" not in second.journal[: second.journal.index("second: commit")]


def test_an_envelope_that_stays_is_begun_once(front: Begin) -> None:
    out = live()
    client = front(out, rule=change("on_message", 'mail.header["X-Seen"] = "yes"')).begun()
    client.message(MESSAGE)
    assert sum(entry.startswith("out: begin") for entry in out.journal) == 1


def test_a_recipient_that_is_refused_the_second_time_refuses_all(front: Begin) -> None:
    out, store = live(), durable()
    rule = CHOOSE + change("on_message", 'mail.sender = "new@client.example"')
    out.on("recipient", None, None, LATER, NO_SUCH_USER)
    client = front(out, store, rule=rule).begun((*ENVELOPE, "RCPT TO:<c@example.com>", "RCPT TO:<keep@example.com>"))
    assert client.message(MESSAGE) == "550 5.1.1 No such user"
    assert (out.delivered, store.delivered, store.held) == ([], [], [])
    assert "out: finish" not in out.journal


def test_a_second_live_route_for_one_of_two_refuses_all(front: Begin) -> None:
    out, second = live(), live("second")
    rule = change("on_data", 'mail.recipients[0].via = "second"')
    client = front(out, second, rule=rule).begun((*ENVELOPE, "RCPT TO:<c@example.com>"))
    assert client.message(MESSAGE).startswith("452 4.5.3")
    assert (out.delivered, second.delivered) == ([], [])


def test_a_message_without_recipients_is_refused(front: Begin) -> None:
    out = live()
    client = front(out, rule=change("on_message", 'mail.remove_recipient("b@example.com")')).begun()
    assert client.message(MESSAGE).code >= 450
    assert out.delivered == []


# -- the client gives up -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", ["RSET", "EHLO client.example", "HELO client.example", "QUIT"])
def test_giving_up_abandons(front: Begin, command: str) -> None:
    out, store = live(), durable()
    client = front(out, store).begun((*ENVELOPE, "RCPT TO:<keep@example.com>"))
    client.send(command)
    assert until(lambda: "store: abandon" in store.journal and "out: abandon" in out.journal)
    assert (out.delivered, store.delivered, store.held) == ([], [], [])


def test_hanging_up_abandons_and_closes(front: Begin) -> None:
    out = live()
    it = front(out)
    it.begun().close()
    ended(it)
    assert out.journal[-2:] == ["out: abandon", "out: close"]


def test_hanging_up_within_the_message_delivers_nothing(front: Begin) -> None:
    out, store = live(), durable()
    it = front(out, store)
    client = it.begun((*ENVELOPE, "RCPT TO:<keep@example.com>"))
    client.send("DATA")
    client.raw(b"Subject: half\r\n\r\nof a mess")
    client.close()
    ended(it)
    assert (out.delivered, store.delivered, store.held) == ([], [], [])


THINKS = "import gevent\ndef on_message(mail):\n    gevent.sleep(0.1)\n"


@pytest.mark.parametrize("outlet", [live, durable])
@pytest.mark.parametrize("rule", ["", change("on_message", "pass"), THINKS], ids=["streamed", "stored", "thought about"])
def test_a_client_that_left_before_the_end_was_answered_is_not_delivered_for(
    front: Begin, outlet: Callable[[], FakeOutlet], rule: str
) -> None:
    out = outlet()
    it = front(out, rule=rule)
    client = it.begun()
    client.send("DATA")
    client.raw(MESSAGE + b".\r\n")
    client.close()
    ended(it)
    assert (out.delivered, out.held) == ([], [])


def test_a_client_that_has_said_quit_already_still_gets_its_message_through(front: Begin) -> None:
    out = live()
    it = front(out, rule=change("on_message", "pass"))
    client = it.begun()
    client.send("DATA")
    client.raw(MESSAGE + b".\r\nQUIT\r\n")
    client.half_close()
    assert [client.reply().code, client.reply().code] == [250, 221]
    assert len(out.delivered) == 1


# -- bodies ------------------------------------------------------------------------------------------------------------


def test_the_message_streams_when_no_rule_wants_the_whole(front: Begin) -> None:
    from gevent.event import Event

    out, first = live(), Event()
    it = front(out, rule="")
    client = it.begun()
    client.send("DATA")
    client.raw(b"Subject: x\r\n\r\nbeginning\r\n")
    until(lambda: "out: finish" in out.journal)
    first.set()
    client.raw(b"end\r\n.\r\n")
    assert client.reply().code == 250


@pytest.mark.parametrize("why", ["a rule looks at messages", "two hand-offs take it", "the hand-off wants the whole"])
def test_the_message_is_complete_first_when(front: Begin, why: str) -> None:
    out, store = live(whole="whole" in why), durable()
    it = front(out, store, rule=change("on_message", "pass") if "rule" in why else CHOOSE)
    client = it.begun((*ENVELOPE, "RCPT TO:<keep@example.com>") if "two" in why else ENVELOPE)
    client.send("DATA")
    client.raw(b"Subject: x\r\n\r\nbeginning\r\n")
    assert client.quiet(0.05)
    assert "out: finish" not in out.journal
    client.raw(b"end\r\n.\r\n")
    assert client.reply().code == 250
    assert out.delivered[0].content.endswith(b"\r\n\r\nbeginning\r\nend\r\n")


def test_an_edit_reaches_every_hand_off(front: Begin) -> None:
    out, store = live(), durable()
    rule = CHOOSE + change("on_message", 'mail.header["X-Seen"] = "yes"')
    client = front(out, store, rule=rule).begun((*ENVELOPE, "RCPT TO:<keep@example.com>"))
    client.message(MESSAGE)
    for letter in out.delivered + store.delivered:
        assert b"X-Seen: yes\r\n" in letter.content
