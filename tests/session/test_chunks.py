"""BDAT beyond the dialogues: octets as they were sent, however they are cut; leaving amid; time; memory."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import pytest

from smtpproxy.config.limits import Limits, LimitTimeouts
from smtpproxy.config.values import Duration, Size
from smtpproxy.testing.client import FakeClient
from smtpproxy.testing.front import ENVELOPE, Front
from smtpproxy.testing.handoffs import FakeOutlet
from smtpproxy.testing.process import RunningServer
from smtpproxy.testing.upstream import KEYWORDS, FakeUpstream
from smtpproxy.testing.waiting import until
from smtpproxy.wire.extensions import Extensions

Begin = Callable[..., Front]
BINARY = ("MAIL FROM:<a@client.example> BODY=BINARYMIME", ENVELOPE[1])
READING = "def on_message(mail): mail.notes.size = mail.body.size\n"


def in_chunks(content: bytes, chance: random.Random) -> list[bytes]:
    """BDAT commands with their octets, the last with LAST."""
    cuts = sorted(chance.randrange(len(content) + 1) for _ in range(chance.randrange(8)))
    pieces = [content[start:end] for start, end in zip([0, *cuts], [*cuts, len(content)], strict=True)]
    last = len(pieces) - 1
    return [b"BDAT %d%s\r\n" % (len(piece), b" LAST" * (at == last)) + piece for at, piece in enumerate(pieces)]


@pytest.mark.parametrize("rule", ["", READING], ids=["streamed", "stored"])
@pytest.mark.parametrize("memory", [100, 1 << 20], ids=["in a file", "in memory"])
def test_binary_content_arrives_octet_by_octet(front: Begin, out: FakeOutlet, rule: str, memory: int) -> None:
    out.offers = Extensions.parse(["8BITMIME", "CHUNKING", "BINARYMIME"])
    chance = random.Random(rule + str(memory))
    client = front(rule, limits=Limits(message_memory=Size(memory))).client()
    for _ in range(10):
        content = b"Content-Transfer-Encoding: binary\r\n\r\n" + chance.randbytes(chance.randrange(300_000))
        commands = in_chunks(content, chance)
        for line in BINARY:
            client.send(line)
        client.raw(b"".join(commands))
        assert [client.reply().code for _ in commands] == [250] * len(commands)
        assert out.delivered[-1].content.endswith(b"\r\n" + content)


@pytest.mark.parametrize("kind", ["proxy", "relay"])
@pytest.mark.parametrize("rule", ["", READING], ids=["streamed", "stored"])
def test_binary_content_arrives_at_the_next_server(
    start: Callable[..., RunningServer], tmp_path: Path, kind: str, rule: str
) -> None:
    with FakeUpstream(keywords=[*KEYWORDS, "CHUNKING", "BINARYMIME"]) as upstream:
        server = start(
            'hostname = "mx.example.com"\n[listener.mx]\nbind = ["127.0.0.1:0"]\nhandoff = "out"\n'
            f'[handoff.out]\nkind = "{kind}"\nto = ["{upstream.address}"]\n[relaying]\ndomains = ["example.com"]\n',
            {"10-rule.py": rule} if rule else {},
        )
        chance = random.Random(kind + rule)
        content = b"X: 1\r\n\r\n" + chance.randbytes(200_000) + b"\r\n.\r\n\r"
        with server.client() as client:
            for line in BINARY:
                client.send(line)
            for command in in_chunks(content, chance):
                client.raw(command)
                assert client.reply().code == 250
        assert upstream.messages[-1].content.endswith(b"\r\n" + content)
        assert "DATA" not in upstream.commands


def test_a_client_that_leaves_between_chunks_leaves_nothing_behind(front: Begin, out: FakeOutlet) -> None:
    it = front()
    client = it.begun()
    client.raw(b"BDAT 8\r\nX: 1\r\n\r\n")
    assert client.reply().code == 250
    client.close()
    until(lambda: not it.sessions)
    assert out.delivered == []
    assert out.journal[-2:] == ["out: abandon", "out: close"]


def test_a_client_that_falls_silent_amid_a_chunk_hears_why_it_is_let_go(front: Begin, out: FakeOutlet) -> None:
    client = front(limits=Limits(timeouts=LimitTimeouts(data=Duration(0.3)))).begun()
    client.raw(b"BDAT 80\r\nX: 1\r\n\r\n")
    assert client.reply().startswith("421 4.4.2")
    assert client.closed()
    assert out.delivered == []


def test_between_chunks_the_time_for_commands_counts(front: Begin) -> None:
    timeouts = LimitTimeouts(command=Duration(5), data=Duration(0.2))
    client = front(limits=Limits(timeouts=timeouts)).begun()
    client.raw(b"BDAT 8\r\nX: 1\r\n\r\n")
    assert client.reply().code == 250
    assert client.quiet(0.5)
    client.raw(b"BDAT 2 LAST\r\n\r\n")
    assert client.reply().code == 250


def test_the_answer_to_a_chunk_is_not_held_back(front: Begin) -> None:
    client = front(READING).begun()
    for piece in (b"X", b": 1\r\n\r", b"\n", b"body\r\n"):
        client.raw(b"BDAT %d\r\n" % len(piece) + piece)
        assert client.reply().code == 250


def test_large_messages_leave_the_memory_as_it_was(start: Callable[..., RunningServer]) -> None:
    server = start(
        'hostname = "mx.example.com"\n[listener.mx]\nbind = ["127.0.0.1:0"]\nhandoff = "out"\n'
        '[handoff.out]\nkind = "discard"\n[relaying]\ndomains = ["example.com"]\n'
    )

    def send(client: FakeClient, megabytes: int) -> None:
        for line in ENVELOPE:
            client.send(line)
        for _ in range(megabytes):
            client.raw(b"BDAT 1048576\r\n\r\n" + b"x" * 60 + b"\r\n" + (b"x" * 62 + b"\r\n") * 16383)
            assert client.reply().code == 250
        client.raw(b"BDAT 0 LAST\r\n")
        assert client.reply().code == 250

    with server.client() as client:
        send(client, 2)
        before = server.resident
        send(client, 48)
        assert server.resident - before < 8 << 20
