"""The runtime of one Lua rule, and its lanes: coroutines that run one hook call at a time and are used again.

Three things of the binding must not be forgotten here (lupa 2): what Python pushes into Lua is pushed unprotected, so an
allocation that fails there ends the process; a table or function that comes out is anchored by such an allocation; and
values yielded are moved without a look at the stack's size. So only short runs of scalars cross, and strings only where
there is room for them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NoReturn, cast

import lupa.lua54 as lupa

from smtpproxy.scripting.lua_arena import Arena, wrong
from smtpproxy.scripting.lua_objects import Kinds

BINDING_ERRORS: tuple[type[Exception], ...] = (lupa.LuaError,)

_LANE_MEMORY = 8 << 10
_SLACK = 512 << 10
_IDLE = 64
_NO_ROOM = (None, -4)

_INSTALL = """
local load, dump = load, string.dump
return function(source, ...) return load(dump(load(source, "=rule", "t"), true), "=rule", "b")(...) end
"""
_STRIP = """
for name in string.gmatch("python debug os io package require dofile loadfile load collectgarbage", "%a+") do
  _G[name] = nil
end
"""


class Lane:
    """A coroutine that waits for hook calls, and the objects of the one it runs."""

    __slots__ = ("arena", "send")

    def __init__(self, arena: Arena, send: Callable[[Any], Any]) -> None:
        self.arena = arena
        self.send = send


class Lanes:
    """`idle` are those to be used next, the last one first."""

    __slots__ = ("_base", "_doors", "_file", "_kinds", "_memory", "_out", "_runtime", "_serve", "_shared", "idle", "limit")

    def __init__(
        self, memory: int, kinds: Kinds, doors: Sequence[Callable[..., Any]], shared: Sequence[Any] = (), file: str = ""
    ) -> None:
        self._memory = memory
        self._kinds = kinds
        self._doors = doors
        self._shared = shared
        self._file = file
        self._out = 0
        self._serve: Any = None
        self.idle: list[Lane] = []
        self._runtime: Any = cast(Callable[..., Any], lupa.LuaRuntime)(
            unpack_returned_tuples=True,
            register_eval=False,
            register_builtins=False,
            attribute_filter=_deny,
            max_memory=memory,
            encoding="latin-1",
        )
        self.limit: int = self._runtime.get_max_memory(total=True)
        self._base = self.limit - memory

    def install(self, chunks: Sequence[Callable[[Any], tuple[Any, ...]]]) -> Any:
        """Load our side of Lua: each chunk's source and arguments are made from what the one before returned.

        The first returns the runtime, what the last one returns is returned.
        """
        install = self._runtime.execute(_INSTALL)
        result: Any = None
        for chunk in chunks:
            result = install(*chunk(result))
            self._serve = self._serve or result.serve
        self._runtime.execute(_STRIP)
        return result

    def used(self) -> int:
        """Octets of the heap."""
        return int(self._runtime.get_memory_used(total=True))

    @contextmanager
    def unlimited(self) -> Iterator[None]:
        """For allocations of our own."""
        self._runtime.set_max_memory(0)
        try:
            yield
        finally:
            # lanes come on top of what the script may hold
            self.limit = self._base + self._memory + self._out * _LANE_MEMORY
            self._runtime.set_max_memory(self.limit, total=True)

    def new(self) -> Lane:
        """Raises RuntimeError when the rule was closed."""
        if self._serve is None:
            raise RuntimeError("this version of the rule was closed")
        arena = Arena(self._kinds, self._doors, self._shared, self._file)
        self._out += 1
        with self.unlimited():
            limit = self._base + self._memory + self._out * _LANE_MEMORY
            send = self._serve.coroutine(limit // 1024, *arena.callbacks()).send
            send(None)
        return Lane(arena, send)

    def give_back(self, lane: Lane) -> None:
        """The call is over, the coroutine waits for the next."""
        lane.arena.clear()
        if len(self.idle) < _IDLE and self._serve is not None:
            self.idle.append(lane)
        else:
            self.drop(lane)

    def drop(self, lane: Lane) -> None:
        """The coroutine will not run again: its greenlet was killed, or it died."""
        lane.arena.clear()
        lane.arena.doors = lane.arena.shared = ()
        self._out -= 1

    def close(self) -> None:
        """No new calls; those that wait in a door may end."""
        self._serve = None
        while self.idle:
            self.drop(self.idle.pop())

    def answer(self, arena: Arena) -> tuple[Any, ...]:
        """Wait for what the running call asked. GreenletExit and timeouts pass."""
        assert arena.question is not None
        name, function = arena.question
        arena.question = None
        try:
            given = arena.give(function())
        except Exception as error:
            given = wrong(error, name)
        answer = given if type(given) is tuple else (given,)
        text = sum(len(part) for part in answer if isinstance(part, str | bytes))
        return answer if not text or self._has_room(text) else _NO_ROOM

    def _has_room(self, octets: int) -> bool:
        if self._runtime.get_memory_used(total=True) + octets + _SLACK < self.limit:
            return True
        self._runtime.gccollect()
        return bool(self._runtime.get_memory_used(total=True) + octets + _SLACK < self.limit)


def _deny(thing: object, name: object, setting: bool) -> NoReturn:
    raise AttributeError("no attribute of a host object can be reached")
