"""`smtpproxy sink`: a small upstream server that accepts everything and keeps the last messages in a folder."""

from __future__ import annotations

import argparse
import sys
from collections import deque
from pathlib import Path
from typing import Any

from smtpproxy.config.schema import Config, Handoff, Limits, Listener, Log, Relaying, Scripts
from smtpproxy.config.values import Endpoint, Hostname, LogTo, Networks
from smtpproxy.facts.client import Client
from smtpproxy.facts.mail import Mail
from smtpproxy.facts.recipient import Recipient
from smtpproxy.handoff.base import OK
from smtpproxy.handoff.discard import CARRIES_ALL
from smtpproxy.message.body import Body
from smtpproxy.wire.extensions import Extensions
from smtpproxy.wire.reply import Reply

EVERYBODY = Networks(["0.0.0.0/0", "::/0"])
LOOPBACK = Networks(["127.0.0.0/8", "::1/128"])


def add(subparsers: Any) -> None:
    parser = subparsers.add_parser("sink", help="run a small upstream server that keeps the last messages")
    parser.add_argument("--port", type=int, default=0, help="on 127.0.0.1; 0 lets the system choose (default)")
    parser.add_argument("--keep", type=Path, default=Path("sink"), metavar="FOLDER", help="where messages are kept")
    parser.add_argument("--last", type=int, default=20, metavar="N", help="how many are kept (default 20)")


def run(args: argparse.Namespace) -> int:
    from smtpproxy.server.worker import Refused, Worker

    args.keep.mkdir(parents=True, exist_ok=True)
    config = Config(
        hostname=Hostname("sink.localhost"),
        data=args.keep,
        listener={"sink": Listener(bind=(Endpoint("127.0.0.1", args.port),), handoff="keep", xclient_from=LOOPBACK)},
        handoff={"keep": Handoff(kind="discard")},
        relaying=Relaying(networks=EVERYBODY),
        scripts=Scripts(folder=args.keep / "no-rules"),
        limits=Limits(connections=0, connections_per_client=0),
        log=Log(to=LogTo(str(args.keep / "sink.log"))),
    )
    try:
        return Worker(config, outlets={"keep": Keep(args.keep, args.last)}).run()
    except Refused as refused:
        print(f"smtpproxy: {refused}", file=sys.stderr)
        return 1


class Keep:
    """A hand-off that writes each message to a file and removes the oldest beyond ``last``."""

    live = False
    name = "keep"
    via = "keep"

    def __init__(self, folder: Path, last: int) -> None:
        self._folder = folder
        self._last = last
        self._kept = deque(sorted(folder.glob("*.eml"), key=lambda path: path.stat().st_mtime))

    def announced(self) -> Extensions:
        return CARRIES_ALL

    def open(self, client: Client) -> Keep:
        return self

    def begin(self, mail: Mail) -> Reply:
        return OK

    def recipient(self, mail: Mail, rcpt: Recipient) -> Reply:
        return OK

    def finish(self, mail: Mail, body: Body) -> Reply:
        path = self._folder / f"{mail.id}.eml"
        with path.open("wb") as file:
            for chunk in body.content():
                file.write(chunk)
        self._kept.append(path)
        while len(self._kept) > self._last:
            self._kept.popleft().unlink(missing_ok=True)
        return Reply(250, "2.0.0", f"Ok: kept as {path.name}")

    def commit(self) -> None: ...

    def abandon(self) -> None: ...

    def close(self) -> None: ...
