"""From the 250 to the next server: who gets it, what is tried again, what goes back."""

from __future__ import annotations

import email
import os
import signal
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from smtpproxy.testing.acts import DROP, HANG, Hold
from smtpproxy.testing.instance import one_listener
from smtpproxy.testing.process import RunningServer
from smtpproxy.testing.upstream import FakeUpstream
from smtpproxy.testing.waiting import until

Start = Callable[..., RunningServer]
MESSAGE = b"Subject: hello\r\n\r\n.dots\r\ntext\r\n"


def instance(*servers: FakeUpstream, queue: str = 'retry = ["500ms"]', more: str = "") -> str:
    to = ", ".join(f'"{server.address}"' for server in servers)
    return one_listener("queue", more=f'[queue]\n{queue}\n[route."*"]\nto = [{to}]\n{more}')


def send(server: RunningServer, *rcpts: str, message: bytes = MESSAGE, sender: str = "a@client.example") -> Any:
    with server.client() as client:
        client.send(f"MAIL FROM:<{sender}>")
        for rcpt in rcpts or ("b",):
            assert client.send(f"RCPT TO:<{rcpt}@example.com>").code == 250
        return client.message(message)


def slot(server: RunningServer) -> Path:
    return server.folder / "data" / "queue" / "1"


def waiting(server: RunningServer) -> list[tuple[str, int, str]]:
    """(name, state, reason) of what is in the ledger."""
    connection = sqlite3.connect(slot(server) / "ledger.sqlite")
    try:
        return connection.execute("SELECT name, state, reason FROM mails ORDER BY key").fetchall()
    finally:
        connection.close()


def empty(server: RunningServer) -> None:
    until(lambda: not waiting(server) and not os.listdir(slot(server) / "bodies"), what="an empty queue")


def got(upstream: FakeUpstream) -> list[list[str]]:
    return [message.recipients for message in upstream.messages]


def test_a_message_is_queued_and_delivered_once(start: Start, upstream: FakeUpstream) -> None:
    server = start(instance(upstream))
    assert send(server, "b", "c").startswith("250 2.0.0 Ok: queued as ")
    upstream.wait_for(lambda it: it.messages)
    (message,) = upstream.messages
    assert (message.sender, message.recipients) == ("a@client.example", ["b@example.com", "c@example.com"])
    assert message.content.startswith(b"Received: ")
    assert message.content.endswith(MESSAGE)
    empty(server)
    until(lambda: "event=delivered" in server.log)


def test_a_large_message_is_the_same_behind_the_queue(start: Start, upstream: FakeUpstream) -> None:
    server = start(instance(upstream))
    text = b"Subject: large\r\n\r\n" + b"".join(b".%d %s\r\n" % (line, b"x" * 70) for line in range(60_000))
    assert send(server, message=text).code == 250
    upstream.wait_for(lambda it: it.messages, within=30)
    assert upstream.messages[0].content.endswith(text)


def test_kept_while_nobody_takes_it_and_delivered_then(start: Start, upstream: FakeUpstream) -> None:
    upstream.on("MAIL", "451 4.3.2 Later", "451 4.3.2 Later", None)
    server = start(instance(upstream))
    assert send(server).code == 250
    upstream.wait_for(lambda it: it.messages)
    empty(server)
    until(lambda: server.log.count("event=deferred") == 2)


def test_the_next_server_is_tried_at_once(start: Start, upstream: FakeUpstream) -> None:
    with FakeUpstream() as second:
        upstream.on("greeting", "554 Not now")
        server = start(instance(upstream, second, queue='retry = ["1h"]'))
        send(server)
        second.wait_for(lambda it: it.messages)
        assert got(second) == [["b@example.com"]]


def test_a_refused_recipient_goes_back_and_the_others_hear_of_nothing(start: Start, upstream: FakeUpstream) -> None:
    upstream.on("RCPT", "550 5.1.1 No such user", argument="nobody@")
    upstream.on("RCPT", "450 4.2.1 Busy", None, argument="busy@")
    server = start(instance(upstream))
    send(server, "b", "nobody", "busy")
    upstream.wait_for(lambda it: len(it.messages) == 3)
    recipients = sorted(got(upstream))
    assert recipients == [["a@client.example"], ["b@example.com"], ["busy@example.com"]]
    (notice,) = [message for message in upstream.messages if not message.sender]
    report = email.message_from_bytes(notice.content)
    assert report.get_content_type() == "multipart/report"
    status = report.get_payload(1)
    assert "Final-Recipient: rfc822; nobody@example.com" in str(status)
    assert "Status: 5.1.1" in str(status)
    assert "Subject: hello" in str(report.get_payload(2))
    empty(server)


def test_at_the_end_of_its_lifetime_it_goes_back(start: Start, upstream: FakeUpstream) -> None:
    upstream.on("RCPT", "451 4.2.0 Never", argument="b@")
    server = start(instance(upstream, queue='retry = ["300ms"]\nlifetime = "1s"'))
    send(server)
    upstream.wait_for(lambda it: it.messages)
    assert got(upstream) == [["a@client.example"]]
    until(lambda: "event=expired" in server.log)
    empty(server)


def test_a_notice_that_cannot_be_delivered_is_kept(start: Start, upstream: FakeUpstream) -> None:
    upstream.on("RCPT", "550 5.1.1 No such user")
    server = start(instance(upstream))
    send(server)
    until(lambda: [state for _, state, _ in waiting(server)] == [2])
    assert waiting(server)[0][2] == "a notice could not be delivered"
    until(lambda: "event=queue_aside" in server.log)


def test_a_notice_is_given_up_before_other_mail(start: Start, upstream: FakeUpstream) -> None:
    upstream.on("RCPT", "550 5.1.1 No such user", argument="b@")
    upstream.on("RCPT", "451 4.2.0 Never", argument="a@")
    server = start(instance(upstream, queue='retry = ["300ms"]\nnotice_lifetime = "600ms"'))
    send(server)
    until(lambda: [state for _, state, _ in waiting(server)] == [2])
    assert waiting(server)[0][2] == "a notice could not be delivered"
    until(lambda: "event=expired" in server.log)


def test_a_server_that_takes_long_after_the_dot_gets_one_copy(start: Start, upstream: FakeUpstream) -> None:
    slow = Hold()
    upstream.on("dot", slow)
    server = start(instance(upstream))
    send(server)
    slow.reached.wait(10)
    pauses = [send(server, "c") for _ in range(3)]  # the queue goes on meanwhile, and looks for what is due
    assert all(reply.code == 250 for reply in pauses)
    slow.release()
    upstream.wait_for(lambda it: len(it.messages) == 4)
    assert got(upstream).count(["b@example.com"]) == 1
    empty(server)


@pytest.mark.parametrize("act", [DROP, b"nonsense\r\n"])
def test_a_server_that_breaks_off_in_front_of_its_last_answer_is_asked_again(
    start: Start, upstream: FakeUpstream, act: Any
) -> None:
    upstream.on("dot", act, None)
    server = start(instance(upstream))
    send(server)
    upstream.wait_for(lambda it: it.messages)
    until(lambda: "event=deferred" in server.log)
    assert got(upstream) == [["b@example.com"]]


def test_a_hung_server_holds_nobody_else(start: Start, upstream: FakeUpstream) -> None:
    with FakeUpstream() as other:
        upstream.on("DATA", HANG)
        server = start(instance(upstream, more=f'[route."other.example"]\nto = ["{other.address}"]\n[limits]\n'), {
            "10-x.py": "def on_rcpt(mail, rcpt):\n    rcpt.relay = True\n",
        })  # fmt: skip
        send(server)
        with server.client() as client:
            for line in ("MAIL FROM:<a@client.example>", "RCPT TO:<x@other.example>"):
                assert client.send(line).code == 250
            client.message(MESSAGE)
        other.wait_for(lambda it: it.messages)
        assert got(upstream) == []


def test_killed_and_started_again_it_is_delivered(start: Start, upstream: FakeUpstream, tmp_path: Path) -> None:
    stuck = Hold()
    upstream.on("DATA", stuck, None)
    toml = f'data = "{tmp_path}/kept"\n' + instance(upstream)
    server = start(toml)
    send(server)
    stuck.reached.wait(10)
    server.kill()
    start(toml)
    upstream.wait_for(lambda it: it.messages)
    assert got(upstream) == [["b@example.com"]]


def test_what_was_held_when_its_process_died_is_dropped(start: Start, upstream: FakeUpstream, tmp_path: Path) -> None:
    toml = f'data = "{tmp_path}/kept"\n' + instance(upstream)
    bodies = tmp_path / "kept" / "queue" / "1" / "bodies"
    start(toml).kill()
    (bodies / ".held").write_bytes(MESSAGE)
    (bodies / "unnamed").write_bytes(MESSAGE)
    server = start(toml)
    assert os.listdir(bodies) == []
    until(lambda: "event=held_dropped" in server.log)


def test_another_worker_sends_what_one_has_left(start: Start, upstream: FakeUpstream) -> None:
    upstream.on("MAIL", "451 4.3.2 Later")
    server = start("workers = 2\n" + instance(upstream))
    for _ in range(4):
        send(server)
    until(lambda: server.log.count("event=deferred") >= 4)
    os.kill(server.workers[0], signal.SIGKILL)
    upstream.on("MAIL", None)
    upstream.wait_for(lambda it: len(it.messages) == 4, within=20)
    assert got(upstream) == [["b@example.com"]] * 4
    until(lambda: len(os.listdir(slot(server).parent)) <= 2, what="the slot that was left is gone, or is somebody's own")


def test_a_damaged_body_is_set_aside_and_the_rest_goes_on(start: Start, upstream: FakeUpstream) -> None:
    upstream.on("MAIL", "451 4.3.2 Later")
    server = start(instance(upstream))
    send(server, "b")
    send(server, "c")
    until(lambda: server.log.count("event=deferred") >= 2)
    name = waiting(server)[0][0]
    body = slot(server) / "bodies" / name
    body.write_bytes(body.read_bytes().replace(b"text", b"TEXT"))
    upstream.on("MAIL", None)
    upstream.wait_for(lambda it: it.messages)
    until(lambda: [(row[0], row[1]) for row in waiting(server)] == [(name, 2)])
    assert got(upstream) == [["c@example.com"]]


def test_a_ledger_of_a_later_release_stops_the_start(start: Start, upstream: FakeUpstream, tmp_path: Path) -> None:
    slot = tmp_path / "kept" / "queue" / "1"
    slot.mkdir(parents=True)
    connection = sqlite3.connect(slot / "ledger.sqlite")
    connection.execute("PRAGMA user_version = 99")
    connection.close()
    with pytest.raises(AssertionError, match=r"newer release \(schema 99.*start that release again"):
        start(f'data = "{tmp_path}/kept"\n' + instance(upstream))


def test_a_damaged_ledger_stops_neither_the_start_nor_what_can_be_read(
    start: Start, upstream: FakeUpstream, tmp_path: Path
) -> None:
    upstream.on("MAIL", "451 4.3.2 Later")
    toml = f'data = "{tmp_path}/kept"\n' + instance(upstream)
    server = start(toml)
    for number in range(60):
        send(server, f"b{number}")
    server.kill()
    slot = tmp_path / "kept" / "queue" / "1"
    with closing(sqlite3.connect(slot / "ledger.sqlite")) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    data = bytearray((slot / "ledger.sqlite").read_bytes())
    last = data.rindex(b"b59@example.com") // 4096 * 4096
    data[last : last + 4096] = bytes(4096)
    (slot / "ledger.sqlite").write_bytes(data)
    upstream.on("MAIL", None)
    server = start(toml)
    until(lambda: "event=queue_damaged" in server.log)
    lost = len(os.listdir(tmp_path / "kept" / "queue" / "damaged" / "1-1" / "bodies"))
    assert 0 < lost < 30
    upstream.wait_for(lambda it: len(it.messages) == 60 - lost)
