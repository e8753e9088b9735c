"""The gate: rules reach all workers or none, and what would end a process ends the gate, where nobody is served."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable

from smtpproxy.testing.client import FakeClient
from smtpproxy.testing.front import ENVELOPE
from smtpproxy.testing.process import RunningServer
from smtpproxy.testing.waiting import until

Start = Callable[..., RunningServer]

TOML = (
    'hostname = "mx.example.com"\nworkers = 3\n[listener.mx]\nbind = ["127.0.0.1:0"]\nhandoff = "out"\n'
    '[handoff.out]\nkind = "discard"\n[relaying]\ndomains = ["example.com"]\n'
)


def rule(word: str, more: str = "") -> str:
    return f"from smtpproxy.script import deny\n{more}\ndef on_mail(mail, sender): return deny({word!r})\n"


def answers(server: RunningServer, count: int = 12) -> set[str]:
    """What MAIL is answered on so many connections at a time, so that every worker has some."""
    clients = [FakeClient.greeted(server.port) for _ in range(count)]
    found = {client.send(ENVELOPE[0]).rpartition(" ")[2] for client in clients}
    for client in clients:
        client.close()
    return found


def comes(server: RunningServer, word: str) -> None:
    until(lambda: answers(server) == {word}, what=word)


def test_a_save_reaches_every_worker(start: Start) -> None:
    server = start(TOML, {"10-x.py": rule("one")})
    assert answers(server) == {"one"}
    server.write_rule("10-x.py", rule("two"))
    comes(server, "two")
    until(lambda: server.log.count("event=rule_live") == 2)
    assert server.stop() == 0
    assert server.log.count("event=rule_live") == 2, "told once, not by every worker"


def test_settings_of_a_rule_reach_every_worker(start: Start) -> None:
    source = 'from smtpproxy.script import deny, settings\nclass Settings:\n    word: str = "one"\n' \
        "def on_mail(mail, sender): return deny(settings.word)\n"
    server = start(TOML, {"10-x.py": source})
    assert answers(server) == {"one"}
    (server.folder / "smtpproxy.toml").write_text(TOML + '[rule.10-x]\nword = "two"\n')
    comes(server, "two")
    (server.folder / "smtpproxy.toml").write_text(TOML + "[rule.10-x]\nenabled = false\n")
    comes(server, "Ok")


def test_a_save_that_ends_the_process_ends_the_gate_only(start: Start) -> None:
    server = start(TOML, {"10-x.py": rule("one")})
    workers = server.workers
    server.write_rule("10-x.py", rule("two", "import os\nos._exit(3)"))
    until(lambda: "loading it has ended the process, at 10-x.py:3" in server.log)
    assert answers(server) == {"one"} and server.workers == workers
    server.write_rule("10-x.py", rule("three"))
    comes(server, "three")
    assert server.workers == workers


def test_a_save_that_never_ends_loading_ends_the_gate_only(start: Start) -> None:
    server = start(TOML, {"10-x.py": rule("one")})
    workers = server.workers
    server.write_rule("10-x.py", rule("two", "sum(range(10 ** 12))"))
    until(lambda: "loading it has ended the process, at 10-x.py:2" in server.log, 20)
    assert answers(server) == {"one"} and server.workers == workers
    server.write_rule("10-x.py", rule("three"))
    comes(server, "three")


def test_what_one_worker_cannot_take_no_worker_takes(start: Start) -> None:
    """on_load runs in workers only: this one works in the first of them and in no other."""
    server = start(TOML, {"10-x.py": rule("one")})
    flag = server.folder / "taken"
    once = f"import os\ndef on_load(): os.close(os.open({str(flag)!r}, os.O_CREAT | os.O_EXCL))\n"
    server.write_rule("10-x.py", rule("two", once))
    until(lambda: "event=rule_broken" in server.log)
    assert "FileExistsError" in server.log
    assert answers(server) == {"one"}
    server.write_rule("10-x.py", rule("three"))
    comes(server, "three")


def test_a_worker_that_comes_later_runs_what_the_others_run(start: Start) -> None:
    server = start(TOML, {"10-x.py": rule("one")})
    server.write_rule("10-x.py", rule("two"))
    comes(server, "two")
    server.write_rule("10-x.py", "def on_mail(mail, sender: return\n")
    until(lambda: "event=rule_broken" in server.log)
    for pid in server.workers:
        os.kill(pid, signal.SIGKILL)
    until(lambda: server.log.count("event=worker_ready") == 3)
    assert answers(server) == {"two"}


def test_the_gate_is_replaced(start: Start) -> None:
    server = start(TOML, {"10-x.py": rule("one")})
    gate, workers = server.gate, server.workers
    os.kill(gate, signal.SIGKILL)
    until(lambda: "kind=gate status=-9" in server.log)
    server.write_rule("10-x.py", rule("two"))
    comes(server, "two")
    assert server.gate != gate and server.workers == workers


def test_many_saves_at_once_end_with_the_last(start: Start) -> None:
    server = start(TOML, {f"{number}0-x.py": "def on_mail(mail, sender): pass\n" for number in range(1, 9)})
    for turn in range(5):
        for number in range(1, 9):
            server.write_rule(f"{number}0-x.py", rule(f"turn{turn}"))
    until(lambda: answers(server) == {"turn4"})
    assert "event=rule_broken" not in server.log
