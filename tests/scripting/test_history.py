"""Which versions were live is kept in the data folder, within bounds; an earlier one can come back and stays."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import msgspec
import pytest

from smtpproxy.config.schema import History
from smtpproxy.config.values import Duration
from smtpproxy.scripting.archive import Archive
from smtpproxy.scripting.list_files import ListFiles
from smtpproxy.scripting.rollbacks import Pin, Rollbacks

RULE = "from smtpproxy.script import deny\ndef on_rcpt(mail, rcpt): return deny('{0}')\n"


def live(scripts: Any) -> str:
    return scripts.rules.table.rules[0].version


def archive(scripts: Any, **bounds: Any) -> Archive:
    """As another process reads it."""
    return Archive(scripts.data / "rules", History(**bounds), scripts.clock)


def history(scripts: Any, file: str = "a.py") -> list[str]:
    return [entry.version for entry in archive(scripts).history(file)]


def roll_back(scripts: Any, version: str, file: str = "a.py") -> None:
    """As `smtpproxy rollback` does it, from another process."""
    recipe = next(entry.recipe for entry in archive(scripts).history(file) if entry.version == version)
    digest = hashlib.sha256((scripts.folder / file).read_bytes()).hexdigest()
    Rollbacks(scripts.data / "rules").put(file, Pin(digest, recipe, "by hand", scripts.clock()))


@pytest.fixture
def two(scripts: Any) -> tuple[str, str]:
    """Two versions were live, the second one is."""
    scripts.load(a=RULE.format("one"))
    first = live(scripts)
    scripts.save("a.py", RULE.format("two"))
    return first, live(scripts)


def test_a_table_is_stored_under_the_hash_that_traces_and_logs_show(scripts: Any, two: tuple[str, str]) -> None:
    folder = scripts.data / "rules"
    table = msgspec.json.decode((folder / scripts.rules.table.hash).read_bytes())
    assert table["a.py"]["version"] == two[1]
    assert (folder / table["a.py"]["source"]).read_text() == RULE.format("two")


def test_every_version_that_was_live_is_known_with_its_time(scripts: Any, two: tuple[str, str]) -> None:
    entries = archive(scripts).history("a.py")
    assert tuple(entry.version for entry in entries) == two
    assert entries[1].time - entries[0].time == pytest.approx(0.2)


def test_a_save_that_never_worked_is_no_version(scripts: Any, two: tuple[str, str]) -> None:
    scripts.save("a.py", "def on_rcpt(")
    assert tuple(history(scripts)) == two


def test_at_most_so_many_versions_are_kept_and_their_bytes_go(scripts: Any) -> None:
    scripts.restart(history=History(versions=3))
    scripts.load(a=RULE.format(0))
    for number in range(1, 6):
        scripts.save("a.py", RULE.format(number))
    assert len(history(scripts)) == 3
    contents = [path.read_text() for path in (scripts.data / "rules").iterdir() if len(path.name) == 64]
    assert sorted(contents) == [RULE.format(number) for number in (3, 4, 5)]
    assert len([path for path in (scripts.data / "rules").iterdir() if len(path.name) == 12]) == 3


def test_versions_go_when_they_are_too_old_but_not_the_one_that_is_live(scripts: Any) -> None:
    scripts.restart(history=History(keep=Duration(60)))
    scripts.load(a=RULE.format("one"), b=RULE.format("b"))
    scripts.clock.time += 50
    scripts.save("a.py", RULE.format("two"))
    scripts.clock.time += 50
    scripts.save("c.py", RULE.format("c"))
    assert (len(history(scripts)), len(history(scripts, "b.py"))) == (1, 1)


def test_a_deleted_rule_leaves_its_history_for_a_while(scripts: Any, two: tuple[str, str]) -> None:
    (scripts.folder / "a.py").unlink()
    scripts.refresh()
    scripts.refresh(2.1)
    assert tuple(history(scripts)) == two
    scripts.clock.time += 100 * 86400
    scripts.save("b.py", RULE.format("b"))
    assert history(scripts) == []


def test_a_bundled_rule_has_a_history_of_its_settings(scripts: Any) -> None:
    file = "smtpproxy/rules/access.py"
    scripts.doors["lists"] = ListFiles(scripts.folder, scripts.log)
    scripts.restart({"access": {"enabled": True}})
    assert scripts.load().problems == ()
    first = live(scripts)
    scripts.rules.configure({"access": {"enabled": True, "deny_networks": ["192.0.2.1"]}}, {"mx": ["*"]})
    scripts.refresh()
    assert history(scripts, file) == [first, live(scripts)] != [first, first]
    recipe = archive(scripts).history(file)[0].recipe
    Rollbacks(scripts.data / "rules").put(file, Pin(recipe.source, recipe, "by hand", scripts.clock()))
    scripts.refresh()
    assert live(scripts) == first


class TestRollback:
    def test_is_live_at_the_next_look(self, scripts: Any, two: tuple[str, str]) -> None:
        roll_back(scripts, two[0])
        assert scripts.refresh().live == ("a",)
        assert (live(scripts), scripts.rcpt()) == (two[0], "deny 550 5.7.1 one")
        assert scripts.logged("rule_live")[-1]["rolled_back"] == "by hand"
        assert (scripts.folder / "a.py").read_text() == RULE.format("two")

    def test_outlives_a_restart(self, scripts: Any, two: tuple[str, str]) -> None:
        roll_back(scripts, two[0])
        scripts.refresh()
        scripts.restart()
        assert scripts.load().problems == ()
        assert scripts.rcpt() == "deny 550 5.7.1 one"
        assert "rolled back: by hand" in scripts.rules.table.rules[0].broken

    def test_stays_while_other_files_are_saved(self, scripts: Any, two: tuple[str, str]) -> None:
        roll_back(scripts, two[0])
        scripts.refresh()
        scripts.save("b.py", "def on_data(mail): pass")
        assert live(scripts) == two[0]

    def test_ends_with_the_next_change_of_the_file_for_good(self, scripts: Any, two: tuple[str, str]) -> None:
        roll_back(scripts, two[0])
        scripts.refresh()
        scripts.save("a.py", RULE.format("three"))
        assert scripts.rcpt() == "deny 550 5.7.1 three"
        scripts.save("a.py", RULE.format("two"))
        assert scripts.rcpt() == "deny 550 5.7.1 two"
        assert list((scripts.data / "rules" / "rolled-back").iterdir()) == []

    def test_undone(self, scripts: Any, two: tuple[str, str]) -> None:
        roll_back(scripts, two[0])
        scripts.refresh()
        Rollbacks(scripts.data / "rules").drop("a.py")
        assert scripts.refresh().live == ("a",)
        assert live(scripts) == two[1]

    def test_brings_settings_and_helpers_back(self, scripts: Any) -> None:
        rule = ("from smtpproxy.script import deny, settings\nimport helper\nclass Settings:\n    word: str = 'x'\n"
                "def on_rcpt(mail, rcpt): return deny(f'{settings.word} {helper.x}')")  # fmt: skip
        scripts.restart({"a": {"word": "told"}})
        scripts.load(helper="x = 1", a=rule)
        first = live(scripts)
        scripts.rules.configure({"a": {"word": "other"}}, {"mx": ["*"]})
        scripts.save("helper.py", "x = 2")
        assert scripts.rcpt() == "deny 550 5.7.1 other 2"
        roll_back(scripts, first)
        scripts.refresh()
        assert scripts.rcpt() == "deny 550 5.7.1 told 1"

    def test_of_a_version_that_is_gone_leaves_the_file_as_it_is_live(self, scripts: Any, two: tuple[str, str]) -> None:
        roll_back(scripts, two[0])
        scripts.rules.stop()
        for path in (scripts.data / "rules").iterdir():
            if path.is_file() and path.read_bytes() == RULE.format("one").encode():
                path.unlink()
        scripts.restart()
        (problem,) = scripts.load().problems
        assert "cannot be rolled back" in problem.text
        assert scripts.rcpt() == "deny 550 5.7.1 two"

    def test_a_look_at_the_files_sees_it_and_changes_nothing(self, scripts: Any, two: tuple[str, str]) -> None:
        roll_back(scripts, two[0])
        before = snapshot(scripts.data)
        scripts.restart(live=False)
        scripts.load()
        assert live(scripts) == two[0]
        scripts.write("a.py", RULE.format("three"))
        scripts.load()
        assert snapshot(scripts.data) == before

    def test_what_breaks_down_goes_back_over_a_restart_too(self, scripts: Any) -> None:
        """The circuit breaker with action = "rollback": the version before is in the data folder."""
        from smtpproxy.config.schema import Breaker

        scripts.load(a=RULE.format("one"))
        scripts.save("a.py", "def on_rcpt(mail, rcpt): 1/0")
        scripts.restart(breaker=Breaker(failures=2, action="rollback"))
        scripts.load()
        for _ in range(2):
            scripts.rcpt()
        scripts.refresh()
        assert scripts.rcpt() == "deny 550 5.7.1 one"


def snapshot(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
