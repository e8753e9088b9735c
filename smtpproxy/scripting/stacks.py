"""Whose code runs: what a signal handler can tell from the frames it interrupts.

Greenlets may change, and an exception may be thrown in, only where no code but a rule's is half way through something.
What was looked at, and why it is or is not safe in between two instructions of Python, or inside a C function that looks
at signals (`re`, long integers, `repr`, a write that was interrupted):

- Code of ours and of gevent is written for switches at its own places, not for one at any place: never. So is code of
  Lua, which shows as the frame of ours that called it.
- Facts, and what they are made of, belong to one mail and know of no greenlets: a turn may be given in the middle. But
  nothing is thrown into them, they would be half changed.
- `importlib` holds a module's lock while the module's code runs. Another greenlet that imports it would wait for a lock
  of a greenlet that waits for its turn, which is sound, but in 3.12 these locks know threads and not greenlets: never.
- `threading` and `logging` keep state that is changed under locks by steps: never.
- The rest of the standard library locks with locks that gevent has replaced, in `with` statements: whoever wants one
  that a preempted rule holds waits for it as for any other lock. `re`, `json`, `functools.lru_cache` have none.
- A buffered file is locked by C code that looks at signals inside `write` and `flush`; another greenlet that writes to
  it meanwhile gets a RuntimeError. Where a function that writes may be at it, turns are put off for some ticks.
- A cyclic collection that is interrupted in a finalizer is half done, and none would ever begin again: never.
- `list.sort` with a key, `sum` over a generator and the like hold what is the rule's own, as with threads.
"""

from __future__ import annotations

import threading
from dis import opname
from types import CodeType, FrameType
from typing import NamedTuple

from smtpproxy.scripting.failure import MODULE_PREFIX

_PURE = ("smtpproxy.facts.", "smtpproxy.wire.", "smtpproxy.message.", "smtpproxy.scripting.verdict")
_FILES = "smtpproxy.message.body"
"""A stored message is a file with one place for all who read it."""
_HOST = ("smtpproxy", "gevent", "greenlet", "lupa")
_LOCKING = ("importlib._bootstrap", "_frozen_importlib", "threading", "logging")
_WRITERS = frozenset({"write", "writelines", "flush", "print", "dump", "writerow", "writerows", "seek", "truncate"})
_DEEP = 5000
"""Frames that are looked at; whoever is deeper in recursion gets no turn, he is stopped."""


class Stack(NamedTuple):
    """What stands on it. `at` is "file:line" of the innermost frame of a rule, `module` the name of its module.

    `stoppable`: an exception may be thrown in, the innermost code is the rule's or was called by it. `switchable`: and all
    below it, down to `base`, the host code that called the rule (None: nobody of ours, a greenlet that a rule began).
    """

    at: str = ""
    module: str = ""
    stoppable: bool = False
    switchable: bool = False
    base: CodeType | None = None


NOBODY = Stack()


def read(frame: FrameType | None, doors_in: frozenset[CodeType]) -> Stack:
    """What is on this stack. `doors_in` are the functions of ours that call rules, and nothing else, directly."""
    at = module = ""
    alone = own = True
    for _ in range(_DEEP):
        if frame is None:
            return Stack(at, module, own, alone) if at else NOBODY
        name = frame.f_globals.get("__name__")
        if type(name) is str:
            if not at and name.startswith(MODULE_PREFIX):
                at, module = place(frame), name
            elif name.startswith(_PURE) and name != _FILES:
                own = own and bool(at)
            elif name.startswith(_HOST) or (name.startswith(_LOCKING) and frame.f_code is not THREAD):
                if not at:
                    return NOBODY
                if frame.f_code in doors_in:
                    return Stack(at, module, own, alone, frame.f_code)
                alone = False
            elif frame.f_code is THREAD and at:
                return Stack(at, module, own, alone)
        frame = frame.f_back
    return Stack(at, module, own, False) if at else NOBODY


def innermost(frame: FrameType | None, doors_in: frozenset[CodeType]) -> FrameType | None:
    """The frame of a rule in which one of our functions was called; None when none has called."""
    for _ in range(_DEEP):
        if frame is None or frame.f_code in doors_in:
            return None
        if str(frame.f_globals.get("__name__")).startswith(MODULE_PREFIX):
            return frame
        frame = frame.f_back
    return None


THREAD: CodeType = threading.Thread.run.__code__
"""The bottom of a thread, which is a greenlet: a rule may begin one."""


def place(frame: FrameType) -> str:
    """ "file:line" of what this frame runs."""
    return f"{frame.f_code.co_filename.rpartition('/')[2]}:{frame.f_lineno}"


def may_write(frame: FrameType) -> bool:
    """Whether the innermost frame may be inside a C function that holds a file's lock."""
    code = frame.f_code
    return not _WRITERS.isdisjoint(code.co_names) and "CALL" in opname[code.co_code[frame.f_lasti]]


def rule_of(module: str) -> tuple[str, str]:
    """Name and version of the rule that a module is an instance of: ("20-users", "0123456789ab")."""
    version, _, name = module.removeprefix(MODULE_PREFIX).partition(":")
    return name, version
