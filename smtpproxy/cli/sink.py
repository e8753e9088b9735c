"""`smtpproxy sink`: a small upstream server that accepts everything and keeps the last messages in a folder."""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections import deque
from pathlib import Path
from typing import Any

from smtpproxy.config.limits import Limits
from smtpproxy.config.log import Log
from smtpproxy.config.schema import Config, Handoff, Listener, Relaying, Scripts
from smtpproxy.config.values import Endpoint, Hostname, LogTo, Networks
from smtpproxy.facts.mail import Mail
from smtpproxy.handoff.discard import Discard
from smtpproxy.message.body import Body
from smtpproxy.wire.reply import Reply

EVERYBODY = Networks(["0.0.0.0/0", "::/0"])
LOOPBACK = Networks(["127.0.0.0/8", "::1/128"])


def add(subparsers: Any) -> None:
    parser = subparsers.add_parser("sink", help="run a small upstream server that keeps the last messages", description=__doc__)
    parser.add_argument("--port", type=int, default=0, help="on 127.0.0.1; 0 lets the system choose (default)")
    parser.add_argument("--keep", type=Path, default=Path("sink"), metavar="FOLDER", help="where messages are kept")
    parser.add_argument("--last", type=int, default=20, metavar="N", help="how many are kept (default 20)")
    parser.add_argument("--until-eof", action="store_true", help="end when standard input does")


def run(args: argparse.Namespace) -> int:
    from smtpproxy.server.refused import Refused
    from smtpproxy.server.worker import Worker

    try:
        args.keep.mkdir(parents=True, exist_ok=True)
        worker = Worker(_config(args.port, args.keep), outlets={"keep": Keep(args.keep, args.last)})
        if args.until_eof:
            _end_with_input()
        return worker.run()
    except (Refused, OSError) as refused:
        print(f"smtpproxy sink: {refused}", file=sys.stderr)
        return 1


def _config(port: int, folder: Path) -> Config:
    return Config(
        hostname=Hostname("sink.localhost"),
        data=folder,
        listener={"sink": Listener(bind=(Endpoint("127.0.0.1", port),), handoff="keep", xclient_from=LOOPBACK)},
        handoff={"keep": Handoff(kind="discard")},
        relaying=Relaying(networks=EVERYBODY),
        scripts=Scripts(folder=folder / "no-rules"),
        limits=Limits(connections=0, connections_per_client=0),
        log=Log(to=LogTo(str(folder / "sink.log"))),
    )


def _end_with_input() -> None:
    """Whoever started us holds the other end: however it goes, we go too."""
    import gevent
    from gevent.os import make_nonblocking, nb_read

    def follow() -> None:
        descriptor = sys.stdin.fileno()
        make_nonblocking(descriptor)
        while nb_read(descriptor, 1024):
            pass
        os.kill(os.getpid(), signal.SIGTERM)

    gevent.spawn(follow)


class Keep(Discard):
    """A hand-off that writes each message to a file and removes the oldest beyond ``last``."""

    __slots__ = ("_folder", "_kept", "_last")

    def __init__(self, folder: Path, last: int) -> None:
        super().__init__("keep")
        self._folder = folder
        self._last = last
        self._kept = deque(sorted(folder.glob("*.eml"), key=lambda path: path.stat().st_mtime))

    def finish(self, mail: Mail, body: Body) -> Reply:
        path = self._folder / f"{mail.id}.eml"
        unfinished = path.with_suffix(".part")
        try:
            with unfinished.open("wb") as file:
                for chunk in body.content():
                    file.write(chunk)
            unfinished.replace(path)
        finally:
            unfinished.unlink(missing_ok=True)
        self._kept.append(path)
        while len(self._kept) > self._last:
            self._kept.popleft().unlink(missing_ok=True)
        return Reply(250, "2.0.0", f"Ok: kept as {path.name}")
