"""Wall-clock budgets."""

from __future__ import annotations

from typing import Any

import gevent
import pytest

from smtpproxy.scripting import runner

FOREVER = "import gevent.event\ndef on_rcpt(mail, rcpt):\n    gevent.event.Event().wait()"


def overdue(scripts: Any) -> None:
    """Sweep as if all time had passed."""
    budget = scripts.rules.budget
    budget.clock = lambda: 1e15
    gevent.get_hub().loop.run_callback(budget.sweep)


def test_a_rule_that_waits_for_ever_is_ended(scripts: Any) -> None:
    scripts.load(a=FOREVER)
    asking = gevent.spawn(scripts.rcpt)
    gevent.idle()
    overdue(scripts)
    assert asking.get(timeout=15).startswith("defer 451 4.3.0")
    (record,) = scripts.logged("rule_failed")
    assert (record["at"], record["error"]) == ("a.py:3", "Timeout: over its wall budget")


def test_the_sweep_finds_it_by_itself(scripts: Any) -> None:
    rules = scripts.restart({"a": {"wall": "20ms"}})
    scripts.load(a=FOREVER)
    rules.budget.start()
    assert scripts.rcpt().startswith("defer 451 4.3.0")
    rules.budget.stop()
    assert scripts.logged("rule_failed")[0]["error"].startswith("Timeout")


def test_on_timeout_is_declared_apart_from_on_error(scripts: Any) -> None:
    scripts.restart({"a": {"wall": "20ms"}})
    scripts.load(a=f"on_timeout = 'deny'\n{FOREVER}")
    scripts.rules.budget.start()
    assert scripts.rcpt().startswith("deny 550 5.7.1")
    scripts.rules.budget.stop()


def test_what_a_rule_swallows_comes_back(scripts: Any) -> None:
    scripts.load(
        a="import gevent.event\nswallowed = []\ndef on_rcpt(mail, rcpt):\n    while len(swallowed) < 3:\n"
        "        try:\n            gevent.event.Event().wait()\n        except BaseException as e:\n"
        "            swallowed.append(type(e).__name__)\n    rcpt.extend(swallowed)"
    )
    rcpt: list[str] = []
    asking = gevent.spawn(scripts.rcpt, rcpt)
    gevent.idle()
    for _ in range(3):
        overdue(scripts)
        gevent.idle()
    asking.get(timeout=15)
    assert rcpt == ["RuleTimeout"] * 3


def test_a_rule_that_swallowed_it_and_answers_late_has_failed(scripts: Any) -> None:
    scripts.restart({"a": {"wall": "20ms"}})
    scripts.load(
        a="import gevent.event\nfrom smtpproxy.script import accept\ndef on_rcpt(mail, rcpt):\n    try:\n"
        "        gevent.event.Event().wait()\n    except BaseException:\n        return accept()"
    )
    scripts.rules.budget.start()
    assert scripts.rcpt().startswith("defer 451 4.3.0")
    scripts.rules.budget.stop()


def test_a_rule_that_holds_the_hub_is_late_when_it_returns(scripts: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    times = iter([100.0, 106.0, 106.0, 106.0])
    monkeypatch.setattr(runner, "_clock", lambda: next(times))
    scripts.load(a="def on_rcpt(mail, rcpt): pass")
    assert scripts.rcpt().startswith("defer 451 4.3.0")


def test_rules_behind_a_chain_that_used_up_its_time_have_failed_unseen(scripts: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    times = iter([100.0, 104.0, 108.0, 110.0, 110.0, 110.0, 110.0])
    monkeypatch.setattr(runner, "_clock", lambda: next(times))
    quick = "def on_rcpt(mail, rcpt): rcpt.append(1)"
    scripts.load(a=quick, b=quick, c=quick, d=quick)
    rcpt: list[int] = []
    assert scripts.rcpt(rcpt).startswith("defer 451 4.3.0")
    assert len(rcpt) == 3
    assert scripts.logged("rule_failed")[0]["rule"] == "d"


def test_nobody_is_hit_after_the_call(scripts: Any) -> None:
    scripts.load(a="def on_rcpt(mail, rcpt): pass")
    scripts.rcpt()
    assert not scripts.rules.budget.running
    overdue(scripts)
    gevent.idle()


def test_a_rule_may_not_take_its_time_in_on_load_either(scripts: Any) -> None:
    scripts.write("a.py", "import gevent.event\ndef on_load(): gevent.event.Event().wait()\n")
    loading = gevent.spawn(scripts.rules.load)
    gevent.idle()
    overdue(scripts)
    (problem,) = loading.get(timeout=15).problems
    assert str(problem).startswith("a.py:2: on_load failed: Timeout: over its wall budget")
