"""A master and its workers: who dies is replaced, who is told so goes, and nobody outside notices."""

from __future__ import annotations

import os
import re
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from smtpproxy.testing.client import FakeClient
from smtpproxy.testing.front import ENVELOPE
from smtpproxy.testing.process import RunningServer, running_server
from smtpproxy.testing.waiting import until

Start = Callable[..., RunningServer]

MESSAGE = b"Subject: x\r\n\r\nhello\r\n"


def toml(more: str = "", workers: int = 2) -> str:
    return (
        f'hostname = "mx.example.com"\nworkers = {workers}\n[listener.mx]\nbind = ["127.0.0.1:0"]\nhandoff = "out"\n'
        f'[handoff.out]\nkind = "discard"\n[relaying]\ndomains = ["example.com"]\n{more}'
    )


def command_line(pid: int) -> str:
    return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()


def deliver(port: int) -> None:
    """One message, from the greeting to QUIT, each answer as it must be."""
    client = FakeClient.greeted(port)
    for line in ENVELOPE:
        assert client.send(line).code == 250
    assert client.message(MESSAGE).code == 250
    assert client.send("QUIT").code == 221
    client.close()


@contextmanager
def load(port: int) -> Iterator[list[BaseException]]:
    """Messages without a pause, each on a connection of its own, as long as the block lasts; gives what went wrong."""
    wrong: list[BaseException] = []
    done = threading.Event()
    count = 0

    def run() -> None:
        nonlocal count
        while not done.is_set():
            try:
                deliver(port)
                count += 1
            except BaseException as error:
                wrong.append(error)
                return

    threads = [threading.Thread(target=run) for _ in range(4)]
    for thread in threads:
        thread.start()
    until(lambda: count > 20)
    yield wrong
    seen = count
    until(lambda: wrong or count > seen + 20)
    done.set()
    for thread in threads:
        thread.join()


# -- workers -------------------------------------------------------------------------------------------------------------


def test_a_master_has_as_many_workers_as_the_configuration_says(start: Start) -> None:
    server = start(toml(workers=3))
    assert len(server.workers) == 3
    deliver(server.port)


def test_a_worker_that_is_killed_is_replaced_and_the_others_serve_on(start: Start) -> None:
    server = start(toml())
    for victim in server.workers:
        os.kill(victim, signal.SIGKILL)
        deliver(server.port)
        until(lambda victim=victim: len(set(server.workers) - {victim}) == 2, what="a new worker")  # type: ignore[misc]
        until(lambda: server.log.count("event=worker_ready") >= 1)
        assert f"event=worker_died level=error pid={victim} kind=worker status=-9" in server.log


def test_the_master_has_no_hub_and_no_thread(start: Start) -> None:
    server = start(toml())
    assert len(os.listdir(f"/proc/{server.pid}/task")) == 1
    opened = [os.readlink(f"/proc/{server.pid}/fd/{number}") for number in os.listdir(f"/proc/{server.pid}/fd")]
    assert not [name for name in opened if "eventpoll" in name or "eventfd" in name]


def test_a_master_that_is_killed_takes_its_workers_with_it(start: Start) -> None:
    server = start(toml())
    workers = server.workers
    server.signal(signal.SIGKILL)
    server.process.wait()
    assert workers
    assert until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in workers))


def test_a_stop_of_the_whole_group_is_a_stop(start: Start) -> None:
    server = start(toml())
    pids = [*server.workers, server.pid]
    client = server.client()
    for pid in pids:
        os.kill(pid, signal.SIGTERM)
    assert client.reply().startswith("421 4.3.2")
    assert server.process.wait(15) == 0
    assert "event=worker_died" not in server.log


def test_connections_are_counted_over_all_workers(start: Start) -> None:
    server = start(toml("[limits]\nconnections_per_client = 6\n", workers=3))
    clients = [server.client() for _ in range(6)]
    for _ in range(6):
        refused = FakeClient(server.port)
        assert refused.reply().startswith("421 4.7.0")
        refused.close()
    clients[0].close()

    def let_in() -> bool:
        client = FakeClient(server.port)
        code = client.reply().code
        client.close()
        return code == 220

    until(let_in)


def test_what_a_dead_worker_counted_is_forgotten(start: Start) -> None:
    server = start(toml("[limits]\nconnections_per_client = 4\n"))
    before = server.workers
    clients = [FakeClient.greeted(server.port) for _ in range(4)]
    assert clients
    for pid in before:
        os.kill(pid, signal.SIGKILL)
    until(lambda: server.log.count("event=worker_ready") == 2)
    for client in [server.client() for _ in range(4)]:
        assert client.send("NOOP").code == 250


def test_a_rule_that_cannot_run_stops_the_start(start: Start) -> None:
    with pytest.raises(AssertionError, match="the server ended with 1") as caught:
        start(toml(), rules={"10-broken.py": "def on_rcpt(mail, rcpt): return(\n"})
    assert "10-broken.py:1: SyntaxError" in str(caught.value) and "listening" not in str(caught.value)


# -- generations ---------------------------------------------------------------------------------------------------------


def test_a_reload_under_load_refuses_nobody(start: Start) -> None:
    server = start(toml())
    with load(server.port) as wrong:
        for count in (1, 2, 3):
            server.signal(signal.SIGHUP)
            until(lambda count=count: server.log.count("event=reloaded") == count)  # type: ignore[misc]
    assert not wrong
    until(lambda: len(server.workers) == 2, what="the old workers to end")


def test_an_upgrade_under_load_refuses_nobody(start: Start) -> None:
    server = start(toml())
    with load(server.port) as wrong:
        server.signal(signal.SIGUSR2)
        started = until(lambda: re.search(r"event=upgrade_started pid=(\d+)", server.log))
        successor = int(started[1])
        assert server.process.wait(10) == 0
    assert not wrong
    assert "serve --config" in command_line(successor)
    deliver(server.port)
    os.kill(successor, signal.SIGTERM)
    until(lambda: server.log.count("event=stopped") == 2)
    with pytest.raises(ConnectionRefusedError):
        FakeClient(server.port)


def test_an_upgrade_that_cannot_start_changes_nothing(start: Start) -> None:
    server = start(toml())
    (server.folder / "smtpproxy.toml").write_text("[listener.mx\n")
    server.signal(signal.SIGUSR2)
    until(lambda: "event=upgrade_refused" in server.log)
    deliver(server.port)
    (server.folder / "smtpproxy.toml").write_text(toml())
    server.signal(signal.SIGUSR2)
    until(lambda: "event=upgraded" in server.log)
    assert server.process.wait(15) == 0
    successor = int(re.findall(r"event=upgraded pid=(\d+)", server.log)[0])
    deliver(server.port)
    os.kill(successor, signal.SIGTERM)
    until(lambda: "event=stopped" in server.log.rpartition("event=upgraded")[2])


# -- systemd -------------------------------------------------------------------------------------------------------------


def test_systemd_is_told(start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    heard = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    heard.settimeout(10)
    heard.bind(str(tmp_path / "notify"))
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
    server = start(toml())
    assert heard.recv(1024).decode().splitlines()[:2] == ["READY=1", f"MAINPID={server.pid}"]
    server.signal(signal.SIGHUP)
    assert heard.recv(1024).startswith(b"RELOADING=1\nMONOTONIC_USEC=")
    assert heard.recv(1024).startswith(b"READY=1")
    server.signal(signal.SIGTERM)
    assert heard.recv(1024) == b"STOPPING=1"
    heard.close()


# -- users ---------------------------------------------------------------------------------------------------------------


def test_workers_become_the_user_and_the_master_does_not(folder: Path) -> None:
    if os.geteuid() != 0:
        pytest.fail("this test needs root, as the checks have it")
    with running_server(folder / "server", 'user = "nobody"\n' + toml()) as server:
        deliver(server.port)
        assert os.stat(f"/proc/{server.pid}").st_uid == 0
        for pid in server.workers:
            status = Path(f"/proc/{pid}/status").read_text()
            assert re.search(r"^Uid:\s+65534\s+65534\s+65534\s+65534$", status, re.MULTILINE)
            assert "Groups:\t65534" in status
        assert (server.folder / "data").stat().st_uid == 65534


# -- rules that end or hold a worker -------------------------------------------------------------------------------------

EXIT = """
import os
def on_rcpt(mail, rcpt):
    if rcpt.local_part == "exit":
        os._exit(3)
"""
STUCK = """
def on_rcpt(mail, rcpt):
    if rcpt.local_part == "stuck":
        sum(range(10 ** 12))
"""


def hurt(server: RunningServer, local_part: str) -> None:
    """A client whose recipient has the rule do it; its connection is gone, and nothing was promised."""
    client = server.client()
    client.send(ENVELOPE[0])
    with pytest.raises((ConnectionError, AssertionError)):
        client.send(f"RCPT TO:<{local_part}@example.com>")


def logged_at(log: str, event: str) -> datetime:
    """When the log has that event first."""
    (stamp,) = re.findall(rf"^time=(\S+) event={event} ", log, re.MULTILINE)[:1]
    return datetime.fromisoformat(stamp)


def test_a_rule_that_ends_its_worker_is_blamed_and_taken_out_at_the_second_time(start: Start) -> None:
    server = start(toml(), rules={"10-exit.py": EXIT})
    hurt(server, "exit")
    until(lambda: "rule_at=10-exit.py:5" in server.log)
    deliver(server.port)
    until(lambda: "event=worker_ready" in server.log)
    assert logged_at(server.log, "worker_ready") - logged_at(server.log, "worker_died") <= timedelta(seconds=1)
    hurt(server, "exit")
    until(lambda: "event=rule_banned level=error file=10-exit.py" in server.log)
    until(lambda: server.log.count("event=worker_ready") == 2)
    for client in [server.client() for _ in range(6)]:
        client.send(ENVELOPE[0])
        assert client.send("RCPT TO:<exit@example.com>").startswith("451 4.3.0")
    server.write_rule("10-exit.py", "def on_rcpt(mail, rcpt): pass\n")
    until(lambda: "event=rule_live" in server.log)
    until(lambda: all(_takes_exit(server) for _ in range(4)))


def _takes_exit(server: RunningServer) -> bool:
    client = server.client()
    client.send(ENVELOPE[0])
    taken = client.send("RCPT TO:<exit@example.com>").code == 250
    client.close()
    return taken


def test_a_worker_that_a_rule_holds_is_replaced_and_the_rule_blamed(start: Start) -> None:
    server = start(toml(), rules={"10-stuck.py": STUCK})
    hurt(server, "stuck")
    assert "event=worker_stuck" in server.log
    until(lambda: "event=worker_died" in server.log)
    assert "rule_at=10-stuck.py:4" in server.log
    deliver(server.port)


def test_a_rule_that_ends_the_worker_while_it_is_loaded_stops_the_start(tmp_path: Path, start: Start) -> None:
    with pytest.raises(AssertionError, match=r"before it was ready, in 10-exit.py:2"):
        start(toml(), rules={"10-exit.py": "import os\nos._exit(0)\ndef on_rcpt(mail, rcpt): pass\n"})
