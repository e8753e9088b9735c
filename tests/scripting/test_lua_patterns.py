"""Patterns: Lua's own where they are cheap, metered where they are not, and the same results."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import lupa.lua54 as lupa
import pytest

from smtpproxy.scripting import lua
from smtpproxy.scripting.lua import LuaError, LuaRule

ATOMS = [*"abcx1.-^$", *(f"%{c}" for c in "awsdS.%"), "[ab]", "[^a]", "[a-c]", "[%a_]", "[]a]", "[^]]"]
SUBJECTS = "aabbcx1 .()-^$"
COMPARE = """
local source = ...
local patterns = load(source, "=patterns")({
  raise = function(text) error(text, 0) end, charge = function() end, settle = function(_, ...) return ... end }).patterns
local function all(f)
  return function(s, p)
    local found = {}
    for a, b, c in f(s, p) do found[#found + 1] = tostring(a) .. tostring(b) .. tostring(c) end
    return table.concat(found, ";")
  end
end
local function told(f, ...)
  local r = table.pack(pcall(f, ...))
  if not r[1] then return "error" end
  for i = 1, r.n do r[i] = tostring(r[i]) end
  return table.concat(r, "|")
end
return function(s, p, replacement, init)
  local pairs_of = {
    { string.find, patterns.find, init }, { string.match, patterns.match, init },
    { all(string.gmatch), all(patterns.gmatch) }, { string.gsub, patterns.gsub, replacement, init },
    { string.gsub, patterns.gsub, function(a, b) return tostring(a) .. tostring(b) end },
    { string.gsub, patterns.gsub, { a = "Q", b = false } },
  }
  for i, pair in ipairs(pairs_of) do
    local theirs, ours = told(pair[1], s, p, pair[3], pair[4]), told(pair[2], s, p, pair[3], pair[4])
    -- ours refuses what is malformed whatever the text
    if ours ~= theirs and ours ~= "error" then return i .. ": " .. theirs .. " <> " .. ours end
    if ours == "error" and theirs ~= "error" then return "stricter" end
  end
  return ""
end
"""


def a_pattern(source: random.Random) -> str:
    out = "^" if source.random() < 0.2 else ""
    depth = 0
    for _ in range(source.randint(1, 6)):
        part = source.random()
        if part < 0.12:
            out, depth = out + "(", depth + 1
        elif part < 0.2 and depth:
            out, depth = out + ")", depth - 1
        elif part < 0.36:
            out += source.choice(["()", "%bab", "%b()", "%f[a]", "%f[^b]", "%1"])
        else:
            out += source.choice(ATOMS) + source.choice(["", "", "*", "+", "-", "?"])
    return out + ")" * depth + ("$" if source.random() < 0.15 else "")


def test_the_metered_matcher_gives_what_luas_own_gives() -> None:
    """Both over random patterns and texts, with ours forced to do all the work."""
    text = (Path(lua.__file__).parent / "lua_patterns.lua").read_text()
    forced = (
        text.replace("MOST, QUICK = 1e7, 1e4", "MOST, QUICK = 0, 0").replace("math.huge", "-1").replace("compiled.plain or ", "")
    )
    assert forced.count("-1") > text.count("-1")
    runtime = cast(Any, lupa.LuaRuntime)(encoding="latin-1", unpack_returned_tuples=True)
    compare = runtime.execute(COMPARE, forced.replace("<= compiled.", "< compiled.").replace("steps <= MOST", "false"))
    source = random.Random(11)
    stricter = 0
    for _ in range(8000):
        subject = "".join(source.choice(SUBJECTS) for _ in range(source.randint(0, 14)))
        pattern = a_pattern(source)
        replacement, init = source.choice(["<%0>", "%1%1", "z", "%%"]), source.choice([None, 1, 2, -3, 0, 20])
        differs = compare(subject, pattern, replacement, init)
        stricter += differs == "stricter"
        assert differs in ("", "stricter"), (subject, pattern, replacement, init)
    assert stricter < 400


def hook(body: str) -> Callable[[], Any]:
    return LuaRule(f"function on_load()\n{body}\nend".encode(), "a", "a.lua", {}, {}).hooks["on_load"]


@pytest.mark.parametrize(
    ("text", "pattern"),
    [
        ("('a'):rep(65536)", "a-x"),
        ("('a'):rep(16384)", ".-x"),
        ("('a'):rep(65536)", "^.-x"),
        ("('a'):rep(3000)", ".-.-x"),
        ("('a'):rep(2000)", ".*.*x"),
        ("('a'):rep(300)", ".-.-.-b"),
        ("(' '):rep(65536) .. 'y'", "%s+$"),
        ("('a'):rep(40)", "a?" * 30 + "a" * 41),
        ("('('):rep(60000)", "%b()"),
        ("('a'):rep(60000)", "(a*)%1b"),
        ("('a'):rep(1000000)", "[a-z]+@[a-z]+"),
    ],
)
@pytest.mark.parametrize("use", ["s:find(p)", "s:match(p)", "s:gsub(p, '')", "s:gmatch(p)()"])
def test_a_pattern_made_to_stall_is_stopped_or_done(text: str, pattern: str, use: str) -> None:
    began = time.process_time()
    try:
        hook(f"local s, p = {text}, '{pattern}' local x = {use}")()
    except LuaError as error:
        assert "over its CPU budget" in str(error)
    assert time.process_time() - began < 0.5


@pytest.mark.parametrize(
    ("expression", "result"),
    [
        ("(('x'):rep(100000) .. 'key: value'):match('key: (%a+)')", "value"),
        ("#(('x y '):rep(50000)):gsub('%s', '')", "100000"),
        ("(('line\\r\\n'):rep(5000) .. 'Received: by host'):find('Received: .* host')", "30001"),
        ("(('-'):rep(30000) .. 'a@b.example'):match('(%w+)@([%w.]+)')", "a"),
        ("(('<p>text</p>'):rep(2000)):gsub('<[^>]+>', ''):len()", "8000"),
        ("(('x'):rep(20000)):find('y', 1, true)", "nil"),
        ("('a.b'):rep(9000):find('%.', 100)", "101"),
        ("(('ab '):rep(9000)):gsub('%a+', string.upper, 2):sub(1, 9)", "AB AB ab "),
        ("(('k=v,'):rep(3000)):gsub('(%w+)=(%w+)', '%2=%1'):sub(1, 8)", "v=k,v=k,"),
    ],
)
def test_ordinary_use_of_long_texts_is_within_the_budget(expression: str, result: str) -> None:
    assert hook(f"local x = {expression} return deny('<' .. tostring(x) .. '>')")().text == f"<{result}>"


def test_a_malformed_pattern_is_told_with_the_scripts_line() -> None:
    with pytest.raises(LuaError, match=r"^a\.lua:2: malformed pattern \(ends with '%'\)"):
        hook("local x = ('a'):find('b%')")()


def test_a_replacement_may_ask_the_pattern_again() -> None:
    body = "local s = ('a1 '):rep(5000):gsub('(%a+)(%d+)%s*', function(a, b) return (b:gsub('%d', a)) end) return deny(#s)"
    assert hook(body)().text == "5000"
