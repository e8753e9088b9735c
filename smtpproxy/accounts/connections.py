"""Connections to a server that answers questions: a few, each lent to one greenlet at a time, opened anew when they died."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Generic, Protocol, TypeVar

import gevent
from gevent.lock import BoundedSemaphore


class Closable(Protocol):
    def close(self) -> object: ...


C = TypeVar("C", bound=Closable)
T = TypeVar("T")


class Unanswered(Exception):
    """There is no answer; str() says why."""


@contextmanager
def within(seconds: float) -> Iterator[None]:
    """Raises ``Unanswered`` when it takes longer; 0 is for ever. Libraries that catch every Exception do not catch this."""
    timer = gevent.Timeout.start_new(seconds or None)
    try:
        yield
    except gevent.Timeout as late:
        if late is not timer:
            raise
        late.__traceback__ = None  # its frames hold what was given up, and so its sockets, until the next collection
        raise Unanswered(f"no answer within {seconds:g} s") from None
    finally:
        timer.close()


class Connections(Generic[C]):
    """`open_one` makes one; `lost` are the exceptions that say that a connection is no good any more.

    `timeout`, in seconds, is for one question: waiting for a connection, opening it, the answer.
    """

    def __init__(self, open_one: Callable[[], C], lost: tuple[type[Exception], ...], most: int, timeout: float) -> None:
        self._open = open_one
        self._lost = lost
        self._room = BoundedSemaphore(max(1, most))
        self._timeout = timeout
        self._resting: list[C] = []

    def ask(self, question: Callable[[C], T]) -> T:
        """What `question` returns or raises. Raises ``Unanswered`` when no connection could be had, or all were lost.

        A connection that had rested may have died there: the question is then put to a fresh one, so it must only read.
        """
        with within(self._timeout), self._room:
            try:
                if self._resting:
                    with suppress(*self._lost):
                        return self._put(question, self._resting.pop())
                    self.close()
                return self._put(question, self._open())
            except self._lost as error:
                raise Unanswered(_words(error)) from None

    def close(self) -> None:
        """Close those that rest."""
        resting, self._resting = self._resting, []
        for connection in resting:
            self._drop(connection)

    def _put(self, question: Callable[[C], T], connection: C) -> T:
        try:
            answer = question(connection)
        except BaseException:  # a timeout, too: an answer that comes later would be taken for another question's
            self._drop(connection)
            raise
        self._resting.append(connection)
        return answer

    def _drop(self, connection: C) -> None:
        with suppress(*self._lost, OSError):
            connection.close()


def _words(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
