"""Anything at all, said to a server: it answers or closes, is never at fault, serves the next client, and does not grow."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import gevent
import pytest

from smtpproxy.testing.acts import DROP, HANG
from smtpproxy.testing.client import FakeClient
from smtpproxy.testing.instance import one_listener
from smtpproxy.testing.process import RunningServer
from smtpproxy.testing.upstream import FakeUpstream
from smtpproxy.wire.command import Chunk, parse, parse_bdat
from smtpproxy.wire.reply import Refusal

CONFIG = """
hostname = "mx.example.com"
[listener.strict]
bind = ["127.0.0.1:0"]
handoff = "drop"
xclient_from = ["127.0.0.0/8", "192.0.2.0/24"]
xforward_from = ["127.0.0.0/8"]
xclient_login = true
[listener.lenient]
bind = ["127.0.0.1:0"]
handoff = "drop"
bare_newline = "normalize"
rules = []
[handoff.drop]
kind = "discard"
[relaying]
domains = ["example.com"]
[limits]
connections_per_client = 0
errors = 0
unknown_commands = 0
junk_commands = 0
message_size = "200KB"
message_memory = "2KB"
header_size = "8KB"
text_line_length = "4KB"
[limits.timeouts]
drain = "1s"
"""

PYTHON_RULE = """
def on_command(client, verb, argument): client.notes.last = verb[:20] + argument[:100]
def on_ehlo(client, name): client.notes.name = name
def on_mail(mail, sender): mail.notes.sender = f"{sender} {sender.domain} {bool(sender)}"
def on_rcpt(mail, rcpt): rcpt.notes.text = f"{rcpt.local_part}{rcpt.params}"
def on_header(mail): mail.notes.seen = [name[:50] for name, value in mail.header][:20]
def on_message(mail):
    mail.header["Subject"] = (mail.header["Subject"] or "none")[:60].encode("ascii", "replace").decode()
    mail.header.add("X-Size", str(len(mail.body.bytes())))
    mail.body.append("-- \\r\\nseen\\r\\n")
def on_reset(mail): str(mail.sender)
def on_disconnect(client): str(client.notes.last)
"""

LUA_RULE = """
function on_mail(mail, sender) mail.notes.lua = sender.local_part end
function on_rcpt(mail, rcpt) rcpt.notes.lua = rcpt.domain end
function on_message(mail) mail.header:prepend("X-Lua", tostring(mail.body.size)) end
"""

LINES: list[bytes] = [
    b"EHLO client.example", b"HELO client.example", b"EHLO [192.0.2.1]", b"MAIL FROM:<a@client.test>", b"MAIL FROM:<>",
    b"MAIL FROM:<a@client.test> SIZE=100 BODY=8BITMIME", b"MAIL FROM:<a@client.test> SMTPUTF8", b"RCPT TO:<b@example.com>",
    b'RCPT TO:<"b c"@example.com>', "RCPT TO:<grün@example.com>".encode(), b"RCPT TO:<b@elsewhere.example>", b"DATA", b"DATA",
    b"RCPT TO:<postmaster>", b"RSET", b"NOOP", b"NOOP x", b"VRFY b", b"HELP", b"QUIT", b"STARTTLS",
    b"AUTH PLAIN AGEAYg==", b"BDAT 3 LAST", b"BDAT 30", b"BDAT 700", b"BDAT 0", b"BDAT 0 LAST",
    b"MAIL FROM:<a@client.test> BODY=BINARYMIME",
    b"XCLIENT ADDR=192.0.2.7 PORT=9 NAME=x.example HELO=x PROTO=ESMTP LOGIN=u", b"XCLIENT ADDR=203.0.113.1", b"EXPN x",
    b"LHLO x",
    b"XFORWARD ADDR=203.0.113.9 NAME=[UNAVAILABLE] SOURCE=LOCAL IDENT=1", b"ETRN x",
    b"MAIL FROM:<a@client.test> SIZE=999999999", b"",
]  # fmt: skip
VALID = [LINES[at] for at in (0, 3, 7, 11)]
CONTENT: list[bytes] = [
    b"Subject: a\r\n", b"Subject: =?utf-8?q?=C3=BC?=\r\n", b"Received: from x\r\n", b" folded\r\n", b"\r\n", b"text\r\n",
    b"..\r\n", b".x\r\n",
    b"\n", b"\r", b".\n", b"\n.\r\n", b"\r.\r", b"\x00\xff\r\n", b"x" * 5000 + b"\r\n", b"y: z\r\n" * 900, b"no end",
    b"\xc3\xbc\r\n",
]  # fmt: skip
TERMINATOR = b"\r\n.\r\n"
LINE_LENGTH = 4096
REPLY_LINE = re.compile(r"[2-5]\d\d[ -][^\x00-\x08\x0a-\x1f\x7f]*").fullmatch


def a_line(chance: random.Random) -> bytes:
    """A command: in its place, out of place, or damaged. Always one line."""
    if chance.random() < 0.3:
        return chance.choice(VALID)
    line = bytearray(chance.choice(LINES))
    if chance.random() < 0.4:
        at = chance.randrange(len(line) + 1)
        line[at : at + chance.randrange(4)] = chance.randbytes(chance.randrange(4)) * chance.choice([1, 1, 1, 60, 2000])
    text = bytes(line).replace(b"\n", b"")
    return b"NOOP" if re.match(rb"(?i)BDAT +[0-9]{6}", text) else text


def octets_of(line: bytes, chance: random.Random) -> bytes:
    """What a line announces by BDAT: text, and noise that may look like anything."""
    size = (announced(line) or Chunk(0, False)).size
    text = b"".join(chance.choices([*CONTENT, b"QUIT\r\n", b"RSET\r\n"], k=10))
    return (text * (size // max(len(text), 1) + 1))[:size]


def announced(line: bytes) -> Chunk | None:
    """The chunk that a BDAT speaks of, an empty one for all other lines; None where nobody knows how many octets follow."""
    if len(line) > LINE_LENGTH:
        return None if line.lstrip()[:4].upper() == b"BDAT" else Chunk(0, False)
    try:
        command = parse(line)
    except Refusal:
        return Chunk(0, False)
    try:
        return parse_bdat(command.octets) if command.verb == "BDAT" else Chunk(0, False)
    except Refusal:
        return None


def a_message(chance: random.Random) -> bytes:
    """A message in wire form, good or bad, with its end, which comes once."""
    content = b"".join(chance.choices(CONTENT, k=chance.randrange(12)))
    content = (b"\r\n" + content + chance.randbytes(chance.randrange(3))).replace(TERMINATOR, b"\r\n..\r\n")[2:]
    return content + (b".\r\n" if content.endswith(b"\r\n") or not content else TERMINATOR)


def turn_by_turn(client: FakeClient, chance: random.Random) -> None:
    """Each command has one reply, each message one; after 221 and 421 the server closes."""
    client.expect("220")
    for _ in range(chance.randrange(1, 25)):
        line = a_line(chance)
        client.raw(line + b"\r\n" + octets_of(line, chance))
        reply = client.reply()
        if reply.code == 354:
            reply = client.data(a_message(chance))
        assert all(REPLY_LINE(line) for line in reply.split("\n")), reply
        if reply.code in (221, 421) or announced(line) is None:
            assert client.closed(), reply
            return


def all_at_once(client: FakeClient, chance: random.Random) -> None:
    """Commands, messages and noise in any order, cut anywhere, then FIN: only reply lines come, then the end."""
    parts = [a_line(chance) + b"\r\n" for _ in range(chance.randrange(1, 20))]
    if chance.random() < 0.5:
        parts[0] = b"".join(line + b"\r\n" for line in VALID) + a_message(chance)
    if chance.random() < 0.3:
        parts.append(chance.randbytes(chance.randrange(3000)))
    stream = b"".join(parts)
    cuts = sorted(chance.randrange(len(stream) + 1) for _ in range(chance.randrange(6)))
    reader = gevent.spawn(read_to_the_end, client)
    with suppress(OSError):  # it may have closed by now
        for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True):
            client.raw(stream[start:end])
            gevent.sleep(0)
        client.half_close()
    reader.get(timeout=15)


def read_to_the_end(client: FakeClient) -> None:
    with suppress(ConnectionError):
        while True:
            line = client.line()
            assert REPLY_LINE(line), line


def a_client_is_served(port: int) -> None:
    with FakeClient.greeted(port) as client:
        client.send("MAIL FROM:<a@client.test>")
        client.send("RCPT TO:<b@example.com>")
        assert client.message(b"Subject: still there\r\n\r\ntext\r\n").startswith("250")
        client.send("QUIT")


def at_fault(log: str) -> list[str]:
    """What must never be logged: defects of ours, rules that failed on what a client said."""
    return [line for line in log.splitlines() if re.search("internal_error|rule_failed|watch_failed|Traceback", line)]


class Fuzz:
    """Conversations one after another, each from a seed of its own, so that a failure can be repeated."""

    def __init__(self, server: RunningServer, port: int) -> None:
        self.server = server
        self.port = port
        self.count = 0
        self.start = self.end = 0

    def run(self, conversation: Callable[[FakeClient, random.Random], None], turns: Iterator[int]) -> None:
        for _ in turns:
            seed = random.randrange(1 << 40)
            try:
                with FakeClient(self.port) as client:
                    conversation(client, random.Random(seed))
            except Exception as error:
                raise AssertionError(f"{conversation.__name__}, seed {seed}: {error!r} {at_fault(self.server.log)}") from error
            self.count += 1
            if self.count % 50 == 0:
                a_client_is_served(self.port)
                assert not at_fault(self.server.log), seed
                self.start = self.start or (self.server.resident if self.count >= 100 else 0)
        a_client_is_served(self.port)
        assert not at_fault(self.server.log)
        assert self.server.process.poll() is None
        self.end = self.server.resident


@pytest.mark.proof
@pytest.mark.parametrize("listener", ["strict", "lenient"])
@pytest.mark.parametrize("conversation", [turn_by_turn, all_at_once])
def test_conversations(start: Any, proof: Any, conversation: Callable[..., None], listener: str) -> None:
    server = start(CONFIG, {"10-look.py": PYTHON_RULE, "20-look.lua": LUA_RULE})
    fuzz = Fuzz(server, server.ports[listener])
    fuzz.run(conversation, proof.lasting(1.0))
    before = fuzz.start or fuzz.end
    grown = f"{before >> 10} -> {fuzz.end >> 10} KB resident"
    proof.figure(f"{conversation.__name__}, {listener}", f"{fuzz.count} conversations, {grown}")
    assert fuzz.end - before < 16 << 20


# -- noise from behind -------------------------------------------------------------------------------------------------

QUICK = """
[handoff.out.timeouts]
connect = "1s"
greeting = "100ms"
mail = "100ms"
data = "100ms"
block = "1s"
final = "100ms"
[limits]
errors = 0
junk_commands = 0
connections_per_client = 0
"""

ACTS: list[Any] = [
    DROP, HANG, "550 5.1.1 No", "450 4.2.0 Later", "421 4.3.2 Bye", "354 Go", "251 2.1.5 Elsewhere", "250-half",
    "999 what", "250", b"",
    b"\r\n", b"\x16\x03\x01\x00", b"250 \xff\x00\r\n", b"250-a\r\n550 b\r\n", b"x" * 5000 + b"\r\n",
    b"250-x\r\n" * 300 + b"250 y\r\n", b"2",
    b"250 2.0.0 Ok\r\n250 2.0.0 Ok\r\n", "220 again", "250 5.0.0 Mixed", "199 low",
]  # fmt: skip


class NoisyUpstream(FakeUpstream):
    """Does something wrong at one stage in six."""

    chance = random.Random()
    noise = 1 / 6

    def act(self, stage: str, argument: str) -> Any:
        if self.chance.random() > self.noise:
            return None
        act = self.chance.choice(ACTS)
        yes = act[:1] in ("2", b"2") if isinstance(act, str | bytes) else False
        # Nothing that says yes to a message while it comes, or to one that it does not remember: nobody could tell.
        return None if yes and (stage == "body" or (stage == "dot" and isinstance(act, bytes))) else act


@pytest.mark.proof
def test_an_upstream_that_talks_nonsense(start: Any, proof: Any) -> None:
    """Each command of the client's is answered; 250 for a message only if the upstream has taken it."""
    with NoisyUpstream(keywords=["PIPELINING", "8BITMIME"]) as upstream:
        server = start(one_listener("proxy", upstream.address, more=QUICK))
        told: dict[str, str] = {}
        turns = proof.lasting(1.5)
        gevent.joinall([gevent.spawn(send_messages, server, turns, told) for _ in range(8)], raise_error=True)
        taken = {recipient for message in upstream.messages for recipient in message.recipients}
        accepted = {recipient for recipient, reply in told.items() if reply.startswith("250")}
        figures = f"{len(told)} messages, {len(accepted)} accepted, {len(taken - accepted)} taken but refused"
        proof.figure("noisy upstream", figures)
        assert accepted and accepted <= taken, accepted - taken
        assert all(re.match("[45]", told[recipient]) for recipient in told.keys() - accepted)
        assert not at_fault(server.log), at_fault(server.log)[:3]
        upstream.noise = 0.0
        a_client_is_served(server.port)


def test_an_answer_in_front_of_the_message_is_none(start: Any) -> None:
    with FakeUpstream() as upstream:
        upstream.on("DATA", "354 Go\n250 2.0.0 Ok")
        server = start(one_listener("proxy", upstream.address, more=QUICK))
        assert say_message(server.client(), "b@example.com").startswith("451 4.4.2")


def send_messages(server: RunningServer, turns: Iterator[int], told: dict[str, str]) -> None:
    client = server.client()
    for number in turns:
        recipient = f"n{number}@example.com"
        told[recipient] = str(say_message(client, recipient))
        if told[recipient].startswith("421"):
            assert client.closed()
            client = server.client()
        else:
            client.send("RSET")


def say_message(client: FakeClient, recipient: str) -> str:
    reply = client.send("MAIL FROM:<a@client.test>")
    if reply.code == 250:
        reply = client.send(f"RCPT TO:<{recipient}>")
    return client.message(b"Subject: x\r\n\r\ntext\r\n") if reply.code in (250, 251) else reply
