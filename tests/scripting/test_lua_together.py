"""together() and every() in Lua."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gevent
import pytest
from gevent.event import Event

from smtpproxy.dns.zone import Zone
from smtpproxy.scripting.budget import RuleTimeout
from smtpproxy.scripting.doors.store import holder
from smtpproxy.scripting.lua import LuaError, LuaRule
from smtpproxy.stores.memory import MemoryStore
from smtpproxy.testing.waiting import until


def endless() -> tuple[Callable[[], None], Event]:
    """A door that nobody comes out of by himself, and what is set when somebody was put out."""
    ended = Event()

    def wait() -> None:
        try:
            Event().wait()
        finally:
            ended.set()

    return wait, ended


def run(body: str, **doors: Callable[..., Any]) -> str:
    rule = LuaRule(f"function on_load()\n{body}\nend".encode(), "a", "a.lua", {}, doors)
    with gevent.Timeout(10):
        return rule.hooks["on_load"]().text  # type: ignore[union-attr]


def test_results_in_order() -> None:
    body = """
      local function one() return slow(1) end
      local function three() return slow(3) end
      return deny(table.concat({together(one, function() return 2 end, three)}, ' '))"""
    assert run(body, slow=lambda x: gevent.sleep(0.01 / x) or x) == "1 2 3"


def test_nothing_is_nil() -> None:
    assert run("return deny(select('#', together(function() end, function() return nil end)) .. select('#', together()))") == "20"


def test_at_the_same_time() -> None:
    met = Event()
    body = "return deny(tostring(together(function() return wait() end, function() meet() end)))"
    assert run(body, wait=lambda: met.wait(15), meet=met.set) == "true"


def test_several_questions_of_each() -> None:
    body = """
      local function twice(n) return function() return double(double(n)) end end
      local a, b, c = together(twice(1), twice(2), twice(3))
      return deny(a .. ' ' .. b .. ' ' .. c)"""
    assert run(body, double=lambda n: gevent.sleep(0) or n * 2) == "4 8 12"


def test_within_each_other_and_within_coroutines() -> None:
    body = """
      local function inner() return (together(function() return door(1) end, function() return door(2) end)) end
      local co = coroutine.wrap(function()
        local a, b = together(inner, function() return coroutine.wrap(function() return door(3) end)() end)
        coroutine.yield(a + b)
        return door(10)
      end)
      return deny(co() .. ' ' .. co())"""
    assert run(body, door=lambda n: gevent.sleep(0) or n) == "4 10"


def test_large_answers() -> None:
    body = "local a, b = together(function() return big() end, function() return big() end) return deny(#a + #b)"
    assert run(body, big=lambda: "x" * 300_000) == "600000"


def test_no_more_than_sixteen_at_a_time() -> None:
    running, most = [0], [0]

    def door() -> None:
        running[0] += 1
        most[0] = max(most[0], running[0])
        gevent.sleep(0)
        running[0] -= 1

    run("local f = {} for i = 1, 40 do f[i] = function() door() end end together(table.unpack(f)) return deny('x')", door=door)
    assert most == [16]


class TestErrors:
    def test_have_the_functions_line(self) -> None:
        with pytest.raises(LuaError, match=r"a\.lua:3: bad"):
            run("together(function() nap() end,\n function() error('bad') end)", nap=lambda: gevent.sleep(0))

    def test_of_a_door_are_the_functions_own(self) -> None:
        def fail() -> None:
            raise ValueError("no")

        body = """
          local a, b = together(function() local ok, e = pcall(fail) return e end, function() return 2 end)
          return deny(a .. b)"""
        assert "fail: no2" in run(body, fail=fail)

    def test_those_who_wait_are_ended(self) -> None:
        wait, ended = endless()
        body = "pcall(together, function() wait() end, function() nap() error('bad') end) return deny('x')"
        assert run(body, wait=wait, nap=lambda: gevent.sleep(0)) == "x"
        assert ended.wait(15)

    def test_a_killed_call_leaves_nobody_behind(self) -> None:
        wait, ended = endless()
        rule = LuaRule(b"function on_load() together(function() wait() end) end", "a", "a.lua", {}, {"wait": wait})
        asking = gevent.spawn(rule.hooks["on_load"])
        gevent.idle()
        asking.kill()
        assert ended.wait(15)

    def test_a_function_must_not_yield(self) -> None:
        with pytest.raises(LuaError, match="yielded"):
            run("together(function() coroutine.yield(1) end)")

    def test_only_functions(self) -> None:
        with pytest.raises(LuaError, match="together takes functions, not a number"):
            run("together(1)")

    def test_the_budget_holds(self) -> None:
        with pytest.raises(RuleTimeout):
            run("together(function() while true do end end)")


def test_the_doors_are_those_of_the_call(scripts: Any) -> None:
    scripts.doors["dns"] = Zone({"a.example": {"A": ["192.0.2.1"]}})
    scripts.write(
        "a.lua",
        """
        function on_rcpt(mail, rcpt)
          local a, b = together(function() return dns.a("a.example") end, function() return dns.a("b.example") end)
          return deny(a[1] .. #b)
        end
        """,
    )
    scripts.load()
    assert scripts.rcpt() == "deny 550 5.7.1 192.0.2.10"


class TestEvery:
    def test_runs_again_and_again(self, scripts: Any) -> None:
        scripts.doors["store"] = MemoryStore()
        scripts.write("a.lua", 'every("10ms", function() store.shared.increment("n") end)')
        scripts.load()
        scripts.rules.start()
        assert until(lambda: (scripts.doors["store"].get("shared/n") or 0) > 2)

    def test_once_in_one_process_of_the_instance(self, scripts: Any) -> None:
        store = scripts.doors["store"] = MemoryStore()
        scripts.write("a.lua", 'every("1m", function() store.shared.increment("n") end, {once = true})')
        scripts.write(
            "b.py", "from smtpproxy.script import every, store\n@every('1m', once=True)\ndef tick(): store.shared.increment('n')"
        )
        scripts.load()
        timers = [(instance, timer) for instance in scripts.rules.table.instances.values() for timer in instance.timers]
        assert len(timers) == 2
        for instance, timer in timers:
            scripts.rules.library.tick(instance, timer.function)
            scripts.rules.library.tick(instance, timer.function)
        assert store.get("shared/n") == 4
        for instance, timer in timers:
            key = f"every/{instance.source.name}/{timer.name}"
            assert store.release(key, holder())
            store.lease(key, "another", 60)
            scripts.rules.library.tick(instance, timer.function)
        assert store.get("shared/n") == 4

    @pytest.mark.parametrize(
        ("line", "told"),
        [
            ("every('5 m', function() end)", "a.lua:1: every: '5 m' is no duration"),
            ("every('5m')", "every takes an interval and a function"),
            ("every('5m', function() end, {twice = true})", 'no option "twice"'),
        ],
    )
    def test_mistakes_are_told_at_load(self, scripts: Any, line: str, told: str) -> None:
        scripts.write("a.lua", line)
        (problem,) = scripts.load().problems
        assert told in str(problem)

    def test_not_in_a_hook(self, scripts: Any) -> None:
        scripts.write("a.lua", "function on_rcpt(m, r) every('5m', function() end) end")
        scripts.load()
        scripts.rcpt()
        assert "stands at the top of a file" in scripts.logged("rule_failed")[0]["error"]

