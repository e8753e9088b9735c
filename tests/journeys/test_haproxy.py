"""Clients -> HAProxy -> us, with PROXY v1 and v2: rules and the log see the client, and health checks leave no trace."""

from __future__ import annotations

import ssl
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import trustme

from smtpproxy.testing.client import FakeClient
from smtpproxy.testing.front import ENVELOPE
from smtpproxy.testing.process import RunningServer
from smtpproxy.testing.waiting import until
from tests.journeys.conftest import Daemon, free_port, program

OURS = """
hostname = "mx.example.com"
[listener.mx]
bind = ["127.0.0.1:0"]
handoff = "out"
proxy_from = ["127.0.0.1/32"]
proxy_tls = true
[handoff.out]
kind = "discard"
[relaying]
domains = ["example.com"]
"""
WHO = """
from smtpproxy.script import deny

def on_rcpt(mail, rcpt):
    client = mail.client
    if rcpt.local_part == "who":
        return deny(f"{client.address} {client.port} by {client.connected_address} {client.tls}")
"""
MESSAGE = b"Subject: x\r\n\r\nhello\r\n"


class HAProxy(Daemon):
    """A private HAProxy in front of one server: a plain port, and one where it ends TLS."""

    def __init__(self, folder: Path, port: int, options: str, certificate: Path) -> None:
        super().__init__(folder)
        self.binary = program("haproxy", "haproxy")
        self.ports = {"mx": free_port()}
        self.tls_port = free_port()
        (folder / "haproxy.cfg").write_text(f"""\
global
  log stderr format raw local0
defaults
  mode tcp
  timeout connect 5s
  timeout client 30s
  timeout server 30s
frontend mx
  bind 127.0.0.1:{self.ports["mx"]}
  bind 127.0.0.1:{self.tls_port} ssl crt {certificate}
  default_backend ours
backend ours
  option smtpchk EHLO haproxy.example.com
  option log-health-checks
  log global
  server one 127.0.0.1:{port} {options} check inter 200ms fall 1000
""")

    def command(self) -> list[str]:
        """haproxy(1) in the foreground."""
        return [self.binary, "-db", "-f", str(self.folder / "haproxy.cfg")]


Journey = tuple[HAProxy, RunningServer, trustme.CA]


@pytest.fixture(params=["send-proxy", "send-proxy-v2", "send-proxy-v2-ssl-cn"])
def journey(folder: Path, start: Callable[..., RunningServer], request: Any) -> Iterator[Journey]:
    authority = trustme.CA()
    certificate = folder / "mx.pem"
    authority.issue_cert("mx.example.com").private_key_and_cert_chain_pem.write_to_path(str(certificate))
    ours = start(OURS, {"10-who.py": WHO})
    place = folder / "haproxy"
    place.mkdir()
    balancer = HAProxy(place, ours.port, request.param, certificate)
    balancer.start()
    yield balancer, ours, authority
    balancer.stop()


def test_the_client_is_seen_and_not_the_balancer(journey: Journey) -> None:
    balancer, ours, _ = journey
    with FakeClient.greeted(balancer.ports["mx"], source="127.0.0.9") as client:
        port = client.socket.getsockname()[1]
        client.send(ENVELOPE[0])
        assert client.send("RCPT TO:<who@example.com>") == f"550 5.7.1 127.0.0.9 {port} by 127.0.0.1 None"
        assert client.send(ENVELOPE[1]).code == 250
        assert client.message(MESSAGE).code == 250
    until(lambda: [line for line in ours.log.splitlines() if "event=message" in line and "client=127.0.0.9" in line])


def test_tls_that_ends_at_the_balancer(journey: Journey) -> None:
    balancer, _, authority = journey
    trusting = ssl.create_default_context()
    authority.configure_trust(trusting)
    with FakeClient(balancer.tls_port, source="127.0.0.9") as client:
        client.start_tls(trusting, "mx.example.com")
        client.expect("220")
        client.send("EHLO client.example")
        client.send(ENVELOPE[0])
        seen = client.send("RCPT TO:<who@example.com>")
    said = "ssl" in (balancer.folder / "haproxy.cfg").read_text().partition("server one")[2]
    assert seen.startswith("550 5.7.1 127.0.0.9 ") and ("TLSv1." in seen) is said


def test_health_checks_leave_nothing_in_the_log(journey: Journey) -> None:
    balancer, ours, _ = journey
    checked = until(lambda: "Health check for server ours/one succeeded" in balancer.printed, what="a health check")
    assert checked
    with FakeClient.greeted(balancer.ports["mx"], source="127.0.0.9") as client:
        client.send("NOOP")
        client.send("MAIL FROM:<a@client.example>")
        client.send("RCPT TO:<last@elsewhere.example>")
    until(lambda: "last@elsewhere.example" in ours.log)
    troubles = ("refused", "failed", "internal_error", "level=error")
    told = [line for line in ours.log.splitlines() if "client=127.0.0.9" not in line and any(word in line for word in troubles)]
    assert [line for line in told if "event=session " not in line] == []
