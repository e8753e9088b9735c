"""The bond of a child with its master: it says that it is ready, beats, and does what it is told."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import gevent
from gevent.socket import wait_read

from smtpproxy.server.channel import Channel
from smtpproxy.server.tally import Tally

BEAT = 0.5
"""Seconds between two beats."""


class Link:
    """A master that is gone means drain."""

    __slots__ = ("_channel", "_greenlets", "_tally")

    def __init__(self, channel: Channel, tally: Tally) -> None:
        self._channel = channel
        self._tally = tally
        self._greenlets: list[gevent.Greenlet[..., None]] = []

    def start(self, orders: Mapping[str, Callable[..., object]]) -> None:
        """`orders` are what the worker does when it is told so, by name: "retire", "drain", "ban"."""
        self._greenlets = [gevent.spawn(self._beat), gevent.spawn(self._obey, orders)]

    def stop(self) -> None:
        gevent.killall(self._greenlets)

    def ready(self) -> None:
        self._channel.send(say="ready")

    def offer(self, offer: Mapping[str, Any]) -> None:
        """A table that the workers may prepare."""
        self._channel.send(say="offer", offer=offer)

    def prepared(self, table: str, why: str) -> None:
        """It can be taken, or why not."""
        self._channel.send(say="prepared", table=table, why=why)

    def refused(self, why: str) -> None:
        self._channel.send(say="refused", why=why)

    def _beat(self) -> None:
        while True:
            self._tally.beat()
            gevent.sleep(BEAT)

    def _obey(self, orders: Mapping[str, Callable[..., object]]) -> None:
        while not self._channel.closed:
            wait_read(self._channel.fileno())
            for message in self._channel.receive():
                orders[message.pop("do")](**message)
        orders["drain"]()
