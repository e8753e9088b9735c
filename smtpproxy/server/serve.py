"""`serve`: a master, and its children: a gate for the rules, and workers."""

from __future__ import annotations

import sys
from pathlib import Path

import msgspec

from smtpproxy.config.schema import Config
from smtpproxy.scripting.offer import Offer
from smtpproxy.server import privileges
from smtpproxy.server.blame import Blame
from smtpproxy.server.channel import Channel
from smtpproxy.server.gate import Gate
from smtpproxy.server.generation import Generation
from smtpproxy.server.link import Link
from smtpproxy.server.master import Master
from smtpproxy.server.refused import Refused
from smtpproxy.server.tally import Tally
from smtpproxy.server.worker import Worker


def serve(path: Path, config: Config) -> int:
    """Serve an instance in the foreground until told to stop; the exit status. Raises ``Refused``."""

    def become(kind: str, generation: Generation, channel: Channel, tally: Tally, blame: Blame) -> int:
        link = Link(channel, tally)
        try:
            privileges.drop(generation.config.user)
            if kind == "gate":
                gate = Gate(
                    generation.config,
                    path,
                    link,
                    generation.log,
                    refused=blame.refused,
                    shipped=generation.shipped,
                    tell=tell,
                )
                return gate.run()
            return _worker(generation, link, tally, blame).run()
        except Refused as refused:
            link.refused(str(refused))
            return 1

    return Master(path, config, become, tell).run()


def _worker(generation: Generation, link: Link, tally: Tally, blame: Blame) -> Worker:
    worker = Worker(
        generation.config,
        link=link,
        tally=tally,
        sockets=generation.sockets,
        log=generation.log,
        keys=generation.keys,
        shipped=generation.shipped,
        offer=msgspec.convert(generation.offer, Offer),
        notify=tell,
    )
    for digest, why in blame.banned.items():
        worker.rules.ban(digest, why)
    return worker


def tell(line: str) -> None:
    """To whoever has started us."""
    print(line, file=sys.stderr, flush=True)
