"""`smtpproxy explain`: why a mail, a recipient or a client was refused, and everything that happened to it.

Reads what the data folder keeps, whether the server runs or not.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import msgspec

from smtpproxy.cli.instance import HERE
from smtpproxy.cli.try_it import looked_at
from smtpproxy.config.schema import Config
from smtpproxy.scripting.kept import Kept, answer, decode, plainly, retold, stamp

LISTED = 10


def add(subparsers: Any) -> None:
    parser = subparsers.add_parser("explain", help="say why a mail was refused, and tell its story", description=__doc__)
    option = parser.add_argument
    option("what", metavar="ID|ADDRESS|last", help="an id (of a reply, the log, a Received header), an address, or: last")
    option("--config", type=Path, default=HERE, metavar="FILE-OR-FOLDER", help="the configuration (default: the current folder)")
    option("--all", action="store_true", help="list every mail that fits, newest first, a line each")
    option("--json", action="store_true", help="print records, for programs")
    parser.set_defaults(folder=None)


def run(args: argparse.Namespace) -> int:
    config = looked_at(args)
    found = Found(config, args.what)
    if args.all:
        return _list(found, args)
    kept, others = found.one(), found.others
    if kept is None:
        print(f"smtpproxy explain: {_nothing(args.what, others, config)}", file=sys.stderr)
        return 1
    if args.json:
        print(msgspec.json.encode(plainly(kept)).decode())
        return 0
    print("\n".join([*answer(kept, args.what if "@" in args.what else ""), "", *retold(kept)]))
    if others:
        print(f"\nolder ones with this address: {', '.join(others)}\n--all lists them")
    return 0


class Found:
    """The records that what was asked for may mean, the newest of each id only."""

    def __init__(self, config: Config, what: str) -> None:
        self._folder = config.data
        self.what = what.strip("<>") if what != "<>" else ""
        self.others: list[str] = []
        """Ids that fit besides: older mails of an address; ids that begin like the one asked for."""

    def one(self) -> Kept | None:
        if self.what == "last":
            return next(self.all(), None)
        if self._address:
            return self._newest()
        return self._by_id()

    def all(self) -> Iterator[Kept]:
        """Everything that fits, newest first."""
        if self.what == "last":
            return self._records(b"", lambda kept: True)
        if self._address:
            return self._records(b"", lambda kept: kept.concerns(self.what))
        return self._records(self.what.encode(), lambda kept: kept.id.startswith(self.what))

    @property
    def _address(self) -> bool:
        return "@" in self.what or not self.what

    def _newest(self) -> Kept | None:
        found = self.all()
        newest = next(found, None)
        self.others = [kept.id for kept in islice(found, LISTED)]
        return newest

    def _by_id(self) -> Kept | None:
        """The exact id; else the only one that begins like it, as the mail of a session does."""
        found = []
        for kept in self.all():
            if kept.id == self.what:
                return kept
            found.append(kept)
        if len(found) == 1:
            return found[0]
        self.others = [kept.id for kept in found]
        return None

    def _records(self, needle: bytes, fits: Callable[[Kept], bool]) -> Iterator[Kept]:
        from smtpproxy.server.segments import newest_first
        from smtpproxy.server.traces import FOLDER

        seen = set()
        for line in newest_first(self._folder / FOLDER):
            if needle in line and (kept := decode(line)) is not None and kept.id not in seen and fits(kept):
                seen.add(kept.id)
                yield kept


def _list(found: Found, args: argparse.Namespace) -> int:
    empty = True
    for kept in found.all():
        empty = False
        if args.json:
            print(msgspec.json.encode(plainly(kept)).decode())
        else:
            print(f"{stamp(kept.time)}  {kept.id}  {answer(kept, args.what if '@' in args.what else '')[0]}")
    if empty:
        print(f"smtpproxy explain: {_nothing(args.what, [], looked_at(args))}", file=sys.stderr)
    return 1 if empty else 0


def _nothing(what: str, others: list[str], config: Config) -> str:
    if others:
        more = f" and {len(others) - LISTED} more" if len(others) > LISTED else ""
        return f'"{what}" is ambiguous: {", ".join(others[:LISTED])}{more}'
    if what == "last":
        return f"no trace is kept in {config.data}"
    return (
        f"no trace of {what} is kept in {config.data}: kept are those of mail that was refused, deferred or failed, "
        f"that a rule asked for, and {config.trace.sample:g} of all others, for {config.trace.keep}"
    )
