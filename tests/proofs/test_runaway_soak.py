"""Thousands of calls, good ones and runaways side by side: every answer is right, nobody is lost, the hub stays free."""

from __future__ import annotations

import random
import time
from pathlib import Path
from typing import Any

import gevent
import pytest

from smtpproxy.scripting.loader import Rules
from smtpproxy.scripting.runner import Call, decide
from smtpproxy.scripting.trace import Trace

RULE = '''
import json, re
from smtpproxy.script import deny, together

def work(n): return sum(i * i for i in range(n))

def on_rcpt(mail, rcpt):
    kind, n, out = rcpt
    if kind == "sum": out.append(work(n))
    elif kind == "sort": out.append(sorted(range(n), key=lambda v: -v)[0])
    elif kind == "json": out.append(len(json.loads(json.dumps([{"a": re.sub("a+", "b", "aab" * 9)}] * n))))
    elif kind == "wait": out.append(together(lambda: work(n), lambda: work(9)))
    elif kind == "deny": return deny(str(n))
    elif kind == "spin":
        while True: pass
    elif kind == "regex": re.match(r"(a+)+$", "a" * 40 + "b")
    elif kind == "raise": raise ValueError(n)
'''
BAD = ("spin", "regex", "raise")


def work(n: int) -> int:
    return sum(i * i for i in range(n))


def expected(kind: str, n: int) -> list[Any]:
    right = {"sum": lambda: work(n), "sort": lambda: n - 1, "json": lambda: n, "wait": lambda: (work(n), work(9))}
    return [right[kind]()] if kind in right else []


@pytest.mark.proof
def test_mixed_calls(tmp_path: Path, proof: Any) -> None:
    (tmp_path / "a.py").write_text(RULE)
    records: list[str] = []
    rules = Rules(tmp_path, {"a": {"cpu": "80ms", "wall": "300s"}}, {"mx": ["*"]}, log=lambda event, **_: records.append(event))
    rules.breaker.settings = type(rules.breaker.settings)(action="off")
    rules.load()
    rules.start()
    chances = random.Random(3)
    total, done, wrong, worst = proof.rounds(600, 10_000), 0, [], 0.0
    left = iter(range(total))

    def session() -> None:
        nonlocal done
        call = Call(trace=Trace("soak"))
        for _ in left:
            bad = chances.random() < 0.03
            kind = chances.choice(BAD if bad else ("sum", "sort", "json", "wait", "deny"))
            n = chances.choice((10, 500, 5000, 40000)) if kind != "json" else chances.choice((10, 500))
            out: list[Any] = []
            chains = rules.table.chains["mx"]
            verdict = decide(chains, chains.on_rcpt, call, None, (kind, n, out))
            answer = verdict.kind if verdict is not None else "continue"
            wanted = "defer" if kind in BAD else "deny" if kind == "deny" else "continue"
            if answer != wanted or out != expected(kind, n):
                wrong.append((kind, n, answer, out))
            done += 1
            gevent.sleep(0)

    def watch() -> None:
        nonlocal worst
        while True:
            began = time.thread_time()
            gevent.sleep(0.005)
            worst = max(worst, time.thread_time() - began)

    watching = gevent.spawn(watch)
    sessions = [gevent.spawn(session) for _ in range(8)]
    gevent.joinall(sessions)
    watching.kill()
    rules.stop()
    proof.figure("calls", done)
    proof.figure("stopped or failed", records.count("rule_failed"))
    proof.figure("longest turn of the hub, ms of CPU", round(worst * 1000))
    assert not wrong
    assert done == total
    assert all(greenlet.successful() for greenlet in sessions)
    assert worst < 0.5
