"""CPU budgets for rules in Python, enforced by taking the hub away from them.

ITIMER_PROF ticks while this process uses the CPU, and only then: a server at rest is not woken. The handler runs in the
hub's thread, on top of whatever code it interrupts, in between two instructions or inside a C function that looks at
signals, a catastrophic regular expression for one.

*Metering.* What the thread has used since the last tick is charged to the hook call that is seen running, less what the
collector took. A call is never charged for more than its own life, nor for what ran while it waited for its turn.

*Turns.* A tick leaves a callback in the hub's queue. As long as that has not run, the hub has been held since; after
SLICE seconds of it a rule gives way to everybody else who is ready. Those that gave way go on one at a time, with a turn
of the hub between any two: a hundred spinning rules hold the hub no longer than one.

*The end.* Over its budget, a call gets CpuTimeout where it stands. Who swallows that gets it again; after STRIKES the
greenlet is *parked*: it is never resumed, and whoever waits for it goes on without it (`Call.abandoned`). At most LIMIT
greenlets are; more are slowed down instead, to a slice a second.

A turn is given, and an exception thrown, only where `stacks.py` says that this is safe; where it never seems to be,
`ambush.py` waits for the rule's next line.
"""

from __future__ import annotations

import atexit
import gc
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from types import CodeType, FrameType
from typing import Any
from weakref import WeakKeyDictionary

import gevent
from greenlet import getcurrent

from smtpproxy.scripting import facade, instance
from smtpproxy.scripting.ambush import Ambush
from smtpproxy.scripting.errand import Errand
from smtpproxy.scripting.errors import CpuTimeout
from smtpproxy.scripting.hooks import CPU_BUDGET
from smtpproxy.scripting.runner import CALL, NEVER, Call, Entry, call_rules
from smtpproxy.scripting.stacks import Stack, innermost, may_write, read, rule_of

TICK = 0.008
SLICE = 0.02
STRIKES = 3
PATIENCE = 5
"""Ticks for which a turn is put off because a file may be locked."""
LIMIT = 100
PAUSE = 0.001
PENALTY = 1.0
ROOM = 100

Log = Callable[..., None]
OnParked = Callable[[Call, Entry, str], None]


class Meter:
    """What one call has used so far, in seconds of CPU time."""

    __slots__ = ("deadline", "entry", "next", "put_off", "strikes", "used")

    def __init__(self, entry: Entry | None, deadline: float) -> None:
        self.entry = entry
        self.deadline = deadline
        self.used = 0.0
        self.strikes = 0
        self.next = 0.0
        self.put_off = 0

    def strike(self) -> None:
        """It was told to stop."""
        self.strikes += 1
        self.next = self.used + SLICE


class Preempted:
    """The greenlets that gave way, in the order in which they go on: one a turn of the hub."""

    __slots__ = ("_hub", "_timer", "_waiting")

    def __init__(self, hub: Any) -> None:
        self._hub = hub
        self._waiting: dict[Any, None] = {}
        self._timer = hub.loop.timer(PAUSE)

    def give_way(self) -> None:
        """Let everybody else run. Raises what is thrown into this greenlet meanwhile."""
        current = getcurrent()
        self._waiting[current] = None
        if not self._timer.active:
            self._timer.start(self._resume)
        try:
            while current in self._waiting:
                self._hub.switch()
        finally:
            self._waiting.pop(current, None)

    def _resume(self) -> None:
        if self._waiting:
            following = next(iter(self._waiting))
            del self._waiting[following]
            following.switch()
        self._timer.stop()
        if self._waiting:
            self._timer.start(self._resume)


class Preemption:
    """Started with the server, in the hub's thread; there it is the only user of SIGPROF.

    `on_parked` is told the call, the entry and the place of a call that was given up, in a greenlet of its own.
    """

    def __init__(self, log: Log, on_parked: OnParked, running: set[Call]) -> None:
        self._log = log
        self._on_parked = on_parked
        self._running = running
        self.parked: list[Any] = []
        """Kept for good: a greenlet that nobody holds is resumed, to end it."""
        self._strangers: WeakKeyDictionary[Any, Meter] = WeakKeyDictionary()
        self._doors_in = frozenset(doors_in())
        self._started = False
        self._ambush = Ambush()

    def start(self) -> None:
        """Meter from now on. Only a process's main thread is told of signals: elsewhere nothing is metered."""
        if self._started or threading.current_thread() is not threading.main_thread():
            return
        self._hub = gevent.get_hub()
        self._preempted = Preempted(self._hub)
        self._last = time.thread_time()
        self._collecting = False
        self._collected = self._since = 0.0
        self._queued = False
        self._limit = sys.getrecursionlimit()
        self._raised = 0
        self._started = True
        gc.callbacks.append(self._collector)
        atexit.register(self.stop)  # the interpreter gives signals back their defaults while it ends
        signal.signal(signal.SIGPROF, self._handle)
        signal.setitimer(signal.ITIMER_PROF, TICK, TICK)

    def stop(self) -> None:
        """Meter no more. SIGPROF is ignored from then on: one may be under way, and its default is to end the process."""
        if self._started:
            self._started = False
            gc.callbacks.remove(self._collector)
            atexit.unregister(self.stop)
            if signal.getsignal(signal.SIGPROF) == self._handle:
                signal.setitimer(signal.ITIMER_PROF, 0)
                signal.signal(signal.SIGPROF, signal.SIG_IGN)

    # -- the handler ---------------------------------------------------------------------------------------------

    def _handle(self, _signal: int, frame: FrameType | None) -> None:
        """With room for itself: the code that it interrupts may be at the end of the stack, by its own making."""
        limit = sys.getrecursionlimit()
        if limit != self._raised:
            self._limit = limit
        self._raised = limit + ROOM
        sys.setrecursionlimit(self._raised)
        try:
            self._tick(frame)
        finally:
            with suppress(RecursionError):  # what stands here is deeper than that: another tick takes it back
                sys.setrecursionlimit(self._limit)

    def _tick(self, frame: FrameType | None) -> None:
        now = time.thread_time()
        spent, self._last, self._collected = now - self._last - self._collected, now, 0.0
        if not self._queued:
            self._queued, self._since = True, now
            self._hub.loop.run_callback(self._turned)
        current = getcurrent()
        if current is self._hub or not self._started:
            return
        self._ambush.lift()
        stack = read(frame, self._doors_in)
        meter = self._meter(current, stack, spent)
        if meter is None:
            return
        if stack.at:
            self._act(meter, stack, frame, now)
        elif self._over(meter):
            self._lie_in_wait(meter, frame)

    def _meter(self, current: Any, stack: Stack, spent: float) -> Meter | None:
        """The meter of what runs, with this tick's time on it; None when no rule is at work."""
        call = CALL.get(None)
        if call is None or call.entry is None or call.deadline == NEVER:
            # also a rule's __str__ or __del__ that we have called, when its hook was over
            return self._stranger(current, call, stack, spent) if stack.stoppable else None
        meter: Meter | None = call.meter
        if meter is None or meter.entry is not call.entry or meter.deadline != call.deadline:
            meter = call.meter = Meter(call.entry, call.deadline)
            spent = min(spent, max(0.0, time.monotonic() - (call.deadline - call.entry.wall)))
        meter.used += spent
        return meter

    def _stranger(self, current: Any, call: Call | None, stack: Stack, spent: float) -> Meter:
        """A greenlet or a thread that a rule began for itself; or a session that runs what a hook has left behind."""
        meter: Meter | None
        if call is not None and stack.base is not None:
            meter = call.meter
            if meter is None or meter.entry is not None:
                meter = call.meter = Meter(None, NEVER)
        elif (meter := self._strangers.get(current)) is None:
            meter = self._strangers[current] = Meter(None, NEVER)
        meter.used += spent
        return meter

    def _over(self, meter: Meter) -> bool:
        budget = CPU_BUDGET if meter.entry is None else meter.entry.cpu
        return meter.used > budget and meter.used >= meter.next

    def _lie_in_wait(self, meter: Meter, frame: FrameType | None) -> None:
        self._ambush.lay(innermost(frame, self._doors_in), meter.strike)

    def _act(self, meter: Meter, stack: Stack, frame: FrameType | None, now: float) -> None:
        over = self._over(meter)
        if over and (meter.strikes < STRIKES or not stack.switchable or not self._may_park(meter)):
            if stack.stoppable:
                meter.strike()
                if meter.entry is None and meter.strikes == 1:
                    self._tell_stranger("rule_failed", stack)
                raise CpuTimeout
            self._lie_in_wait(meter, frame)
        if not self._safe(meter, stack, frame, now):
            return
        if over and meter.strikes >= STRIKES and len(self.parked) < LIMIT:
            self._park(meter, stack)
        self._preempted.give_way()
        if over and meter.strikes >= STRIKES:
            gevent.sleep(PENALTY)
        self._last = time.thread_time()

    def _safe(self, meter: Meter, stack: Stack, frame: FrameType | None, now: float) -> bool:
        """Whether the hub was held for long, and may be given to others here."""
        if not stack.switchable or self._collecting or now - self._since < SLICE - TICK:
            return False
        if frame is not None and may_write(frame) and meter.put_off < PATIENCE:
            meter.put_off += 1
            return False
        meter.put_off = 0
        return True

    def _turned(self) -> None:
        """The hub has come round."""
        self._queued = False

    def _collector(self, phase: str, _: object) -> None:
        if phase == "start":
            self._collecting, self._began = True, time.thread_time()
        else:
            self._collecting = False
            self._collected += time.thread_time() - self._began

    # -- parking -------------------------------------------------------------------------------------------------

    def _may_park(self, meter: Meter) -> bool:
        """Whether there is somebody to go on in place of this greenlet."""
        if meter.entry is None:
            return True
        call = CALL.get()
        return call.abandoned is not None or call.greenlet is not getcurrent()

    def _park(self, meter: Meter, stack: Stack) -> None:
        """Does not return."""
        self.parked.append(getcurrent())
        if meter.entry is None:
            self._tell_stranger("rule_parked", stack)
        else:
            self._take_over(CALL.get(), meter.entry, stack)
        while True:
            try:
                self._hub.switch()
            except BaseException:  # whoever wants to end it cannot: it would go on where it spins
                continue

    def _take_over(self, call: Call, entry: Entry, stack: Stack) -> None:
        gevent.spawn_raw(self._on_parked, call, entry, stack.at)
        if call.greenlet is not getcurrent():  # one of together(): the hook waits for it, and fails
            self._hub.loop.run_callback(call.greenlet.throw, CpuTimeout)
            return
        call.entry, call.deadline = None, NEVER
        self._running.discard(call)
        assert call.abandoned is not None
        gevent.spawn_raw(call.abandoned)

    def _tell_stranger(self, event: str, stack: Stack) -> None:
        rule, version = rule_of(stack.module)
        error = f"Timeout: {CpuTimeout.why}, in a greenlet of its own"
        gevent.spawn_raw(self._log, event, level="error", rule=rule, version=version, hook="", at=stack.at, error=error)


def doors_in() -> Iterator[CodeType]:
    """The functions of ours that call rules directly and do nothing else meanwhile."""
    yield call_rules.__code__
    yield Errand.run.__code__
    yield instance.run_python.__code__
    for function in (facade.together, facade.Timer._run_once):
        yield from (it for it in function.__code__.co_consts if isinstance(it, CodeType) and it.co_name == "run")

