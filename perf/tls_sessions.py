"""What a session with STARTTLS costs the whole server, with and without resumption, beside Haraka and Postfix.

    .venv/bin/python perf/tls_sessions.py -r 5 -n 400

A session is EHLO, STARTTLS, a handshake of TLS 1.3, EHLO, one message of 4 KB that is thrown away, QUIT. The servers, their
settings and their key (ECDSA P-256) are those of the side-by-side harness (see whole.py). Rounds are interleaved: full
handshakes with every server, then clients that offer to resume, and again. The CPU is that of all processes of the server
(/proc), the client's is not in it.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import socket
import ssl
import statistics
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from sink import cpu_seconds
from whole import BENCH, ROOT, print_table

NAMES = {"project": "ours", "haraka": "Haraka", "postfix": "Postfix"}
CLIENTS = 4
MESSAGE = b"Subject: x\r\n\r\n" + (b"x" * 62 + b"\r\n") * 64 + b".\r\n"
Session = ssl.SSLSession | None


class Client:
    """Whole sessions, one after the other; what the server gave to resume the last one is used for the next."""

    def __init__(self, port: int, resuming: bool) -> None:
        self._port = port
        self._resuming = resuming
        self._kept: Session = None
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        self._context.check_hostname = False
        self._context.verify_mode = ssl.CERT_NONE
        self._context.minimum_version = ssl.TLSVersion.TLSv1_3
        self.resumed = 0

    def run(self, sessions: int) -> None:
        """Raises OSError, ValueError when a server does not do what it is to do."""
        for _ in range(sessions):
            self._one()

    def _one(self) -> None:
        with socket.create_connection(("127.0.0.1", self._port), 30) as plain:
            plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            _expect(plain, 220)
            _say(plain, b"EHLO client.example\r\n", 250)
            _say(plain, b"STARTTLS\r\n", 220)
            with self._context.wrap_socket(plain, session=self._kept) as sock:
                self.resumed += bool(sock.session_reused)
                for line in (b"EHLO client.example\r\n", b"MAIL FROM:<a@example.com>\r\n", b"RCPT TO:<b@example.com>\r\n"):
                    _say(sock, line, 250)
                _say(sock, b"DATA\r\n", 354)
                _say(sock, MESSAGE, 250)
                _say(sock, b"QUIT\r\n", 221)
                if self._resuming:
                    self._kept = sock.session


def _say(sock: socket.socket, line: bytes, code: int) -> None:
    sock.sendall(line)
    _expect(sock, code)


def _expect(sock: socket.socket, code: int) -> None:
    reply = b""
    while not (reply.endswith(b"\n") and reply.splitlines()[-1][3:4] != b"-"):
        if not (data := sock.recv(4096)):
            raise ValueError(f"hung up instead of {code}")
        reply += data
    if int(reply[:3]) != code:
        raise ValueError(f"{reply!r} instead of {code}")


def measure(server: Any, sessions: int, resuming: bool) -> tuple[float, float]:
    """CPU in ms a session of the server, and the share of the sessions that were resumed."""
    clients = [Client(server.c.port, resuming) for _ in range(CLIENTS)]
    before = cpu_seconds(server.p.pid)
    with ThreadPoolExecutor(CLIENTS) as pool:
        list(pool.map(lambda client: client.run(sessions // CLIENTS), clients))
    time.sleep(0.2)
    cost = (cpu_seconds(server.p.pid) - before) * 1000 / sessions
    return cost, sum(client.resumed for client in clients) / sessions


def harness() -> Any:
    """bench.py, as a module: it knows how each server is started."""
    os.environ.setdefault("PROJECT_CMD", f"bash {BENCH / 'project.sh'}")
    os.environ.setdefault("SMTPPROXY", str(Path(sys.executable).with_name("smtpproxy")))
    os.environ.setdefault("PROJECT_DIR", str(ROOT))
    found = importlib.util.spec_from_file_location("bench", BENCH / "bench.py")
    if found is None or found.loader is None or not (BENCH / "bench.py").exists():
        sys.exit(f"the side-by-side harness is needed here: {BENCH}")
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    return module


def main() -> None:
    parser = argparse.ArgumentParser(description="CPU of the whole server per session with STARTTLS")
    parser.add_argument("-r", type=int, default=5, help="interleaved rounds; medians are shown")
    parser.add_argument("-n", type=int, default=400, help="sessions in a round")
    chosen = parser.parse_args()
    bench, load = harness(), os.getloadavg()[0]
    servers = {}
    costs: dict[tuple[str, bool], list[float]] = {(name, resuming): [] for name in NAMES for resuming in (False, True)}
    shares: dict[tuple[str, bool], float] = {}
    try:
        for name in NAMES:
            servers[name] = bench.Server(name, "W7")
            measure(servers[name], chosen.n, False)
        for _ in range(chosen.r):
            for resuming in (False, True):
                for name, server in servers.items():
                    cost, shares[name, resuming] = measure(server, chosen.n, resuming)
                    costs[name, resuming].append(cost)
    finally:
        for server in servers.values():
            server.stop()
    print(f"\nload of the machine before the run {load:.1f}\n")
    head = ["", "resumed", "CPU ms a session", "sessions a CPU second", "of Haraka's CPU"]
    print_table([head, *rows(costs, shares)])


def rows(costs: dict[tuple[str, bool], list[float]], shares: dict[tuple[str, bool], float]) -> list[list[str]]:
    """The ratio is the median of the rounds' ratios: what drifts between rounds falls out."""
    found = []
    for (name, resuming), taken in costs.items():
        cost = statistics.median(taken)
        ratio = statistics.median(one / other for one, other in zip(taken, costs["haraka", resuming], strict=True))
        how = "offers to resume" if resuming else "full handshakes"
        share = f"{shares[name, resuming]:.0%}"
        found.append([f"{NAMES[name]}, {how}", share, f"{cost:.2f}", f"{1000 / cost:.0f}", f"{ratio:.2f}"])
    return found


if __name__ == "__main__":
    main()
