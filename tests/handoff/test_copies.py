"""Copies per recipient and copies to keep: each rendering goes out once, and one answer stands for all of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from smtpproxy.config.values import Target
from smtpproxy.delivery.pool import Pool
from smtpproxy.delivery.smtp import Timeouts
from smtpproxy.delivery.upstream import Upstream
from smtpproxy.handoff.base import Outlet
from smtpproxy.handoff.proxy import ProxyOutlet
from smtpproxy.handoff.quarantine import QuarantineOutlet
from smtpproxy.handoff.relay import RelayOutlet
from smtpproxy.handoff.shelf import items
from smtpproxy.scripting.trace import story
from smtpproxy.testing.acts import DROP
from smtpproxy.testing.front import ENVELOPE, Front
from smtpproxy.testing.handoffs import FakeOutlet, durable, live
from smtpproxy.testing.upstream import FakeUpstream
from smtpproxy.testing.waiting import FixedClock
from smtpproxy.wire.reply import Reply

MESSAGE = b"Subject: x\r\n\r\nhello\r\n"
TWO = (*ENVELOPE, "RCPT TO:<vip@example.com>")
TAG = """
def on_message(mail):
    for rcpt in mail.recipients:
        if rcpt.local_part == "vip":
            mail.copy_for(rcpt).header["X-Copy"] = "vip"
"""
TAG_LUA = """
function on_message(mail)
  for _, rcpt in pairs(mail.recipients) do
    if rcpt.local_part == "vip" then
      local copy = mail:copy_for(rcpt)
      copy.header["X-Copy"] = "vip"
    end
  end
end
"""
EARLY = """
def on_rcpt(mail, rcpt):
    if rcpt.local_part.startswith("vip"):
        mail.copy_for(rcpt, name="vip")

def on_message(mail):
    for copy in mail.copies:
        if copy.recipients:
            mail.copy_for(copy.recipients, name="vip").header["X-Copy"] = "vip"
"""
KEEP = "def on_message(mail):\n    mail.add_copy('archive')\n    mail.header['X-Seen'] = '1'\n"
LATER = Reply(451, "4.3.0", "Later")
SPAM = Reply(554, "5.7.1", "Spam")

Begin = Callable[..., Front]


@pytest.fixture
def front(tmp_path: Path) -> Iterator[Begin]:
    """Sessions in front of these hand-offs, with this rule."""
    fronts = []

    def make(*outlets: Outlet, rule: str = TAG, language: str = "py", **options: Any) -> Front:
        folder = tmp_path / "scripts"
        folder.mkdir()
        fronts.append(Front(*outlets, folder=folder, rules={f"10-rule.{language}": rule}, **options))
        return fronts[-1]

    yield make
    for it in fronts:
        it.close()


def rendered(outlet: FakeOutlet) -> dict[tuple[str, ...], bool]:
    """Who got what was delivered, and whether it was the copy."""
    return {tuple(letter.recipients): b"X-Copy: vip\r\n" in letter.content for letter in outlet.delivered}


APART = {("b@example.com",): False, ("vip@example.com",): True}


@pytest.mark.parametrize(("language", "rule"), [("py", TAG), ("lua", TAG_LUA)])
@pytest.mark.parametrize("kind", [live, durable])
def test_each_recipient_gets_its_rendering_once(front: Begin, kind: Any, language: str, rule: str) -> None:
    out = kind()
    assert front(out, rule=rule, language=language).begun(TWO).message(MESSAGE).code == 250
    assert rendered(out) == APART
    assert len(out.delivered) == 2
    assert all(letter.content.startswith(b"Received: ") and letter.content.endswith(b"hello\r\n") for letter in out.delivered)


def test_one_copy_for_all_needs_no_second_message(front: Begin) -> None:
    out = live()
    assert front(out).begun((ENVELOPE[0], TWO[2])).message(MESSAGE).code == 250
    assert rendered(out) == {("vip@example.com",): True}
    assert sum(line.startswith("out: begin") for line in out.journal) == 1


def test_recipients_of_one_copy_share_a_message(front: Begin) -> None:
    out = live()
    rule = "def on_message(mail):\n    mail.copy_for(mail.recipients[1:]).header['X-Copy'] = 'vip'\n"
    front(out, rule=rule).begun((*TWO, "RCPT TO:<c@example.com>")).message(MESSAGE)
    assert rendered(out) == {("b@example.com",): False, ("vip@example.com", "c@example.com"): True}


def test_the_next_mail_is_as_usual(front: Begin) -> None:
    out = live()
    client = front(out).begun(TWO)
    client.message(MESSAGE)
    for command in ENVELOPE:
        assert client.send(command).code == 250
    assert client.message(MESSAGE).code == 250
    assert [letter.recipients for letter in out.delivered][2:] == [["b@example.com"]]
    assert "out: close" in out.journal, "the use that the copy had of its own"


class TestOneAnswer:
    def test_the_first_end_is_said_behind_the_last_octet_of_the_second(self, front: Begin) -> None:
        out = live()
        front(out).begun(TWO).message(MESSAGE)
        assert [letter.recipients for letter in out.delivered] == [["vip@example.com"], ["b@example.com"]]

    @pytest.mark.parametrize("reply", [LATER, SPAM], ids=str)
    def test_a_copy_that_is_refused_refuses_all_and_nothing_is_delivered(self, front: Begin, reply: Reply) -> None:
        out = live()
        out.on("finish", reply)
        it = front(out)
        assert it.begun(TWO).message(MESSAGE) == str(reply)
        assert out.delivered == []
        assert it.logged("partly_delivered") == []

    @pytest.mark.parametrize("reply", [LATER, SPAM], ids=str)
    def test_once_a_copy_is_delivered_a_refusal_is_final_and_names_who_has_it(self, front: Begin, reply: Reply) -> None:
        out = live()
        out.on("finish", None, reply)
        it = front(out)
        assert it.begun(TWO).message(MESSAGE) == (
            f"554 5.3.0 Delivered to <vip@example.com>; not delivered to <b@example.com>: {reply.code} {reply.text}"
        )
        assert rendered(out) == {("vip@example.com",): True}
        (record,) = it.logged("partly_delivered")
        assert (record["delivered"], record["refused"]) == (["vip@example.com"], ["b@example.com"])

    def test_a_defect_after_a_delivery_is_as_final(self, front: Begin) -> None:
        out = live()
        out.on("finish", None, ZeroDivisionError())
        it = front(out)
        assert it.begun(TWO).message(MESSAGE).startswith("554 5.3.0 Delivered to <vip@example.com>; not")
        assert "ZeroDivisionError" in it.logged("internal_error")[0]["trace"]

    def test_a_defect_before_any_delivery_is_tried_again(self, front: Begin) -> None:
        out = live()
        out.on("finish", ZeroDivisionError())
        assert front(out).begun(TWO).message(MESSAGE).code == 451
        assert out.delivered == []

    def test_what_is_kept_goes_with_what_was_delivered(self, front: Begin) -> None:
        out, archive = live(), durable("archive")
        out.on("finish", None, SPAM)
        rule = TAG + "    mail.add_copy('archive')\n"
        it = front(out, archive, rule=rule)
        assert it.begun(TWO).message(MESSAGE).startswith("554 5.3.0 Delivered to <vip@example.com>; not")
        assert (len(archive.delivered), archive.held) == (1, [])

    def test_a_recipient_that_is_refused_the_second_time_refuses_all(self, front: Begin) -> None:
        out = live()
        out.on("recipient", None, SPAM, argument="vip@")
        assert front(out).begun(TWO).message(MESSAGE) == "554 5.7.1 Spam"
        assert (out.delivered, "out: finish" in out.journal) == ([], False)

    def test_durable_ones_let_go_of_all_when_one_fails(self, front: Begin) -> None:
        out = durable("out")
        out.on("finish", None, LATER)
        assert front(out).begun(TWO).message(MESSAGE) == "451 4.3.0 Later"
        assert (out.delivered, out.held) == ([], [])


class TestKnownAtTheRecipient:
    """A rule that says so in on_rcpt has the client come back: one rendering a transaction, one true answer each."""

    def test_a_live_hand_off_has_the_other_recipients_come_again(self, front: Begin) -> None:
        out = live()
        client = front(out, rule=EARLY).begun()
        assert client.send(TWO[2]).startswith("452 4.5.3")
        assert client.send("RCPT TO:<c@example.com>").code == 250
        client.message(MESSAGE)
        client.send(ENVELOPE[0])
        assert [client.send(f"RCPT TO:<{name}@example.com>").code for name in ("vip", "vip2", "c")] == [250, 250, 452]
        assert client.message(MESSAGE).code == 250
        assert rendered(out) == {
            ("b@example.com", "c@example.com"): False,
            ("vip@example.com", "vip2@example.com"): True,
        }

    def test_a_durable_one_takes_both(self, front: Begin) -> None:
        out = durable()
        assert front(out, rule=EARLY).begun(TWO).message(MESSAGE).code == 250
        assert rendered(out) == APART


class TestKept:
    @pytest.mark.parametrize(
        ("language", "rule"),
        [("py", KEEP), ("lua", "function on_message(mail) mail:add_copy('archive') mail.header['X-Seen'] = '1' end")],
    )
    def test_a_copy_for_all_recipients_in_another_place(self, front: Begin, language: str, rule: str) -> None:
        out, archive = live(), durable("archive")
        assert front(out, archive, rule=rule, language=language).begun(TWO).message(MESSAGE) == "250 2.0.0 Ok: taken by out"
        (kept,), (sent,) = archive.delivered, out.delivered
        assert (kept.sender, kept.recipients) == (sent.sender, sent.recipients)
        assert kept.content == sent.content
        assert b"X-Seen: 1\r\n" in kept.content

    def test_it_is_held_until_the_mail_is_delivered(self, front: Begin) -> None:
        out, archive = live(), durable("archive")
        seen: list[int] = []
        out.on("finish", lambda: seen.append(len(archive.held)))
        front(out, archive, rule=KEEP).begun().message(MESSAGE)
        assert (seen, archive.held) == ([1], [])

    def test_of_what_was_refused_nothing_is_kept(self, front: Begin) -> None:
        out, archive = live(), durable("archive")
        out.on("finish", SPAM)
        front(out, archive, rule=KEEP).begun().message(MESSAGE)
        assert (archive.delivered, archive.held) == ([], [])

    def test_without_room_for_the_copy_the_mail_is_not_taken(self, front: Begin) -> None:
        out, archive = live(), durable("archive")
        archive.on("finish", Reply(452, "4.3.1", "Disk full"))
        assert front(out, archive, rule=KEEP).begun().message(MESSAGE) == "452 4.3.1 Disk full"
        assert out.delivered == []

    def test_said_before_the_message_it_needs_no_look_at_it(self, front: Begin) -> None:
        out, archive = live(), durable("archive")
        rule = "def on_rcpt(mail, rcpt):\n    mail.add_copy('archive')\n"
        front(out, archive, rule=rule).begun().message(MESSAGE)
        assert archive.delivered[0].content == out.delivered[0].content

    @pytest.mark.parametrize("name", ["nowhere", "out"])
    def test_a_place_that_keeps_nothing_is_a_fault_of_the_rule(self, front: Begin, name: str) -> None:
        out = live()
        it = front(out, rule=KEEP.replace("archive", name))
        assert it.begun().message(MESSAGE).startswith("451 4.3.5")
        assert repr(name) in it.logged("refused")[0]["by"]
        assert out.delivered == []

    def test_an_address_gets_the_same_message(self, front: Begin) -> None:
        out = live()
        rule = "def on_message(mail):\n    mail.add_copy('log@example.net')\n"
        assert front(out, rule=rule).begun().message(MESSAGE).code == 250
        assert [letter.recipients for letter in out.delivered] == [["b@example.com", "log@example.net"]]

    def test_in_a_folder(self, front: Begin, tmp_path: Path) -> None:
        archive = QuarantineOutlet("archive", tmp_path / "archive", lambda *_: None)
        front(live(), archive, rule=TAG + "    mail.add_copy('archive')\n").begun(TWO).message(MESSAGE)
        (item,) = items(tmp_path / "archive")
        assert item.slip.recipients == ["b@example.com", "vip@example.com"]
        assert b"X-Copy" not in item.message.read_bytes()


def test_log_and_story_say_who_got_what(front: Begin) -> None:
    told: list[str] = []
    out, archive = live(), durable("archive")
    rule = TAG + "    mail.add_copy('archive')\n"
    it = front(out, archive, rule=rule, story=lambda trace, mail: told.extend(story(trace, mail)))
    it.begun(TWO).message(MESSAGE)
    (record,) = it.logged("message")
    assert record["copies"] == ["archive", "for <vip@example.com>"]
    text = "\n".join(told)
    assert "append X-Copy: vip (for <vip@example.com>)" in text
    assert "a copy for <b@example.com>, <vip@example.com> to archive" in text
    assert "for <vip@example.com> to out" in text


# -- at a real socket --------------------------------------------------------------------------------------------------

XCLIENT = "XCLIENT NAME ADDR PORT PROTO HELO LOGIN"


def to(server: FakeUpstream, kind: type[ProxyOutlet] = ProxyOutlet, identity: str = "none") -> ProxyOutlet:
    timeouts = Timeouts(connect=5.0, greeting=5.0, mail=5.0, data=5.0, block=5.0, final=5.0)
    target = Target("lmtp" if server.lmtp else "smtp", "127.0.0.1", server.port)
    upstream = Upstream(target, timeouts, "mx.example.com", FixedClock(0.0))
    pool = Pool([upstream])
    pool.probe_all()
    return kind("out", pool, identity, lambda *_: None)


def got(server: FakeUpstream) -> dict[tuple[str, ...], bool]:
    return {tuple(message.recipients): b"X-Copy: vip\r\n" in message.content for message in server.messages}


@pytest.mark.parametrize("kind", [ProxyOutlet, RelayOutlet])
def test_an_upstream_gets_a_transaction_for_each(front: Begin, upstream: FakeUpstream, kind: type[ProxyOutlet]) -> None:
    client = front(to(upstream, kind)).begun(TWO)
    assert client.message(MESSAGE).code == 250
    assert got(upstream) == APART
    client.send(ENVELOPE[0])
    client.send(ENVELOPE[1])
    assert client.message(MESSAGE).code == 250
    assert len(upstream.messages) == 3


@pytest.mark.parametrize("kind", [ProxyOutlet, RelayOutlet])
@pytest.mark.parametrize(
    ("stage", "said"), [("DATA", "451 4.3.0 Later"), ("dot", "554 5.7.1 Spam"), ("dot", DROP), ("body", DROP)]
)
def test_what_the_copy_meets_at_first_nobody_gets(
    front: Begin, upstream: FakeUpstream, kind: type[ProxyOutlet], stage: str, said: Any
) -> None:
    upstream.on(stage, said)
    lost = "451 4.4.2 The connection to the next server was lost"
    assert front(to(upstream, kind)).begun(TWO).message(MESSAGE) == (lost if said is DROP else said)
    assert upstream.messages == []


@pytest.mark.parametrize("said", ["451 4.3.0 Later", DROP], ids=str)
def test_what_the_second_end_meets_is_final(front: Begin, upstream: FakeUpstream, said: Any) -> None:
    upstream.on("dot", None, said)
    it = front(to(upstream))
    assert it.begun(TWO).message(MESSAGE).startswith("554 5.3.0 Delivered to <vip@example.com>; not delivered to <b@")
    assert got(upstream) == {("vip@example.com",): True}


def test_with_xclient_both_act_for_the_client(front: Begin) -> None:
    with FakeUpstream(keywords=["PIPELINING", XCLIENT]) as server:
        it = front(to(server, identity="xclient"))
        with it.begun(TWO) as client:
            assert client.message(MESSAGE).code == 250
        assert got(server) == APART
        assert [message.xclient["ADDR"] for message in server.messages] == ["127.0.0.1", "127.0.0.1"]
        server.wait_for(lambda it: all(message.conversation.closed for message in it.messages))


def test_a_relay_sends_to_its_own_recipients_only(front: Begin, upstream: FakeUpstream) -> None:
    store = durable()
    rule = "def on_rcpt(mail, rcpt):\n    if rcpt.local_part == 'vip':\n        rcpt.via = 'store'\n"
    assert front(to(upstream, RelayOutlet), store, rule=rule).begun(TWO).message(MESSAGE).code == 250
    assert [message.recipients for message in upstream.messages] == [["b@example.com"]]
    assert [letter.recipients for letter in store.delivered] == [["vip@example.com"]]
