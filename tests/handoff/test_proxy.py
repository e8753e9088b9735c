"""The proxy and the relay in front of a fake upstream: what it says is what the client hears, and never 250 by accident."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import gevent
import pytest

from smtpproxy.config.limits import Limits
from smtpproxy.config.values import Networks, Size, Target
from smtpproxy.delivery.pool import Pool
from smtpproxy.delivery.smtp import Timeouts
from smtpproxy.delivery.upstream import Upstream
from smtpproxy.handoff.proxy import ProxyOutlet
from smtpproxy.handoff.relay import RelayOutlet
from smtpproxy.testing.acts import DROP, HANG
from smtpproxy.testing.client import FakeClient, Reply
from smtpproxy.testing.front import ENVELOPE, Front
from smtpproxy.testing.upstream import KEYWORDS, FakeUpstream
from smtpproxy.testing.waiting import FixedClock, until

USUAL = Timeouts(connect=5.0, greeting=5.0, mail=5.0, data=5.0, block=5.0, final=5.0)
SHORT = Timeouts(connect=5.0, greeting=0.5, mail=0.5, data=0.5, block=0.5, final=0.5)
MESSAGE = b"Subject: x\r\n\r\nhello\r\n"
XCLIENT = "XCLIENT NAME ADDR PORT PROTO HELO LOGIN"
XFORWARD = "XFORWARD NAME ADDR PORT PROTO HELO IDENT SOURCE"
NOBODY = FixedClock(0.0)

Begin = Callable[..., Front]


def outlet(
    *servers: FakeUpstream, kind: type[ProxyOutlet], identity: str, probe: bool, timeouts: Timeouts
) -> ProxyOutlet:
    upstreams = [
        Upstream(Target("lmtp" if it.lmtp else "smtp", "127.0.0.1", it.port), timeouts, "mx.example.com", NOBODY)
        for it in servers
    ]
    pool = Pool(upstreams)
    if probe:
        pool.probe_all()
    return kind("out", pool, identity, lambda cause, client: causes.append(cause))


causes: list[str] = []


@pytest.fixture
def front(tmp_path: Path) -> Iterator[Begin]:
    """Sessions in front of fake upstreams."""
    fronts: list[Front] = []
    causes.clear()

    def make(
        *servers: FakeUpstream,
        kind: type[ProxyOutlet] = ProxyOutlet,
        identity: str = "none",
        rule: str = "",
        probe: bool = True,
        timeouts: Timeouts = USUAL,
        **options: object,
    ) -> Front:
        out = outlet(*servers, kind=kind, identity=identity, probe=probe, timeouts=timeouts)
        fronts.append(Front(out, folder=tmp_path, rules={"10-rule.py": rule} if rule else {}, **options))  # type: ignore[arg-type]
        return fronts[-1]

    yield make
    for it in fronts:
        it.close()


@pytest.fixture(params=["pipelining", "one by one"])
def server(request: pytest.FixtureRequest) -> Iterator[FakeUpstream]:
    """An upstream with PIPELINING, and one without."""
    keywords = KEYWORDS if request.param == "pipelining" else KEYWORDS[1:]
    with FakeUpstream(keywords=keywords) as it:
        yield it


def stages(client: FakeClient) -> dict[str, Reply]:
    """The replies of a whole transaction, up to the first refusal."""
    replies = {}
    for stage, line in zip(("MAIL", "RCPT", "DATA"), (*ENVELOPE, "DATA"), strict=True):
        replies[stage] = client.send(line)
        if replies[stage].code >= 400:
            return replies
    replies["dot"] = client.data(MESSAGE + b".\r\n")
    return replies


def send(client: FakeClient) -> Reply:
    return list(stages(client).values())[-1]


# -- every answer, at every stage --------------------------------------------------------------------------------------

REFUSALS = {
    "550 5.1.1 No such user": "550 5.1.1 No such user",
    "450 4.2.0 Greylisted": "450 4.2.0 Greylisted",
    "552 5.3.4 Too big": "552 5.3.4 Too big",
    "554 No": "554 5.0.0 No",
    "451 Later": "451 4.0.0 Later",
    "550-5.7.1 Not\n550 5.7.1 you": "550-5.7.1 Not\n550 5.7.1 you",
    "550 4.7.1 A code of another class": "550 5.0.0 4.7.1 A code of another class",
}


@pytest.mark.parametrize("stage", ["MAIL", "RCPT", "DATA", "dot"])
@pytest.mark.parametrize("said", REFUSALS, ids=lambda text: text[:10])
def test_a_refusal_passes_as_it_was_said(server: FakeUpstream, front: Begin, stage: str, said: str) -> None:
    server.on(stage, said)
    client = front(server).client()
    # DATA is answered with 354 before the upstream is asked: its refusal comes at the end.
    assert stages(client)[{"MAIL": "RCPT", "DATA": "dot"}.get(stage, stage)] == REFUSALS[said]
    assert client.send("RSET").code == 250
    server.on(stage, None)
    assert send(client).code == 250
    assert len(server.messages) == 1


@pytest.mark.parametrize("stage", ["MAIL", "RCPT", "DATA", "dot"])
def test_421_passes_and_both_sides_hang_up(server: FakeUpstream, front: Begin, stage: str) -> None:
    server.on(stage, "421 4.3.2 Going down")
    client = front(server, probe=False).client()
    assert send(client) == "421 4.3.2 Going down"
    assert client.closed()
    server.wait_for(lambda it: all(conversation.closed for conversation in it.conversations))


@pytest.mark.parametrize("code", [251, 252])
def test_recipients_accepted_in_other_words(server: FakeUpstream, front: Begin, code: int) -> None:
    server.on("RCPT", f"{code} 2.1.5 Will do")
    assert stages(front(server).client())["RCPT"] == f"{code} 2.1.5 Will do"


NONSENSE = {
    "220 at MAIL": ("MAIL", "220 2.0.0 Hello"),
    "354 at MAIL": ("MAIL", "354 Go on"),
    "299 at RCPT": ("RCPT", "299 2.0.0 Fine"),
    "354 at RCPT": ("RCPT", "354 Go on"),
    "250 at DATA": ("DATA", "250 2.0.0 Ok"),
    "334 at DATA": ("DATA", "334 Ok"),
    "354 at the dot": ("dot", "354 Go on"),
    "251 at the dot": ("dot", "251 2.0.0 Somewhere"),
    "221 at the dot": ("dot", "221 2.0.0 Bye"),
    "garbage at MAIL": ("MAIL", b"yes\r\n"),
    "garbage at RCPT": ("RCPT", b"250\0Ok\r\n"),
    "garbage at DATA": ("DATA", b"\xff\xff\r\n"),
    "garbage at the dot": ("dot", b"2500 Ok\r\n"),
    "a changed code at the dot": ("dot", b"250-Ok\r\n550 No\r\n"),
    "a hang-up at MAIL": ("MAIL", DROP),
    "a hang-up at RCPT": ("RCPT", DROP),
    "a hang-up at DATA": ("DATA", DROP),
    "a hang-up in the message": ("body", DROP),
    "a hang-up at the dot": ("dot", DROP),
    "half a reply at the dot": ("dot", b"250 2.0.0 Ok"),
    "silence at MAIL": ("MAIL", HANG),
    "silence at RCPT": ("RCPT", HANG),
    "silence at DATA": ("DATA", HANG),
    "silence at the dot": ("dot", HANG),
}


@pytest.mark.parametrize("what", NONSENSE)
def test_whatever_makes_no_sense_is_a_deferral(server: FakeUpstream, front: Begin, what: str) -> None:
    stage, act = NONSENSE[what]
    server.on(stage, act)
    client = front(server, timeouts=SHORT if act is HANG or what.startswith("half") else USUAL).client()
    assert send(client).startswith("451 4.")
    assert causes, "the log says why"
    server.on(stage, None)
    client.send("RSET")
    assert send(client).code == 250


def test_a_later_recipient_loses_the_upstream_and_the_accepted_one_is_deferred(server: FakeUpstream, front: Begin) -> None:
    server.on("RCPT", DROP, argument="c@")
    it = front(server)
    client = it.begun()
    assert client.send("RCPT TO:<c@example.com>").startswith("451 4.4.2")
    assert client.message(MESSAGE).startswith("451 4.4.2")
    assert it.logged("internal_error") == []
    assert server.messages == []
    assert send(client).code == 250


def test_no_server_at_all(front: Begin) -> None:
    with FakeUpstream() as gone:
        pass
    client = front(gone).client()
    assert stages(client)["RCPT"].startswith("451 4.4.1")
    assert "Connection refused" in causes[0]


def test_an_early_refusal_in_the_middle_of_the_message_is_its_answer(upstream: FakeUpstream, front: Begin) -> None:
    upstream.on("body", "552 5.3.4 Too big for me")
    client = front(upstream).begun()
    client.send("DATA")
    client.raw(b"Subject: x\r\n\r\n" + b"x" * 70 + b"\r\n")
    upstream.wait_for(lambda it: it.conversations[0].closed)
    client.raw((b"x" * 70 + b"\r\n") * 50_000)
    assert client.data(b".\r\n") == "552 5.3.4 Too big for me"
    assert client.send("NOOP").code == 250


# -- connections that were kept ----------------------------------------------------------------------------------------


def test_messages_share_a_connection(server: FakeUpstream, front: Begin) -> None:
    it = front(server)
    client, another = it.client(), it.client()
    assert [send(client).code for _ in range(3)] + [send(another).code] == [250] * 4
    assert len(server.conversations) == 1


def test_one_that_was_closed_between_messages_is_replaced(server: FakeUpstream, front: Begin) -> None:
    client = front(server).client()
    send(client)
    server.hang_up()
    assert send(client).code == 250
    assert len(server.messages) == 2


@pytest.mark.parametrize("act", [DROP, "421 4.4.2 Idle for too long", HANG], ids=["hang-up", "421", "silence"])
@pytest.mark.parametrize("kept", ["from the start", "from a message"])
def test_one_that_dies_as_it_is_used_again_is_replaced(server: FakeUpstream, front: Begin, act: object, kept: str) -> None:
    client = front(server, timeouts=SHORT if act is HANG else USUAL).client()
    if kept == "from a message":
        assert send(client).code == 250
    server.on("MAIL", act, None)
    assert send(client).code == 250
    assert [message.sender for message in server.messages][-1] == "a@client.example"
    assert len(server.conversations) == 2


def test_a_fresh_one_that_dies_is_not_replaced_for_ever(server: FakeUpstream, front: Begin) -> None:
    server.on("MAIL", DROP)
    client = front(server).client()
    assert send(client).startswith("451 4.4.2")
    assert len(server.conversations) == 2


def test_giving_up_leaves_the_connection_fit_for_others(server: FakeUpstream, front: Begin) -> None:
    it = front(server)
    first = it.begun()
    first.send("RSET")
    assert send(it.client()).code == 250
    assert len(server.conversations) == 1
    assert "RSET" in server.commands


def test_a_client_that_vanishes_within_the_message_takes_the_connection_along(server: FakeUpstream, front: Begin) -> None:
    it = front(server)
    client = it.begun()
    client.send("DATA")
    client.raw(b"Subject: half\r\n\r\nhalf a message\r\n")
    server.wait_for(lambda upstream: b"half a" in upstream.conversations[0].wire)
    client.raw(b".\r")
    client.close()
    server.wait_for(lambda upstream: upstream.conversations[0].closed)
    assert server.messages == []
    assert not server.conversations[0].wire.endswith(b"\r")


# -- bodies ------------------------------------------------------------------------------------------------------------

BODIES = {
    "dots": b"Subject: x\r\n\r\n.\r\n..\r\n.a\r\n...\r\na.\r\n",
    "8-bit": b"Subject: \xe4\xf6\xfc\r\n\r\n" + bytes(set(range(256)) - {10, 13}) + b"\r\n",
    "a line of 998": b"Subject: x\r\n\r\n" + b"x" * 998 + b"\r\n",
    "a line of 60,000": b"Subject: x\r\n\r\n" + b"x" * 60_000 + b"\r\n",
    "no header": b"\r\nonly a body\r\n",
    "no body": b"Subject: x\r\n",
    "nothing": b"",
    "no field at all": b"junk\r\njunk\r\n",
    "blank lines": b"\r\n\r\n\r\n",
    "large": b"Subject: x\r\n\r\n" + b"".join(b".%d of many lines\r\n" % number for number in range(150_000)),
}


@pytest.mark.parametrize("rule", ["", "def on_message(mail): pass\n"], ids=["streamed", "stored"])
@pytest.mark.parametrize("body", BODIES)
def test_a_body_arrives_octet_for_octet(upstream: FakeUpstream, front: Begin, body: str, rule: str) -> None:
    it = front(upstream, rule=rule, limits=Limits(message_memory=Size(1 << 16)))
    assert it.begun().message(BODIES[body]).code == 250
    (message,) = upstream.messages
    received, end = message.content.split(b"+0000\r\n", 1)
    assert received.startswith(b"Received: from client.example")
    assert end == BODIES[body]


def test_a_large_body_is_not_gathered(upstream: FakeUpstream, front: Begin) -> None:
    client = front(upstream).begun()
    client.send("DATA")
    client.raw(b"Subject: x\r\n\r\n" + b"x" * 100 + b"\r\n")
    upstream.wait_for(lambda it: b"x" * 100 in it.conversations[0].wire)
    client.raw(b".\r\n")
    assert client.reply().code == 250


# -- needs -------------------------------------------------------------------------------------------------------------


def test_parameters_are_passed_on(upstream: FakeUpstream, front: Begin) -> None:
    client = front(upstream).client()
    client.send("MAIL FROM:<jörg@client.example> SMTPUTF8 BODY=8BITMIME SIZE=100")
    client.send(ENVELOPE[1])
    client.message(MESSAGE)
    assert set(upstream.messages[0].params.split()) == {"SMTPUTF8", "BODY=8BITMIME", "SIZE=100"}


NEEDS = {
    "SMTPUTF8": ("550 5.6.7", ("PIPELINING", "8BITMIME")),
    "BODY=8BITMIME": ("554 5.6.3", ("PIPELINING", "SMTPUTF8")),
    "SIZE=2000": ("552 5.3.4", ("PIPELINING", "SIZE 1000", "8BITMIME")),
}


@pytest.mark.parametrize("need", NEEDS)
def test_what_the_upstream_stopped_offering_is_refused_and_nothing_is_stripped(front: Begin, need: str) -> None:
    refusal, keywords = NEEDS[need]
    with FakeUpstream() as server:
        client = front(server).client()
        server.keywords[:] = keywords
        server.hang_up()
        assert client.send(f"MAIL FROM:<a@client.example> {need}").code == 250
        assert client.send(ENVELOPE[1]).startswith(refusal)
        assert not any(command.startswith("MAIL") for command in server.commands)


def test_a_size_is_not_told_to_a_server_that_takes_none(front: Begin) -> None:
    with FakeUpstream(keywords=[]) as server:
        client = front(server).client()
        client.send("MAIL FROM:<a@client.example> SIZE=100")
        client.send(ENVELOPE[1])
        client.message(MESSAGE)
        assert server.messages[0].params == ""


# -- identity ----------------------------------------------------------------------------------------------------------

FRONT = {"xclient_from": Networks(["127.0.0.0/8"]), "xclient_login": True}


def introduced(it: Front, said: str, hello: str = "EHLO client.example") -> FakeClient:
    client = it.client("EHLO front.example")
    assert client.send(f"XCLIENT {said}").code == 220
    client.send(hello)
    return client


@pytest.fixture
def trusting() -> Iterator[FakeUpstream]:
    """An upstream that takes XCLIENT from us."""
    with FakeUpstream(keywords=(*KEYWORDS, XCLIENT)) as server:
        yield server


def test_each_client_has_a_connection_of_its_own(trusting: FakeUpstream, front: Begin) -> None:
    it = front(trusting, identity="xclient", **FRONT)
    for number in (1, 2, 3):
        with introduced(it, f"ADDR=192.0.2.{number} PORT=25") as client:
            assert [send(client).code, send(client).code] == [250, 250]
            client.send("QUIT")
    seen = [(message.xclient["ADDR"], id(message.conversation)) for message in trusting.messages]
    assert [address for address, _ in seen] == ["192.0.2.1"] * 2 + ["192.0.2.2"] * 2 + ["192.0.2.3"] * 2
    assert len(set(seen)) == 3, "one connection for both messages of a client"


@pytest.mark.parametrize(
    "second", ["ADDR=192.0.2.9", "PORT=26", "LOGIN=eve", "HELO=other.example"], ids=lambda said: said.split("=")[0]
)
def test_another_identity_in_the_same_session_has_another_connection(
    trusting: FakeUpstream, front: Begin, second: str
) -> None:
    it = front(trusting, identity="xclient", **FRONT)
    client = introduced(it, "ADDR=127.0.0.7 PORT=25 LOGIN=adam")
    assert send(client).code == 250
    assert client.send(f"XCLIENT {second}").code == 220
    client.send("EHLO other.example" if "HELO" in second else "EHLO client.example")
    assert send(client).code == 250
    first, last = trusting.messages
    assert first.conversation is not last.conversation
    assert last.xclient.get("LOGIN") != "adam"


def test_another_greeting_is_another_identity(trusting: FakeUpstream, front: Begin) -> None:
    client = front(trusting, identity="xclient").client()
    send(client)
    client.send("EHLO other.example")
    send(client)
    assert [message.conversation.commands[2] for message in trusting.messages] == ["EHLO client.example", "EHLO other.example"]


def test_a_connection_with_an_identity_is_never_kept(trusting: FakeUpstream, front: Begin) -> None:
    it = front(trusting, identity="xclient", probe=False)
    with it.client() as client:
        send(client)
    trusting.wait_for(lambda upstream: all(conversation.closed for conversation in upstream.conversations))
    assert trusting.commands[-1] == "QUIT"


def test_an_own_connection_that_died_between_messages_is_introduced_again(trusting: FakeUpstream, front: Begin) -> None:
    client = front(trusting, identity="xclient").client()
    assert send(client).code == 250
    trusting.on("MAIL", DROP, None)
    assert send(client).code == 250
    assert [message.xclient["ADDR"] for message in trusting.messages] == ["127.0.0.1"] * 2


REFUSED = {"550 5.7.0 Not you": "451 4.7.1", "501 5.5.4 What?": "451 4.7.1", "451 4.3.0 Later": "451 4.7.1", DROP: "451 4.4.2"}


@pytest.mark.parametrize("act", REFUSED, ids=lambda act: str(act)[:3])
def test_a_client_that_cannot_be_introduced_is_deferred(trusting: FakeUpstream, front: Begin, act: str) -> None:
    trusting.on("XCLIENT", act)
    client = front(trusting, identity="xclient").client()
    assert stages(client)["RCPT"].startswith(REFUSED[act])
    assert not any(command.startswith("MAIL") for command in trusting.commands)


@pytest.mark.parametrize("reply", ["554 5.7.1 We know you", "421 4.7.0 Too often"])
def test_an_upstream_that_turns_the_introduced_client_away_is_heard(
    trusting: FakeUpstream, front: Begin, reply: str
) -> None:
    trusting.on("XCLIENT", reply)
    assert stages(front(trusting, identity="xclient").client())["RCPT"] == reply


@pytest.mark.parametrize("identity", ["xclient", "xforward"])
def test_an_upstream_that_takes_no_identity_gets_no_mail(server: FakeUpstream, front: Begin, identity: str) -> None:
    client = front(server, identity=identity).client()
    assert stages(client)["RCPT"].startswith("451 4.7.1")
    assert client.send("DATA").code == 503
    assert not any(command.startswith(("MAIL", "RCPT")) for command in server.commands)


@pytest.mark.parametrize("pipelining", [True, False])
def test_xforward_speaks_of_each_mail_on_a_shared_connection(front: Begin, pipelining: bool) -> None:
    with FakeUpstream(keywords=(*KEYWORDS[not pipelining :], XFORWARD)) as server:
        it = front(server, identity="xforward")
        for name in ("one.example", "two.example"):
            assert send(it.client(f"EHLO {name}")).code == 250
        assert [message.xforward["HELO"] for message in server.messages] == ["one.example", "two.example"]
        assert len({message.xforward["IDENT"] for message in server.messages}) == 2
        assert len(server.conversations) == 1


@pytest.mark.parametrize("pipelining", [True, False])
@pytest.mark.parametrize("act", ["550 5.7.0 Not you", "451 4.3.0 Later"])
def test_xforward_refused_defers_and_nothing_is_relayed(front: Begin, act: str, pipelining: bool) -> None:
    with FakeUpstream(keywords=(*KEYWORDS[not pipelining :], XFORWARD)) as server:
        server.on("XFORWARD", act)
        client = front(server, identity="xforward").client()
        assert stages(client)["RCPT"].startswith("451 4.7.1")
        assert not any(command.startswith("RCPT") for command in server.commands)
        server.on("XFORWARD", None)
        client.send("RSET")
        assert send(client).code == 250


def test_a_server_without_pipelining_hears_one_command_at_a_time(front: Begin) -> None:
    with FakeUpstream(keywords=(*KEYWORDS[1:], XFORWARD)) as server:
        assert send(front(server, identity="xforward").client()).code == 250
        commands = [read for read in server.conversations[0].reads if not read.startswith(b"Received")]
        assert all(read.count(b"\r\n") == 1 for read in commands[: commands.index(b"DATA\r\n") + 1])


# -- the client's ten minutes ------------------------------------------------------------------------------------------

PATIENT = Timeouts(connect=5.0, greeting=5.0, mail=5.0, data=5.0, block=5.0, final=0.5)
STORED = "def on_message(mail): pass\n"


@pytest.mark.parametrize(
    ("kind", "stage"),
    [(RelayOutlet, "MAIL"), (RelayOutlet, "RCPT"), (RelayOutlet, "DATA"), (RelayOutlet, "dot"), (ProxyOutlet, "DATA")],
    ids=lambda it: it if isinstance(it, str) else it.__name__,
)
def test_who_has_sent_everything_waits_for_the_last_answer_only(
    upstream: FakeUpstream, front: Begin, kind: type[ProxyOutlet], stage: str
) -> None:
    client = front(upstream, kind=kind, rule=STORED, timeouts=PATIENT).client()
    upstream.on(stage, HANG)
    with gevent.Timeout(4):
        assert send(client).startswith("451 4.4.2")
    upstream.on(stage, None)
    assert send(client).code == 250


def test_the_time_of_one_message_is_not_that_of_the_next(upstream: FakeUpstream, front: Begin) -> None:
    client = front(upstream, rule=STORED, timeouts=PATIENT).client()
    assert send(client).code == 250
    assert client.quiet(PATIENT.final + 0.1)
    assert send(client).code == 250
    assert len(upstream.conversations) == 1


# -- relay -------------------------------------------------------------------------------------------------------------


@pytest.fixture
def lmtp() -> Iterator[FakeUpstream]:
    with FakeUpstream(lmtp=True, keywords=("PIPELINING", "8BITMIME")) as server:
        yield server


def test_the_upstream_hears_of_a_relayed_mail_when_it_is_complete(upstream: FakeUpstream, front: Begin) -> None:
    client = front(upstream, kind=RelayOutlet).begun()
    client.send("DATA")
    client.raw(b"Subject: x\r\n\r\nbeginning\r\n")
    assert client.quiet(0.05)
    assert upstream.commands == ["EHLO mx.example.com"]
    assert client.data(b".\r\n").code == 250


RELAYED = {
    ("MAIL", "550 5.1.8 Bad sender"): "550 5.1.8 Bad sender",
    ("RCPT", "550 5.1.1 No such user"): "550 5.1.1 No such user",
    ("RCPT", "452 4.2.2 Full"): "452 4.2.2 Full",
    ("DATA", "451 4.3.0 Later"): "451 4.3.0 Later",
    ("dot", "554 5.7.1 Spam"): "554 5.7.1 Spam",
    ("dot", "250 2.0.0 Queued"): "250 2.0.0 Queued",
    ("dot", "354 What?"): "451 4.5.0",
    ("dot", DROP): "451 4.4.2",
}


@pytest.mark.parametrize("protocol", ["smtp", "lmtp"])
@pytest.mark.parametrize("order", RELAYED, ids=lambda order: f"{order[0]} {str(order[1])[:3]}")
def test_every_answer_to_a_relayed_message_comes_at_its_end(
    upstream: FakeUpstream, lmtp: FakeUpstream, front: Begin, protocol: str, order: tuple[str, str]
) -> None:
    server = lmtp if protocol == "lmtp" else upstream
    server.on(*order)
    client = front(server, kind=RelayOutlet).client()
    replies = stages(client)
    assert replies["RCPT"].code == 250
    assert replies["dot"].startswith(RELAYED[order])
    server.on(order[0], None)
    assert send(client).code == 250


def test_one_refused_recipient_refuses_a_relayed_message(upstream: FakeUpstream, front: Begin) -> None:
    upstream.on("RCPT", "550 5.1.1 No c", argument="c@")
    client = front(upstream, kind=RelayOutlet).begun((*ENVELOPE, "RCPT TO:<c@example.com>"))
    assert client.message(MESSAGE) == "550 5.1.1 No c"
    assert upstream.messages == []


def test_a_hang_up_of_the_client_costs_a_relay_nothing(upstream: FakeUpstream, front: Begin) -> None:
    it = front(upstream, kind=RelayOutlet)
    client = it.begun()
    client.send("DATA")
    client.raw(MESSAGE)
    client.close()
    until(lambda: not it.sessions)
    assert upstream.commands == ["EHLO mx.example.com"]


@pytest.mark.parametrize("kind", [ProxyOutlet, RelayOutlet])
def test_lmtp_takes_one_recipient_at_a_time(lmtp: FakeUpstream, front: Begin, kind: type[ProxyOutlet]) -> None:
    client = front(lmtp, kind=kind).begun()
    assert client.send("RCPT TO:<c@example.com>").startswith("452 4.5.3")
    assert client.message(MESSAGE).code == 250
    assert lmtp.messages[0].recipients == ["b@example.com"]


def test_a_mixed_lot_of_servers_takes_one_recipient_at_a_time(
    upstream: FakeUpstream, lmtp: FakeUpstream, front: Begin
) -> None:
    client = front(lmtp, upstream, kind=RelayOutlet).begun()
    assert client.send("RCPT TO:<c@example.com>").startswith("452 4.5.3")
    assert client.message(MESSAGE).code == 250
