"""A balancer in front of us: its PROXY header says who the client is, and nobody else's does."""

from __future__ import annotations

import ssl
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import trustme

from smtpproxy.config.limits import Limits, LimitTimeouts
from smtpproxy.config.schema import Relaying
from smtpproxy.config.values import Domains, Duration, Networks
from smtpproxy.dns.zone import Zone
from smtpproxy.net.tls import server_context
from smtpproxy.testing.client import FakeClient
from smtpproxy.testing.front import ENVELOPE, Front
from smtpproxy.testing.handoffs import durable
from smtpproxy.testing.waiting import until
from smtpproxy.wire.proxyheader import (
    AUTHORITY,
    LOCAL_V1,
    LOCAL_V2,
    SIGNATURE,
    UNIQUE_ID,
    ProxyTls,
    format_v1,
    format_v2,
    ssl_tlv,
)

ENDS = (("192.0.2.7", 4711), ("198.51.100.2", 25))
V1, V2 = format_v1(*ENDS), format_v2(*ENDS)
MESSAGE = b"Subject: x\r\n\r\nhello\r\n"
WHO = """
from smtpproxy.script import deny

def on_rcpt(mail, rcpt):
    client = mail.client
    if rcpt.local_part == "who":
        return deny(f"{client.address} {client.port} {client.name} by {client.connected_address} {client.tls}")
"""
QUICK = Limits(timeouts=LimitTimeouts(proxy=Duration(0.2)))

Fronted = Callable[..., Front]


@pytest.fixture
def front(tmp_path: Path) -> Iterator[Fronted]:
    """A listener that takes PROXY headers from 127.0.0.1, and from no other address of the loopback."""
    fronts = []

    def make(rule: str = WHO, **options: Any) -> Front:
        given = {"proxy_from": Networks(["127.0.0.1/32"]), **options}
        fronts.append(Front(durable(), folder=tmp_path, rules={"10-who.py": rule}, **given))
        return fronts[-1]

    yield make
    for each in fronts:
        each.close()


def greeted(here: Front, header: bytes, source: str = "") -> FakeClient:
    client = FakeClient(here.port, source=source)
    client.raw(header)
    client.expect("220")
    client.send("EHLO client.example")
    return client


def who(client: FakeClient) -> str:
    client.send(ENVELOPE[0])
    return client.send("RCPT TO:<who@example.com>").removeprefix("550 5.7.1 ")


@pytest.mark.parametrize("header", [V1, V2, format_v2(*ENDS, checksum=True)], ids=["v1", "v2", "v2-crc"])
def test_rules_and_the_log_see_the_address_in_the_header(front: Fronted, header: bytes) -> None:
    zone = Zone({"7.2.0.192.in-addr.arpa": {"PTR": ["host.example"]}, "host.example": {"A": ["192.0.2.7"]}})
    here = front(resolver=zone)
    assert who(greeted(here, header)) == "192.0.2.7 4711 host.example by 127.0.0.1 None"
    assert here.logged("refused")[0]["client"] == "192.0.2.7"


def test_an_ipv6_client(front: Fronted) -> None:
    header = format_v2(("2001:db8::7", 4711), ("2001:db8::1", 25))
    assert who(greeted(front(), header)).startswith("2001:db8::7 4711 ")


@pytest.mark.parametrize("header", [LOCAL_V1, LOCAL_V2, SIGNATURE + b"\x21\x00\x00\x00"], ids=["v1", "v2", "unspec"])
def test_a_health_check_is_the_balancer_itself(front: Fronted, header: bytes) -> None:
    here = front()
    client = greeted(here, header)
    assert who(client).startswith("127.0.0.1 ")
    assert client.send("QUIT").code == 221


def test_a_header_may_come_octet_by_octet(front: Fronted) -> None:
    client = FakeClient(front().port)
    for place in range(len(V2)):
        client.raw(V2[place : place + 1])
    client.expect("220")
    client.send("EHLO client.example")
    assert who(client).startswith("192.0.2.7 4711 ")


def test_what_follows_the_header_at_once_is_the_clients(front: Fronted) -> None:
    client = FakeClient(front().port)
    client.raw(V1 + b"EHLO client.example\r\nNOOP\r\n")
    assert [client.reply().code for _ in range(3)] == [220, 250, 250]


def test_relay_permission_goes_by_the_address_in_the_header(front: Fronted) -> None:
    inside = Relaying(domains=Domains(["example.com"]), networks=Networks(["192.0.2.0/24"]))
    balancer = Relaying(domains=Domains(["example.com"]), networks=Networks(["127.0.0.0/8"]))
    for relaying, code in ((inside, 250), (balancer, 554)):
        client = greeted(front(relaying=relaying), V2)
        client.send(ENVELOPE[0])
        assert client.send("RCPT TO:<b@elsewhere.example>").code == code


@pytest.mark.parametrize("header", [V1, V2], ids=["v1", "v2"])
def test_a_strangers_header_is_refused(front: Fronted, header: bytes) -> None:
    here = front()
    client = FakeClient(here.port, source="127.0.0.2")
    client.expect("220")
    client.raw(header)
    assert client.reply() == "421 4.7.0 A PROXY header is not taken from here"
    assert client.closed()
    (refused,) = here.logged("proxy_refused")
    assert (refused["client"], refused["reason"]) == ("127.0.0.2", "a stranger has sent one")


def test_a_stranger_without_a_header_is_served(front: Fronted) -> None:
    assert who(FakeClient.greeted(front().port, source="127.0.0.2")).startswith("127.0.0.2 ")


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        (b"EHLO client.example\r\n", "no PROXY header: it begins with b'EHLO"),
        (b"PROXY TCP4 192.0.2.7 198.51.100.2 1\r\n", "3 words behind TCP4"),
        (SIGNATURE + b"\x31\x11\x00\x0c" + bytes(12), "version 3"),
        (V1[:20], "not complete within 0.2 s"),
        (b"", "none within 0.2 s"),
    ],
    ids=["none", "bad v1", "bad v2", "half", "silence"],
)
def test_without_a_good_header_nobody_is_let_in(front: Fronted, said: bytes, reason: str) -> None:
    here = front(limits=QUICK)
    client = FakeClient(here.port)
    client.raw(said)
    assert client.reply() == "421 4.7.0 A connection from here begins with a PROXY header"
    assert client.closed()
    (refused,) = here.logged("proxy_refused")
    assert reason in refused["reason"] and refused["client"] == "127.0.0.1"


def test_who_connects_and_closes_leaves_nothing_in_the_log(front: Fronted) -> None:
    here = front()
    for header in (b"", LOCAL_V2, V1):
        client = FakeClient(here.port)
        until(lambda: here.sessions)
        client.raw(header)
        client.close()
        until(lambda: not here.sessions)
    assert {event for event, _ in here.records} == {"rule_live"}


def test_half_a_header_and_the_end_is_logged(front: Fronted) -> None:
    here = front()
    client = FakeClient(here.port)
    client.raw(V2[:-1])
    client.half_close()
    client.expect("421")
    assert here.logged("proxy_refused")[0]["reason"] == "the connection was closed in the middle of it"


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="module")
def context(authority: trustme.CA) -> ssl.SSLContext:
    context = server_context("1.2", "none", None)
    authority.issue_cert("mx.example.com").configure_cert(context)
    return context


class TestWhereAHeaderMayBeMissing:
    def test_it_is_believed_where_it_is(self, front: Fronted) -> None:
        assert who(greeted(front(proxy_optional=True), V2)).startswith("192.0.2.7 ")

    def test_who_waits_for_the_greeting_gets_it(self, front: Fronted) -> None:
        here = front(proxy_optional=True, limits=QUICK)
        assert who(FakeClient.greeted(here.port)).startswith("127.0.0.1 ")

    def test_who_does_not_wait_speaks_early(self, front: Fronted) -> None:
        client = FakeClient(front(TestEarlyTalkers.RULE, proxy_optional=True).port)
        client.raw(b"EHLO client.example\r\n")
        assert client.reply() == "554 5.5.1 127.0.0.1 is too soon"

    def test_a_bad_one_is_refused_all_the_same(self, front: Fronted) -> None:
        client = FakeClient(front(proxy_optional=True).port)
        client.raw(b"PROXY TCP4 nonsense\r\n")
        assert client.reply().startswith("421 4.7.0 ")

    def test_one_that_comes_too_late_is_nobodys(self, front: Fronted) -> None:
        client = FakeClient(front(proxy_optional=True, limits=QUICK).port)
        client.expect("220")
        client.raw(V2)
        assert client.reply().startswith("421 4.7.0 ")


class TestEarlyTalkers:
    RULE = """
from smtpproxy.script import deny

def on_connect(client):
    if client.spoke_early:
        return deny(f"{client.address} is too soon", code="554 5.5.1")
"""

    def test_the_header_is_not_the_clients_word(self, front: Fronted) -> None:
        client = FakeClient(front(self.RULE).port)
        client.raw(V2)
        assert client.reply().code == 220

    def test_what_comes_with_it_is(self, front: Fronted) -> None:
        client = FakeClient(front(self.RULE).port)
        client.raw(V2 + b"EHLO client.example\r\n")
        assert client.reply() == "554 5.5.1 192.0.2.7 is too soon"


class TestTls:
    SAID = (
        ssl_tlv(ProxyTls("TLSv1.3", "TLS_AES_256_GCM_SHA384", True, "joe")),
        (AUTHORITY, b"mx.example.com"),
        (UNIQUE_ID, b"1"),
    )

    def test_a_balancer_that_is_believed_counts_as_tls(self, front: Fronted, context: ssl.SSLContext) -> None:
        here = front(proxy_tls=True, tls=context, tls_required=True)
        client = greeted(here, format_v2(*ENDS, self.SAID))
        assert "STARTTLS" not in client.send("EHLO client.example")
        assert who(client).endswith("by 127.0.0.1 TLSv1.3 TLS_AES_256_GCM_SHA384")

    def test_what_it_says_is_there_for_rules(self, front: Fronted) -> None:
        rule = """
from smtpproxy.script import deny

def on_rcpt(mail, rcpt):
    tls = mail.client.tls
    return deny(f"{tls.server_name} {tls.certificate.subject} {tls.bits}")
"""
        client = greeted(front(rule, proxy_tls=True), format_v2(*ENDS, self.SAID))
        assert who(client) == "mx.example.com joe 0"

    def test_one_that_is_not_believed_does_not(self, front: Fronted, context: ssl.SSLContext) -> None:
        client = greeted(front(tls=context, tls_required=True), format_v2(*ENDS, self.SAID))
        assert client.send(ENVELOPE[0]).startswith("530 5.7.0")

    def test_a_client_that_came_to_it_in_the_clear_has_no_tls(self, front: Fronted, context: ssl.SSLContext) -> None:
        client = greeted(front(proxy_tls=True, tls=context, tls_required=True), V2)
        assert client.send(ENVELOPE[0]).startswith("530 5.7.0")

    @pytest.mark.parametrize("apart", [True, False], ids=["apart", "in one segment"])
    def test_the_header_comes_before_implicit_tls(
        self, front: Fronted, context: ssl.SSLContext, authority: trustme.CA, apart: bool
    ) -> None:
        here = front(tls=context, tls_implicit=True)
        trusting = ssl.create_default_context()
        authority.configure_trust(trusting)
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        tls = trusting.wrap_bio(incoming, outgoing, server_hostname="mx.example.com")
        with pytest.raises(ssl.SSLWantReadError):
            tls.do_handshake()
        client = FakeClient(here.port)
        for octets in (V1, outgoing.read()) if apart else (V1 + outgoing.read(),):
            client.raw(octets)
        assert _first_words(tls, incoming, outgoing, client).startswith(b"220 ")


def _first_words(tls: ssl.SSLObject, incoming: ssl.MemoryBIO, outgoing: ssl.MemoryBIO, client: FakeClient) -> bytes:
    """Bring the handshake to its end; what the server then says."""
    for step in (tls.do_handshake, tls.read):
        while True:
            try:
                done = step()
            except ssl.SSLWantReadError:
                client.raw(outgoing.read())
                incoming.write(client.socket.recv(65536))
            else:
                client.raw(outgoing.read())
                break
    return bytes(done)
