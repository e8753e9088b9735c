"""`smtpproxy rules`: order, version, failure verdict and budget of what runs, hook by hook."""

from __future__ import annotations

from pathlib import Path

import pytest

from smtpproxy.cli.main import main

ONE = "def on_rcpt(mail, rcpt): pass\n"
TWO = 'on_error = "deny"\non_timeout = {"on_message": "continue"}\ndef on_rcpt(mail, rcpt): pass\ndef on_message(mail): pass\n'


@pytest.fixture
def instance(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Path:
    folder = tmp_path / "mail"
    main(["init", str(folder)])
    for rule in [path for path in (folder / "scripts").iterdir() if path.is_file()]:
        rule.unlink()
    (folder / "scripts" / "20-one.py").write_text(ONE)
    (folder / "scripts" / "10-two.py").write_text(TWO)
    capsys.readouterr()
    return folder


def told(capsys: pytest.CaptureFixture[str], *arguments: str) -> list[str]:
    assert main(["rules", *arguments]) == 0
    return capsys.readouterr().out.splitlines()


def test_rules_by_hook_in_their_order(instance: Path, capsys: pytest.CaptureFixture[str]) -> None:
    title, *lines = told(capsys, "--config", str(instance))
    assert title.startswith("table ") and title.endswith(f", 2 rules from {instance}/scripts")
    words = [line.split() for line in lines]
    assert [line[:2] for line in words] == [["on_rcpt"], ["1.", "10-two"], ["2.", "20-one"], ["on_message"], ["1.", "10-two"]]
    version = words[1][2]
    assert len(version) == 12 and words[4][2] == version != words[2][2]
    assert " ".join(words[1][3:]) == "on error deny, on timeout defer, 5 s a call, 10 s the chain"
    assert " ".join(words[2][3:]) == "on error defer, on timeout defer, 5 s a call, 10 s the chain"
    assert " ".join(words[4][3:]) == "on error deny, on timeout continue, 5 s a call, 60 s the chain"


def test_the_configuration_of_a_rule(instance: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (instance / "own.toml").write_text('[rule.20-one]\norder = 1\nwall = "200ms"\nskip = ["trusted"]\n')
    lines = told(capsys, str(instance))
    assert "20-one" in lines[2] and lines[2].endswith("0.2 s a call, 10 s the chain not for trusted")


def test_a_rule_of_some_listeners(instance: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (instance / "own.toml").write_text(
        '[listener.second]\nbind = "127.0.0.1:2526"\nhandoff = "inbound"\nrules = ["*", "!20-one"]\n'
    )
    assert told(capsys, str(instance))[3].endswith(" only on mx")


def test_a_broken_rule(instance: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (instance / "scripts" / "30-bad.py").write_text("def on_rcpt(mail):\n    pass\n")
    assert main(["rules", str(instance)]) == 1
    printed = capsys.readouterr()
    assert "10-two" in printed.out
    assert printed.err.startswith("30-bad.py:1: on_rcpt takes 2 arguments: on_rcpt(mail, rcpt)")


def test_it_leaves_nothing_in_the_instance(instance: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = sorted(instance.rglob("*"))
    told(capsys, str(instance))
    assert sorted(instance.rglob("*")) == before


def test_without_a_configuration_the_rules_of_try(
    instance: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for file in instance.glob("*.toml"):
        file.unlink()
    (instance / "pyproject.toml").write_text('[project]\nname = "other"\n')
    monkeypatch.chdir(instance)
    assert told(capsys)[0].endswith(f", 2 rules from {instance}/scripts")


@pytest.mark.parametrize("command", ["check", "serve"])
def test_other_commands_need_a_configuration(
    command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main([command]) == 1
    assert "there is no configuration in the current folder; name one with --config" in capsys.readouterr().err
