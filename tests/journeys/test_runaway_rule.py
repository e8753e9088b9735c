"""A rule that cannot be stopped costs its session, and nobody else anything."""

from __future__ import annotations

from collections.abc import Callable

from smtpproxy.testing.process import RunningServer
from smtpproxy.testing.waiting import until

CONFIG = """
hostname = "mx.example.com"
[listener.mx]
bind = "127.0.0.1:0"
handoff = "drop"
[handoff.drop]
kind = "discard"
[relaying]
domains = ["example.com"]
"""
SWALLOW = """
def on_mail(mail, sender):
    while sender.local_part == "spin":
        try:
            for number in range(10**9): last = number
        except BaseException: pass
"""


def test_its_session_is_told_421_and_ends_while_others_go_on(start: Callable[..., RunningServer]) -> None:
    server = start(CONFIG, {"10-spin.py": SWALLOW})
    with server.client() as other, server.client() as client:
        assert client.send("MAIL FROM:<spin@client.example>").code == 421
        assert client.closed()
        assert other.send("NOOP").code == 250
    log = until(lambda: server.log if "rule_tripped" in server.log else "")
    assert "event=rule_parked" in log
    assert "rule=10-spin" in log
    with server.client() as later:
        assert later.send("MAIL FROM:<a@client.example>").code == 451
    assert server.stop() == 0
