"""`smtpproxy rules --history` and `smtpproxy rollback` beside a server that runs, and what of older versions is in use."""

from __future__ import annotations

import os
import re
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from smtpproxy.cli.main import main
from smtpproxy.testing.client import FakeClient
from smtpproxy.testing.instance import one_listener
from smtpproxy.testing.process import RunningServer
from smtpproxy.testing.waiting import until

RULE = """\
from smtpproxy.script import deny, log

def on_unload():
    log.info("unloaded {0}")

def on_data(mail):
    return deny("{0}")
"""
ENVELOPE = ("MAIL FROM:<a@client.example>", "RCPT TO:<b@example.com>")
Start = Callable[..., RunningServer]


def started(start: Start, pin: str = "transaction") -> RunningServer:
    return start(one_listener("discard", more=f'[scripts]\npin = "{pin}"'), {"20-say.py": RULE.format("one")})


def begun(client: FakeClient) -> FakeClient:
    """A transaction runs."""
    for line in ENVELOPE:
        assert client.send(line).code == 250
    return client


def says(client: FakeClient) -> str:
    """What the rule says to a whole mail."""
    client.send("RSET")
    return begun(client).send("DATA").texts[-1].removeprefix("5.7.1 ")


def live(server: RunningServer, count: int = 1) -> list[str]:
    """The versions that have gone live, as soon as there are so many: the log is written within a second."""

    def logged() -> list[str]:
        found = re.findall(r"event=rule_live .*version=(\w+)", server.log)
        return found if len(found) >= count else []

    return until(logged, what="the version to be live")


def save(server: RunningServer, word: str) -> str:
    """Save the rule, wait until it is live; its version."""
    before = len(live(server))
    server.write_rule("20-say.py", RULE.format(word))
    return live(server, before + 1)[-1]


def command(server: RunningServer, capsys: pytest.CaptureFixture[str], *words: str, status: int = 0) -> str:
    """What a command prints about this server's instance."""
    capsys.readouterr()
    assert main([*words, "--config", str(server.folder)]) == status
    printed = capsys.readouterr()
    return printed.out if status == 0 else printed.err


def test_the_version_before_is_live_within_a_second_and_survives_a_restart(
    start: Start, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    server = started(start)
    first, second = live(server)[0], save(server, "two")
    client = server.client()
    assert says(client) == "two"
    began = time.monotonic()
    told = command(server, capsys, "rollback", "20-say")
    assert says(client) == "one"
    assert time.monotonic() - began < 2.0, "one second, and the time of the command itself"
    assert f"20-say: version {first} is live" in told
    assert "--undo" in told
    assert (server.folder / "scripts/20-say.py").read_text() == RULE.format("two")

    table = command(server, capsys, "rules")
    assert f"ROLLED BACK: 20-say runs version {first}, by hand at" in table
    history = command(server, capsys, "rules", "--history", "20-say").splitlines()
    assert [line.split()[2] for line in history[1:]] == [first, second, first]
    assert "[live, rolled back to]" in history[1] and "[rolled back]" in history[2]

    assert server.stop() == 0
    again = start_again(server)
    try:
        assert says(again.client()) == "one"
        until(lambda: 'rolled_back="by hand at' in again.log)
        assert f"version {second}" not in command(again, capsys, "rollback", "20-say", "--undo")
        assert says(again.client()) == "two"
        assert "ROLLED BACK" not in command(again, capsys, "rules")
    finally:
        again.stop()


def start_again(server: RunningServer) -> RunningServer:
    from smtpproxy.testing.process import start_server

    return start_server(server.folder, (server.folder / "smtpproxy.toml").read_text())


def test_any_version_by_the_beginning_of_its_hash_until_the_file_is_saved(
    start: Start, capsys: pytest.CaptureFixture[str]
) -> None:
    server = started(start)
    first = live(server)[0]
    save(server, "two")
    save(server, "three")
    command(server, capsys, "rollback", "20-say", first[:6])
    client = server.client()
    assert says(client) == "one"
    save(server, "four")
    assert says(client) == "four"


def test_what_cannot_be_rolled_back(start: Start, capsys: pytest.CaptureFixture[str]) -> None:
    server = started(start)
    first = live(server)[0]
    assert "no version of 20-say.py before" in command(server, capsys, "rollback", "20-say", status=1)
    assert 'did you mean "20-say"?' in command(server, capsys, "rollback", "20-sai", status=1)
    assert f"there is {first}" in command(server, capsys, "rollback", "20-say", "f00", status=1)
    assert "is live already" in command(server, capsys, "rollback", "20-say", first, status=1)
    assert "is not rolled back" in command(server, capsys, "rollback", "20-say", "--undo", status=1)


def test_the_history_says_what_had_changed(start: Start, capsys: pytest.CaptureFixture[str]) -> None:
    server = started(start)
    save(server, "two")
    title, newest, oldest = command(server, capsys, "rules", "--history").splitlines()
    assert title == "20-say.py"
    assert f'{len(RULE.format("two"))} octets, line 4: log.info("unloaded two")  [live]' in newest
    assert "the first that is known" in oldest
    (server.folder / "scripts/20-say.py").write_text("def on_data(")
    assert "[live, last good: the newest save is not live]" in command(server, capsys, "rules", "--history", "20-say")


@pytest.mark.parametrize(
    ("pin", "at_once", "next_mail"), [("hook", "two", "two"), ("transaction", "one", "two"), ("session", "one", "one")]
)
def test_sessions_that_hold_an_older_version_are_counted_until_it_is_unloaded(
    start: Start, capsys: pytest.CaptureFixture[str], pin: str, at_once: str, next_mail: str
) -> None:
    server = started(start, pin)
    first = live(server)[0]
    client, idle = begun(server.client()), server.client()
    save(server, "two")
    until(lambda: f"still in use: 20-say {first}, by 2 sessions, 1 in a transaction" in command(server, capsys, "rules"))
    assert "unloaded one" not in server.log
    assert client.send("DATA").texts[-1] == f"5.7.1 {at_once}"
    assert says(client) == next_mail
    for one in (client, idle):
        one.send("QUIT")
        one.close()
    until(lambda: "still in use" not in command(server, capsys, "rules"))
    until(lambda: "unloaded one" in server.log)


def test_the_hash_of_the_table_stands_in_the_log_the_trace_and_the_command(
    start: Start, capsys: pytest.CaptureFixture[str]
) -> None:
    server = started(start)
    assert says(server.client()) == "one"
    table = command(server, capsys, "rules").split()[1].rstrip(",")
    assert (server.folder / "data/rules" / table).is_file()
    until(lambda: re.search(rf"event=refused .*rules={table}", server.log))
    capsys.readouterr()
    until(lambda: main(["explain", "last", "--config", str(server.folder)]) == 0)
    story = capsys.readouterr().out
    assert f"rules: table {table}" in story
    assert f"on_data 20-say [{live(server)[0]}]" in story


def test_a_process_that_was_killed_is_not_taken_for_one_that_runs(start: Start, capsys: pytest.CaptureFixture[str]) -> None:
    server = started(start)
    before = until(lambda: serving(server, capsys))
    os.kill(before[0], signal.SIGKILL)
    (successor,) = until(lambda: [pid for pid in serving(server, capsys) if pid not in before], what="the worker in its place")
    assert serving(server, capsys) == [successor]


def serving(server: RunningServer, capsys: pytest.CaptureFixture[str]) -> list[int]:
    return [int(pid) for pid in re.findall(r"^process (\d+) runs table", command(server, capsys, "rules"), re.MULTILINE)]
