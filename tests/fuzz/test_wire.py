"""Anything at all, fed to what reads the wire: only the declared errors, in bounded time, and nothing is lost.

Each check takes octets and asserts; `hypothesis` finds small ones, mutated examples the large and ugly ones.
"""

from __future__ import annotations

import hashlib
import random
import re
import time
from collections.abc import Callable
from contextlib import suppress
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from smtpproxy.message.header import HeaderBlock, end_of_header
from smtpproxy.message.trace import count_received
from smtpproxy.wire import sasl
from smtpproxy.wire.address import (
    AddressError,
    is_address_literal,
    is_helo_name,
    is_hostname,
    parse_address,
    parse_path,
)
from smtpproxy.wire.command import check_parameters, looks_like_http, looks_like_tls, parse, parse_mail, parse_rcpt
from smtpproxy.wire.dots import DataScanner, stuff, stuff_chunks, unstuff, unstuff_chunks
from smtpproxy.wire.extensions import MAIL_PARAMETERS, RCPT_PARAMETERS, Extensions, intersect, parameters
from smtpproxy.wire.lines import LineBuffer, LineFlood, LineTooLong
from smtpproxy.wire.order import State, refuse
from smtpproxy.wire.proxyheader import SIGNATURE, ProxyHeaderError
from smtpproxy.wire.proxyheader import parse as parse_proxy_header
from smtpproxy.wire.reply import Refusal, Reply, ReplyError, ReplyParser
from smtpproxy.wire.sasl import MECHANISMS
from smtpproxy.wire.scram import NotProved, ScramKeys
from smtpproxy.wire.xclient import (
    TEMPUNAVAIL,
    UNAVAILABLE,
    Identity,
    parse_xclient,
    parse_xforward,
    xclient_commands,
    xforward_commands,
    xtext_decode,
    xtext_encode,
)

OURS = Extensions({"PIPELINING": "", "SIZE": "1000", "8BITMIME": "", "SMTPUTF8": "", "ENHANCEDSTATUSCODES": ""})
KEYS = ScramKeys(b"salt", 4096, b"s" * 32, b"v" * 32)
WIRE_REPLY = re.compile(rb"(?:[2-5]\d\d[ -][^\x00-\x08\x0a-\x1f\x7f]*\r\n)+").fullmatch
BARE = re.compile(rb"\r(?!\n)|(?<!\r)\n").search


def text(data: bytes) -> str:
    return data.decode("utf-8", "surrogateescape")


def well_formed(reply: Reply) -> None:
    wire = bytes(reply)
    assert WIRE_REPLY(wire), wire
    assert all(len(line) <= 512 for line in wire.splitlines(keepends=True))


def command(data: bytes) -> None:
    with_utf8 = b"\xc3" in data
    looks_like_http(data)
    looks_like_tls(data)
    try:
        said = parse(data)
        assert said.verb == said.verb.upper()
        refuse(said.verb, State.GREETED)
        assert said.argument.encode("utf-8", "surrogateescape") == said.octets
    except Refusal as refusal:
        well_formed(refusal.reply)
    for reader, known in ((parse_mail, MAIL_PARAMETERS), (parse_rcpt, RCPT_PARAMETERS)):
        try:
            envelope = reader(data, with_utf8)
            check_parameters(envelope.params, parameters(OURS, known))
        except Refusal as refusal:
            well_formed(refusal.reply)


def address(data: bytes) -> None:
    is_helo_name(data)
    is_hostname(text(data))
    is_address_literal(text(data))
    for utf8 in (False, True):
        with suppress(AddressError):
            found = parse_path(b"<" + data + b">", utf8)
            wire = found.path.encode()
            assert utf8 or wire.isascii()
            assert parse_path(b"<" + wire + b">", utf8) == found
            assert not BARE(wire) and b"\x00" not in wire
    with suppress(AddressError):
        found = parse_address(text(data))
        if found.domain:
            assert parse_address(str(found)) == found


def reply(data: bytes) -> None:
    parser = ReplyParser()
    for line in data.split(b"\r\n"):
        try:
            found = parser.feed(line)
        except ReplyError:
            parser = ReplyParser()
            continue
        if found is not None:
            well_formed(found)
            well_formed(found.completed())
    well_formed(Reply(550, "5.0.0", *text(data).split("\r\n")))


def xclient(data: bytes) -> None:
    said = text(data)
    xtext_decode(said)
    assert xtext_decode(xtext_encode(said)) == said
    for reader in (parse_xclient, parse_xforward):
        try:
            found = reader(said)
        except Refusal as refusal:
            well_formed(refusal.reply)
            continue
        found = {name: value for name, value in found.items() if value.upper() not in (UNAVAILABLE, TEMPUNAVAIL)}
        identity = Identity(
            found.get("ADDR", "192.0.2.1"), 25, found.get("NAME"), found.get("HELO", ""), True, found.get("LOGIN"), "", "REMOTE"
        )
        announced = "NAME ADDR PORT PROTO HELO LOGIN IDENT SOURCE"
        for line in (*xclient_commands(identity, announced), *xforward_commands(identity, announced)):
            assert line.count(b"\r\n") == 1 and line.endswith(b"\r\n") and line.isascii()
            again = parse_xclient if line.startswith(b"XCLIENT") else parse_xforward
            again(line.split(b" ", 1)[1].decode().strip())


def extensions(data: bytes) -> None:
    announced = Extensions.parse(text(data).split("\r\n"))
    assert announced.size is None or announced.size > 0
    shared = intersect(OURS, announced)
    assert set(shared) <= set(OURS)
    well_formed(shared.reply("mx.example.com"))


def header(data: bytes) -> None:
    end = end_of_header(data)
    assert -1 <= end <= len(data)
    block = HeaderBlock.parse(data[:end] if end >= 0 else data)
    for field in block.fields:
        assert isinstance(field.name, str) and isinstance(field.value, str)
    whole = b"".join(field.raw for field in block.fields) + block.separator
    assert whole == (data[:end] if end >= 0 else data)
    count_received(data)


def message_data(data: bytes) -> None:
    whole = scanned([data], False)
    step = 3 + len(data) // 1000
    pieces = [data[at : at + step] for at in range(0, len(data), step)]
    assert scanned(pieces, False) == whole
    mended, ended, _, _ = scanned(pieces, True)
    assert scanned([data], True)[0] == mended
    assert not BARE(mended)
    assert ended == whole[1]
    assert b"\r\n.\r\n" not in b"\r\n" + mended
    assert b"".join(unstuff_chunks(pieces)) == unstuff(data)
    assert b"".join(stuff_chunks(pieces)) == stuff(data)


def scanned(pieces: list[bytes], normalize: bool) -> tuple[bytes, bool, bytes, bool]:
    """What is certain of the content, whether it ended, what came behind, whether a CR or LF was bare."""
    scanner = DataScanner(normalize)
    content = rest = b""
    for piece in pieces:
        if scanner.ended:
            rest += piece
        else:
            more, rest = scanner.feed(piece)
            content += more
    assert scanner.size == len(content)
    assert scanner.content_size == len(unstuff(content))
    return content, scanner.ended, rest, bool(scanner.bare)


def lines(data: bytes) -> None:
    buffer = LineBuffer(limit=64, flood=1000)
    for at in range(0, len(data), 7):
        buffer.feed(data[at : at + 7])
        try:
            while (line := buffer.next()) is not None:
                assert len(line) <= 64 and b"\n" not in line
        except LineTooLong:
            continue
        except LineFlood:
            return
        assert len(buffer) <= 64 + 1 + 7


def proxy_header(data: bytes) -> None:
    for octets in (data, SIGNATURE + data, b"PROXY " + data):
        try:
            found = parse_proxy_header(octets)
        except ProxyHeaderError as error:
            assert str(error)
            continue
        if found is None:
            assert len(octets) < 16 + (1 << 16)  # the whole of it is there by then
            continue
        assert 0 < found.length <= len(octets)
        assert parse_proxy_header(octets[: found.length]) == found  # what follows changes nothing
        if found.known:
            assert ip_address(found.source) and ip_address(found.destination)
            assert 0 <= found.source_port < 1 << 16


def exchange(data: bytes) -> None:
    """AUTH: the lines of the input are what a client answers."""
    channel = sasl.Channel(lambda name: KEYS, "nonce", b"end point", ("alice",))
    for mechanism in MECHANISMS:
        steps = sasl.begin(mechanism, channel)
        try:
            next(steps)
            for line in data.split(b"\n"):
                with suppress(sasl.Malformed, sasl.Cancelled):
                    assert sasl.encode(sasl.decode(line)) is not None
                steps.send(line)
        except (sasl.Malformed, NotProved) as error:
            assert str(error)
        except StopIteration as over:
            assert over.value.name or over.value.secret  # whose a token is, who checks it says
            assert not over.value.proved or mechanism == "EXTERNAL"  # nobody guesses a proof


CHECKS: dict[str, Callable[[bytes], None]] = {
    check.__name__: check
    for check in (command, address, reply, xclient, extensions, header, message_data, lines, proxy_header, exchange)
}
CORPUS = Path(__file__).parent / "corpus"
"""Inputs that a check has failed on once: CHECK-SHA256. They stay, and are tried first each time."""

EXAMPLES: list[bytes] = [
    b"MAIL FROM:<a@example.com> SIZE=10 BODY=8BITMIME SMTPUTF8", b'FROM:<"a\\"b"@[IPv6:2001:db8::1]> SIZE=1',
    b"TO:<@a.example,@b.example:user@example.com> NOTIFY=NEVER", "TO:<grün@bücher.example>".encode(), b"<>", b"<postmaster>",
    b"250-mx.example.com\r\n250-SIZE 100\r\n250-AUTH=PLAIN LOGIN\r\n250 LIMITS MAILMAX=10 RCPTMAX=x",
    b"550-5.1.1 No\r\n550 5.1.1 user",
    b"ADDR=IPV6:2001:db8::1 NAME=spike+2Eexample PORT=[UNAVAILABLE] PROTO=ESMTP HELO=[TEMPUNAVAIL] LOGIN=a+40b",
    b"SIZE 100\r\nAUTH=LOGIN\r\nPIPELINING\r\nSTARTTLS\r\nXCLIENT NAME ADDR", b"GET / HTTP/1.1", b"\x16\x03\x01\x02\x00\x01",
    b"Received: by x\r\n\tid y\r\nSubject: =?utf-8?q?a=C3=BC?= =?utf-8?b?w7w=?=\r\nX y\r\n: z\r\n\r\nbody\r\n.\r\n",
    b"a\r\n..b\r\n.\nc\r.\r\n.\r\nQUIT\r\n", b"\r\n.\r\n", b".\r\n", b"\n.\n", b"\r.\r", b".\n", b"a\r\n.\r\rb",
    b"EHLO [IPv6:::ffff:192.0.2.1]", b"HELO \xff\xfe",
    b"PROXY TCP4 192.0.2.1 198.51.100.1 56324 25\r\nEHLO x", b"PROXY TCP6 2001:db8::1 ::1 1 65535\r\n", b"PROXY UNKNOWN x\r\n",
    SIGNATURE + b"\x21\x11\x00\x0c\xc0\x00\x02\x01\xc6\x33\x64\x01\xdc\x04\x00\x19", SIGNATURE + b"\x20\x00\x00\x00",
    SIGNATURE + b"\x21\x11\x00\x1b\xc0\x00\x02\x01\xc6\x33\x64\x01\xdc\x04\x00\x19\x02\x00\x01x\x20\x00\x08\x01"
    b"\x00\x00\x00\x00\x21\x00\x00",
    b"\0alice\0secret", b"alice\nsecret", b"n,,n=alice,r=abc\nc=biws,r=abcnonce,p=AAAA\n", b"p=tls-server-end-point,,n=a,r=b",
    b"user=alice\x01auth=Bearer abc\x01\x01", b"n,a=alice,\x01host=x\x01port=587\x01auth=Bearer abc\x01\x01",
    b"AGFsaWNlAHNlY3JldA==",
]  # fmt: skip
WORDS = {token for example in EXAMPLES for token in re.split(rb"(\W)", example) if token}
TOKENS = [*sorted(WORDS), b"\r\n", b"\r", b"\n.", b"\x00"]
octets = st.lists(st.sampled_from(TOKENS) | st.binary(max_size=6), max_size=24).map(b"".join)


def mutated(chance: random.Random) -> bytes:
    """An example with pieces cut out, doubled, exchanged; now and then grown to a few thousand octets."""
    data = bytearray(chance.choice(EXAMPLES))
    for _ in range(chance.randrange(1, 6)):
        at, end = sorted(chance.randrange(len(data) + 1) for _ in range(2))
        piece = chance.choice([chance.choice(TOKENS), chance.randbytes(3), bytes(data[at:end]) * 2, b""])
        data[at:end] = piece * (chance.randrange(1, 400) if chance.random() < 0.1 else 1)
        del data[65536:]
    return bytes(data)


def withstands(name: str, data: bytes) -> bool:
    """Whether a check finds nothing. Raises AssertionError with the octets when it does."""
    try:
        CHECKS[name](data)
    except Exception as error:
        CORPUS.mkdir(exist_ok=True)
        (CORPUS / f"{name}-{hashlib.sha256(data).hexdigest()[:16]}").write_bytes(data)
        raise AssertionError(f"{name}({data!r})") from error
    return True


@pytest.mark.parametrize("name", CHECKS)
def test_examples(name: str) -> None:
    found = [path.read_bytes() for path in sorted(CORPUS.glob(f"{name}-*"))]
    assert all(withstands(name, data) for data in [*found, *EXAMPLES])


@pytest.mark.proof
@pytest.mark.parametrize("name", CHECKS)
def test_small_inputs(name: str, proof: Any) -> None:
    quiet = [HealthCheck.too_slow, HealthCheck.data_too_large]

    @settings(max_examples=100, deadline=None, database=None, suppress_health_check=quiet)
    @given(octets)
    def examine(data: bytes) -> None:
        assert withstands(name, data)

    for _ in proof.lasting(0.01):
        examine()


@pytest.mark.proof
@pytest.mark.parametrize("name", CHECKS)
def test_mutated_examples(name: str, proof: Any) -> None:
    origin = random.randrange(1 << 30)
    slowest, number = 0.0, 0
    for number in proof.lasting(0.3):
        data = mutated(random.Random(origin + number))
        began = time.thread_time()
        assert withstands(name, data)
        slowest = max(slowest, time.thread_time() - began)
    proof.figure(f"{name}, inputs", f"{number}, the slowest {slowest * 1000:.0f} ms")
    assert slowest < 1.0


PUMPS = [
    b"a", b"a.", b"<", b'"', b"\\", b"@a,", b"[", b" ", b"\t", b"+2", b"=?", b"=?u?q?a?= ", b"\r\n ",
    b"\r\n.", b"\r", b"\n.", b"A=", b"\xff", b"-",
]  # fmt: skip


@pytest.mark.parametrize("name", CHECKS)
def test_time_grows_with_the_length_only(name: str) -> None:
    """No input of 32 KB takes a check much longer than its length explains: patterns do not backtrack."""
    check = CHECKS[name]
    for pump in PUMPS:
        for frame in (b"%s", b"FROM:<%s", b"250-%s", b"Subject: %s", b"NAME=%s"):
            data = (frame % (pump * (32768 // len(pump))))[:32768]
            began = time.thread_time()
            check(data)
            spent = time.thread_time() - began
            assert spent < 0.5, f"{name}: {spent:.2f} s for {data[:40]!r}..."
