"""An instance is written, checked and explained from the command line."""

from __future__ import annotations

import io
import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from smtpproxy.cli.instance import harmless_rules, their_tests
from smtpproxy.cli.main import COMMANDS, main


@pytest.fixture
def instance(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Path:
    folder = tmp_path / "mail"
    assert main(["init", str(folder)]) == 0
    capsys.readouterr()
    return folder


def test_init_writes_an_instance_that_passes_check(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["smtpproxy", "init"])
    folder = tmp_path / "new" / "mail"
    assert main(["init", str(folder)]) == 0
    told = capsys.readouterr().out
    assert "listeners.toml" in told
    assert f"smtpproxy serve --config {folder}" in told
    assert main(["check", str(folder)]) == 0
    assert capsys.readouterr().out.startswith("ok\n  mx: 127.0.0.1:2525 -> inbound (proxy to 127.0.0.1:10025)\n")


def test_init_brings_the_harmless_rules(instance: Path) -> None:
    assert {file.name for file in (instance / "scripts").glob("*.*")} == {file.name for file in harmless_rules()}
    assert {file.name for file in (instance / "scripts/tests").iterdir()} == {file.name for file in their_tests()} != set()


def test_only_the_owner_may_write_the_rules_of_an_instance(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        main(["init", str(tmp_path / "mail")])
    finally:
        os.umask(before)
    assert (tmp_path / "mail" / "scripts").stat().st_mode & 0o022 == 0


def test_init_never_overwrites(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "mine").write_text("precious")
    assert main(["init", str(tmp_path)]) == 1
    assert "nothing was written" in capsys.readouterr().err
    assert [file.name for file in tmp_path.iterdir()] == ["mine"]
    assert main(["init", str(tmp_path / "mine")]) == 1


def test_init_takes_an_empty_folder(tmp_path: Path) -> None:
    assert main(["init", str(tmp_path)]) == 0


def test_check_takes_the_folder_either_way(
    instance: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["check", "--config", str(instance)]) == 0
    monkeypatch.chdir(instance)
    assert main(["check"]) == 0


def test_check_tells_every_mistake(instance: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (instance / "more.toml").write_text('worker = 2\n[handoff.b]\nkind = "relai"\n')
    assert main(["check", str(instance)]) == 1
    assert capsys.readouterr().err.splitlines() == [
        'more.toml:1: worker: unknown key; did you mean "workers"?',
        "more.toml:3: handoff.b.kind: 'relai' is not one of proxy, relay, queue, quarantine, discard; did you mean \"relay\"?",
    ]


def test_check_tells_broken_rules(instance: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (instance / "scripts" / "90-broken.py").write_text("def on_rcpt(mail, rcpt)\n    return None\n")
    (instance / "scripts" / "91-slip.py").write_text("def on_rctp(mail, rcpt):\n    return None\n")
    assert main(["check", str(instance)]) == 1
    first, second = capsys.readouterr().err.splitlines()
    assert first.startswith("90-broken.py:1: ")
    assert second.startswith("91-slip.py:1: ")
    assert 'did you mean "on_rcpt"?' in second


def test_check_tells_of_a_rule_that_is_not_there(instance: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (instance / "scripts" / "90-own.py").write_text("def on_rcpt(mail, rcpt):\n    return None\n")
    more = '[listener.b]\nbind = "127.0.0.1:2526"\nhandoff = "inbound"\nrules = ["*", "!90-onw"]\n'
    (instance / "more.toml").write_text(more)
    assert main(["check", str(instance)]) == 1
    assert 'there is no rule "90-onw"; did you mean "90-own"?' in capsys.readouterr().err


def test_check_warns_of_an_open_relay(instance: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (instance / "relaying.toml").write_text('[relaying]\nnetworks = ["0.0.0.0/0"]\n')
    assert main(["check", str(instance)]) == 0
    assert "open relay" in capsys.readouterr().err


LOGINS = """
[listener.submission]
bind = "127.0.0.1:2587"
handoff = "inbound"
auth_without_tls = true
"""


def test_check_names_the_accounts_that_keep_others_from_scram(
    instance: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (instance / "more.toml").write_text(LOGINS + 'auth = "staff"\n[users.staff]\nkind = "file"\npath = "people"\n')
    for name, more in (("ann", ()), ("bob", ("--no-scram",))):
        monkeypatch.setattr("sys.stdin", io.StringIO("secret\n"))
        assert main(["user", "add", "--file", str(instance / "people"), name, "--password-stdin", *more]) == 0
    assert main(["check", str(instance)]) == 0
    assert f"users.staff: {instance / 'people'}: SCRAM-SHA-256 is not offered, as bob could not" in capsys.readouterr().err


def test_check_warns_where_nobody_can_log_in(instance: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (instance / "more.toml").write_text(LOGINS + "auth_required = true\n")
    assert main(["check", str(instance)]) == 0
    assert "listener.submission.auth_required: nobody can log in" in capsys.readouterr().err
    (instance / "scripts" / "50-login.py").write_text("def on_auth(client, login):\n    return None\n")
    assert main(["check", str(instance)]) == 0
    assert "nobody can log in" not in capsys.readouterr().err


def test_check_warns_of_a_file_of_accounts_that_cannot_be_read(instance: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (instance / "more.toml").write_text(LOGINS + 'auth = "staff"\n[users.staff]\nkind = "file"\npath = "people"\n')
    assert main(["check", str(instance)]) == 0
    assert "people: No such file or directory; nobody can log in" in capsys.readouterr().err


def test_check_of_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", str(tmp_path)]) == 1
    assert "smtpproxy init" in capsys.readouterr().err


def test_config_says_why(instance: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["config", "--why", "handoff.inbound.to", "--config", str(instance)]) == 0
    value, place, words = capsys.readouterr().out.splitlines()
    assert value == 'handoff.inbound.to = ["127.0.0.1:10025"]'
    assert place.strip().startswith("handoffs.toml:")
    assert words.strip().startswith("Upstream servers")


def test_config_says_what_is_a_default(instance: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["config", "--why", "limits.timeouts.command", "--config", str(instance)]) == 0
    assert capsys.readouterr().out.splitlines()[:2] == ['limits.timeouts.command = "5m"', "  the default"]


def test_config_explains_whole_tables(instance: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["config", "--why", "listener", "--config", str(instance)]) == 0
    assert "\nlistener.mx.bare_newline = " in capsys.readouterr().out


def test_config_of_a_setting_that_is_not_there(instance: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["config", "--why", "listener.mx.bnd", "--config", str(instance)]) == 1
    assert capsys.readouterr().err == 'there is no "bnd" in [listener.mx]; did you mean "bind"?\n'


@pytest.mark.parametrize(
    ("word", "told"),
    [
        ("chek", 'there is no command "chek"; did you mean "check"?'),
        ("verify", '"verify" comes with a later version'),
    ],
)
def test_a_command_that_is_not_there(word: str, told: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([word]) == 2
    assert capsys.readouterr().err == f"smtpproxy: {told}\n"


def test_no_command_prints_them_all(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    told = capsys.readouterr().err
    assert [name for name in COMMANDS if f"\n    {name}" not in told] == []


@pytest.mark.parametrize("word", COMMANDS)
def test_every_command_has_help(word: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main([*word.split(), "--help"])
    assert ended.value.code == 0
    assert f"usage: smtpproxy {word}" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "unneeded"), [(["--help"], ("gevent", "msgspec", "ssl")), (["check", "/none"], ("gevent",))]
)
def test_a_command_imports_only_what_it_needs(arguments: list[str], unneeded: tuple[str, ...]) -> None:
    program = f"""
import sys
from smtpproxy.cli.main import main
try:
    main({arguments!r})
except SystemExit:
    pass
print("loaded:", *(name for name in {unneeded!r} if name in sys.modules))
"""
    command = [sys.executable, "-c", program]
    ended = subprocess.run(command, capture_output=True, text=True, check=True, timeout=30)
    assert ended.stdout.splitlines()[-1].strip() == "loaded:"


def test_help_comes_at_once() -> None:
    """Hardly later than the interpreter itself, in processor time; the best of three, for the machine may be busy."""
    help_, nothing = (min(cost(*arguments) for _ in range(3)) for arguments in (["-m", "smtpproxy", "--help"], ["-c", ""]))
    assert help_ - nothing < 0.1


def cost(*arguments: str) -> float:
    """Processor time of a run of Python, in seconds."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, *arguments], capture_output=True, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def test_a_command_that_serves_runs_on_gevent() -> None:
    program = """
import sys
from smtpproxy.cli.main import entry
sys.argv[1:] = ["serve", "--help"]
try:
    entry()
except SystemExit:
    from gevent.monkey import is_module_patched
    print(is_module_patched("socket"), is_module_patched("ssl"))
"""
    command = [sys.executable, "-c", program]
    ended = subprocess.run(command, capture_output=True, text=True, check=True, timeout=30)
    assert ended.stdout.splitlines()[-1] == "True True"
