"""Saves as editors do them, seen and taken."""

from __future__ import annotations

import os
import shutil
import time
from typing import Any

import pytest

from smtpproxy.scripting import folder
from smtpproxy.scripting.errors import FolderRefused
from smtpproxy.scripting.loader import POLL
from smtpproxy.testing.waiting import until

A = "from smtpproxy.script import deny\ndef on_rcpt(mail, rcpt): return deny('{0}')\n"
BROKEN = "def on_rcpt(mail, rcpt)\n    pass\n"


@pytest.fixture
def live(scripts: Any) -> Any:
    """One rule is live."""
    scripts.load(a=A.format("one"))
    return scripts


def test_without_a_change_nothing_is_done(live: Any) -> None:
    table = live.rules.table
    assert live.refresh() is None
    assert live.rules.table is table


def test_written_in_place(live: Any) -> None:
    assert live.save("a.py", A.format("two")).live == ("a",)
    assert live.rcpt() == "deny 550 5.7.1 two"


def test_written_beside_and_renamed(live: Any) -> None:
    live.write("a.py.new", A.format("two")).rename(live.folder / "a.py")
    live.refresh()
    assert live.rcpt() == "deny 550 5.7.1 two"


def test_renamed_over_by_a_file_that_is_older(live: Any) -> None:
    live.clock.time -= 3600
    old = live.write("a.py~", A.format("old"))
    live.clock.time += 3600
    old.rename(live.folder / "a.py")
    live.refresh()
    assert live.rcpt() == "deny 550 5.7.1 old"


def test_a_new_file(live: Any) -> None:
    assert live.save("0-first.py", A.format("first")).live == ("0-first",)
    assert live.rcpt() == "deny 550 5.7.1 first"


def test_deleted_counts_after_two_seconds(live: Any) -> None:
    (live.folder / "a.py").unlink()
    assert live.refresh() is None
    assert live.refresh(1.5) is None
    assert live.rcpt() == "deny 550 5.7.1 one"
    assert live.refresh(0.6).gone == ("a",)
    assert live.rcpt() == "continue"


def test_deleted_and_back_is_no_deletion(live: Any) -> None:
    (live.folder / "a.py").unlink()
    live.refresh(1.9)
    assert live.save("a.py", A.format("one")) is None
    (live.folder / "a.py").unlink()
    assert live.refresh(1.9) is None
    assert live.rcpt() == "deny 550 5.7.1 one"


def test_emptied_is_like_deleted(live: Any) -> None:
    """An editor that truncates before it writes never turns a rule off for a moment."""
    live.save("a.py", "")
    assert live.rcpt() == "deny 550 5.7.1 one"
    live.refresh(2.1)
    assert live.rcpt() == "continue"


def test_a_file_that_is_being_written_waits_until_it_rests(live: Any) -> None:
    live.write("a.py", A.format("half"))
    assert live.refresh(0.05) is None
    live.clock.time += 0.05
    live.write("a.py", A.format("whole"))
    assert live.refresh(0.05) is None
    assert live.refresh(0.05).live == ("a",)
    assert live.rcpt() == "deny 550 5.7.1 whole"


def test_a_file_from_the_future_is_taken_at_the_second_look(live: Any) -> None:
    path = live.write("a.py", A.format("two"))
    os.utime(path, (live.clock.time + 1e6, live.clock.time + 1e6))
    assert live.refresh() is None
    assert live.refresh().live == ("a",)


def test_touched_only_is_no_change(live: Any) -> None:
    version = live.rules.table.rules[0].version
    assert live.save("a.py", A.format("one")) is None
    assert live.rules.table.rules[0].version == version


def test_a_broken_save_keeps_the_last_good_version(live: Any) -> None:
    version = live.rules.table.rules[0].version
    report = live.save("a.py", BROKEN)
    assert report.live == ()
    assert [str(problem) for problem in report.problems] == [f"a.py:1: SyntaxError: expected ':' (version {version} goes on)"]
    assert live.rcpt() == "deny 550 5.7.1 one"
    assert live.rules.table.rules[0].broken == "SyntaxError: expected ':'"
    (record,) = live.logged("rule_broken")
    assert (record["level"], record["at"], record["kept"]) == ("error", "a.py:1", version)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("import no_such_module", "a.py:1: ModuleNotFoundError: No module named 'no_such_module'"),
        ("x = 1\n1/0", "a.py:2: ZeroDivisionError: division by zero"),
        ("raise SystemExit(0)", "a.py:1: SystemExit: 0"),
        ("def on_rcpt(mail): pass", "a.py:1: on_rcpt takes 2 arguments"),
        ("x = '\0'", "a.py: "),
        ("x = '\udcff'", "a.py"),
        ("def on_load():\n    raise OSError('gone')", "a.py:2: on_load failed: OSError: gone"),
        ("import helper\nx = helper.gone", "a.py:2: AttributeError"),
        ("x = (" * 200 + ")" * 200, "a.py"),
    ],
)
def test_ways_to_break_a_file(live: Any, text: str, told: str) -> None:
    live.write("helper.py", "x = 1")
    path = live.folder / "a.py"
    path.write_bytes(text.encode("utf-8", "surrogateescape"))
    os.utime(path, (live.clock.time, live.clock.time))
    (problem,) = live.refresh().problems
    assert str(problem).startswith(told)
    assert live.rcpt() == "deny 550 5.7.1 one"


def test_other_files_go_live_beside_a_broken_one(live: Any) -> None:
    live.write("a.py", BROKEN)
    live.write("0-b.py", A.format("b"))
    report = live.refresh()
    assert (report.live, len(report.problems)) == (("0-b",), 1)
    assert live.rcpt() == "deny 550 5.7.1 b"


def test_a_broken_file_is_told_once(live: Any) -> None:
    live.save("a.py", BROKEN)
    live.save("b.py", A.format("b"))
    assert len(live.logged("rule_broken")) == 1
    assert len(live.rules.table.problems) == 1


def test_mended(live: Any) -> None:
    live.save("a.py", BROKEN)
    assert live.save("a.py", A.format("three")).problems == ()
    assert live.rcpt() == "deny 550 5.7.1 three"
    assert live.rules.table.rules[0].broken is None


def test_a_file_that_was_never_good_runs_nothing(scripts: Any) -> None:
    (problem,) = scripts.load(a=BROKEN).problems
    assert str(problem).endswith("(nothing runs in its place)")
    assert scripts.rules.table.rules == ()


@pytest.mark.parametrize("file", [".hidden.py", "_off.py", "a.py.swp", "a.txt", "a.pyc", "README.md"])
def test_other_files_are_not_looked_at(scripts: Any, file: str) -> None:
    scripts.write(file, "this is no rule")
    assert scripts.load().problems == ()


def test_folders_are_not_looked_into(scripts: Any) -> None:
    (scripts.folder / "samples.py").mkdir()
    (scripts.folder / "samples.py" / "a.py").write_text(BROKEN)
    assert scripts.load().problems == ()


def test_a_helper_is_no_rule(scripts: Any) -> None:
    scripts.load(helper="x = 1", a=A.format("a"))
    assert [rule.name for rule in scripts.rules.table.rules] == ["a"]


def test_two_files_of_one_name_are_an_error(scripts: Any) -> None:
    scripts.write("a.lua", "function on_rcpt(mail, rcpt) end")
    report = scripts.load(a=A.format("a"))
    assert [str(problem).split(":")[0] for problem in report.problems] == ["a.lua", "a.py"]
    assert "same name" in str(report.problems[0])
    assert report.table.rules == ()


def test_the_second_file_of_a_name_does_not_take_the_place_of_the_first(live: Any) -> None:
    (problem,) = live.save("a.lua", "function on_rcpt(mail, rcpt) end").problems
    assert problem.file == "a.lua"
    assert live.rcpt() == "deny 550 5.7.1 one"


def test_a_folder_that_everybody_can_write_to_is_refused(scripts: Any) -> None:
    scripts.folder.chmod(0o777)
    with pytest.raises(FolderRefused, match="can be written by everybody"):
        scripts.load(a=A.format("a"))


def test_a_folder_that_everybody_can_write_to_now_changes_nothing(live: Any) -> None:
    live.folder.chmod(0o777)
    assert live.save("a.py", A.format("evil")) is None
    live.refresh()
    assert live.rcpt() == "deny 550 5.7.1 one"
    assert len(live.logged("rule_broken")) == 1
    live.folder.chmod(0o755)
    live.refresh()
    assert live.rcpt() == "deny 550 5.7.1 evil"


def test_a_folder_that_vanishes_takes_no_rule_with_it(live: Any) -> None:
    shutil.rmtree(live.folder)
    for _ in range(3):
        live.refresh(3.0)
    assert live.rcpt() == "deny 550 5.7.1 one"
    assert "is gone" in live.logged("rule_broken")[0]["error"]


def test_a_folder_that_comes_later(scripts: Any) -> None:
    scripts.folder.rmdir()
    assert scripts.load().problems == ()
    scripts.folder.mkdir()
    scripts.save("a.py", A.format("one"))
    assert scripts.rcpt() == "deny 550 5.7.1 one"


def test_a_file_that_is_too_large_is_broken(live: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folder, "SIZE_LIMIT", 100)
    (problem,) = live.save("a.py", "x = 1\n" * 100).problems
    assert problem.text.startswith("is larger than")
    assert live.rcpt() == "deny 550 5.7.1 one"


def test_the_watcher_takes_a_save_within_half_a_second(scripts: Any) -> None:
    rules = scripts.restart(clock=time.monotonic, now=time.time)
    scripts.load(a=A.format("one"))
    rules.start()
    try:
        (scripts.folder / "a.py").write_text(A.format("two"))
        assert until(lambda: scripts.rcpt() == "deny 550 5.7.1 two")
        assert POLL < 0.5
    finally:
        rules.stop()


class TestLastGood:
    """What was good outlives a restart."""

    def test_a_file_that_is_broken_at_start_runs_as_it_last_did(self, live: Any) -> None:
        version = live.rules.table.rules[0].version
        live.save("a.py", BROKEN)
        live.restart()
        report = live.load()
        assert live.rcpt() == "deny 550 5.7.1 one"
        assert report.problems[0].kept == report.table.rules[0].version == version
        assert live.logged("rule_broken")

    def test_with_its_helpers_and_settings(self, scripts: Any) -> None:
        scripts.restart({"a": {"word": "told"}})
        scripts.load(
            helper="x = 1",
            a="from smtpproxy.script import deny, settings\nimport helper\nclass Settings:\n    word: str = 'x'\n"
            "def on_rcpt(mail, rcpt): return deny(f'{settings.word} {helper.x}')",
        )
        scripts.write("helper.py", "y = 2")
        scripts.write("a.py", BROKEN)
        scripts.restart()
        scripts.load()
        assert scripts.rcpt() == "deny 550 5.7.1 told 1"

    def test_mended_after_the_restart(self, live: Any) -> None:
        live.write("a.py", BROKEN)
        live.restart()
        live.load()
        live.save("a.py", A.format("two"))
        assert live.rcpt() == "deny 550 5.7.1 two"

    def test_a_deleted_rule_is_forgotten(self, live: Any) -> None:
        (live.folder / "a.py").unlink()
        live.refresh()
        live.refresh(2.1)
        live.write("a.py", BROKEN)
        live.restart()
        assert live.load().table.rules == ()

    def test_only_we_may_read_what_is_kept(self, live: Any) -> None:
        for text in "abc":
            live.save("a.py", A.format(text))
        kept = [path for path in (live.data / "rules").rglob("*") if path.is_file()]
        assert "index.json" in {path.name for path in kept}
        assert all(path.stat().st_mode & 0o077 == 0 for path in kept)
        assert {A.format(text) for text in "abc"} <= {path.read_text() for path in kept}

    def test_a_store_that_is_damaged_costs_only_itself(self, live: Any) -> None:
        for path in (live.data / "rules").rglob("*"):
            if path.is_file():
                path.write_bytes(b"{")
        live.write("a.py", BROKEN)
        live.restart()
        assert live.load().table.rules == ()
        live.save("a.py", A.format("two"))
        assert live.rcpt() == "deny 550 5.7.1 two"

    def test_without_a_data_folder_nothing_is_kept(self, scripts: Any) -> None:
        scripts.restart(data=None)
        scripts.load(a=A.format("one"))
        scripts.save("a.py", BROKEN)
        assert scripts.rcpt() == "deny 550 5.7.1 one"
        assert not scripts.data.exists()

    def test_a_data_folder_that_cannot_be_written_stops_no_rule(self, scripts: Any) -> None:
        scripts.data.write_text("a file")
        scripts.load(a=A.format("one"))
        assert scripts.rcpt() == "deny 550 5.7.1 one"
        assert scripts.logged("rules_not_kept")
