"""`smtpproxy quarantine`: what was kept back is listed with its reason, shown, sent on, deleted."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable

import pytest

from smtpproxy.cli.main import main
from smtpproxy.handoff.shelf import items
from smtpproxy.testing.client import FakeClient
from smtpproxy.testing.instance import one_listener
from smtpproxy.testing.process import RunningServer
from smtpproxy.testing.upstream import FakeUpstream

JAIL = '[handoff.jail]\nkind = "quarantine"\n'
RULE = 'on_error = "quarantine"\n\ndef on_message(mail):\n    1 / 0\n'
MESSAGE = b"Subject: hello\r\n\r\n.a line that begins with a dot\r\n"


@pytest.fixture
def server(start: Callable[..., RunningServer], upstream: FakeUpstream) -> RunningServer:
    server = start(one_listener("proxy", upstream.address, more=JAIL), {"10-scan.py": RULE})
    with FakeClient.greeted(server.port) as client:
        client.send("MAIL FROM:<a@client.example>")
        client.send("RCPT TO:<b@example.com>")
        client.send("RCPT TO:<c@example.com>")
        assert client.message(MESSAGE).code == 250
    return server


def quarantine(server: RunningServer, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "smtpproxy", "quarantine", "--config", str(server.folder), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)


def kept(server: RunningServer) -> list[str]:
    return [item.name for item in items(server.folder / "data" / "quarantine")]


def test_the_list_names_the_rule_that_failed(server: RunningServer, upstream: FakeUpstream) -> None:
    (name,) = kept(server)
    (line,) = quarantine(server, "list").stdout.splitlines()
    assert line.startswith(f"{name}  ")
    assert "<a@client.example> to <b@example.com>, <c@example.com>" in line
    assert line.endswith("rule 10-scan failed, 10-scan.py:4 in on_message: ZeroDivisionError: division by zero")
    assert upstream.messages == []


FAILING = {
    "an error in Lua": ("lua", 'on_error = "quarantine"\nfunction on_header(mail) error("none") end', "LuaError: none"),
    "no end in Lua": ("lua", 'on_timeout = "quarantine"\nfunction on_message(mail) while true do end end', "Timeout"),
    "no end in Python": ("py", 'on_timeout = "quarantine"\ndef on_message(mail):\n    while True: pass\n', "Timeout"),
}


@pytest.mark.parametrize("kind", FAILING)
def test_whatever_has_failed_and_in_either_language(
    start: Callable[..., RunningServer], upstream: FakeUpstream, kind: str
) -> None:
    language, rule, reason = FAILING[kind]
    more = f'{JAIL}[rule.10-scan]\ncpu = "50ms"\n'
    server = start(one_listener("proxy", upstream.address, more=more), {f"10-scan.{language}": rule})
    with FakeClient.greeted(server.port) as client:
        client.send("MAIL FROM:<a@client.example>")
        client.send("RCPT TO:<b@example.com>")
        assert client.message(MESSAGE).code == 250
    (name,) = kept(server)
    assert upstream.messages == []
    told = quarantine(server, "list").stdout
    assert f"rule 10-scan failed, 10-scan.{language}:" in told and reason in told
    assert quarantine(server, "release", name).returncode == 0
    assert upstream.messages[0].content.endswith(MESSAGE)
    assert kept(server) == []


def test_show(server: RunningServer) -> None:
    shown = quarantine(server, "show", *kept(server)).stdout
    assert "reason      rule 10-scan failed" in shown
    assert shown.endswith("Subject: hello\n\n.a line that begins with a dot\n")


def test_delete(server: RunningServer) -> None:
    assert quarantine(server, "delete", *kept(server)).returncode == 0
    assert kept(server) == []
    assert [path for path in (server.folder / "data" / "quarantine").rglob("*") if path.is_file()] == []


@pytest.mark.parametrize("options", [[], ["--via", "out"]])
def test_release_sends_it_on_and_removes_it(server: RunningServer, upstream: FakeUpstream, options: list[str]) -> None:
    (name,) = kept(server)
    done = quarantine(server, "release", name, *options)
    assert (done.returncode, done.stdout) == (0, f"{name} released: 250 2.0.0 Ok: taken\n")
    (message,) = upstream.messages
    assert (message.sender, message.recipients) == ("a@client.example", ["b@example.com", "c@example.com"])
    assert message.content.endswith(MESSAGE)
    assert kept(server) == []


@pytest.mark.parametrize(("stage", "reply"), [("RCPT", "550 5.1.1 No"), ("dot", "451 4.0.0 Later"), ("MAIL", "421 4.3.2 Bye")])
def test_what_is_not_taken_stays(server: RunningServer, upstream: FakeUpstream, stage: str, reply: str) -> None:
    before = kept(server)
    upstream.on(stage, reply, argument="c@example.com" if stage == "RCPT" else "")
    done = quarantine(server, "release", *before)
    assert done.returncode == 1
    assert f"stays: for b@example.com, c@example.com: {reply}" in done.stderr
    assert kept(server) == before
    assert upstream.messages == []


def test_an_lmtp_server_that_takes_it_for_some(server: RunningServer) -> None:
    with FakeUpstream(lmtp=True) as other:
        other.on("dot", "452 4.2.2 Full", argument="c@example.com")
        done = quarantine(server, "release", *kept(server), "--to", other.address)
        assert done.returncode == 1
        assert other.messages[-1].recipients == ["b@example.com"]
    (item,) = items(server.folder / "data" / "quarantine")
    assert item.slip.recipients == ["c@example.com"]


def test_a_server_that_is_not_there_and_names_that_are_none(server: RunningServer, upstream: FakeUpstream) -> None:
    before = kept(server)
    upstream.stop()
    assert "stays: " in quarantine(server, "release", *before).stderr
    assert "--via with one of: out" in quarantine(server, "release", *before, "--via", "nowhere").stderr
    assert "there is no message x" in quarantine(server, "release", "x").stderr
    assert kept(server) == before


def test_two_at_a_time_send_it_once(server: RunningServer, upstream: FakeUpstream) -> None:
    (name,) = kept(server)
    command = [sys.executable, "-m", "smtpproxy", "quarantine", "--config", str(server.folder), "release", name]
    both = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) for _ in range(2)]
    assert sorted(process.wait(30) for process in both) == [0, 1]
    assert len(upstream.messages) == 1
    for process in both:
        process.communicate()


def test_what_somebody_else_has_just_released_is_not_sent_again(
    server: RunningServer, upstream: FakeUpstream, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (item,) = items(server.folder / "data" / "quarantine")
    monkeypatch.setattr("fcntl.flock", lambda *_: item.note.unlink())  # the other one was at it when we came
    assert main(["quarantine", "--config", str(server.folder), "release", item.name]) == 1
    assert "it has just gone" in capsys.readouterr().err
    assert upstream.messages == []


def test_the_trace_is_kept_and_says_why(server: RunningServer) -> None:
    (name,) = kept(server)
    server.stop()
    command = [sys.executable, "-m", "smtpproxy", "explain", name, "--config", str(server.folder)]
    told = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False).stdout.splitlines()
    assert "accepted by jail: 250 2.0.0 Ok: taken" in told[0]
    assert told[1].startswith("rule 10-scan failed, 10-scan.py:4 in on_message: ZeroDivisionError")
