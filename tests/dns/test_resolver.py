"""The resolver against a name server on the loopback that the test tells what to answer."""

from __future__ import annotations

import struct
import time
from collections.abc import Callable, Iterator
from typing import Any

import dns.flags
import dns.message
import dns.rcode
import dns.rrset
import gevent
import pytest
from gevent.server import DatagramServer, StreamServer

from smtpproxy.dns.exchange import parse_server
from smtpproxy.dns.resolver import Answer, Cache, DnsResolver, Temporary, reverse_name
from smtpproxy.testing.waiting import FixedClock

Answerer = Callable[[dns.message.Message], "dns.message.Message | bytes | None"]


class NameServer:
    """Answers by UDP and TCP on one port what `answer` makes of a query; None is silence."""

    def __init__(self, answer: Answerer) -> None:
        self.answer = answer
        self.asked: list[str] = []
        self.tcp: Answerer | None = None
        self._tcp = StreamServer(("127.0.0.1", 0), self._stream)
        self._tcp.start()
        self._udp = DatagramServer(("127.0.0.1", self._tcp.server_port), self._datagram)
        self._udp.start()

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self._udp.server_port}"

    def stop(self) -> None:
        self._udp.stop()
        self._tcp.stop()

    def _reply(self, wire: bytes, answer: Answerer) -> bytes | None:
        query = dns.message.from_wire(wire)
        self.asked.append(query.question[0].name.to_text(omit_final_dot=True))
        reply = answer(query)
        return reply.to_wire() if isinstance(reply, dns.message.Message) else reply

    def _datagram(self, wire: bytes, peer: Any) -> None:
        reply = self._reply(wire, self.answer)
        if reply is not None:
            self._udp.sendto(reply, peer)

    def _stream(self, channel: Any, peer: Any) -> None:
        (length,) = struct.unpack("!H", channel.recv(2))
        reply = self._reply(channel.recv(length), self.tcp or self.answer)
        if reply is not None:
            channel.sendall(struct.pack("!H", len(reply)) + reply)


def says(*records: str, ttl: int = 300, rcode: str = "NOERROR", flags: int = 0) -> Answerer:
    """Answer with records of the type asked for."""

    def answer(query: dns.message.Message) -> dns.message.Message:
        reply = dns.message.make_response(query)
        question = query.question[0]
        if records:
            reply.answer.append(dns.rrset.from_text_list(question.name, ttl, "IN", question.rdtype, records))
        reply.set_rcode(dns.rcode.from_text(rcode))
        reply.flags |= flags
        return reply

    return answer


@pytest.fixture
def server() -> Iterator[NameServer]:
    name_server = NameServer(says("192.0.2.1"))
    yield name_server
    name_server.stop()


@pytest.fixture
def clock() -> FixedClock:
    return FixedClock()


@pytest.fixture
def resolver(server: NameServer, clock: FixedClock) -> DnsResolver:
    return DnsResolver([server.address], clock=clock, timeout=2.0)


@pytest.mark.parametrize(
    ("type", "record", "plain"),
    [
        ("A", "192.0.2.1", "192.0.2.1"),
        ("AAAA", "2001:db8::1", "2001:db8::1"),
        ("MX", "10 MX.example.", (10, "mx.example")),
        ("PTR", "Host.example.", "host.example"),
        ("TXT", '"v=spf1 " "-all"', "v=spf1 -all"),
        ("SRV", "0 5 25 mx.example.", "0 5 25 mx.example."),
    ],
)
def test_records_are_plain_values(server: NameServer, resolver: DnsResolver, type: str, record: str, plain: object) -> None:
    server.answer = says(record)
    assert resolver.query("example.com", type).records == (plain,)


def test_an_alias_is_followed_within_the_answer(server: NameServer, resolver: DnsResolver) -> None:
    def answer(query: dns.message.Message) -> dns.message.Message:
        reply = dns.message.make_response(query)
        reply.answer.append(dns.rrset.from_text("1.2.0.192.in-addr.arpa.", 60, "IN", "CNAME", "1.sub.example."))
        reply.answer.append(dns.rrset.from_text("1.sub.example.", 30, "IN", "PTR", "mail.example."))
        return reply

    server.answer = answer
    found = resolver.query("1.2.0.192.in-addr.arpa", "PTR")
    assert (found.records, found.ttl) == (("mail.example",), 30)


def test_an_answer_is_kept_for_its_time_to_live(server: NameServer, resolver: DnsResolver, clock: FixedClock) -> None:
    resolver.query("example.com", "A")
    clock.advance(299)
    resolver.query("EXAMPLE.com.", "A")
    assert len(server.asked) == 1
    clock.advance(2)
    resolver.query("example.com", "A")
    assert len(server.asked) == 2


def test_nothing_is_kept_too_by_the_soa(server: NameServer, resolver: DnsResolver, clock: FixedClock) -> None:
    def nothing(query: dns.message.Message) -> dns.message.Message:
        reply = dns.message.make_response(query)
        reply.set_rcode(dns.rcode.NXDOMAIN)
        reply.authority.append(dns.rrset.from_text("example.", 900, "IN", "SOA", "ns.example. a.example. 1 2 3 4 120"))
        return reply

    server.answer = nothing
    assert not resolver.query("no.example", "A").exists
    clock.advance(119)
    assert not resolver.query("no.example", "A").exists
    assert len(server.asked) == 1
    clock.advance(2)
    resolver.query("no.example", "A")
    assert len(server.asked) == 2


def test_an_answer_without_time_to_live_is_not_kept(server: NameServer, resolver: DnsResolver) -> None:
    server.answer = says("192.0.2.1", ttl=0)
    resolver.query("example.com", "A")
    resolver.query("example.com", "A")
    assert len(server.asked) == 2


def test_a_truncated_answer_is_asked_for_by_tcp(server: NameServer, resolver: DnsResolver) -> None:
    server.answer = says(flags=dns.flags.TC)
    server.tcp = says("192.0.2.7")
    assert resolver.query("example.com", "A").records == ("192.0.2.7",)


def test_the_servers_validation_is_passed_on(server: NameServer, resolver: DnsResolver) -> None:
    assert not resolver.query("plain.example", "A").secure
    server.answer = says("192.0.2.1", flags=dns.flags.AD)
    assert resolver.query("signed.example", "A").secure


@pytest.mark.parametrize("rcode", ["SERVFAIL", "REFUSED", "NOTIMP"])
def test_a_server_that_does_not_answer_the_question_is_temporary(server: NameServer, resolver: DnsResolver, rcode: str) -> None:
    server.answer = says(rcode=rcode)
    with pytest.raises(Temporary, match=rcode):
        resolver.query("example.com", "A")


def test_a_failure_is_not_kept(server: NameServer, resolver: DnsResolver) -> None:
    server.answer = says(rcode="SERVFAIL")
    with pytest.raises(Temporary):
        resolver.query("example.com", "A")
    server.answer = says("192.0.2.1")
    assert resolver.query("example.com", "A").records == ("192.0.2.1",)


def test_silence_ends_at_the_deadline(server: NameServer) -> None:
    server.answer = lambda query: None
    began = time.monotonic()
    with pytest.raises(Temporary, match="no answer"):
        DnsResolver([server.address], timeout=0.2).query("example.com", "A")
    assert time.monotonic() - began < 4.0


def test_the_next_server_is_asked_when_one_fails(server: NameServer) -> None:
    broken = NameServer(says(rcode="SERVFAIL"))
    try:
        found = DnsResolver([broken.address, server.address]).query("example.com", "A")
    finally:
        broken.stop()
    assert found.records == ("192.0.2.1",)


def test_a_lost_datagram_is_asked_again(server: NameServer) -> None:
    def once(query: dns.message.Message) -> None:
        server.answer = says("192.0.2.1")

    server.answer = once
    assert DnsResolver([server.address], timeout=2.0).query("example.com", "A").records == ("192.0.2.1",)


def test_an_answer_to_another_question_is_not_believed(server: NameServer) -> None:
    def forged(query: dns.message.Message) -> dns.message.Message:
        query.id ^= 1
        return says("192.0.2.66")(query)  # type: ignore[return-value]

    server.answer = forged
    with pytest.raises(Temporary):
        DnsResolver([server.address], timeout=0.2).query("example.com", "A")


def test_noise_is_not_believed(server: NameServer) -> None:
    server.answer = lambda query: b"\x00" * 40
    with pytest.raises(Temporary):
        DnsResolver([server.address], timeout=0.2).query("example.com", "A")


def test_other_greenlets_run_while_one_waits(server: NameServer, resolver: DnsResolver) -> None:
    ran = []
    asking = gevent.spawn(resolver.query, "example.com", "A")
    gevent.spawn(ran.append, True)
    assert asking.get(timeout=15).records == ("192.0.2.1",) and ran


@pytest.mark.parametrize("name", ["a..example", "x" * 64 + ".example", "é" * 64 + ".example"])
def test_a_name_that_cannot_be_does_not_exist(server: NameServer, resolver: DnsResolver, name: str) -> None:
    assert not resolver.query(name, "A").exists
    assert server.asked == []


def test_an_international_name_is_asked_for_in_ascii(server: NameServer, resolver: DnsResolver) -> None:
    resolver.query("bücher.example", "A")
    assert server.asked == ["xn--bcher-kva.example"]


@pytest.mark.parametrize(
    ("name", "type", "records"),
    [
        ("localhost", "A", ("127.0.0.1",)),
        ("www.localhost", "AAAA", ("::1",)),
        ("localhost", "MX", ()),
        ("1.0.0.127.in-addr.arpa", "PTR", ("localhost",)),
        ("9.8.7.127.in-addr.arpa", "PTR", ("localhost",)),
        ("1." + "0." * 31 + "ip6.arpa", "PTR", ("localhost",)),
        ("anything.invalid", "A", ()),
    ],
)
def test_names_of_this_machine_are_not_asked_for(
    server: NameServer, resolver: DnsResolver, name: str, type: str, records: tuple[str, ...]
) -> None:
    assert resolver.query(name, type).records == records
    assert server.asked == []


def test_the_loopback_is_localhost_and_its_neighbours_are_unconfirmed(resolver: DnsResolver) -> None:
    assert reverse_name(resolver, "127.0.0.1") == ("localhost", False)
    assert reverse_name(resolver, "::1") == ("localhost", False)
    assert reverse_name(resolver, "127.0.0.2") == (None, False)


def test_the_cache_is_bounded_and_the_oldest_go_first(clock: FixedClock) -> None:
    cache = Cache(2, clock)
    for number in range(3):
        cache.put((f"{number}.example", "A"), Answer([str(number)], ttl=60))
    assert len(cache) == 2
    assert cache.get(("0.example", "A")) is None
    assert cache.get(("2.example", "A")) is not None


def test_nothing_is_kept_for_more_than_an_hour(clock: FixedClock) -> None:
    cache = Cache(2, clock)
    cache.put(("example.com", "A"), Answer(["192.0.2.1"], ttl=1 << 31))
    clock.advance(3601)
    assert cache.get(("example.com", "A")) is None


@pytest.mark.parametrize(
    ("text", "server"),
    [
        ("192.0.2.53", ("192.0.2.53", 53)),
        ("192.0.2.53:5353", ("192.0.2.53", 5353)),
        ("2001:db8::53", ("2001:db8::53", 53)),
        ("[2001:db8::53]", ("2001:db8::53", 53)),
        ("[2001:db8::53]:5353", ("2001:db8::53", 5353)),
    ],
)
def test_name_servers_are_written_with_or_without_a_port(text: str, server: tuple[str, int]) -> None:
    assert parse_server(text) == server
