"""A rule that keeps failing is taken out, or the version before it comes back."""

from __future__ import annotations

from typing import Any

import pytest

from smtpproxy.config.schema import Breaker
from smtpproxy.config.values import Duration
from smtpproxy.testing.waiting import until

BROKEN = "called = []\ndef on_rcpt(mail, rcpt):\n    rcpt.append(1)\n    1 / 0\n"
GOOD = "def on_rcpt(mail, rcpt): pass\n"


@pytest.fixture
def tripping(scripts: Any) -> Any:
    """Three failures in a minute are too many."""
    scripts.restart(breaker=Breaker(failures=3, window=Duration(60), cooldown=Duration(600)))
    return scripts


def calls(scripts: Any, times: int) -> int:
    """Ask so often; how often the rule was called."""
    rcpt: list[int] = []
    for _ in range(times):
        assert scripts.rcpt(rcpt).startswith("defer 451 4.3.0")
    return len(rcpt)


def test_it_is_not_called_any_more_and_its_declared_verdict_applies(tripping: Any) -> None:
    tripping.load(a=BROKEN)
    assert calls(tripping, 10) == 3
    assert len(tripping.logged("rule_failed")) == 3
    (record,) = tripping.logged("rule_tripped")
    assert (record["rule"], record["why"], record["action"]) == ("a", "3 failures within 60 s", "remove")


def test_all_its_hooks_are_out(tripping: Any) -> None:
    tripping.load(a=f"on_error = {{'on_mail': 'deny'}}\n{BROKEN}def on_mail(mail, sender): pass\n")
    calls(tripping, 3)
    assert str(tripping.ask("on_mail", None, "x")).startswith("deny 550")


def test_failures_far_apart_do_not_count(tripping: Any) -> None:
    tripping.load(a=BROKEN)
    for _ in range(5):
        assert calls(tripping, 1) == 1
        tripping.clock.time += 31
    assert not tripping.logged("rule_tripped")


def test_another_rule_is_not_touched_and_its_save_changes_nothing(tripping: Any) -> None:
    tripping.load(a=BROKEN, b=GOOD)
    calls(tripping, 3)
    tripping.save("b.py", GOOD + "# changed\n")
    tripping.refresh()
    assert calls(tripping, 2) == 0


def test_a_save_gives_it_another_chance(tripping: Any) -> None:
    tripping.load(a=BROKEN)
    calls(tripping, 3)
    tripping.save("a.py", GOOD)
    tripping.refresh()
    assert tripping.rcpt() == "continue"


def test_after_the_cool_down_it_is_on_probation(tripping: Any) -> None:
    tripping.load(a=BROKEN)
    calls(tripping, 4)
    tripping.clock.time += 600
    assert calls(tripping, 1) == 0, "what is asked first finds out"
    assert tripping.logged("rule_restored")
    assert calls(tripping, 5) == 1
    assert tripping.logged("rule_tripped")[1]["why"] == "it has failed again"


def test_a_session_that_holds_an_older_table_finds_it_out_too(tripping: Any) -> None:
    tripping.load(a=BROKEN, b=GOOD)
    old = tripping.chains
    tripping.save("b.py", GOOD + "# changed\n")
    tripping.refresh()
    calls(tripping, 3)
    from smtpproxy.scripting.runner import decide

    rcpt: list[int] = []
    for _ in range(3):
        decide(old, old.on_rcpt, tripping.call, None, rcpt)
    assert len(rcpt) <= 1


def test_off_lets_it_go_on_failing(scripts: Any) -> None:
    scripts.restart(breaker=Breaker(failures=3, action="off"))
    scripts.load(a=BROKEN)
    assert calls(scripts, 10) == 10


class TestRollback:
    @pytest.fixture
    def rolling(self, scripts: Any) -> Any:
        scripts.restart(breaker=Breaker(failures=3, action="rollback"))
        scripts.load(a=GOOD)
        return scripts

    def test_the_version_before_comes_back(self, rolling: Any) -> None:
        before = rolling.rules.table.rules[0].version
        rolling.save("a.py", BROKEN)
        rolling.refresh()
        calls(rolling, 3)
        (record,) = rolling.logged("rule_tripped")
        assert (record["action"], record["back"]) == ("rollback", before)
        rolling.refresh()
        assert rolling.rcpt() == "continue"
        (rule,) = rolling.rules.table.rules
        assert rule.version == before
        assert "rolled back: 3 failures within 60 s" in rule.broken

    def test_it_stays_while_others_are_saved_and_goes_with_the_next_change(self, rolling: Any) -> None:
        rolling.save("a.py", BROKEN)
        rolling.refresh()
        calls(rolling, 3)
        rolling.refresh()
        rolling.save("b.py", GOOD)
        rolling.refresh()
        assert rolling.rcpt() == "continue"
        rolling.save("a.py", "from smtpproxy.script import deny\ndef on_rcpt(mail, rcpt): return deny('new')\n")
        rolling.refresh()
        assert rolling.rcpt().startswith("deny 550")

    def test_without_a_version_before_the_rule_is_removed(self, scripts: Any) -> None:
        scripts.restart(breaker=Breaker(failures=3, action="rollback"))
        scripts.load(a=BROKEN)
        assert calls(scripts, 6) == 3
        assert scripts.logged("rule_tripped")[0]["action"] == "remove"


class TestTimers:
    RULE = "from smtpproxy.script import every\n@every('10ms')\ndef tick():\n    1/0\n" + GOOD

    def ticks(self, scripts: Any, count: int) -> int:
        """How often the timer has run, after so many times that it was due."""
        (instance,) = scripts.rules.table.instances.values()
        before = len(scripts.logged("rule_failed"))
        for _ in range(count):
            scripts.rules.library.tick(instance, instance.timers[0].function)
        return len(scripts.logged("rule_failed")) - before

    def test_failures_count_and_are_logged_with_the_name_of_the_rule(self, scripts: Any) -> None:
        scripts.restart(breaker=Breaker(failures=3))
        scripts.load(a=self.RULE)
        assert self.ticks(scripts, 5) == 3
        assert {(one["rule"], one["hook"], one["at"]) for one in scripts.logged("rule_failed")} == {("a", "every", "a.py:4")}
        assert (scripts.logged("rule_tripped")[0]["rule"], scripts.logged("rule_tripped")[0]["hook"]) == ("a", "every")
        assert scripts.rcpt().startswith("defer 451"), "the whole rule is out"

    def test_after_the_cool_down_it_is_tried_again(self, scripts: Any) -> None:
        scripts.restart(breaker=Breaker(failures=3, cooldown=Duration(30)))
        scripts.load(a=self.RULE)
        self.ticks(scripts, 3)
        scripts.clock.time += 31
        assert self.ticks(scripts, 3) == 1, "one look, one failure, out again"
        assert len(scripts.logged("rule_restored")) == 1


def test_on_load_is_named_where_it_fails(scripts: Any) -> None:
    (problem,) = scripts.load(a="def on_load():\n    1/0\n").problems
    assert (problem.at, problem.text) == ("a.py:2", "on_load failed: ZeroDivisionError: division by zero")
    scripts.write("b.lua", "function on_load()\n  error('no list')\nend")
    problem = scripts.rules.load().problems[-1]
    assert (problem.at, problem.text) == ("b.lua:2", "on_load failed: no list")


def test_a_stall_is_logged_with_the_rule_that_held_the_hub(scripts: Any) -> None:
    scripts.load(a="from time import thread_time\nimport gevent.monkey\nSLEEP = gevent.monkey.get_original('time', 'sleep')\n"
                   "def on_rcpt(mail, rcpt):\n    SLEEP(.35)\n")  # fmt: skip
    scripts.rules.budget.start()
    scripts.rcpt()
    (record,) = until(lambda: scripts.logged("hub_stalled"))
    assert (record["rule"], record["at"]) == ("a", "a.py:5")
    assert record["ms"] > 150
