"""`smtpproxy quarantine`: the mail that was kept back: list it, show it, send it on, delete it."""

from __future__ import annotations

import argparse
import fcntl
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from smtpproxy.cli.instance import HERE
from smtpproxy.cli.try_it import looked_at
from smtpproxy.config.schema import Config, Handoff
from smtpproxy.config.values import BadValue, Target
from smtpproxy.delivery.smtp import LAST_CHUNK, SmtpClient, UpstreamLost
from smtpproxy.handoff.shelf import Item, items
from smtpproxy.message.body import StoredBody, bytes_body
from smtpproxy.scripting.kept import stamp
from smtpproxy.wire.reply import Reply

PASSED_ON = ("BODY", "SMTPUTF8")
"""Parameters of MAIL that are of the message, not of the way that it came."""


class NotReleased(Exception):
    """It stays; str() says why."""


def add(subparsers: Any) -> None:
    words = "look at mail that is kept in quarantine, release or delete it"
    parser = subparsers.add_parser("quarantine", help=words, description=__doc__)
    parser.add_argument("--config", type=Path, default=HERE, metavar="FILE-OR-FOLDER", help="default: the current folder")
    parser.set_defaults(folder=None)
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    actions.add_parser("list", help="a line for each message, the oldest first")
    for action, about in (("show", "envelope, reason and message"), ("delete", "remove messages"), ("release", "send them on")):
        one = actions.add_parser(action, help=about)
        one.add_argument("names", metavar="NAME", nargs="+", help="as listed")
        if action == "release":
            one.add_argument("--via", metavar="HANDOFF", help="the hand-off whose upstream gets it")
            one.add_argument("--to", metavar="HOST:PORT", help="any other server")


def run(args: argparse.Namespace) -> int:
    config = looked_at(args)
    if args.action == "list":
        for item in _all(config):
            print(_line(item))
        return 0
    status = 0
    for name in args.names:
        try:
            item = _item(config, name)
            with _alone(item):
                _ACTIONS[args.action](item, args, config)
        except LookupError as missing:
            print(f"smtpproxy quarantine: {missing.args[0]}", file=sys.stderr)
            status = 1
        except (NotReleased, OSError) as wrong:
            print(f"smtpproxy quarantine: {name} stays: {wrong}", file=sys.stderr)
            status = 1
    return status


def _all(config: Config) -> Iterator[Item]:
    folders = dict.fromkeys(config.data / handoff.folder for handoff in config.handoff.values() if handoff.kind == "quarantine")
    for folder in folders:
        yield from items(folder)


def _item(config: Config, name: str) -> Item:
    for item in _all(config):
        if item.name == name:
            return item
    raise LookupError(f"there is no message {name}")


def _line(item: Item) -> str:
    slip = item.slip
    return f"{item.name}  {stamp(slip.time)}  <{slip.sender}> to {', '.join(map(_path, slip.recipients))}  {slip.reason}"


@contextmanager
def _alone(item: Item) -> Iterator[None]:
    """Nobody else releases or deletes it meanwhile."""
    with item.message.open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise NotReleased("somebody else is at it") from None
        if not item.note.exists():
            raise NotReleased("it has just gone")
        yield


def _show(item: Item, args: argparse.Namespace, config: Config) -> None:
    slip = item.slip
    print(f"name        {item.name}\ntime        {stamp(slip.time)}\nreason      {slip.reason}")
    print(f"from        {_path(slip.sender)}\nto          {', '.join(map(_path, slip.recipients))}")
    print(f"client      {', '.join(f'{name} {value}' for name, value in slip.client.items())}")
    print(f"trace       {slip.id}\nmessage     {item.message}\n", flush=True)
    sys.stdout.buffer.write(item.message.read_bytes())


def _delete(item: Item, args: argparse.Namespace, config: Config) -> None:
    item.remove()
    print(f"{item.name} deleted")


# -- release ---------------------------------------------------------------------------------------------------------


def _release(item: Item, args: argparse.Namespace, config: Config) -> None:
    """It goes only when the next server has answered 2xx for each of its recipients."""
    client = _connect(args, config)
    try:
        reply, left = _send(client, item)
    except UpstreamLost as lost:
        raise NotReleased(str(lost)) from None
    finally:
        client.quit()
    if left:
        item.keep_for(left)
        raise NotReleased(f"for {', '.join(left)}: {reply}")
    item.remove()
    print(f"{item.name} released: {reply}")


def _connect(args: argparse.Namespace, config: Config) -> SmtpClient:
    from smtpproxy.delivery.tlspolicy import TlsPolicy
    from smtpproxy.server.build import upstream
    from smtpproxy.server.clock import SystemClock
    from smtpproxy.server.keys import credentials, trust
    from smtpproxy.server.refused import Refused

    handoff, target = _target(args, config)
    try:
        tls = TlsPolicy(handoff.tls, trust(args.via or "", handoff))
        login = credentials(args.via or "", handoff) if handoff.login else None
        return upstream(handoff, target, config.hostname, SystemClock(), tls, login).open()
    except (UpstreamLost, Refused) as lost:
        raise NotReleased(f"{target}: {lost}") from None


def _target(args: argparse.Namespace, config: Config) -> tuple[Handoff, Target]:
    if args.to:
        try:
            return Handoff(kind="proxy"), Target.parse(args.to)
        except BadValue as wrong:
            raise NotReleased(str(wrong)) from None
    ways = {name: handoff for name, handoff in config.handoff.items() if handoff.to}
    name = args.via or (next(iter(ways)) if len(ways) == 1 else "")
    if name not in ways:
        known = ", ".join(ways) or "there is none with an upstream"
        raise NotReleased(f"say where it goes: --to HOST:PORT, or --via with one of: {known}")
    return ways[name], ways[name].to[0]


def _send(client: SmtpClient, item: Item) -> tuple[Reply, list[str]]:
    """The deciding reply, and the recipients that still wait: all of them, but for an LMTP server's answers."""
    recipients = item.slip.recipients
    body = bytes_body(item.message.read_bytes())
    for command in (_mail(client, item), *(f"RCPT TO:{_path(rcpt)}" for rcpt in recipients)):
        reply = client.command(command.encode("utf-8", "surrogateescape"))
        if not reply.positive:
            return reply, recipients
    binary = (item.slip.params.get("BODY") or "").upper() == "BINARYMIME"
    refused = client.chunks(body.content()) if binary else _by_data(client, body)
    if refused is not None:
        return refused, recipients
    return _end(client, LAST_CHUNK if binary else b".", recipients)


def _by_data(client: SmtpClient, body: StoredBody) -> Reply | None:
    reply = client.data()
    if reply.code != 354:
        return reply
    client.body(body.wire())
    return None


def _end(client: SmtpClient, end: bytes, recipients: list[str]) -> tuple[Reply, list[str]]:
    client.send(end)
    replies = [client.final_reply() for _ in (recipients if client.lmtp else recipients[:1])]
    worst = max(replies, key=lambda reply: reply.code)
    if not client.lmtp:
        return worst, [] if worst.code // 100 == 2 else recipients
    return worst, [rcpt for rcpt, said in zip(recipients, replies, strict=True) if said.code // 100 != 2]


def _mail(client: SmtpClient, item: Item) -> str:
    params = {name: value for name, value in item.slip.params.items() if name in PASSED_ON}
    if "SMTPUTF8" in params and "SMTPUTF8" not in client.extensions:
        raise NotReleased("the next server does not take internationalised mail")
    body = (params.get("BODY") or "").upper()
    if body == "8BITMIME" and "8BITMIME" not in client.extensions:
        raise NotReleased("the next server does not take 8-bit mail")
    if body == "BINARYMIME" and not {"BINARYMIME", "CHUNKING"} <= client.extensions.keys():
        raise NotReleased("the next server does not take binary mail")
    if body == "7BIT" and "8BITMIME" not in client.extensions:
        params.pop("BODY", None)
    return f"MAIL FROM:{_path(item.slip.sender)}" + "".join(f" {n}={v}" if v else f" {n}" for n, v in params.items())


def _path(address: str) -> str:
    return f"<{address}>"


_ACTIONS = {"show": _show, "delete": _delete, "release": _release}
