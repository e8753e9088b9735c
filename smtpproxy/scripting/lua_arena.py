"""The objects of one hook call, by number, and what Lua asks about them.

An arena belongs to one lane and is empty between two calls. Its methods are called back from Lua, under Lua frames:
they touch memory only, never switch greenlets and never raise. Each answers `value`, or (None, number): the number of
an object, or

    0, text     an error, raised at the script's line
    -1, name    a method
    -2          the answer may have to wait: the question is laid down, the lane yields to its driver
    -3, size    a large value, to be fetched by `take` when there is room for it
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

from smtpproxy.scripting.lua_objects import Kind, Kinds, NotReadable
from smtpproxy.scripting.lua_together import Gathering
from smtpproxy.scripting.lua_values import PLAIN, from_lua, inflate, plain_to_lua, to_lua
from smtpproxy.scripting.verdict import Verdict, accept, close, defer, deny

Answer = Any
Question = tuple[str, Callable[[], Any]]

LARGE = 1 << 16
"""Octets above which a value is taken rather than given."""

_TOLD = 500
_MAKERS: dict[str, Callable[..., Verdict]] = {"accept": accept, "deny": deny, "defer": defer, "close": close}


class Misuse(Exception):
    """A verdict that cannot be made; stands in its place until the hook returns it. `line` is that of the call."""

    def __init__(self, text: str, line: int) -> None:
        super().__init__(text)
        self.line = line


class Arena:
    """See the module. `objects[0]` is never used: numbers begin at 1."""

    __slots__ = ("doors", "file", "gatherings", "kinds", "large", "numbers", "objects", "question", "shared")

    def __init__(
        self, kinds: Kinds, doors: Sequence[Callable[..., Any]], shared: Sequence[Any] = (), file: str = ""
    ) -> None:
        self.file = file
        self.kinds = kinds
        self.doors = doors
        self.shared = shared
        self.objects: list[Any] = []
        self.numbers: dict[int, int] | None = None
        self.question: Question | None = None
        self.large: Any = None
        self.gatherings: list[Gathering] | None = None

    def clear(self) -> None:
        """The call is over: nothing of it is kept."""
        self.objects = []
        self.numbers = self.question = self.large = None
        if self.gatherings is not None:
            for gathering in self.gatherings:
                gathering.end()
            self.gatherings = None

    def number(self, thing: Any) -> int:
        """The same object has the same number for the whole call."""
        numbers = self.numbers
        if numbers is None:
            numbers = self.numbers = {id(known): n for n, known in enumerate(self.objects) if n}
        found = numbers.get(id(thing))
        if found is None:
            self.kinds[type(thing)]
            self.objects.append(thing)
            found = numbers[id(thing)] = len(self.objects) - 1
        return found

    def give(self, value: Any) -> Answer:
        """A value as an answer. Raises TypeError and ValueError for what Lua cannot have."""
        if type(value) not in PLAIN and not isinstance(value, str | int | float):
            return None, self.number(value)
        value = plain_to_lua(value)
        if isinstance(value, str | bytes) and len(value) > LARGE:
            self.large = value
            return None, -3, len(value)
        return value

    def _ask(self, name: str, function: Callable[[], Any]) -> Answer:
        self.question = name, function
        return None, -2

    # callbacks, from here on

    def fact(self, number: int, key: str | float) -> Answer:
        """`object[key]`"""
        try:
            thing = self.objects[number]
            kind = self.kinds[type(thing)]
            reads = kind.reads
            if key not in reads:
                return self._unusual(kind, thing, from_lua(key))
            value = reads[key](thing)  # type: ignore[index]
            if type(value) is str and len(value) < LARGE and value.isascii():
                return value
            return self.give(value)
        except Exception as error:
            return wrong(error)

    def _unusual(self, kind: Kind, thing: Any, key: str | float) -> Answer:
        if key in kind.calls:
            return None, -1, key
        if key in kind.lazy:
            if not kind.known(thing, str(key)):
                return self._ask(f"{kind.noun}.{key}", partial(getattr, thing, str(key)))
            return self.give(getattr(thing, str(key)))
        return self.give(kind.read(thing, key))

    def edit(self, number: int, key: str | float, spec: str | None, *values: Any) -> Answer:
        """`object[key] = value`"""
        try:
            thing = self.objects[number]
            (value,) = inflate(spec, values, self.objects) or (None,)
            self.kinds[type(thing)].write(thing, from_lua(key), value)
        except Exception as error:
            return wrong(error)
        return None

    def call(self, number: int, name: str, spec: str | None, *values: Any) -> Answer:
        """`object:name(...)`"""
        try:
            thing = self.objects[number]
            kind = self.kinds[type(thing)]
            function = bound(kind.method(thing, name), spec, values, self.objects)
            if name in kind.lazy:
                return self._ask(f"{kind.noun}:{name}", function)
            return self.give(function())
        except Exception as error:
            return wrong(error)

    def ask(self, index: int, name: str, spec: str | None, *values: Any) -> Answer:
        """A door: `name` is what the script calls it."""
        try:
            return self._ask(name, bound(self.doors[index], spec, values, self.objects))
        except Exception as error:
            return wrong(error)

    def take(self) -> Answer:
        """The large value that was announced."""
        value, self.large = self.large, None
        return value

    def plain(self, number: int) -> Answer:
        """A hook's argument that is no object."""
        try:
            return self.give(self.objects[number])
        except Exception as error:
            return wrong(error)

    def text(self, number: int) -> Answer:
        """`tostring(object)`"""
        try:
            thing = self.objects[number]
            return self.give(self.kinds[type(thing)].text(thing))
        except Exception as error:
            return wrong(error)

    def length(self, number: int) -> Answer:
        """`#object`"""
        try:
            thing = self.objects[number]
            return self.kinds[type(thing)].length(thing)
        except Exception as error:
            return wrong(error)

    def items(self, number: int) -> Answer:
        """`pairs(object)`: the number of a snapshot."""
        try:
            thing = self.objects[number]
            return None, self.number(self.kinds[type(thing)].items(thing))
        except Exception as error:
            return wrong(error)

    def pair(self, number: int, at: int) -> Answer:
        """Key, then value or number, of one item of a snapshot; nothing behind the last."""
        try:
            items = self.objects[number]
            if at > len(items):
                return None
            key, value = items[at - 1]
            answer = self.give(value)
            return (plain_to_lua(key), *answer) if type(answer) is tuple else (plain_to_lua(key), answer)
        except Exception as error:
            return (0, *wrong(error))

    def advance(self, number: int) -> Answer:
        """The next item of an iterator: `for x in object do`."""
        try:
            thing = self.objects[number]
            if not isinstance(thing, Iterator):
                raise TypeError(f"a {self.kinds[type(thing)].noun} cannot be called")
            return self.give(next(thing, None))
        except Exception as error:
            return wrong(error)

    def same(self, left: int, right: int) -> bool:
        """`object == object`"""
        return bool(self.objects[left] == self.objects[right])

    def verdict(self, kind: str, line: int, text: str, code: Any, relay: bool, misuse: str | None) -> int:
        """The number of a verdict, or of what is wrong with it."""
        made: Verdict | Misuse
        try:
            if misuse is not None:
                raise ValueError(from_lua(misuse))
            options = {} if code is None else {"code": code}
            made = _MAKERS[kind](from_lua(text), **options, **({"relay": True} if relay else {}))
            made.made_at(line, self.file)
        except (TypeError, ValueError) as error:
            made = Misuse(f"{kind}: {error}", line)
        self.objects.append(made)
        return len(self.objects) - 1

    def share(self, index: int) -> Answer:
        """An object that is there in every call."""
        try:
            return None, self.number(self.shared[index])
        except Exception as error:
            return wrong(error)

    def gather(self) -> int:
        """A `together()` begins: its number."""
        if self.gatherings is None:
            self.gatherings = []
        self.gatherings.append(Gathering())
        return len(self.gatherings) - 1

    def park(self, group: int, index: int) -> None:
        """The question that was laid down is that of function `index`."""
        if self.gatherings is not None and self.question is not None:
            self.gatherings[group].park(index, *self.question)
            self.question = None

    def join(self, group: int) -> None:
        """Lay down the question which of the functions may go on."""
        if self.gatherings is not None:
            self._ask("together", self.gatherings[group].wait)

    def settled(self, group: int, index: int) -> Answer:
        """The answer to the question of function `index`."""
        try:
            assert self.gatherings is not None
            name, value, error = self.gatherings[group].take(index)
            return wrong(error, name) if error is not None else self.give(value)
        except Exception as error:
            return wrong(error)

    def scatter(self, group: int) -> None:
        """One function has failed: nobody waits for the others."""
        if self.gatherings is not None:
            self.gatherings[group].end()

    def callbacks(self) -> tuple[Callable[..., Any], ...]:
        """In the order in which the runtime takes them."""
        return (
            self.fact, self.edit, self.call, self.ask, self.take, self.plain, self.text, self.length, self.items, self.pair,
            self.advance, self.same, self.verdict, self.share,
            self.gather, self.park, self.join, self.settled, self.scatter,
        )  # fmt: skip


def bound(function: Callable[..., Any], spec: str | None, values: Sequence[Any], objects: Sequence[Any]) -> Callable[[], Any]:
    """The call that a script wrote; a table of named values at its end is keyword arguments."""
    arguments = inflate(spec, values, objects)
    if arguments and type(arguments[-1]) is dict and all(type(key) is str for key in arguments[-1]):
        return partial(function, *arguments[:-1], **arguments[-1])
    return partial(function, *arguments)


def wrong(error: Exception, name: str = "") -> tuple[None, int, str]:
    """The answer that raises this error in Lua."""
    if isinstance(error, AttributeError | NotReadable):
        text = str(error)
    elif isinstance(error, TypeError | ValueError):
        text = str(error) or type(error).__name__
    else:
        text = f"{type(error).__name__}: {error}".rstrip(": ")
    return None, 0, to_lua(f"{name}: {text}"[:_TOLD] if name else text[:_TOLD])
