"""A version is a file with its helpers and settings: what a save touches is loaded anew, nothing else is."""

from __future__ import annotations

import gc
import sys
from typing import Any

import pytest

from smtpproxy.testing.waiting import until

COUNTER = """
    from smtpproxy.script import deny
    count = 0
    def on_rcpt(mail, rcpt):
        global count
        count += 1
        return deny(f"{count} {tag}")
    tag = "one"
"""


def versions(scripts: Any) -> dict[str, str]:
    return {rule.name: rule.version for rule in scripts.rules.table.rules}


def test_a_save_of_another_file_leaves_globals_alone(scripts: Any) -> None:
    scripts.write("a.py", COUNTER)
    scripts.load(b="def on_data(mail): pass")
    assert scripts.rcpt().endswith("1 one")
    before = versions(scripts)
    scripts.save("b.py", "def on_data(mail): return None")
    assert scripts.rcpt().endswith("2 one")
    after = versions(scripts)
    assert (before["a"] == after["a"], before["b"] == after["b"]) == (True, False)


def test_a_save_of_the_file_begins_with_new_globals(scripts: Any) -> None:
    scripts.write("a.py", COUNTER)
    scripts.load()
    scripts.rcpt()
    scripts.save("a.py", COUNTER.replace('"one"', '"two"'))
    assert scripts.rcpt().endswith("1 two")


def test_a_helper_reloads_those_who_import_it(scripts: Any) -> None:
    scripts.load(
        helper="x = 1",
        middle="import helper\ny = helper.x",
        a="import middle\nfrom smtpproxy.script import deny\ndef on_rcpt(mail, rcpt): return deny(str(middle.y))",
        b="def on_rcpt(mail, rcpt): pass",
    )
    before = versions(scripts)
    assert scripts.rcpt() == "deny 550 5.7.1 1"
    report = scripts.save("helper.py", "x = 2")
    assert report.live == ("a",)
    assert scripts.rcpt() == "deny 550 5.7.1 2"
    assert versions(scripts)["b"] == before["b"]


def test_an_old_table_keeps_its_helper(scripts: Any) -> None:
    scripts.load(
        helper="x = 1",
        a="from smtpproxy.script import deny\ndef on_rcpt(mail, rcpt):\n    import helper\n    return deny(str(helper.x))",
    )
    old = scripts.chains
    scripts.save("helper.py", "x = 2")
    from smtpproxy.scripting.runner import decide

    assert decide(old, old.on_rcpt, scripts.call, None, None).text == "1"
    assert scripts.rcpt() == "deny 550 5.7.1 2"


def test_rules_share_a_helper_and_its_globals(scripts: Any) -> None:
    scripts.load(
        helper="seen = []",
        a="import helper\ndef on_rcpt(mail, rcpt): helper.seen.append(rcpt)",
        b="from helper import seen\nfrom smtpproxy.script import deny\ndef on_data(mail): return deny(str(seen))",
    )
    scripts.rcpt("x")
    assert scripts.ask("on_data", None).text == "['x']"


def test_a_broken_helper_goes_on_as_it_was_while_the_rule_changes(scripts: Any) -> None:
    rule = "import helper\nfrom smtpproxy.script import deny\ndef on_rcpt(mail, rcpt): return deny(f'{helper.x} %s')"
    scripts.load(helper="x = 1", a=rule % "old")
    scripts.write("helper.py", "x = (")
    report = scripts.save("a.py", rule % "new")
    assert (report.live, [problem.file for problem in report.problems]) == (("a",), ["helper.py"])
    assert scripts.rcpt() == "deny 550 5.7.1 1 new"


def test_a_rule_that_a_helper_breaks_keeps_the_old_helper(scripts: Any) -> None:
    scripts.load(
        helper="x = 1",
        a="from helper import x\nfrom smtpproxy.script import deny\ndef on_rcpt(mail, rcpt): return deny(str(x))",
    )
    (problem,) = scripts.save("helper.py", "y = 2").problems
    assert problem.file == "a.py"
    assert "cannot import name 'x'" in problem.text
    assert scripts.rcpt() == "deny 550 5.7.1 1"


def test_a_deleted_helper_leaves_the_rule_as_it_was(scripts: Any) -> None:
    scripts.load(helper="x = 1", a="import helper\ndef on_rcpt(mail, rcpt): rcpt.append(helper.x)")
    (scripts.folder / "helper.py").unlink()
    scripts.refresh()
    (problem,) = scripts.refresh(2.1).problems
    assert "No module named 'helper'" in problem.text
    scripts.rcpt(rcpt := [])
    assert rcpt == [1]


def test_files_that_import_each_other_are_refused(scripts: Any) -> None:
    problems = scripts.load(a="import b\ndef on_rcpt(m, r): pass", b="import a").problems
    assert any("import each other in a circle" in problem.text for problem in problems)
    assert scripts.rules.table.rules == ()


def test_settings_are_part_of_the_version(scripts: Any) -> None:
    scripts.restart({"a": {"x": 1}})
    rule = "class Settings:\n    x: int = 0\ndef on_rcpt(mail, rcpt): pass"
    scripts.load(a=rule, b=rule)
    before = versions(scripts)
    scripts.rules.configure({"a": {"x": 2, "order": 7}}, {"mx": ["*"]})
    assert scripts.refresh().live == ("a",)
    scripts.rules.configure({"a": {"x": 2, "order": 8, "wall": "2s"}}, {"mx": ["*"]})
    assert scripts.refresh().live == ()
    assert versions(scripts)["b"] == before["b"]


def test_the_same_files_have_the_same_hashes_anywhere(scripts: Any) -> None:
    first = scripts.load(helper="x = 1", a="import helper\ndef on_rcpt(mail, rcpt): pass").table
    scripts.restart()
    second = scripts.load().table
    assert first.hash == second.hash
    assert first.rules[0].version == second.rules[0].version
    assert len(first.hash) == len(first.rules[0].version) == 12


class TestLifecycle:
    TRACE = "from smtpproxy.script import log\ndef on_load(): log.info('load {0}')\ndef on_unload(): log.info('unload {0}')\n"

    def told(self, scripts: Any) -> list[str]:
        return [fields["text"] for fields in scripts.logged("rule")]

    def test_on_load_once_an_instance(self, scripts: Any) -> None:
        scripts.load(a=self.TRACE.format("one"))
        scripts.load(b="def on_data(mail): pass")
        assert self.told(scripts) == ["load one"]

    def test_on_unload_when_nobody_uses_it(self, scripts: Any) -> None:
        scripts.load(a=self.TRACE.format("one"))
        scripts.save("a.py", self.TRACE.format("two"))
        scripts.refresh()
        assert self.told(scripts) == ["load one", "load two", "unload one"]

    def test_on_unload_waits_for_the_last_session(self, scripts: Any) -> None:
        scripts.load(a=self.TRACE.format("one"))
        session = scripts.chains
        scripts.save("a.py", self.TRACE.format("two"))
        scripts.refresh()
        assert self.told(scripts) == ["load one", "load two"]
        del session
        scripts.refresh()
        assert self.told(scripts)[-1] == "unload one"

    def test_needs_no_garbage_collection(self, scripts: Any) -> None:
        gc.disable()
        try:
            scripts.load(a=self.TRACE.format("one"))
            scripts.save("a.py", self.TRACE.format("two"))
            scripts.refresh()
            assert self.told(scripts)[-1] == "unload one"
        finally:
            gc.enable()

    def test_a_version_that_is_still_used_is_taken_up_again(self, scripts: Any) -> None:
        scripts.load(a=self.TRACE.format("one"))
        session = scripts.chains
        scripts.save("a.py", self.TRACE.format("two"))
        scripts.save("a.py", self.TRACE.format("one"))
        scripts.refresh()
        assert self.told(scripts) == ["load one", "load two", "unload two"]
        assert session.held is not scripts.chains.held

    def test_a_failing_on_unload_is_logged(self, scripts: Any) -> None:
        scripts.load(a="def on_unload(): 1/0")
        scripts.save("a.py", "x = 1")
        scripts.refresh()
        assert scripts.logged("rule_failed")[0]["error"] == "ZeroDivisionError: division by zero"

    def test_stop_unloads_everything(self, scripts: Any) -> None:
        scripts.load(a=self.TRACE.format("one"))
        scripts.rules.stop()
        assert self.told(scripts) == ["load one", "unload one"]

    def test_a_look_at_the_files_runs_neither(self, scripts: Any) -> None:
        scripts.restart(live=False)
        scripts.load(a=self.TRACE.format("one"))
        scripts.rules.stop()
        assert self.told(scripts) == []

    def test_modules_are_registered_while_they_are_used(self, scripts: Any) -> None:
        scripts.load(a="def on_rcpt(mail, rcpt): pass")
        name = scripts.rules.table.rules[0].instance.module.__name__
        assert name in sys.modules
        scripts.save("a.py", "def on_rcpt(mail, rcpt): return None")
        scripts.refresh()
        assert name not in sys.modules


class TestEvery:
    RULE = """
        from smtpproxy.script import every, log
        @every("10ms")
        def tick():
            log.info("{0}")
    """

    @pytest.fixture
    def started(self, scripts: Any) -> Any:
        scripts.write("a.py", self.RULE.format("one"))
        scripts.load()
        scripts.rules.start()
        yield scripts
        scripts.rules.stop()

    def told(self, scripts: Any, text: str) -> bool:
        return text in [fields["text"] for fields in scripts.logged("rule")]

    def test_runs(self, started: Any) -> None:
        assert until(lambda: self.told(started, "one"))

    def test_runs_from_the_newest_table_only(self, started: Any) -> None:
        until(lambda: self.told(started, "one"))
        session = started.chains
        started.save("a.py", self.RULE.format("two"))
        started.records.clear()
        until(lambda: self.told(started, "two"))
        assert {fields["text"] for fields in started.logged("rule")} == {"two"}
        assert session

    def test_a_failure_is_logged_and_it_runs_again(self, started: Any) -> None:
        started.save("a.py", "from smtpproxy.script import every\n@every('10ms')\ndef tick():\n    1/0\n")
        until(lambda: len(started.logged("rule_failed")) >= 2)
        assert started.logged("rule_failed")[0]["at"] == "a.py:4"

    @pytest.mark.parametrize("interval", ["5", "0s", "soon"])
    def test_intervals_are_checked_at_load(self, problem: Any, interval: str) -> None:
        assert "every" in problem(f"from smtpproxy.script import every\n@every('{interval}')\ndef tick(): pass")

    def test_belongs_at_the_top_of_a_file(self, scripts: Any) -> None:
        scripts.load(a="from smtpproxy.script import every\ndef on_rcpt(mail, rcpt): every('5m')(print)")
        scripts.rcpt()
        assert "stands at the top" in scripts.logged("rule_failed")[0]["error"]
