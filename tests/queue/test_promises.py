"""Mail that is held back (RFC 4865), that has a deadline (RFC 2852), that goes first (RFC 6710)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from smtpproxy.config.queue import Notice
from smtpproxy.delivery.needs import mail_command, unmet
from smtpproxy.delivery.site import Outcome
from smtpproxy.queue import dsn, promises
from smtpproxy.queue.envelope import Envelope, Party, decode, encode
from smtpproxy.queue.ledger import Entry, Gone, Ledger, Result
from smtpproxy.queue.notices import Notices
from smtpproxy.queue.rulings import Wording
from smtpproxy.testing.client import FakeClient
from smtpproxy.testing.instance import one_listener
from smtpproxy.testing.process import RunningServer
from smtpproxy.testing.upstream import KEYWORDS, FakeUpstream
from smtpproxy.testing.waiting import until
from smtpproxy.wire.extensions import Extensions
from smtpproxy.wire.reply import Refusal, Reply

NOW = 1_700_000_000.0
Open = Callable[..., FakeClient]


def envelope(rcpt: dict[str, str | None] | None = None, **params: str | None) -> Envelope:
    given = {name.replace("_", "-"): text for name, text in params.items()}
    return Envelope("m1", NOW, Party("a@client.example", given), [Party("b@example.com", rcpt or {})])


# -- what is asked ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("params", "moment"),
    [
        ({}, 0.0), ({"HOLDFOR": "60"}, NOW + 60), ({"HOLDUNTIL": "2023-11-14T22:14:20Z"}, NOW + 60),
        ({"HOLDUNTIL": "2023-11-15T00:14:20.5+02:00"}, NOW + 60.5), ({"HOLDUNTIL": "2020-01-01T00:00:00Z"}, NOW),
        ({"HOLDFOR": "3600"}, NOW + 3600),
    ],
)  # fmt: skip
def test_when_held_mail_is_released(params: dict[str, str | None], moment: float) -> None:
    assert promises.release(params, NOW, 3600) == moment


@pytest.mark.parametrize(
    "params",
    [
        {"HOLDFOR": "3601"}, {"HOLDUNTIL": "2023-11-15T22:14:20Z"}, {"HOLDUNTIL": "2023-13-15T22:14:20Z"},
        {"HOLDFOR": "1", "HOLDUNTIL": "2023-11-14T22:14:20Z"},
    ],
)  # fmt: skip
def test_what_cannot_be_held(params: dict[str, str | None]) -> None:
    with pytest.raises(Refusal) as refused:
        promises.release(params, NOW, 3600)
    assert str(refused.value.reply).startswith("501 5.5.4")


def test_what_was_asked_survives_the_disk() -> None:
    mail = envelope(BY="10;R")
    mail.release, mail.priority = NOW + 5, -3
    kept = decode(encode(mail))
    assert (kept.due, kept.priority, promises.deliver_by(kept)) == (NOW + 5, -3, promises.By(NOW + 15, True, False))


def test_only_those_we_know_go_in_front_of_others() -> None:
    given = [promises.priority({"MT-PRIORITY": text}, trusted) for text in ("7", "-7") for trusted in (True, False)]
    assert given == [7, 0, -7, -7]
    assert promises.priority({}, trusted=False) == 0


# -- what the next server is told --------------------------------------------------------------------------------------


@pytest.mark.parametrize(("by", "after", "left"), [("60;R", 20, "40;R"), ("60;RT", 59.9, "1;RT"), ("60;n", 80, "-20;N")])
def test_the_time_that_is_left_is_handed_on(by: str, after: float, left: str) -> None:
    mail = promises.onward(envelope(BY=by, HOLDFOR="3", MT_PRIORITY="4"), NOW + after)
    offered = Extensions.parse(["DELIVERBY", "MT-PRIORITY", "FUTURERELEASE 1 2"])
    assert mail_command(mail, offered) == f"MAIL FROM:<a@client.example> BY={left} MT-PRIORITY=0".encode()


def test_a_mail_that_asks_for_nothing_is_handed_on_as_it_is() -> None:
    mail = envelope(RET="FULL")
    assert promises.onward(mail, NOW) is mail


def test_a_server_that_keeps_no_deadline_gets_no_mail_that_would_return() -> None:
    nothing = Extensions.parse(["8BITMIME"])
    assert str(unmet(envelope(BY="60;R"), nothing)).startswith("555 5.3.3")
    assert unmet(envelope(BY="60;N"), nothing) is unmet(envelope(BY="60;R"), nothing, final=True) is None
    assert unmet(envelope(BY="60;R"), Extensions.parse(["DELIVERBY"])) is None
    assert mail_command(envelope(BY="60;N", MT_PRIORITY="1"), nothing) == b"MAIL FROM:<a@client.example>"


@pytest.mark.parametrize(
    ("by", "notify", "timed", "state"),
    [
        ("60;N", None, False, "relayed"), ("60;N", None, True, "delivered"), ("60;NT", None, True, "relayed"),
        ("60;NT", "NEVER", True, "delivered"), ("60;N", "NEVER", False, "delivered"), ("60;RT", "FAILURE", True, "relayed"),
    ],
)  # fmt: skip
def test_a_sender_hears_where_the_promise_ends_and_each_relaying_if_traced(
    by: str, notify: str | None, timed: bool, state: str
) -> None:
    entry = Entry(1, envelope({"NOTIFY": notify} if notify else {}, BY=by), 0, {})
    outcome = Outcome(Reply(250, "2.0.0", "Ok"), "mx:25", onward=True, timed=timed)
    assert dsn.result(entry, 0, outcome).state == state


# -- REQUIRETLS (RFC 8689 5) -----------------------------------------------------------------------------------------------


def test_the_notice_of_a_mail_that_needs_tls_needs_it_too_and_has_its_header_only(ledger: Ledger) -> None:
    draft = ledger.draft("m1")
    ledger.hold(draft, [b"Subject: x\r\n\r\nsecret\r\n"])
    ledger.add(draft, envelope(REQUIRETLS=None, RET="FULL"))
    (entry,) = ledger.lease(1)
    notices = Notices("mx.test", lambda: "n1", lambda: NOW, 0, 3600, Notice())
    notice, about = notices.make(ledger, entry, [Result(0, "failed", "550 5.7.30 REQUIRETLS support required")], Wording())
    assert ("REQUIRETLS" in about.params, about.sender.path) == (True, "")
    ledger.record(entry, [], Gone(), (notice, about))
    (sent,) = ledger.lease(1)
    content = b"".join(ledger.body(sent).content())
    assert b"text/rfc822-headers" in content
    assert b"secret" not in content


def test_mail_that_needs_tls_goes_nowhere_else_but_its_notice_does() -> None:
    nothing = Extensions.parse([])
    assert str(unmet(envelope(REQUIRETLS=None), nothing)).startswith("550 5.7.30")
    notice = Envelope("n1", NOW, Party("", {"REQUIRETLS": None}), [Party("a@client.example")])
    assert unmet(notice, nothing) is None
    assert mail_command(notice, nothing) == b"MAIL FROM:<>"
    assert mail_command(notice, Extensions.parse(["REQUIRETLS"])) == b"MAIL FROM:<> REQUIRETLS"


# -- from the client to the next server ----------------------------------------------------------------------------------


@pytest.fixture
def senders() -> Iterator[FakeUpstream]:
    with FakeUpstream() as server:
        yield server


@pytest.fixture
def connect(start: Callable[..., RunningServer], upstream: FakeUpstream, senders: FakeUpstream) -> Iterator[Open]:
    opened = []

    def begin(queue: str = 'hold = "1h"\nretry = ["300ms"]', announced: str = "") -> FakeClient:
        upstream.keywords = [*KEYWORDS, *announced.split()]
        routes = f'[route."client.example"]\nto = ["{senders.address}"]\n[route."*"]\nto = ["{upstream.address}"]\n'
        server = start(one_listener("queue", more=f"[queue]\n{queue}\n{routes}"))
        opened.append(server.client())
        return opened[0]

    yield begin
    opened[0].close()


def send(client: FakeClient, params: str) -> Any:
    assert client.send(f"MAIL FROM:<a@client.example> {params}").code == 250
    reply = client.send("RCPT TO:<b@example.com>")
    return client.message(b"Subject: x\r\n\r\ntext\r\n") if reply.code == 250 else reply


def test_they_are_offered_and_holding_with_its_limits(connect: Open) -> None:
    offered = Extensions.parse(connect().send("EHLO client.example").texts)
    seconds, until_when = offered["FUTURERELEASE"].split()
    assert (seconds, "DELIVERBY" in offered, "MT-PRIORITY" in offered) == ("3600", True, True)
    ahead = datetime.fromisoformat(until_when) - datetime.now(UTC)
    assert timedelta(minutes=50) < ahead <= timedelta(hours=1)


def test_holding_is_not_offered_unless_it_is_allowed(connect: Open) -> None:
    client = connect('retry = ["300ms"]')
    assert "FUTURERELEASE" not in str(client.send("EHLO client.example"))
    assert client.send("MAIL FROM:<a@client.example> HOLDFOR=1").startswith("555 5.5.4")


def test_held_mail_is_sent_when_its_time_has_come(connect: Open, upstream: FakeUpstream) -> None:
    client = connect(announced="DSN")
    assert send(client, "HOLDFOR=2 ENVID=held").code == 250
    assert send(client, "ENVID=second").code == 250
    upstream.wait_for(lambda it: len(it.messages) == 2)
    mails = [line.rpartition("=")[2] for line in upstream.commands if line.startswith("MAIL")]
    assert mails == ["second", "held"]


@pytest.mark.parametrize("params", ["HOLDFOR=3601", "HOLDFOR=1 HOLDUNTIL=2023-11-14T22:14:20Z", "BY=0;R", "BY=-5;R"])
def test_what_cannot_be_promised_is_refused(connect: Open, params: str) -> None:
    assert send(connect(), params).startswith("501 5.5.4")


def test_a_deadline_returns_the_mail(connect: Open, upstream: FakeUpstream, senders: FakeUpstream) -> None:
    client = connect('retry = ["1h"]', "DELIVERBY DSN")
    upstream.on("RCPT", "451 4.2.1 Busy")
    assert send(client, "BY=1;R").code == 250
    senders.wait_for(lambda it: it.messages)
    assert b"Status: 5.4.7" in senders.messages[0].content
    assert any(line.endswith(" BY=1;R") for line in upstream.commands)


def test_a_deadline_that_warns_goes_on(connect: Open, upstream: FakeUpstream, senders: FakeUpstream) -> None:
    upstream.on("RCPT", *["451 4.2.1 Busy"] * 8, None)
    client = connect(announced="DELIVERBY DSN")
    assert send(client, "BY=1;N").code == 250
    senders.wait_for(lambda it: it.messages)
    assert b"Action: delayed" in senders.messages[0].content
    upstream.wait_for(lambda it: it.messages, within=20)
    assert until(lambda: len(senders.messages)) == 1
