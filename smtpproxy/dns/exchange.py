"""One question to one of several name servers: UDP first, TCP on truncation, a deadline over all of it."""

from __future__ import annotations

import ipaddress
import struct
import time
from collections.abc import Sequence
from typing import Any

import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdata
import dns.rdatatype
import gevent
from gevent import socket

Server = tuple[str, int]

# RFC 9715 3.1: a size that travels without fragments.
PAYLOAD = 1232
# RFC 2308 5: how long "no such thing" may be believed when the server does not say.
NEGATIVE_TTL = 60


class ServerFailure(OSError):
    """A name server answered, but not the question: SERVFAIL, REFUSED, nonsense."""


def parse_server(text: str) -> Server:
    """ "192.0.2.53", "192.0.2.53:53", "[2001:db8::53]:53" or a bare IPv6 address. Raises ValueError."""
    host, port = text, "53"
    if text.startswith("["):
        host, _, rest = text[1:].partition("]")
        port = rest.removeprefix(":") or port
    elif text.count(":") == 1:
        host, _, port = text.partition(":")
    return str(ipaddress.ip_address(host)), int(port)


class Exchange:
    """Sends a question round the servers until one answers it; each server gets two tries within the deadline."""

    __slots__ = ("_servers", "_timeout")

    def __init__(self, servers: Sequence[Server], timeout: float) -> None:
        self._servers = tuple(servers)
        self._timeout = timeout

    def ask(self, name: str, type: str) -> dict[str, Any]:
        """The parts of an Answer. Raises OSError (TimeoutError past the deadline) or dns.exception.DNSException."""
        try:
            question = make_question(name, type)
        except (UnicodeError, dns.exception.DNSException):
            return {"exists": False}  # no such name can be: an empty label, one of more than 63 octets (RFC 1035 2.3.4)
        deadline = time.monotonic() + self._timeout
        patience = self._timeout / (2 * len(self._servers))
        failures: list[Exception] = []
        for server in self._servers * 2:
            wait = min(patience, deadline - time.monotonic())
            if wait <= 0:
                break
            try:
                return read_answer(question, self._attempt(question, server, wait))
            except (OSError, dns.exception.DNSException) as error:
                failures.append(error)
        raise failures[-1]

    def _attempt(self, question: dns.message.Message, server: Server, wait: float) -> dns.message.Message:
        with gevent.Timeout(wait, TimeoutError(f"no answer from {server[0]} within {wait:.1f} s")):
            reply = over_udp(question, server)
            if reply.flags & dns.flags.TC:
                reply = over_tcp(question, server)
        if reply.rcode() not in (dns.rcode.NOERROR, dns.rcode.NXDOMAIN):
            raise ServerFailure(f"{server[0]} answered {dns.rcode.to_text(reply.rcode())}")
        return reply


def make_question(name: str, type: str) -> dns.message.Message:
    """A query with a random id, EDNS, and AD set: "tell me whether you validated" (RFC 6840 5.7)."""
    query = dns.message.make_query(_encode(name), type, use_edns=0, payload=PAYLOAD)
    query.flags |= dns.flags.AD
    return query


def _encode(name: str) -> dns.name.Name:
    codec = dns.name.IDNA_2008_Practical if not name.isascii() else None
    return dns.name.from_text(name, idna_codec=codec)


def over_udp(question: dns.message.Message, server: Server) -> dns.message.Message:
    """Ask once. A datagram that is no answer to this question is dropped, not believed (RFC 5452 9.1)."""
    with socket.socket(_family(server), socket.SOCK_DGRAM) as channel:
        channel.connect(server)
        channel.send(question.to_wire())
        while True:
            reply = _parse(channel.recv(65535), question)
            if reply is not None:
                return reply


def over_tcp(question: dns.message.Message, server: Server) -> dns.message.Message:
    """Ask once over TCP (RFC 7766)."""
    with socket.create_connection(server) as channel:
        wire = question.to_wire()
        channel.sendall(struct.pack("!H", len(wire)) + wire)
        (length,) = struct.unpack("!H", _read(channel, 2))
        reply = _parse(_read(channel, length), question)
        if reply is None:
            raise ServerFailure(f"{server[0]} answered another question")
        return reply


def _family(server: Server) -> int:
    return int(socket.AF_INET6 if ":" in server[0] else socket.AF_INET)


def _read(channel: Any, length: int) -> bytes:
    data = b""
    while len(data) < length:
        chunk = channel.recv(length - len(data))
        if not chunk:
            raise ConnectionResetError("the name server hung up")
        data += chunk
    return data


def _parse(wire: bytes, question: dns.message.Message) -> dns.message.Message | None:
    try:
        reply = dns.message.from_wire(wire, ignore_trailing=True, raise_on_truncation=False)
    except dns.exception.DNSException:
        return None
    return reply if question.is_response(reply) else None


def read_answer(question: dns.message.Message, reply: dns.message.Message) -> dict[str, Any]:
    """The parts of an Answer in a reply; aliases are followed within it (RFC 1034 3.6.2)."""
    chain = reply.resolve_chaining()  # type: ignore[attr-defined]
    records = [plain(record) for record in chain.answer] if chain.answer is not None else []
    ttl = chain.minimum_ttl
    if not records and not any(rrset.rdtype == dns.rdatatype.SOA for rrset in reply.authority):
        ttl = NEGATIVE_TTL
    exists = reply.rcode() != dns.rcode.NXDOMAIN
    return {"records": records, "exists": exists, "secure": bool(reply.flags & dns.flags.AD), "ttl": ttl}


def plain(record: dns.rdata.Rdata) -> Any:
    """A record as a plain value: see `resolver`."""
    fields: Any = record
    match dns.rdatatype.to_text(record.rdtype):
        case "A" | "AAAA":
            return str(fields.address)
        case "PTR" | "CNAME" | "NS":
            return host(fields.target)
        case "MX":
            return int(fields.preference), host(fields.exchange)
        case "TXT" | "SPF":
            return b"".join(fields.strings).decode("utf-8", "surrogateescape")
    return record.to_text()


def host(name: dns.name.Name) -> str:
    """A name as text: lower case, no final dot."""
    return name.to_text(omit_final_dot=True).lower()
