"""A configuration with everything that must be had before privileges are dropped: sockets, keys, the log, the data folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from smtpproxy.config.schema import Config
from smtpproxy.scripting import bundled
from smtpproxy.server.build import data_folder
from smtpproxy.server.keys import Keys
from smtpproxy.server.logs import Log
from smtpproxy.server.refused import Refused
from smtpproxy.server.sockets import Sockets


class Generation:
    """One configuration, its keys, and the sockets it is served on."""

    __slots__ = ("config", "keys", "log", "offer", "problem", "shipped", "sockets")

    def __init__(self, config: Config, keys: Keys, sockets: Sockets, log: Log) -> None:
        self.config = config
        self.keys = keys
        self.sockets = sockets
        self.log = log
        self.shipped = bundled.sources()
        """The rules that come with smtpproxy, read while we can: the user that serves may not look into our package."""
        self.offer: dict[str, Any] | None = None
        """The table of rules that its workers run; None while its gate makes the first one."""
        self.problem = ""
        """Why it cannot serve."""

    @property
    def table(self) -> str:
        """The hash of that table; "" before there is one."""
        return self.offer["table"] if self.offer else ""


def open_log(config: Config) -> Log:
    """Opened before privileges are dropped; all workers of a generation write to it. Raises ``Refused``."""
    try:
        return Log(config.log)
    except OSError as error:
        raise Refused(f"cannot write the log: {error}") from None


def made_folder(config: Config) -> Path:
    """Raises ``Refused``."""
    try:
        return data_folder(config)
    except OSError as error:
        raise Refused(str(error)) from None
