"""`smtpproxy rules new` and `smtpproxy rules add`: files for the folder of rules that can be used as they are."""

from __future__ import annotations

import os
import runpy
import subprocess
import sys
from pathlib import Path
from unittest.mock import patch

import pytest
from setuptools import Command, Distribution, find_packages

from smtpproxy.cli.instance import samples
from smtpproxy.cli.main import main
from smtpproxy.testing.rules import run_rule

ROOT = Path(__file__).parents[2]


@pytest.fixture
def scripts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of rules of `smtpproxy try`, which needs no configuration."""
    folder = tmp_path / "scripts"
    folder.mkdir(mode=0o755)
    monkeypatch.chdir(tmp_path)
    return folder


@pytest.mark.parametrize(("words", "file"), [(["30-mine"], "30-mine.py"), (["30-mine", "--lua"], "30-mine.lua"),
                                             (["--lua", "30-mine"], "30-mine.lua"), (["mine.lua"], "mine.lua")])  # fmt: skip
def test_a_new_rule_runs_and_refuses_whom_its_settings_name(
    scripts: Path, capsys: pytest.CaptureFixture[str], words: list[str], file: str
) -> None:
    assert main(["rules", "new", *words]) == 0
    printed = capsys.readouterr().out
    assert f"Written: {scripts / file}" in printed and "Next: edit it" in printed
    assert run_rule(scripts / file, "on_rcpt").reply == ""
    refused = run_rule(scripts / file, "on_rcpt", settings={"refused": ["recipient@example.com"]})
    assert refused.reply == "550 5.1.1 No such user"
    assert [fields["text"] for event, fields in refused.logged if event == "rule"] == ["refused"]


def test_what_is_there_is_not_overwritten(scripts: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (scripts / "30-mine.lua").write_text("-- mine")
    assert main(["rules", "new", "30-mine"]) == 1
    assert "30-mine.lua is there already" in capsys.readouterr().err
    assert [path.read_text() for path in scripts.iterdir()] == ["-- mine"]


@pytest.mark.parametrize("name", ["_mine", "../mine", "a b", ""])
def test_what_is_no_name_of_a_rule(scripts: Path, name: str) -> None:
    assert main(["rules", "new", name]) == 1
    assert list(scripts.iterdir()) == []


def test_a_sample_is_copied_and_its_settings_are_told(scripts: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["rules", "add", "rate-limit-by-user"]) == 0
    printed = capsys.readouterr().out
    assert "  [rule.rate-limit-by-user]\n  recipients = 200\n  within = \"1h\"\n" in printed
    assert (scripts / "rate-limit-by-user.py").read_bytes() == (ROOT / "scripts/samples/rate-limit-by-user.py").read_bytes()


@pytest.mark.parametrize("lua", [False, True])
def test_every_sample_can_be_added_and_goes_live(
    scripts: Path, capsys: pytest.CaptureFixture[str], lua: bool
) -> None:
    names = list(samples(lua=lua))
    assert names
    for name in names:
        assert main(["rules", "add", name, *(["--lua"] if lua else [])]) == 0
        assert "Not live" not in capsys.readouterr().out


def test_a_sample_that_there_is_not(scripts: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["rules", "add", "disclamer"]) == 1
    told = capsys.readouterr().err
    assert 'did you mean "disclaimer"?' in told and "strip-attachments " in told
    assert main(["rules", "add", "disclaimer", "--lua"]) == 1
    assert list(scripts.iterdir()) == []


def test_a_sample_does_not_overwrite(scripts: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (scripts / "disclaimer.py").write_text("# mine")
    assert main(["rules", "add", "disclaimer"]) == 1
    assert (scripts / "disclaimer.py").read_text() == "# mine"


def test_an_installed_package_has_the_samples_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    built = tmp_path / "built"
    monkeypatch.chdir(ROOT)
    packages = find_packages(include=["smtpproxy*"])
    about = {"script_name": "setup.py", "packages": packages, "package_data": {"": ["*.lua"]}}
    command = build_command()(Distribution(about))
    command.ensure_finalized()
    command.build_lib = command.build_temp = str(built)
    command.run()
    (tmp_path / "scripts").mkdir(mode=0o755)
    done = subprocess.run(
        [sys.executable, "-m", "smtpproxy", "rules", "add", "strip-attachments", "--lua"],
        cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(built)}, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert "endings = [" in done.stdout
    assert (tmp_path / "scripts/strip-attachments.lua").is_file()
    assert (built / "smtpproxy/scripts/samples/lua/strip-attachments.lua").is_file()


def build_command() -> type[Command]:
    """What setup.py has put in place of build_py."""
    with patch("setuptools.setup") as setup:
        runpy.run_path(str(ROOT / "setup.py"))
    return setup.call_args.kwargs["cmdclass"]["build_py"]
