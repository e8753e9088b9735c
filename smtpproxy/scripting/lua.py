"""Lua rules: a sandboxed runtime for each version of a file, and no greenlet that ever switches under a Lua frame.

A hook call runs as a Lua coroutine (a *lane*). Reads and edits of our objects are callbacks that touch memory only. What
may wait is a *door*: the lane yields, this greenlet waits with no Lua on its C stack, and the answer is sent back. A
greenlet that is killed while it waits drops its lane, and nothing else is touched. The Lua side is `lua_runtime.lua`;
what crosses the border, `lua_arena.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, cast

from smtpproxy.config.problem import did_you_mean
from smtpproxy.facts.surface import SURFACE
from smtpproxy.scripting.hooks import CPU_BUDGET
from smtpproxy.scripting.lua_arena import Arena, Misuse
from smtpproxy.scripting.lua_errors import LuaError, LuaTimeout, failure
from smtpproxy.scripting.lua_lanes import BINDING_ERRORS, Lane, Lanes
from smtpproxy.scripting.lua_objects import Kinds, Names
from smtpproxy.scripting.lua_settings import LuaSettings
from smtpproxy.scripting.lua_values import PLAIN, inflate
from smtpproxy.scripting.verdict import Verdict

__all__ = ["LuaError", "LuaRule", "LuaTimeout"]

MEMORY = 16 << 20
"""Octets that one version of a rule may hold."""
BUDGET = 1_000_000
"""Instructions of one hook call, and of the file's own code; of a call with another CPU budget in proportion."""
STEP = 500
"""Instructions between two looks at the meter."""
SECONDS = CPU_BUDGET
"""CPU time between two doors."""


def _code(*files: str) -> str:
    return "".join(Path(__file__).with_name(file).read_text("ascii") for file in files)


_RUNTIME = _code("lua_runtime.lua", "lua_handles.lua", "lua_together.lua", "lua_lanes.lua")
_PATTERNS = _code("lua_patterns.lua")
_SANDBOX = _code("lua_sandbox.lua")
_DECLARATIONS = ("on_error", "on_timeout", "order")
_NOTHING: Mapping[str, Any] = {}
_UTF8_MARK = b"\xef\xbb\xbf"


class LuaRule:
    """One version of a Lua file. Raises LuaError when it cannot be loaded.

    `ops` are the doors by dotted name ("dns.mx"): they may block. `hooks` take the arguments of the Python hooks and
    return a Verdict or None; they raise LuaError. `objects` are there by name in every call. `metadata` is what the file
    declares: on_error, on_timeout, order, and the settings in effect. `timers` are (interval, once, function) of every().
    """

    def __init__(
        self,
        source: bytes,
        name: str,
        path: str,
        settings: Mapping[str, Any],
        ops: Mapping[str, Callable[..., Any]],
        *,
        objects: Mapping[str, Any] = _NOTHING,
        surface: Mapping[type, Names] = SURFACE,
        memory: int = MEMORY,
        budget: int = BUDGET,
    ) -> None:
        self.name = name
        self.file = Path(path).name
        if len(source) > memory // 8:
            raise LuaError(f"a rule of more than {memory // 8} octets", self.file)
        self._lanes = Lanes(memory, Kinds(surface), tuple(ops.values()), tuple(objects.values()), self.file)
        effective = LuaSettings(settings)
        sandbox = self._sandbox(budget, effective)
        for index, door in enumerate(ops):
            sandbox.define(door, index)
        for index, shared in enumerate(objects):
            sandbox.share(shared, index)
        words = cast(str, sandbox.names())
        hooks = self._load(sandbox, source, words)
        with self._lanes.unlimited():
            declared = {name: value for name in _DECLARATIONS if (value := _declaration(sandbox, name)) is not None}
        if settings and not effective.declared:
            raise LuaError(f"[rule] sets {', '.join(sorted(settings))}, but the file declares no settings", self.file)
        self.metadata: Mapping[str, Any] = {**declared, "settings": effective.values}
        self.hooks: Mapping[str, Callable[..., Verdict | None]] = {
            hook: LuaHook(self._lanes, index, self.file, hook, line, words) for index, hook, line in hooks if hook != "every"
        }
        timers = [LuaHook(self._lanes, index, self.file, hook, line, words) for index, hook, line in hooks if hook == "every"]
        self.timers = tuple((*sandbox.timer(index), function) for index, function in enumerate(timers, 1))

    def used(self) -> int:
        """Octets of its heap."""
        return self._lanes.used()

    def close(self) -> None:
        """No new calls: hooks raise LuaError. Calls that wait in a door end as they would have."""
        self._lanes.close()

    def _sandbox(self, budget: int, settings: LuaSettings) -> Any:
        chunk, limit = f"@{self.file}", self._lanes.limit // 1024
        return self._lanes.install(
            (
                lambda _: (_RUNTIME, chunk, self.file, budget, STEP, SECONDS, limit),
                lambda runtime: (_PATTERNS, runtime),
                lambda runtime: (_SANDBOX, runtime, chunk, _suggestion, settings.settle, settings.flattened),
            )
        )

    def _load(self, sandbox: Any, source: bytes, words: str) -> list[tuple[int, str, int]]:
        try:
            found = sandbox.load(_text(source))
        except BINDING_ERRORS as error:
            raise failure(str(error) or "not enough memory", "", self.file) from None
        if isinstance(found, tuple):
            _, message, frames, over_budget = found
            raise failure(message, frames, self.file, words=words, over_budget=over_budget)
        named = (item.split(":") for item in cast(str, found).split())
        return [(index, hook, int(line)) for index, (hook, line) in enumerate(named, 1)]


class LuaHook:
    """One hook of a Lua rule, to be called as a Python function would be. `line` is where it begins."""

    __slots__ = ("_cpu", "_index", "_lanes", "_words", "file", "line", "name")

    def __init__(
        self, lanes: Lanes, index: int, file: str, name: str, line: int, words: str, cpu: float | None = None
    ) -> None:
        self._cpu = cpu
        self._lanes = lanes
        self._index = index
        self._words = words
        self.file = file
        self.name = name
        self.line = line

    def within(self, cpu: float) -> LuaHook:
        """The same hook with a CPU budget of so many seconds a call."""
        return LuaHook(self._lanes, self._index, self.file, self.name, self.line, self._words, cpu if cpu != SECONDS else None)

    def __call__(self, *arguments: Any) -> Verdict | None:
        lanes = self._lanes
        lane = lanes.idle.pop() if lanes.idle else self._new_lane()
        arena, send = lane.arena, lane.send
        arena.objects = [None, *arguments]
        count = len(arguments)
        for argument in arguments:
            if type(argument) in PLAIN:
                count = -len(arguments)
                break
        try:
            # (): nothing; 0: a door was asked; n: the number of what the hook returned; a tuple: it failed
            answer = send((self._index, count, self._cpu))
            while type(answer) is int and answer == 0:
                answer = send(lanes.answer(arena))
            verdict = None if answer is None else self._verdict(arena, answer)
        except BINDING_ERRORS as error:
            lanes.drop(lane)
            raise self._failure(str(error) or "not enough memory") from None
        except LuaError:
            lanes.give_back(lane)
            raise
        except BaseException:
            lanes.drop(lane)
            raise
        lanes.give_back(lane)
        return verdict

    def _new_lane(self) -> Lane:
        try:
            return self._lanes.new()
        except RuntimeError as error:
            raise LuaError(str(error), self.file) from None

    def _verdict(self, arena: Arena, answer: Any) -> Verdict:
        if type(answer) is tuple:
            _, message, frames, over_budget = answer
            raise self._failure(message, frames, over_budget)
        returned = arena.objects[answer]
        if isinstance(returned, Misuse):
            raise LuaError(str(returned), f"{self.file}:{returned.line or self.line}")
        if not isinstance(returned, Verdict):
            noun = arena.kinds[type(returned)].noun
            raise self._failure(f"{self.name} returned a {noun}, not a verdict")
        return returned

    def _failure(self, message: str, frames: str = "", over_budget: bool = False) -> LuaError:
        return failure(message, frames, self.file, line=self.line, words=self._words, over_budget=over_budget)


def _declaration(sandbox: Any, name: str) -> Any:
    flat = sandbox.get(name)
    return None if flat is None else inflate(flat[0], flat[1:])[0]


def _text(source: bytes) -> str:
    """As Lua's own loader reads a file: without a mark of UTF-8, and a first line with # is a comment."""
    source = source.removeprefix(_UTF8_MARK)
    return ("--" if source.startswith(b"#") else "") + source.decode("latin-1")


def _suggestion(name: str, known: str) -> str:
    return "; " + did_you_mean(name, known.split())
