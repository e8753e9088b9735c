"""Rules that keep a pace, in processes of their own, with the store on disk."""

from __future__ import annotations

from collections.abc import Callable
from textwrap import dedent

from smtpproxy.testing.client import FakeClient
from smtpproxy.testing.process import RunningServer, start_server
from smtpproxy.testing.upstream import FakeUpstream
from smtpproxy.testing.waiting import until

Start = Callable[..., RunningServer]
MESSAGE = b"Subject: x\r\n\r\nhello\r\n"


def toml(upstream: FakeUpstream, rules: str, workers: int = 1) -> str:
    head = f"""
        workers = {workers}
        [listener.mx]
        bind = "127.0.0.1:0"
        handoff = "inbound"
        [handoff.inbound]
        kind = "proxy"
        to = ["127.0.0.1:{upstream.port}"]
        [relaying]
        domains = ["example.com"]
        """
    return dedent(head) + dedent(rules)


def send(server: RunningServer) -> int:
    """One message over a connection of its own; the code of the first refusal or of the last reply."""
    client = server.client()
    for line in ("MAIL FROM:<a@client.example>", "RCPT TO:<b@example.com>"):
        if (reply := client.send(line)).code >= 400:
            break
    else:
        reply = client.message(MESSAGE)
    client.send("QUIT")
    return reply.code


LIMITS = """
    [rule.limits]
    enabled = true
    client_messages = ["6/1h"]
"""


def test_all_workers_count_together(start: Start, upstream: FakeUpstream) -> None:
    server = start(toml(upstream, LIMITS, workers=2))
    assert sorted(send(server) for _ in range(10)) == [250] * 6 + [451] * 4
    over = "limit=client_messages who=127.0.0.1/32 allowed=6 within=3600"
    until(lambda: server.log.count(over) == 4, what="the log says which limit")


def test_a_restart_forgets_nothing(start: Start, upstream: FakeUpstream) -> None:
    server = start(toml(upstream, LIMITS))
    assert [send(server) for _ in range(4)] == [250] * 4
    assert server.stop() == 0
    again = start_server(server.folder, toml(upstream, LIMITS))
    try:
        assert [send(again) for _ in range(3)] == [250, 250, 451]
    finally:
        again.stop()


ALL = """
    [rule.early_talker]
    enabled = true
    wait = "200ms"
    [rule.delay_deny]
    enabled = true
    [rule.tarpit]
    enabled = true
    step = "10ms"
    [rule.limits]
    enabled = true
    client_concurrent = 2
"""


def test_all_of_them_together(start: Start, upstream: FakeUpstream) -> None:
    server = start(toml(upstream, ALL))
    assert send(server) == 250
    client = FakeClient(server.port)
    client.raw(b"EHLO client.example\r\n")
    assert [client.reply().code for _ in range(2)] == [220, 250]
    client.send("MAIL FROM:<a@client.example>")
    replies = [client.send(f"RCPT TO:<{name}@example.com>") for name in ("b", "postmaster", "c")]
    assert [reply.code for reply in replies] == [554, 250, 554]
    assert client.message(MESSAGE).code == 250
    assert replies[0] == "554 5.5.1 Protocol error: you speak before it is your turn"
    until(lambda: "by=early_talker hook=on_connect" in server.log, what="the log names the rule")
    other = server.client()
    assert FakeClient(server.port).reply().code == 421
    other.close()
    client.close()
    until(lambda: FakeClient(server.port).reply().code == 220, what="a place is free again")


def test_settings_are_live(start: Start, upstream: FakeUpstream) -> None:
    server = start(toml(upstream, LIMITS))
    assert send(server) == 250
    (server.folder / "smtpproxy.toml").write_text(toml(upstream, LIMITS.replace("6/1h", "1/1h")))
    until(lambda: "settings_live" in server.log, what="settings are live")
    assert send(server) == 451
