"""Hundreds of rules that do harm, all in one running server: each ends in its declared verdict, and nobody else notices."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from contextlib import suppress
from typing import Any, NamedTuple

import pytest
from hostile_rules import Hostile, corpus

from smtpproxy.testing.client import FakeClient, Reply
from smtpproxy.testing.process import RunningServer, start_server
from smtpproxy.testing.waiting import until

CONFIG = """
hostname = "mx.example.com"
[listener.clean]
bind = ["127.0.0.1:0"]
handoff = "drop"
rules = ["clean"]
[handoff.drop]
kind = "discard"
[relaying]
domains = ["example.com"]
[limits]
connections_per_client = 0
lag = "0s"
[scripts]
breaker = {{ action = "off" }}
{0}
"""
LISTENER = """
[listener.{name}]
bind = ["127.0.0.1:0"]
handoff = "drop"
rules = ["{name}"]
[rule.{name}]
cpu = "40ms"
{keys}
"""
SERVED_WITHIN = 5.0
MEMORY = 400 << 20
"""How much more there may be when all have run."""
CONTENT = b"Subject: hello\r\nContent-Type: text/plain\r\n\r\ntext\r\n"
RULES = {rule.name: rule for rule in corpus()}
BROKEN = {name: rule for name, rule in RULES.items() if rule.logged == "broken"}


class Heard(NamedTuple):
    """What the client of a rule was told at last, at which stage, and how long a client after it took, in seconds."""

    stage: str
    reply: str
    next: float


class Run(NamedTuple):
    """All sessions, and what the server wrote meanwhile."""

    heard: dict[str, Heard]
    records: dict[str, list[str]]
    log: str
    grown: int


def converse(port: int) -> tuple[str, Reply]:
    """A session that gives up one transaction and completes another; where it was refused, or ("ok", the last reply)."""
    with FakeClient(port) as client:
        try:
            stage, reply = _stages(client)
        except ConnectionError as lost:
            raise AssertionError(f"hung up without a word: {lost}") from None
        if reply.code != 421:
            client.send("QUIT")
        return stage, reply


def _stages(client: FakeClient) -> tuple[str, Reply]:
    begin = [("mail", "MAIL FROM:<a@client.example>"), ("rcpt", "RCPT TO:<b@example.com>")]
    reply = client.reply()
    if not reply.startswith("220"):
        return "connect", reply
    for stage, line in [("ehlo", "EHLO client.example"), *begin, ("reset", "RSET"), *begin, ("data", "DATA")]:
        reply = client.send(line)
        if reply.code >= 400:
            return stage, reply
    reply = client.data(CONTENT + b".\r\n")
    return ("ok" if reply.code == 250 else "dot"), reply


def serve(server: RunningServer, rule: Hostile) -> Heard:
    port = server.ports[rule.name]
    stage, reply = converse(port)
    if rule.twice:
        stage, reply = converse(port)
    began = time.monotonic()
    said = converse(server.ports["clean"])
    assert said[0] == "ok", said
    return Heard(stage, reply, time.monotonic() - began)


def records(log: str) -> dict[str, list[str]]:
    """What the log says of the failures of each rule."""
    found: dict[str, list[str]] = {name: [] for name in RULES}
    for line in log.splitlines():
        told = re.search(r"event=rule_(failed|parked|broken) .*?(?:rule|file)=([a-z0-9-]+)", line)
        if told and told[2] in found:
            found[told[2]].append(line)
    return found


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    """One server with all rules, a listener for each, and a session through each with a clean one after it."""
    listeners = "".join(LISTENER.format(name=rule.name, keys=rule.keys) for name, rule in RULES.items() if name not in BROKEN)
    sources = {rule.file: rule.text for name, rule in RULES.items() if name not in BROKEN}
    sources["clean.py"] = "def on_rcpt(mail, rcpt): pass"
    server = start_server(tmp_path_factory.mktemp("hostile"), CONFIG.format(listeners), sources, within=120.0)
    try:
        before = server.resident
        heard: dict[str, Any] = {}
        for name, rule in RULES.items():
            if name not in BROKEN:
                try:
                    heard[name] = serve(server, rule)
                except (AssertionError, OSError) as error:
                    heard[name] = Heard("lost", f"{type(error).__name__}: {error}", 0.0)
        for rule in BROKEN.values():
            server.write_rule(rule.file, rule.text)
        with suppress(AssertionError):  # which one is not told, its test says
            until(lambda: server.log.count("event=rule_broken") >= len(BROKEN), 30.0)
        yield Run(heard, records(server.log), server.log, server.resident - before)
    finally:
        server.stop()


@pytest.mark.timeout(500)
@pytest.mark.parametrize("name", [name for name in RULES if name not in BROKEN])
def test_it_ends_in_its_declared_verdict(name: str, run: Run) -> None:
    rule, heard = RULES[name], run.heard[name]
    told = heard.stage if heard.stage == "ok" else f"{heard.stage} {heard.reply[:3]}"
    assert told == rule.hears.replace("dot 250", "ok"), heard.reply
    assert heard.next < SERVED_WITHIN
    assert "Traceback" not in heard.reply and rule.file not in heard.reply
    if rule.logged == "nothing":
        assert run.records[name] == []
    else:
        assert blamed(rule, run.records[name]), run.records[name]


@pytest.mark.timeout(500)
@pytest.mark.parametrize("name", BROKEN)
def test_it_does_not_go_live(name: str, run: Run) -> None:
    assert blamed(RULES[name], run.records[name]), run.records[name]


def blamed(rule: Hostile, lines: list[str]) -> bool:
    """The log names the rule, and the line where it says one."""
    line = next((line for line in lines if f"event=rule_{rule.logged}" in line), "")
    place = re.search(r" at=\"?([^\s\"]+)", line)
    return place is not None and (place[1] == f"{rule.file}:{rule.line}" if rule.line else place[1].startswith(rule.file))


@pytest.mark.timeout(500)
def test_the_server_is_as_it_was(run: Run) -> None:
    assert len(RULES) >= 300
    assert "internal_error" not in run.log and "session_failed" not in run.log
    assert not re.search(r'File ".*/smtpproxy/(server|session)/', run.log), "something of ours has died"
    assert run.grown < MEMORY
