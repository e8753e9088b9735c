"""A thread that owns what may wait for a disk. Greenlets ask it; it takes what waits as one batch, so that a sync is paid
once a batch, and the hub never waits for a lock or a disk.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any, Generic, Protocol, TypeVar, cast

import gevent
from gevent.event import AsyncResult
from gevent.monkey import get_original

T = TypeVar("T")


class Question(Generic[T]):
    """What is asked, and where its answer goes. ``error`` is raised at the one who asked."""

    __slots__ = ("answer", "error", "result", "task")

    def __init__(self, task: T) -> None:
        self.task = task
        self.answer: AsyncResult[Any] = AsyncResult()
        self.result: Any = None
        self.error: Exception | None = None


class Work(Protocol[T]):
    """What the thread does."""

    def answer(self, batch: list[Question[T]]) -> None:
        """Sets ``result`` or ``error`` of each. Raises nothing."""

    def close(self) -> None:
        """The end of the thread."""


class _Queue(Protocol[T]):
    """What the thread waits at: a queue of the system's, not gevent's."""

    def put(self, item: Question[T] | None) -> None: ...
    def get(self) -> Question[T] | None: ...
    def empty(self) -> bool: ...


class Owner(Generic[T]):
    """The thread; it begins with the first question.

    A batch is at most ``batch`` questions. When more than ``waiting`` wait, the disk is hopelessly slow, and who asks gets
    ``refusal`` of the reason.
    """

    def __init__(self, work: Work[T], *, batch: int, waiting: int, refusal: Callable[[str], Exception]) -> None:
        self._work = work
        self._batch = batch
        self._limit = waiting
        self._refusal = refusal
        self._questions = cast(_Queue[T], get_original("queue", "SimpleQueue")())
        self._done: deque[Question[T] | None] = deque()
        self._waiting = 0
        self._started = self._closed = False
        self._ended: AsyncResult[None] = AsyncResult()
        self._watcher: Any = None

    def ask(self, task: T) -> Any:
        """The answer; blocks this greenlet only. Raises what the work has set as the error."""
        if self._closed:
            raise self._refusal("it was closed")
        if self._waiting >= self._limit:
            raise self._refusal(f"it is too slow: {self._limit} questions wait")
        if not self._started:
            self._start()
        question = Question(task)
        self._waiting += 1
        self._questions.put(question)
        return question.answer.get()

    def close(self) -> None:
        """What was asked is answered; the work is closed when this returns."""
        self._closed = True
        if self._started:
            self._started = False
            self._questions.put(None)
            self._ended.get()
            self._watcher.stop()
            self._watcher.close()

    def _start(self) -> None:
        self._started = True
        self._watcher = gevent.get_hub().loop.async_()
        self._watcher.start(self._give_answers)
        get_original("_thread", "start_new_thread")(self._own, ())

    def _give_answers(self) -> None:
        """In the hub: the thread has finished a batch."""
        while self._done:
            question = self._done.popleft()
            if question is None:
                self._ended.set(None)
                continue
            self._waiting -= 1
            if question.error is not None:
                question.answer.set_exception(question.error)
            else:
                question.answer.set(question.result)

    # in the thread, from here on

    def _own(self) -> None:
        batch: list[Question[T]] | None = []
        while batch is not None:
            batch = self._next()
            if batch:
                self._work.answer(batch)
                self._done.extend(batch)
                self._watcher.send()
        self._work.close()
        self._done.append(None)
        self._watcher.send()

    def _next(self) -> list[Question[T]] | None:
        """What waits, at least one; None when there will be no more."""
        question = self._questions.get()
        if question is None:
            return None
        batch = [question]
        while len(batch) < self._batch and not self._questions.empty():
            question = self._questions.get()
            if question is None:
                self._questions.put(None)
                break
            batch.append(question)
        return batch
