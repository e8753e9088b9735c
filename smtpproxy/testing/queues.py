"""A queue whose mail stays where it is, to be looked at."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

from gevent.event import Event

from smtpproxy.queue.ledger import Ledger
from smtpproxy.queue.queue import Queue
from smtpproxy.queue.sender import Sender


class IdleSender:
    """Sends nothing."""

    busy = 0

    def serve(self, ledger: Ledger, wake: Event, *, last: bool = False) -> bool:
        return bool(wake.wait())

    def stop(self) -> None: ...
    def close(self) -> None: ...
    def sweep(self) -> None: ...


def idle_queue(folder: Path, clock: Callable[[], float]) -> Queue:
    """Started, and logging nothing."""

    def log(event: str, **fields: Any) -> None: ...

    queue = Queue(folder, cast(Sender, IdleSender()), clock, log, 3600)
    queue.start()
    return queue
