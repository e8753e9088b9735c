"""`smtpproxy run FILE.eml`: what the rules would do with a message, told as `smtpproxy try` and `explain` tell it.

A real session goes through all hooks, from on_connect on, with all rules of the configuration or those named by --rule.
Nothing is handed on, nothing is kept: the store is an empty one in memory, sleep() does not wait. DNS, web servers and
scanners are asked with --live only; without it the DNS is what --dns says, and the others cannot be reached.
"""

from __future__ import annotations

import argparse
import ipaddress
import json
import sys
import time
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from smtpproxy.cli.instance import HERE
from smtpproxy.cli.send import address
from smtpproxy.cli.try_it import looked_at
from smtpproxy.config.problem import ConfigErrors, did_you_mean
from smtpproxy.message.rendering import with_crlf

if TYPE_CHECKING:
    from smtpproxy.facts.client import Client
    from smtpproxy.scripting.loader import Rules
    from smtpproxy.session.services import Entrance
    from smtpproxy.testing.rehearsal import Played

CLIENT = "192.0.2.1"
Doors = dict[str, Any]


class Unusable(Exception):
    """What was asked for cannot be done; str() says why."""


def add(subparsers: Any) -> None:
    parser = subparsers.add_parser(
        "run",
        help="say what the rules would do with a message",
        description=__doc__,
        epilog="Exits with 0 when the message was accepted for everybody, 1 when not, 2 when it could not be run.",
    )
    option = parser.add_argument
    option("file", metavar="FILE.eml", help="the message; - for standard input")
    option("-r", "--rule", action="append", default=[], metavar="RULE", help="only this one, a name or a file; may be repeated")
    option("-f", "--from", dest="sender", default="sender@example.com", metavar="ADDRESS", help='"" for the null sender')
    option("-t", "--to", action="append", metavar="ADDRESS", help="may be repeated; default postmaster@example.com")
    option("--client", default=CLIENT, metavar="ADDRESS[:NAME]", help=f"[ADDRESS]:NAME for IPv6; default {CLIENT}")
    option("--helo", default="client.example", metavar="NAME")
    option("--login", metavar="USER", help="the client has logged in")
    option("--listener", metavar="NAME", help="where it comes in; default: the first one")
    option("--config", type=Path, default=HERE, metavar="FILE-OR-FOLDER", help="the configuration (default: the current folder)")
    option("--dns", type=Path, metavar="FILE", help='what the DNS answers, TOML or JSON: ["example.com"] MX = [[10, "mx"]]')
    option("--live", action="store_true", help="really ask DNS, web servers and scanners")
    option("--show", action="store_true", help="print the message as it would go on")
    parser.set_defaults(folder=None)


def run(args: argparse.Namespace) -> int:
    try:
        trial = Trial(args)
        played = trial.play()
    except (Unusable, ConfigErrors, OSError, ValueError) as error:
        print(f"smtpproxy run: {error}", file=sys.stderr)
        return 2
    for line in trial.told(played):
        print(line)
    if args.show:
        print("\nthe message:", flush=True)
        for letter in list(played.letters.values())[:1]:
            sys.stdout.buffer.write(letter.content)
    return 0 if all(reply.code < 400 for _, reply in played.replies) else 1


class Trial:
    """One dry run. Raises Unusable, ConfigErrors, OSError, ValueError for what cannot be run."""

    def __init__(self, args: argparse.Namespace) -> None:
        self.args = args
        self.config = looked_at(args)
        self.notes: list[str] = []
        self.message = self._read(args.file)
        self.sender = str(address(args.sender)) if args.sender.strip("<>") else ""
        self.recipients = [str(address(word)) for word in args.to or ["postmaster@example.com"]]
        self.listener = self._listener(args.listener)

    def _read(self, file: str) -> bytes:
        octets = sys.stdin.buffer.read() if file == "-" else Path(file).read_bytes()
        message = with_crlf(octets)
        if message != octets:
            self.notes.append("lines that did not end with CRLF were taken as if they did")
        return message

    def _listener(self, name: str | None) -> str:
        known = self.config.listener
        if name is not None and name not in known:
            raise Unusable(f'there is no [listener.{name}]; {did_you_mean(name, known)}'.rstrip("; "))
        return name or next(iter(known))

    def play(self) -> Played:
        """Have it gone through."""
        from smtpproxy.server import build
        from smtpproxy.testing.rehearsal import Muted, Rehearsal

        config = self.config
        self.doors = self._doors()
        self.rules = rules = self._loaded()
        endpoint = config.listener[self.listener].bind[0]
        entrance = build.entrance(config, self.listener, endpoint.host, endpoint.port)
        outlets = Muted({name: handoff.kind for name, handoff in config.handoff.items()}, all=True)
        rehearsal = Rehearsal(
            rules, self.doors, now=time.time, entrance=entrance, outlets=outlets, relaying=config.relaying, limits=config.limits
        )
        rules.budget.start()
        try:
            return rehearsal.play(self._client(entrance), self.sender, self.recipients, self.message)
        finally:
            rules.stop()

    # -- what goes in ------------------------------------------------------------------------------------------------

    def _loaded(self) -> Rules:
        """All rules of the listener, or those that were named."""
        from smtpproxy.scripting.errors import FolderRefused
        from smtpproxy.scripting.loader import Rules
        from smtpproxy.server.build import around_rules

        config = self.config
        listeners, handoffs = around_rules(config)
        folder, tables = chosen(self.args.rule, config.scripts.folder, config.rule)
        if self.args.rule:
            listeners = {self.listener: ()}
        rules = Rules(folder, tables, listeners, log=self.doors["log"], handoffs=handoffs, doors=self.doors)
        try:
            problems = rules.load().problems
        except FolderRefused as refused:
            raise Unusable(str(refused)) from None
        if problems:
            rules.stop()
            raise Unusable("\n".join(map(str, problems)))
        if not rules.table.chains[self.listener].by_name:
            self.notes.append(f"no rule runs at the listener {self.listener}; {folder} was looked at")
        return rules

    def _doors(self) -> Doors:
        from smtpproxy.dns.resolver import DnsResolver
        from smtpproxy.dns.zone import Zone
        from smtpproxy.server import build
        from smtpproxy.stores.memory import MemoryStore
        from smtpproxy.testing.doors import Outbox

        self.given = answers(self.args.dns) if self.args.dns else {}
        live = self.args.live and not self.given
        self.zone = Zone(self.given)
        doors = build.doors(self.config, DnsResolver() if live else self.zone, lambda *_, **__: None)
        doors |= {"store": MemoryStore(), "sleep": lambda seconds: None, "submit": Outbox()}
        return doors if self.args.live else doors | {"http": NotAsked(), "clamav": NotAsked()}

    def _client(self, entrance: Entrance) -> Client:
        from smtpproxy.dns.resolver import reverse_name
        from smtpproxy.facts.client import Client

        host, name = client(self.args.client)
        peer = Client("dry", host, 0, entrance.facts, lambda it: reverse_name(self.doors["dns"], it))
        peer.take_identity(helo=self.args.helo, login=self.args.login)
        if name:
            peer.take_identity(name=name)
        peer.trusted = host in self.config.relaying.networks
        return peer

    # -- what comes out ----------------------------------------------------------------------------------------------

    def told(self, played: Played) -> Iterator[str]:
        """The answer, the story, the edits, where it would go, and what to know of this run."""
        from smtpproxy.scripting.kept import answer, retold
        from smtpproxy.testing.run import difference, without_received

        kept = played.kept(self.rules.library.hiding)
        yield from answer(kept)
        yield ""
        yield from retold(kept)[1:]
        for letter in list(played.letters.values())[:1]:
            edits = difference(self.message, without_received(letter.content))
            yield from ["", edits] if edits else ["", "no edits"]
        for name, letter in played.letters.items():
            yield f"would go to {', '.join(f'<{rcpt}>' for rcpt in letter.recipients)} by the hand-off {name}"
        yield from (f"note: {note}" for note in (*self.notes, *self._unknown()))

    def _unknown(self) -> Iterator[str]:
        """What the DNS was asked in vain."""
        known = {name.rstrip(".").lower() for name in self.given}
        asked = dict.fromkeys(f"{name} {type}" for name, type in self.zone.asked if name not in known)
        if asked:
            yield f"these were answered with NXDOMAIN: {', '.join(asked)} (--dns FILE gives answers, --live asks)"


class NotAsked:
    """In place of web servers and scanners."""

    def fetch(self, request: Any) -> Any:
        from smtpproxy.net.http import HttpError

        raise HttpError(f"{request.url} is not asked in a dry run without --live")

    def scan(self, content: Any, size: int) -> Any:
        from smtpproxy.facts.scan import ScanError

        raise ScanError("no scanner is asked in a dry run without --live")

    def ping(self) -> bool:
        return False

    def version(self) -> str:
        return str(self.scan(None, 0))


def chosen(words: Sequence[str], folder: Path, tables: Mapping[str, Any]) -> tuple[Path | None, Mapping[str, Any]]:
    """The folder of the rules named, and the settings with which they and no others run; without names as it is.

    Raises Unusable.
    """
    if not words:
        return folder, tables
    from smtpproxy.scripting import bundled
    from smtpproxy.testing.finding import files, find

    try:
        found = [Path(word).resolve() if Path(word).is_file() else find(folder, word).resolve() for word in words]
    except LookupError as error:
        raise Unusable(error.args[0]) from None
    folders = {file.parent for file in found} - {bundled.FOLDER}
    if len(folders) > 1:
        raise Unusable(f"rules that run together lie in one folder, not in {', '.join(map(str, sorted(folders)))}")
    place = folders.pop() if folders else None
    names = [file.stem for file in found]
    others = {file.stem: {"enabled": False} for file in files(place) if file.parent == place} if place else {}
    return place, others | {name: {**tables.get(name, {}), "enabled": True} for name in names}


def answers(file: Path) -> Mapping[str, Any]:
    """The zone that a file holds. Raises OSError, ValueError."""
    text = file.read_text("utf-8")
    try:
        zone = json.loads(text) if file.suffix == ".json" else tomllib.loads(text)
    except ValueError as error:
        raise ValueError(f"{file}: {error}") from None
    if not isinstance(zone, dict) or not all(isinstance(types, dict) for types in zone.values()):
        raise ValueError(f'{file}: a table for each name is expected: ["example.com"] MX = [[10, "mx.example.com"]]')
    return zone


def client(text: str) -> tuple[str, str]:
    """Address and host name, "192.0.2.1:host.example". Raises ValueError."""
    for host, _, name in ((text, "", ""), text.rpartition(":")):
        with suppress(ValueError):
            return str(ipaddress.ip_address(host.strip("[]"))), name
    raise ValueError(f"--client {text}: an IP address is expected, or ADDRESS:NAME")
