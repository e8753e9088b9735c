"""Rules that come with smtpproxy: off unless enabled, and then like any other."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest

from smtpproxy.cli.main import main
from smtpproxy.scripting import bundled
from smtpproxy.scripting.list_files import ListFiles
from smtpproxy.scripting.loader import Report, Rules
from smtpproxy.testing.client import FakeClient
from smtpproxy.testing.process import RunningServer
from smtpproxy.testing.upstream import FakeUpstream
from smtpproxy.testing.waiting import until

NAMES = [source.name for source in bundled.sources().values()]
EXAMPLES = [
    (source.name, example)
    for source in bundled.sources().values()
    for example in re.findall(r"^```toml\n(.*?)^```$", bundled.about(source).manual, re.MULTILINE | re.DOTALL)
]
ON = {"access": {"enabled": True}}


@pytest.fixture
def load(tmp_path: Path) -> Any:
    """Load a folder of rules: load(settings, {"10-x.py": source}, data=True) as after a start."""
    folder, made = tmp_path / "scripts", []
    folder.mkdir(mode=0o755)

    def loader(settings: dict[str, Any], files: dict[str, str] | None = None, *, data: bool = False, **more: Any) -> Any:
        for file in folder.iterdir():
            file.unlink()
        for name, text in (files or {}).items():
            (folder / name).write_text(text)
        keep = more.pop("rules", False)
        log = lambda *_, **__: None  # noqa: E731
        doors = {"lists": ListFiles(tmp_path, log)}
        listeners = more.pop("listeners", {"mx": ["*"]})
        rules = Rules(folder, settings, listeners, log=log, doors=doors, data=tmp_path if data else None, **more)
        made.append(rules)
        return rules if keep else rules.load()

    yield loader
    for rules in made:
        rules.stop()


def running(report: Report) -> list[str]:
    return [rule.name for rule in report.table.rules]


def test_they_are_off_unless_enabled(load: Any) -> None:
    assert running(load({})) == []
    assert running(load({"access": {"enabled": False, "order": 3}})) == []
    report = load(ON)
    assert running(report) == ["access"]
    assert report.problems == ()


@pytest.mark.parametrize("name", NAMES)
def test_each_runs_with_its_defaults_and_says_what_it_is(load: Any, name: str) -> None:
    report = load({name: {"enabled": True}})
    assert (running(report), report.problems) == ([name], ())
    about = bundled.about(report.table.rules[0].instance.source)
    assert about.summary.endswith(".") and about.hooks and about.order is not None
    assert [setting.name for setting in about.settings if not setting.help] == []


@pytest.mark.parametrize(("name", "example"), EXAMPLES)
def test_the_example_in_its_manual_is_one(load: Any, tmp_path: Path, name: str, example: str) -> None:
    for file in ("blocked-networks", "aliases", "routes"):
        (tmp_path / file).touch()
    report = load(tomllib.loads(example)["rule"])
    assert (running(report), report.problems) == ([name], ())


def test_the_versions_are_kept_as_of_any_other_rule(load: Any) -> None:
    first = load(ON, data=True).table.rules[0]
    report = load({"access": {"enabled": True, "deny_networks": ["192.0.2.1/24"]}}, data=True)
    (rule,) = report.table.rules
    assert rule.version == first.version
    assert rule.broken is not None and "has host bits set" in rule.broken


def test_order_stands_in_the_file_and_the_configuration_wins(load: Any) -> None:
    mine = {"5-first.py": "def on_rcpt(mail, rcpt): pass\n", "50-late.py": "def on_rcpt(mail, rcpt): pass\n"}
    assert running(load(ON, mine)) == ["5-first", "access", "50-late"]
    assert running(load({"access": {"enabled": True, "order": 99}}, mine)) == ["5-first", "50-late", "access"]


def test_a_listener_chooses_among_them(load: Any) -> None:
    table = load(ON, listeners={"mx": ["*"], "out": ["*", "!access"]}).table
    assert table.chains["mx"].on_connect and not table.chains["out"].on_connect


def test_settings_without_enabled_are_told(load: Any) -> None:
    report = load({"access": {"deny_networks": []}})
    assert [str(problem) for problem in report.problems] == [
        "[rule.access]: smtpproxy/rules/access.py is off: write enabled = true, or false"
    ]
    assert running(report) == []


def test_an_unknown_name_is_told_with_a_suggestion(load: Any) -> None:
    report = load({"acces": {"enabled": True}}, listeners={"mx": ["!accesss"]})
    assert [str(problem) for problem in report.problems] == [
        '[rule.acces]: there is no rule "acces"; did you mean "access"?',
        '[listener.mx] rules: there is no rule "accesss"; did you mean "access"?',
    ]


def test_a_wrong_setting_is_told_and_nothing_runs_in_its_place(load: Any) -> None:
    report = load({"access": {"enabled": True, "deny_network": []}})
    assert running(report) == []
    (problem,) = report.problems
    assert 'unknown setting "deny_network"; did you mean "deny_networks"?' in problem.text and problem.kept == ""


def test_a_rule_of_ones_own_cannot_have_the_name_of_one(load: Any) -> None:
    report = load(ON, {"access.py": "def on_rcpt(mail, rcpt): pass\n"})
    assert running(report) == []
    assert {problem.text for problem in report.problems} == {
        "access.py and smtpproxy/rules/access.py, which comes with smtpproxy, have one name: give your own another"
    }


def test_one_that_runs_goes_on_when_a_file_of_its_name_is_saved(load: Any, tmp_path: Path) -> None:
    rules = load(ON, rules=True)
    rules.load()
    (tmp_path / "scripts" / "access.py").write_text("def on_rcpt(mail, rcpt): pass\n")
    report = rules.load()
    assert [rule.file for rule in report.table.rules] == ["smtpproxy/rules/access.py"]
    assert [(problem.file, problem.kept) for problem in report.problems] == [("access.py", "")]


def test_a_helper_of_the_operators_is_none_of_theirs(load: Any) -> None:
    report = load({"headers": {"enabled": True}}, {"datetime.py": "UTC = None\n"})
    assert (running(report), report.problems) == (["headers"], ())


def test_ones_own_rule_goes_on_when_an_upgrade_brings_one_of_its_name(
    load: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine = {"access.py": "def on_rcpt(mail, rcpt): pass\n"}
    with monkeypatch.context() as before:
        before.setattr(bundled, "sources", dict)
        load({}, mine, data=True)
    report = load({}, mine, data=True)
    assert [rule.file for rule in report.table.rules] == ["access.py"]
    (problem,) = report.problems
    assert "have one name" in problem.text and problem.kept is None  # the server starts


def test_rules_lists_those_that_are_off(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["init", str(tmp_path / "mail")])
    capsys.readouterr()
    assert main(["rules", "--all", str(tmp_path / "mail")]) == 0
    on, _, off = capsys.readouterr().out.partition("\noff\n")
    assert "access" not in on
    assert [line.split()[0] for line in off.splitlines()] == NAMES
    (tmp_path / "mail" / "own.toml").write_text("[rule.access]\nenabled = true\n")
    assert main(["rules", "--all", str(tmp_path / "mail")]) == 0
    on, _, off = capsys.readouterr().out.partition("\noff\n")
    assert "1. access" in on and "access" not in [line.split()[0] for line in off.splitlines()]


def test_they_are_switched_on_and_off_live(start: Callable[..., RunningServer], upstream: FakeUpstream) -> None:
    toml = dedent(f"""
        [listener.mx]
        bind = "127.0.0.1:0"
        handoff = "inbound"
        [handoff.inbound]
        kind = "proxy"
        to = ["127.0.0.1:{upstream.port}"]
        [rule.access]
        enabled = true
        deny_networks = ["127.0.0.0/8"]
    """)
    server = start(toml)
    assert FakeClient(server.port).reply().code == 554
    (server.folder / "smtpproxy.toml").write_text(toml.replace("127.0.0.0/8", "192.0.2.0/24"))
    until(lambda: "settings_live" in server.log, what="settings are live")
    assert FakeClient(server.port).reply().code == 220


def test_a_wheel_has_them(tmp_path: Path) -> None:
    """As packages are found: each rule is a module of the package."""
    from setuptools import find_packages

    assert "smtpproxy.rules" in find_packages(str(bundled.FOLDER.parent.parent), include=["smtpproxy*"])
