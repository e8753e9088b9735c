"""`serve`: a master, and in each of its children a worker."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path

from smtpproxy.config.schema import Config
from smtpproxy.server import privileges
from smtpproxy.server.channel import Channel
from smtpproxy.server.generation import Generation
from smtpproxy.server.link import Link
from smtpproxy.server.master import Master
from smtpproxy.server.refused import Refused
from smtpproxy.server.tally import Tally
from smtpproxy.server.worker import Worker


def serve(path: Path, config: Config) -> int:
    """Serve an instance in the foreground until told to stop; the exit status. Raises ``Refused``."""

    def work(generation: Generation, channel: Channel, tally: Tally, banned: Mapping[str, str], first: bool) -> int:
        link = Link(channel, tally)
        config = generation.config
        try:
            privileges.drop(config.user)
            worker = Worker(
                config,
                path=path,
                link=link,
                tally=tally,
                sockets=generation.sockets,
                log=generation.log,
                keys=generation.keys,
                notify=tell if first else lambda _: None,
            )
            for digest, why in banned.items():
                worker.rules.ban(digest, why)
            return worker.run()
        except Refused as refused:
            link.refused(str(refused))
            return 1

    return Master(path, config, work, tell).run()


def tell(line: str) -> None:
    """To whoever has started us."""
    print(line, file=sys.stderr, flush=True)
