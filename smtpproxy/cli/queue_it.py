"""`smtpproxy queue`: the mail that waits to be delivered: list it, show it, try it now, hold it, delete it.

Works while the server runs, which follows within a second, and while it does not. What is being delivered at this moment
comes to its end first.
"""

from __future__ import annotations

import argparse
import sqlite3
import sys
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from smtpproxy.cli.instance import HERE
from smtpproxy.cli.try_it import looked_at
from smtpproxy.config.schema import Config
from smtpproxy.queue import rows
from smtpproxy.queue.disk import connect
from smtpproxy.queue.envelope import Damaged
from smtpproxy.queue.rows import Row, UnknownSchema
from smtpproxy.queue.salvage import damaged
from smtpproxy.queue.slots import slots
from smtpproxy.queue.spool import SpooledBody
from smtpproxy.scripting.kept import stamp
from smtpproxy.server.queueing import FOLDER

_ABOUT = {
    "show": "envelope, what became of each recipient, and the message",
    "retry": "try it now",
    "delete": "forget it; nobody is told",
    "hold": "do not try it until it is released",
    "release": "try it now, whatever held it or has set it aside",
}


class Item(NamedTuple):
    """A mail, and the slot that it is in."""

    slot: Path
    row: Row


def add(subparsers: Any) -> None:
    words = "look at mail that waits to be delivered, try it now, hold or delete it"
    parser = subparsers.add_parser("queue", help=words, description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", type=Path, default=HERE, metavar="FILE-OR-FOLDER", help="default: the current folder")
    parser.set_defaults(folder=None)
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    listed = actions.add_parser("list", help="a line for each mail, the oldest first")
    listed.add_argument("--json", action="store_true", help="a JSON object for each")
    for action, about in _ABOUT.items():
        one = actions.add_parser(action, help=about)
        one.add_argument("names", metavar="NAME", nargs="+", help='as listed; "all" for everything')


def run(args: argparse.Namespace) -> int:
    config = looked_at(args)
    try:
        if args.action == "list":
            for item in _all(config):
                print(_json(item.row) if args.json else _line(item.row))
            return 0
        return _each(args, config)
    except (OSError, UnknownSchema, Damaged, sqlite3.Error) as error:
        print(f"smtpproxy queue: {error}", file=sys.stderr)
        return 1


def _each(args: argparse.Namespace, config: Config) -> int:
    items = {item.row.name: item for item in _all(config)}
    status = 0
    for name in items if args.names == ["all"] else args.names:
        if name not in items:
            print(f"smtpproxy queue: there is no mail {name}", file=sys.stderr)
            status = 1
        elif args.action == "show":
            _show(items[name])
        else:
            print(f"{name} {_change(items[name], args.action)}")
    return status


def _all(config: Config) -> Iterator[Item]:
    for slot in slots(config.data / FOLDER):
        if (slot / "ledger.sqlite").exists():
            yield from (Item(slot, row) for row in _of(slot))


def _of(slot: Path) -> list[Row]:
    """None of a damaged ledger: the server puts it in order when it opens it."""
    try:
        with closing(connect(slot)) as connection:
            return list(rows.rows(connection))
    except sqlite3.DatabaseError as error:
        if not damaged(error):
            raise
        print(f"smtpproxy queue: {slot / 'ledger.sqlite'} is damaged ({error}); `serve` saves what can be read", file=sys.stderr)
        return []


def _change(item: Item, action: str) -> str:
    key = item.row.key
    with closing(connect(item.slot)) as connection:
        if action == "delete":
            with connection:
                connection.execute("BEGIN IMMEDIATE")
                rows.remove(connection, key)
            with suppress(FileNotFoundError):
                (item.slot / "bodies" / item.row.name).unlink()
            return "deleted"
        if action == "hold":
            rows.hold(connection, key)
            return "is held"
        rows.release(connection, key, time.time(), aside=action == "release")
    return "is due now" if action == "release" or item.row.state == "queued" else f"stays: {item.row.state}"


def _line(row: Row) -> str:
    envelope = row.envelope
    if envelope is None:
        return f"{row.name}  damaged  {row.reason}"
    said = next((result.reply for result in row.results.values() if result.became != "delivered"), "")
    waits = [envelope.recipients[rcpt].path for rcpt in _pending(row)]
    told = row.reason or said
    state = row.state if row.state != "queued" else f"due {stamp(row.due)}"
    return f"{row.name}  {stamp(envelope.time)}  <{envelope.sender.path}> to {', '.join(waits)}  {state}  {told}".rstrip()


def _pending(row: Row) -> list[int]:
    recipients = row.envelope.recipients if row.envelope else []
    return [n for n in range(len(recipients)) if n not in row.results or row.results[n].became == "deferred"]


def _json(row: Row) -> str:
    envelope = row.envelope
    known: dict[str, Any] = {"name": row.name, "state": row.state, "due": row.due, "attempts": row.attempts, "reason": row.reason}
    if envelope is not None:
        known |= {"time": envelope.time, "size": envelope.size, "from": envelope.sender.path, "to": _recipients(row)}
    return msgspec.json.encode(known).decode()


def _recipients(row: Row) -> list[dict[str, str]]:
    assert row.envelope is not None
    found = []
    for number, party in enumerate(row.envelope.recipients):
        result = row.results.get(number)
        about = {"state": result.state, "reply": result.reply, "host": result.host} if result else {"state": "waiting"}
        found.append({"address": party.path, **about})
    return found


def _show(item: Item) -> None:
    row = item.row
    print(f"name        {row.name}\nstate       {row.state}\nattempts    {row.attempts}\ndue         {stamp(row.due)}")
    if row.reason:
        print(f"reason      {row.reason}")
    envelope = row.envelope
    if envelope is None:
        return
    print(f"taken       {stamp(envelope.time)}\ntrace       {envelope.id}\nfrom        <{envelope.sender.path}>")
    for rcpt in _recipients(row):
        print(f"to          <{rcpt['address']}> {rcpt['state']} {rcpt.get('reply', '')}".rstrip())
    print(f"client      {', '.join(f'{name} {value}' for name, value in envelope.client.items())}\n", flush=True)
    for chunk in SpooledBody(item.slot / "bodies", envelope).content():
        sys.stdout.buffer.write(chunk)
