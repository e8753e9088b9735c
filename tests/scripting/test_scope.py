"""Which rules run where, and in which order."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from smtpproxy.scripting.table import chosen, describe

RULE = "def on_rcpt(mail, rcpt): rcpt.append(__name__.split(':')[-1])"


def order_of(scripts: Any) -> list[str]:
    scripts.ask("on_rcpt", None, asked := [])
    return asked


def write(scripts: Any, *names: str, more: str = "") -> None:
    for name in names:
        scripts.write(f"{name}.py", f"{RULE}\n{more}")


def test_by_leading_number_then_by_name(scripts: Any) -> None:
    write(scripts, "100-c", "20-b", "20-a", "9-d", "late", "early")
    scripts.load()
    assert order_of(scripts) == ["9-d", "20-a", "20-b", "100-c", "early", "late"]


def test_a_file_may_say_its_order_and_the_configuration_wins(scripts: Any) -> None:
    scripts.restart({"30-c": {"order": 5}})
    write(scripts, "10-a", "30-c")
    write(scripts, "b", more="order = 20")
    scripts.load()
    assert order_of(scripts) == ["30-c", "10-a", "b"]


@pytest.mark.parametrize(
    ("patterns", "runs"),
    [
        ([], True),
        (["*"], True),
        (["a"], True),
        (["b"], False),
        (["*", "!a"], False),
        (["*", "!b"], True),
        (["!a"], False),
        (["!b"], True),
        (["!a", "*"], True),
    ],
)
def test_patterns_of_a_listener(patterns: list[str], runs: bool) -> None:
    assert chosen("a", patterns) is runs


def test_a_listener_chooses_rules(scripts: Any) -> None:
    scripts.restart(listeners={"mx": ["*", "!b"], "out": ["b"]})
    write(scripts, "a", "b")
    scripts.load()
    assert order_of(scripts) == ["a"]
    assert [entry.rule.name for entry in scripts.rules.table.chains["out"].on_rcpt] == ["b"]


def test_a_rule_chooses_listeners(scripts: Any) -> None:
    scripts.restart({"a": {"listeners": ["out"]}}, listeners={"mx": ["*"], "out": ["*"]})
    write(scripts, "a", "b")
    scripts.load()
    assert order_of(scripts) == ["b"]
    assert len(scripts.rules.table.chains["out"].on_rcpt) == 2


def test_a_listener_without_a_list_has_all_that_are_bound_nowhere(scripts: Any) -> None:
    scripts.restart({"a": {"listeners": ["out"]}})
    write(scripts, "a", "b")
    scripts.load()
    assert [entry.rule.name for entry in scripts.rules.table.chains_for("other").on_rcpt] == ["b"]


def test_a_listener_that_names_no_rule_is_told(scripts: Any) -> None:
    scripts.restart(listeners={"mx": ["*", "!greylst"]})
    write(scripts, "greylist")
    (problem,) = scripts.load().problems
    assert 'there is no rule "greylst"; did you mean "greylist"?' in str(problem)


@pytest.mark.parametrize(
    ("skip", "login", "trusted", "runs"),
    [
        ([], "me", True, True),
        (["authenticated"], None, True, True),
        (["authenticated"], "me", False, False),
        (["trusted"], "me", False, True),
        (["trusted"], None, True, False),
        (["authenticated", "trusted"], None, False, True),
        ("trusted", None, True, False),
    ],
)
def test_skip(scripts: Any, skip: Any, login: str | None, trusted: bool, runs: bool) -> None:
    scripts.restart({"a": {"skip": skip}})
    write(scripts, "a")
    scripts.load()
    scripts.call.client = SimpleNamespace(login=login, trusted=trusted)
    assert bool(order_of(scripts)) is runs


def test_not_enabled(scripts: Any) -> None:
    scripts.restart({"a": {"enabled": False}})
    write(scripts, "a", "b")
    report = scripts.load()
    assert order_of(scripts) == ["b"]
    assert not report.problems


def test_a_rule_that_is_not_enabled_may_still_help_others(scripts: Any) -> None:
    scripts.restart({"a": {"enabled": False}})
    scripts.load(a="x = 1\ndef on_rcpt(mail, rcpt): 1/0", b="import a\ndef on_rcpt(mail, rcpt): rcpt.append(a.x)")
    assert order_of(scripts) == [1]


def test_described_for_people(scripts: Any) -> None:
    scripts.restart({"20-b": {"wall": "2s", "listeners": ["out"], "skip": ["trusted"]}}, listeners={"mx": ["*"], "out": ["*"]})
    write(scripts, "10-a", more="def on_mail(mail, sender): pass\non_error = 'deny'\ndef watch_message(mail): pass")
    write(scripts, "20-b")
    table = scripts.load().table
    rows = describe(table)
    assert [(row.hook, row.order, row.rule, row.on_error, row.on_timeout, row.wall, row.listeners) for row in rows] == [
        ("on_mail", 1, "10-a", "deny", "defer", 5.0, ()),
        ("on_rcpt", 1, "10-a", "deny", "defer", 5.0, ()),
        ("on_rcpt", 2, "20-b", "defer", "defer", 2.0, ("out",)),
        ("watch_message", 1, "10-a", "continue", "continue", 5.0, ()),
    ]
    assert (rows[2].skip, rows[2].version) == (("trusted",), table.rules[1].version)
