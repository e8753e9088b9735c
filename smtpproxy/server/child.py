"""A process of the master's: what the master knows of it, and its own first steps."""

from __future__ import annotations

import faulthandler
import os
import signal
import sys
import tempfile
import traceback
from collections.abc import Callable
from contextlib import suppress
from enum import Enum
from pathlib import Path
from typing import Any, NoReturn

from gevent.monkey import get_original

from smtpproxy.server.channel import Channel, pair
from smtpproxy.server.pulse import Pulse

STACK_SIGNAL = signal.SIGUSR1
"""Has a child write down what it is at, also from the middle of a C call."""


class State(Enum):
    STARTING = "starting"
    READY = "ready"
    RETIRING = "retiring"
    """Lets nobody in any more; its sessions go on."""
    DRAINING = "draining"


class Child:
    """One forked process. `began` and `beaten` are monotonic seconds; `stack` is where it writes what it was at."""

    __slots__ = (
        "beaten", "beats", "began", "channel", "column", "generation", "kind", "pid", "problem", "pulse",
        "stack", "state", "table",
    )  # fmt: skip

    def __init__(self, kind: str, pid: int, channel: Channel, column: int, generation: Any, stack: Any, now: float) -> None:
        self.kind = kind
        """ "worker" or "gate"."""
        self.table = ""
        """The hash of the rules that it runs."""
        self.problem = ""
        """Why it cannot serve, in its own words."""
        self.pid = pid
        self.channel = channel
        self.column = column
        self.generation = generation
        self.stack = stack
        self.state = State.STARTING
        self.began = self.beaten = now
        self.beats = 0
        self.pulse = Pulse.of(pid)
        """When its heart last beat."""

    def kill(self, number: int) -> None:
        """It may be gone already: who waits for it finds out."""
        with suppress(ProcessLookupError):
            os.kill(self.pid, number)

    def last_words(self) -> str:
        """What it had written of its stack; empty for a process that ended in order."""
        self.stack.seek(0)
        return str(self.stack.read())

    def close(self) -> None:
        self.channel.close()
        self.stack.close()


def fork(kind: str, column: int, generation: Any, now: float, run: Callable[[Channel], int]) -> Child:
    """Have ``run`` called in a process of its own, with its end of the channel; what it returns is the exit status."""
    ours, theirs = pair()
    stack = tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace")  # noqa: SIM115 - the child writes it, the master reads it
    sys.stdout.flush()
    sys.stderr.flush()
    pid = get_original("os", "fork")()
    if pid:
        theirs.close()
        return Child(kind, pid, ours, column, generation, stack, now)
    end, status = os._exit, 1
    try:
        ours.close()
        _settle(kind, stack)
        status = run(theirs)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        end(status)


def _settle(kind: str, stack: Any) -> None:
    """The master's signals are not ours; what kills us leaves our stack behind; ps shows what we are."""
    with suppress(OSError):
        Path("/proc/self/comm").write_text(f"smtp-{kind}")
    signal.set_wakeup_fd(-1)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR2):
        signal.signal(number, signal.SIG_IGN)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    faulthandler.enable(stack, all_threads=False)
    faulthandler.register(STACK_SIGNAL, stack, all_threads=False)
    end = os._exit

    def tell_and_end(status: int) -> NoReturn:
        faulthandler.dump_traceback(stack, all_threads=False)
        end(status)

    os._exit = tell_and_end  # nobody but a rule ends a worker in this way
