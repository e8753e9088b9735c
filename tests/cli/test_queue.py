"""`smtpproxy queue`: what waits is listed with its reason, shown, tried at once, held, released, deleted."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable

import pytest

from smtpproxy.testing.instance import one_listener
from smtpproxy.testing.process import RunningServer
from smtpproxy.testing.upstream import FakeUpstream
from smtpproxy.testing.waiting import until

MESSAGE = b"Subject: hello\r\n\r\n.a line that begins with a dot\r\n"


@pytest.fixture
def server(start: Callable[..., RunningServer], upstream: FakeUpstream) -> RunningServer:
    upstream.on("RCPT", "451 4.2.0 Come again", argument="b@")
    server = start(one_listener("queue", more=f'[route."*"]\nto = ["{upstream.address}"]'))
    with server.client() as client:
        client.send("MAIL FROM:<a@client.example>")
        client.send("RCPT TO:<b@example.com>")
        client.send("RCPT TO:<c@example.com>")
        assert client.message(MESSAGE).code == 250
    upstream.wait_for(lambda it: it.messages)
    until(lambda: "451 4.2.0 Come again" in queue(server, "list").stdout)
    return server


def queue(server: RunningServer, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "smtpproxy", "queue", "--config", str(server.folder), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)


def name(server: RunningServer) -> str:
    (line,) = queue(server, "list").stdout.splitlines()
    return line.split()[0]


def test_the_list_names_who_still_waits_and_why(server: RunningServer) -> None:
    (line,) = queue(server, "list").stdout.splitlines()
    assert "<a@client.example> to b@example.com  due " in line
    assert line.endswith("451 4.2.0 Come again")


def test_the_list_in_json(server: RunningServer) -> None:
    (mail,) = map(json.loads, queue(server, "list", "--json").stdout.splitlines())
    assert (mail["from"], mail["state"], mail["attempts"]) == ("a@client.example", "queued", 1)
    assert [(rcpt["address"], rcpt["state"]) for rcpt in mail["to"]] == [
        ("b@example.com", "deferred"), ("c@example.com", "delivered"),
    ]  # fmt: skip


def test_a_mail_is_shown_with_its_message(server: RunningServer) -> None:
    shown = queue(server, "show", name(server)).stdout
    assert "to          <b@example.com> deferred 451 4.2.0 Come again" in shown
    assert shown.endswith("Subject: hello\n\n.a line that begins with a dot\n")


def test_retried_it_goes_at_once(server: RunningServer, upstream: FakeUpstream) -> None:
    upstream.on("RCPT", None, argument="b@")
    assert queue(server, "retry", name(server)).stdout.endswith("is due now\n")
    upstream.wait_for(lambda it: len(it.messages) == 2)
    assert [message.recipients for message in upstream.messages] == [["c@example.com"], ["b@example.com"]]


def test_held_it_waits_until_it_is_released(server: RunningServer, upstream: FakeUpstream) -> None:
    upstream.on("RCPT", None, argument="b@")
    queue(server, "hold", "all")
    assert queue(server, "retry", "all").stdout.endswith("stays: hold\n")
    assert "hold  held by hand" in queue(server, "list").stdout
    assert len(upstream.messages) == 1
    queue(server, "release", "all")
    upstream.wait_for(lambda it: len(it.messages) == 2)


def test_deleted_it_is_gone_without_a_word(server: RunningServer) -> None:
    assert queue(server, "delete", name(server)).stdout.endswith("deleted\n")
    assert queue(server, "list").stdout == ""
    bodies = server.folder / "data" / "queue" / "1" / "bodies"
    assert list(bodies.iterdir()) == []


def test_a_name_that_is_not_there(server: RunningServer) -> None:
    done = queue(server, "retry", "nonsense")
    assert (done.returncode, done.stderr) == (1, "smtpproxy queue: there is no mail nonsense\n")


def test_it_works_on_an_instance_that_was_stopped(server: RunningServer) -> None:
    server.stop()
    assert "451 4.2.0 Come again" in queue(server, "list").stdout
    assert queue(server, "delete", "all").returncode == 0
    assert queue(server, "list").stdout == ""


def test_a_damaged_ledger_hides_none_of_the_others(server: RunningServer) -> None:
    server.kill()
    other = server.folder / "data" / "queue" / "7"
    (other / "bodies").mkdir(parents=True)
    (other / "ledger.sqlite").write_bytes(b"\xa5" * 5000)
    done = queue(server, "list")
    assert done.stdout.endswith("451 4.2.0 Come again\n")
    assert "7/ledger.sqlite is damaged (file is not a database)" in done.stderr
