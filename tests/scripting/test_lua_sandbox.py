"""What a Lua rule cannot do: reach the host, hold the process, fill the memory, touch another call."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest

from smtpproxy.facts.client import Client, ListenerFacts
from smtpproxy.scripting.lua import LuaError, LuaRule, LuaTimeout


def load(body: str, top: str = "", **doors: Callable[..., Any]) -> Callable[..., Any]:
    source = f"{top}\nfunction on_connect(client)\n{body}\nend"
    return LuaRule(source.encode(), "a", "a.lua", {}, doors).hooks["on_connect"]


def run(body: str, top: str = "", **doors: Callable[..., Any]) -> Any:
    return load(body, top, **doors)(Client("s1", "192.0.2.1", 25, ListenerFacts("mx")))


def text(expression: str) -> str:
    return str(run(f"return deny('<' .. tostring({expression}) .. '>')").text)[1:-1]


# nothing of the host can be reached


ABSENT = """os io debug package require load loadstring loadfile dofile python collectgarbage rawset rawget rawequal rawlen
    xpcall warn print string.dump coroutine.running coroutine.close math.randomseed _G.os _ENV.debug ('').dump"""


@pytest.mark.parametrize("name", ABSENT.split())
def test_names_that_are_not_there(name: str) -> None:
    assert text(name) == "nil"


@pytest.mark.parametrize(
    "expression",
    [
        "getmetatable('')",
        "getmetatable(client)",
        "getmetatable(client.notes)",
        "getmetatable(_G)",
        "getmetatable(dns)",
        "getmetatable(set{1})",
        "getmetatable(settings)",
    ],
)
def test_metatables_of_ours_are_hidden(expression: str) -> None:
    top = "settings = {a = 1}"
    assert run(f"return deny(tostring({expression}))", top, **{"dns.mx": str}).text == "false"


@pytest.mark.parametrize(
    ("body", "told"),
    [
        ("setmetatable({}, {__gc = function() end})", "__gc is not allowed"),
        ("setmetatable('', {})", "bad argument #1"),
        ("setmetatable(client, {__index = _G})", "cannot change a protected metatable"),
        ("setmetatable(_G, {})", "cannot change a protected metatable"),
        ("setmetatable(deny(), {})", "cannot change a protected metatable"),
        ("return client.address.__class__.x", "attempt to index a nil value"),
        ("return client.__init__", 'client has no "__init__"'),
        ("return client._lookup", 'client has no "_lookup"'),
        ("return client.notes:__getattribute__('x')", "attempt to call a nil value"),
        ("client.take_identity(client)", 'client has no "take_identity"'),
        ("return client[function() end]", "an object is indexed by a name or a number, not by a function"),
        ("return client[client]", "an object is indexed by a name or a number, not by a table"),
        ("client.notes.x = coroutine.create(function() end)", "a thread cannot be given"),
        ("client.notes.x = string.rep", "a function cannot be given"),
        ("local t = {} t.t = t client.notes.x = t", "a table too deep"),
        ("local t = {} for i = 1, 1000 do t[i] = i end client.notes.x = t", "too many values"),
        ("client.notes.x = {[client] = 1}", "a key of a table for an assignment must be a string or a number"),
        ("client.notes.x = ('x'):rep(70000)", "notes may hold"),
        ("coroutine.yield(1)", "coroutine.yield outside of a coroutine"),
        ("coroutine.yield(0, 'dns.mx')", "coroutine.yield outside of a coroutine"),
        ("table.sort({3, 2, 1}, function() door() return true end)", "a door cannot be asked inside"),
        ("local x = ('abc'):gsub('.', function() return door() end)", "a door cannot be asked inside"),
        ("return dns.mxx('a')", 'dns has no "mxx"; did you mean "mx"?'),
        ("door(table.unpack({}, 1, 1000))", "too many values"),
        ("door(function() end)", "a function cannot be given to door"),
        ("local x = table.unpack({}, 1, 1e7)", "too many elements"),
        ("table.move({}, 1, 1e9, 2)", "too many elements"),
        ("table.insert(setmetatable({}, {__len = function() return 1e9 end}), 1, 1)", "too many elements"),
        ("table.sort(setmetatable({}, {__len = function() return 1e9 end}))", "too many elements"),
        ("table.concat(setmetatable({}, {__len = function() return 1e9 end}))", "too many elements"),
    ],
)
def test_what_is_refused(body: str, told: str) -> None:
    with pytest.raises(LuaError) as caught:
        run(body, door=lambda *_: None, **{"dns.mx": lambda *_: None})
    assert told in str(caught.value)
    assert caught.value.at == "a.lua:3"


@pytest.mark.parametrize(
    "top", ["x = dns.mx('a')", "pcall(dns.mx, 'a') y = dns.mx('a')", "v = deny('x')", "coroutine.yield()", "while true do end"]
)
def test_what_is_refused_while_the_file_is_loaded(top: str) -> None:
    asked: list[str] = []
    with pytest.raises(LuaError, match=r"^a\.lua:1: |cannot be used while the file is loaded"):
        load("", top, **{"dns.mx": asked.append})
    assert not asked


def test_compiled_chunks_are_refused() -> None:
    with pytest.raises(LuaError, match="attempt to load a binary chunk"):
        LuaRule(b"\x1bLua", "a", "a.lua", {}, {})


def test_a_file_too_large_is_refused() -> None:
    with pytest.raises(LuaError, match="octets"):
        LuaRule(b" " * (3 << 20), "a", "a.lua", {}, {})


def test_a_script_that_breaks_the_library_breaks_itself_only() -> None:
    top = "string.gmatch, string.sub, table.unpack, pcall, type, next, error, tostring = nil"
    assert run("for _, k in pairs({'x'}) do client.notes.k = {k} end return deny('x')", top).text == "x"


def test_an_untouched_runtime_is_given_to_each_version() -> None:
    run("", "string.rep = nil")
    assert text("('x'):rep(2)") == "xx"


# nothing holds the process


LOOPS = [
    "while true do end",
    "repeat until false",
    "local function f() return f() end f()",
    "while true do pcall(function() while true do end end) end",
    "pcall(function() while true do end end) while true do end",
    "coroutine.wrap(function() while true do end end)()",
    "while true do pcall(coroutine.wrap(function() while true do end end)) end",
    "local function f() pcall(f) pcall(f) end f()",
    "local function f(n) if n > 0 then return 1 + f(n - 1) end while true do pcall(error) end end f(100000)",
    "local t = setmetatable({}, {}) getmetatable(t).__index = function(t, k) while true do end end return t.x",
    "local t = setmetatable({}, {__tostring = function() while true do end end}) return tostring(t)",
    "local t = setmetatable({}, {__close = function() while true do end end}) local x <close> = t",
    "local t = setmetatable({}, {__close = function() while true do end end}) do local x <close> = t error('x') end",
    "table.sort({1, 2, 3}, function() while true do end end)",
    "('x'):gsub('x', function() while true do end end)",
    "for _ in function() return 1 end do end",
    "for i = 1, 1e12 do end",
    "local s = ('x'):rep(1000000) while true do s:upper() end",
    "local s = ('x'):rep(1000000) while true do s:find('y') end",
    "local s = ('x'):rep(1000000) while true do local y = s .. 'z' end",
    "local t = {} for i = 1, 100000 do t[i] = -i end while true do table.sort(t) end",
    "local t = {} for i = 1, 100000 do t[i] = '' end while true do table.concat(t) end",
    "local t = {} for i = 1, 100000 do t[i] = 0 end while true do table.insert(t, 1, 0) end",
    "while true do client.notes.x = 1 end",
    "while true do local x = client.address end",
    "while true do pcall(error) end",
    "while true do local x = pcall(function() return client.nothing end) end",
]


@pytest.mark.parametrize("body", LOOPS)
def test_a_loop_ends_by_the_budget(body: str) -> None:
    hook = load(body)
    client = Client("s1", "192.0.2.1", 25, ListenerFacts("mx"))
    began = time.process_time()
    with pytest.raises(LuaTimeout, match="over its CPU budget"):
        hook(client)
    assert time.process_time() - began < 3


def test_what_a_loop_used_up_does_not_burden_the_next_call() -> None:
    hook = load("if client.notes.loop then while true do end end return deny('fine')")
    client = Client("s1", "192.0.2.1", 25, ListenerFacts("mx"))
    for _ in range(3):
        client.notes.loop = True
        with pytest.raises(LuaTimeout):
            hook(client)
        client.notes.loop = None
        assert hook(client).text == "fine"


def test_an_error_handler_cannot_go_on_after_the_budget() -> None:
    with pytest.raises(LuaTimeout):
        run("local ok = pcall(function() while true do end end) return accept()")


# nothing fills the memory

FILL = """
  local t, i, s = kept or {}, 0, ('x'):rep(1000)
  pcall(function() while true do i = i + 1 t[i .. ''] = s .. i end end)
  pcall(function() while true do i = i + 1 t[i .. ''] = i .. '' end end)
"""


@pytest.mark.parametrize(
    "body",
    [
        "return ('x'):rep(1e9)",
        "local s = 'x' while true do s = s .. s end",
        "local t = {} while true do t[#t + 1] = ('x'):rep(10000) .. #t end",
        "local t = {} for i = 1, 9 do t[i] = door(2000000) .. i end",
        "return door(20000000)",
        "local function f() return 1 + f() end return f()",
        "local t = {} while true do t[#t + 1] = coroutine.wrap(function() end) end",
        FILL + "return deny(client.notes.large)",
        FILL + "for _, v in pairs(client.notes) do t.x = v .. i end",
        FILL + "client.notes.y = s",
        FILL + "return deny(door(100))",
        FILL + "return deny(tostring(client) .. client.address)",
    ],
)
@pytest.mark.parametrize("top", ["", "kept = {}"])
def test_memory_has_an_end_and_the_process_lives(body: str, top: str) -> None:
    client = Client("s1", "192.0.2.1", 25, ListenerFacts("mx"))
    client.notes.large = "y" * 60000
    hook = load(body, top, door=lambda n: "z" * n)
    for _ in range(3):
        with pytest.raises(LuaError, match=r"not enough memory|over its CPU budget|stack overflow"):
            hook(client)


def test_memory_of_one_call_is_free_for_the_next() -> None:
    hook = load("local s = ('x'):rep(5000000) return deny(#s)")
    for _ in range(20):
        assert hook(Client("s1", "192.0.2.1", 25, ListenerFacts("mx"))).text == "5000000"


def test_a_file_that_fills_the_memory_is_not_loaded() -> None:
    with pytest.raises(LuaError, match="not enough memory"):
        load("", "t = ('x'):rep(20000000)")
