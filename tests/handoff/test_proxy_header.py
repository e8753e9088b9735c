"""identity = "proxy": each upstream connection begins with whose it is, and is that client's alone."""

from __future__ import annotations

import ssl
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import trustme

from smtpproxy.config.values import Networks, Target
from smtpproxy.delivery.pool import Pool
from smtpproxy.delivery.smtp import Timeouts
from smtpproxy.delivery.tlspolicy import TlsPolicy
from smtpproxy.delivery.upstream import Upstream
from smtpproxy.handoff.proxy import ProxyOutlet
from smtpproxy.net.tls import Trust
from smtpproxy.testing.acts import DROP
from smtpproxy.testing.client import FakeClient, Reply
from smtpproxy.testing.front import ENVELOPE, Front
from smtpproxy.testing.instance import one_listener
from smtpproxy.testing.process import RunningServer
from smtpproxy.testing.upstream import FakeUpstream
from smtpproxy.testing.waiting import FixedClock
from smtpproxy.wire.proxyheader import LOCAL_V2, UNIQUE_ID, ProxyTls, format_v2, ssl_tlv

MESSAGE = b"Subject: x\r\n\r\nhello\r\n"
USUAL = Timeouts(connect=5.0, greeting=5.0, mail=5.0, data=5.0, block=5.0, final=5.0)
ENDS = (("192.0.2.7", 4711), ("198.51.100.2", 25))
IN_FRONT = {"xclient_from": Networks(["127.0.0.0/8"])}

Begin = Callable[..., Front]


@pytest.fixture
def behind() -> Iterator[FakeUpstream]:
    """An upstream where each connection begins with a PROXY header."""
    with FakeUpstream(proxy=True) as server:
        yield server


@pytest.fixture
def front(tmp_path: Path) -> Iterator[Begin]:
    """Sessions in front of upstreams that are told who the client is by PROXY."""
    fronts: list[Front] = []

    def make(*servers: FakeUpstream, version: str = "v2", tls: TlsPolicy | None = None, **options: Any) -> Front:
        policy = tls or TlsPolicy("none")
        upstreams = [
            Upstream(
                Target("lmtp" if it.lmtp else "smtp", "127.0.0.1", it.port), USUAL, "mx.example.com", FixedClock(0.0), 0, policy,
                LOCAL_V2,
            )
            for it in servers
        ]  # fmt: skip
        pool = Pool(upstreams)
        pool.probe_all()
        causes: list[str] = []
        out = ProxyOutlet("out", pool, "proxy", lambda cause, client: causes.append(cause), version)
        fronts.append(Front(out, folder=tmp_path, **options))
        fronts[-1].causes = causes  # type: ignore[attr-defined]
        return fronts[-1]

    yield make
    for it in fronts:
        it.close()


def send(client: FakeClient) -> Reply:
    for line in ENVELOPE:
        reply = client.send(line)
        if reply.code >= 400:
            return reply
    return client.message(MESSAGE)


def sources(server: FakeUpstream) -> list[str]:
    """Whose each message was."""
    headers = [message.conversation.proxy for message in server.messages]
    return [f"{header.source} {header.source_port}" for header in headers if header is not None]


@pytest.mark.parametrize("version", ["v1", "v2"])
def test_the_upstream_sees_the_client_and_its_helo(behind: FakeUpstream, front: Begin, version: str) -> None:
    it = front(behind, version=version, **IN_FRONT)
    client = it.client("EHLO front.example")
    client.send("XCLIENT ADDR=192.0.2.7 PORT=4711")
    client.send("EHLO client.example")
    assert send(client).code == 250
    (message,) = behind.messages
    header = message.conversation.proxy
    assert header is not None and f"v{header.version}" == version
    assert (header.source, header.source_port, header.destination) == ("192.0.2.7", 4711, "127.0.0.1")
    assert message.conversation.commands[0] == "EHLO client.example"


def test_header_goes_out_in_one_segment_and_nothing_with_it(behind: FakeUpstream, front: Begin) -> None:
    assert send(front(behind).client()).code == 250
    (message,) = behind.messages
    header = message.conversation.proxy
    assert header is not None and len(message.conversation.reads[0]) == header.length


def test_it_is_passed_on_from_a_balancer_in_front(behind: FakeUpstream, front: Begin) -> None:
    tls = ProxyTls("TLSv1.3", "TLS_AES_256_GCM_SHA384", True, "joe")
    it = front(behind, proxy_from=Networks(["127.0.0.1/32"]), proxy_tls=True)
    client = FakeClient(it.port)
    client.raw(format_v2(*ENDS, [ssl_tlv(tls)]))
    client.expect("220")
    client.send("EHLO client.example")
    assert send(client).code == 250
    (message,) = behind.messages
    header = message.conversation.proxy
    assert header is not None and (header.source, header.tls, header.text(UNIQUE_ID)) == ("192.0.2.7", tls, "1")


def test_our_own_connections_are_nobodys(behind: FakeUpstream, front: Begin) -> None:
    front(behind)
    behind.wait_for(lambda server: server.conversations)
    header = behind.conversations[0].proxy
    assert header is not None and header.command == "LOCAL"


def test_each_client_has_connections_of_its_own(behind: FakeUpstream, front: Begin) -> None:
    it = front(behind, **IN_FRONT)
    for number in (1, 2):
        with it.client() as client:
            client.send(f"XCLIENT ADDR=192.0.2.{number} PORT=25")
            client.send("EHLO client.example")
            assert [send(client).code, send(client).code] == [250, 250]
            client.send("QUIT")
    assert sources(behind) == ["192.0.2.1 25"] * 2 + ["192.0.2.2 25"] * 2
    assert len({id(message.conversation) for message in behind.messages}) == 2
    behind.wait_for(lambda server: all(it.closed for it in server.conversations[1:]))


def test_another_identity_in_the_same_session_has_another_connection(behind: FakeUpstream, front: Begin) -> None:
    client = front(behind, **IN_FRONT).client()
    assert send(client).code == 250
    client.send("XCLIENT ADDR=192.0.2.9 PORT=25")
    client.send("EHLO client.example")
    assert send(client).code == 250
    assert sources(behind)[1] == "192.0.2.9 25"


def test_a_connection_that_died_between_messages_begins_with_the_header_again(behind: FakeUpstream, front: Begin) -> None:
    client = front(behind).client()
    assert send(client).code == 250
    behind.on("MAIL", DROP, None)
    assert send(client).code == 250
    first, second = behind.messages
    assert first.conversation is not second.conversation
    assert first.conversation.proxy == second.conversation.proxy


def test_after_a_failed_handshake_the_client_is_still_the_client(front: Begin) -> None:
    nobodys = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)  # without a certificate: no handshake comes to an end
    with FakeUpstream(proxy=True, tls=nobodys) as behind:
        it = front(behind, tls=TlsPolicy("must", Trust()))
        assert send(it.client()).startswith("451 4.4.1")
        assert behind.messages == []


def test_the_header_comes_before_starttls(front: Begin) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("upstream.example").configure_cert(context)
    with FakeUpstream(proxy=True, tls=context) as behind:
        assert send(front(behind, tls=TlsPolicy("must", Trust())).client()).code == 250
        (message,) = behind.messages
        assert message.conversation.tls.startswith("TLS") and message.conversation.proxy is not None
        hellos = [line for line in message.conversation.commands if line.startswith("EHLO")]
        assert hellos == ["EHLO client.example"] * 2


@pytest.mark.parametrize("stage", ["greeting", "EHLO"])
@pytest.mark.parametrize("reply", ["554 5.7.1 We know you", "421 4.7.0 Too often", "450 4.7.1 Later"])
def test_an_upstream_that_turns_the_client_away_is_heard_and_is_no_failure(
    behind: FakeUpstream, front: Begin, stage: str, reply: str
) -> None:
    it = front(behind)
    behind.on(stage, reply, None)
    assert send(it.client()) == reply
    assert send(it.client()).code == 250


@pytest.mark.parametrize("version", ["v1", "v2"])
def test_an_upstream_that_knows_no_header_gets_no_mail(front: Begin, version: str) -> None:
    with FakeUpstream() as plain:
        it = front(plain, version=version)
        assert send(it.client()).startswith("451 4.4.1")
        assert "takes no PROXY header: 500" in it.causes[0]  # type: ignore[attr-defined]
        assert not any(command.startswith("MAIL") for command in plain.commands)


def test_an_upstream_that_hangs_up_on_the_header_gets_no_mail(behind: FakeUpstream, front: Begin) -> None:
    it = front(behind)
    behind.on("greeting", DROP)
    assert send(it.client()).startswith("451 4.4.1")
    assert behind.messages == []


def test_a_client_without_an_address_is_not_passed_off_as_us(behind: FakeUpstream, front: Begin) -> None:
    it = front(behind, **IN_FRONT)
    client = it.client()
    client.send("XCLIENT ADDR=[UNAVAILABLE]")
    client.send("EHLO client.example")
    assert send(client).startswith("451 4.7.1")
    assert behind.messages == [] and "no IP address" in it.causes[0]  # type: ignore[attr-defined]


@pytest.mark.parametrize(("settings", "version"), [("", "v2"), ('proxy_version = "v1"', "v1")])
def test_in_a_server_of_its_own(start: Callable[..., RunningServer], settings: str, version: str) -> None:
    with FakeUpstream(proxy=True) as behind:
        server = start(one_listener("proxy", behind.address, settings=f'identity = "proxy"\n{settings}'))
        assert send(server.client(source="127.0.0.5")).code == 250
        (message,) = behind.messages
        header = message.conversation.proxy
        assert header is not None and (f"v{header.version}", header.source) == (version, "127.0.0.5")
        assert {f"v{it.proxy.version}" for it in behind.conversations if it.proxy is not None} == {version}
