"""The servers that perf/whole.py loads where there is no harness: ours, and smtp-sink(1) beside and behind it."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from smtpproxy.testing.process import running_server
from smtpproxy.testing.waiting import until

TICKS = os.sysconf("SC_CLK_TCK")

CONFIG = """
hostname = "perf.example.com"
[listener.in]
bind = ["127.0.0.1:0"]
handoff = "out"
[handoff.out]
{handoff}
[relaying]
networks = ["127.0.0.0/8"]
[limits]
connections_per_client = 0
[log]
to = "{log}"
"""


class Server(NamedTuple):
    """A server under load."""

    pid: int
    port: int


def cpu_seconds(pid: int) -> float:
    """User and system time of a process and all below it, the ended ones included (proc(5), stat)."""
    below: dict[int, list[int]] = {}
    spent: dict[int, int] = {}
    for entry in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = entry.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        number = int(entry.parent.name)
        below.setdefault(int(fields[1]), []).append(number)
        spent[number] = sum(map(int, fields[11:15]))
    total, todo = 0, [pid]
    while todo:
        number = todo.pop()
        total += spent.get(number, 0)
        todo += below.get(number, [])
    return total / TICKS


@contextmanager
def smtp_sink() -> Iterator[Server]:
    """smtp-sink on a free port."""
    for program in ("smtp-sink", "smtp-source"):
        if shutil.which(program) is None:
            sys.exit(f"{program} is needed here: apt-get install postfix")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    user = ["-u", "nobody"] if os.geteuid() == 0 else []
    process = subprocess.Popen(["smtp-sink", *user, "-m", "2000", f"127.0.0.1:{port}", "1024"])
    try:
        until(lambda: _listens(port), 10.0, "smtp-sink listens")
        yield Server(process.pid, port)
    finally:
        process.terminate()
        process.wait()


@contextmanager
def our_server(folder: Path, upstream: bool) -> Iterator[Server]:
    """Ours, throwing messages away or in front of an smtp-sink of its own."""
    with smtp_sink() as sink:
        handoff = f'kind = "proxy"\nto = ["127.0.0.1:{sink.port}"]' if upstream else 'kind = "discard"'
        config = CONFIG.format(handoff=handoff, log=folder / "log")
        with running_server(folder, config) as server:
            yield Server(server.pid, server.port)


def _listens(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), 1.0):
            return True
    except OSError:
        return False
