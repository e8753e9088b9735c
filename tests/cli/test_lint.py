"""`smtpproxy lint`: what is probably a mistake, with file and line; `smtpproxy check` warns of the same."""

from __future__ import annotations

from pathlib import Path

import pytest

from smtpproxy.cli.main import main
from smtpproxy.testing.instance import one_listener

ROOT = Path(__file__).parents[2]
TOML = one_listener("discard")


@pytest.fixture
def instance(tmp_path: Path) -> Path:
    (tmp_path / "scripts").mkdir(mode=0o755)
    (tmp_path / "smtpproxy.toml").write_text(TOML)
    return tmp_path


def lint(instance: Path, capsys: pytest.CaptureFixture[str], text: str, file: str = "20-rule.py") -> list[str]:
    """What is found in one rule of this text; the status must say whether there is anything."""
    path = instance / "scripts" / file
    path.write_text(text)
    status = main(["lint", str(path), "--config", str(instance)])
    lines = capsys.readouterr().out.splitlines()
    assert status == (0 if lines == ["nothing to complain about in 1 file"] else 1)
    return lines if status else []


def found(instance: Path, capsys: pytest.CaptureFixture[str], text: str, file: str = "20-rule.py") -> str:
    """The one thing that is found, without the file."""
    (line,) = lint(instance, capsys, text, file)
    assert line.startswith(f"{file}:")
    return line.removeprefix(f"{file}:")


@pytest.mark.parametrize("imports", ["from smtpproxy.script import deny", "from smtpproxy.script import deny as no\ndeny = no"])
def test_a_verdict_that_is_not_returned(instance: Path, capsys: pytest.CaptureFixture[str], imports: str) -> None:
    name = "no" if "as no" in imports else "deny"
    text = f"{imports}\ndef on_rcpt(mail, rcpt):\n    if rcpt.domain:\n        {name}('No')\n    return {name}('No')\n"
    line = 4 + imports.count("\n")
    assert found(instance, capsys, text) == f"{line}: deny() decides nothing where it stands: write `return deny(...)`"


@pytest.mark.parametrize(
    ("body", "line"),
    [
        ('if rcpt.domain == "x" then deny("No") end', 2),
        ('local x = 1\n  deny("No", { code = "550 5.1.1" })', 3),
        ('-- deny("in a comment")\n  log.info("deny(\'in a text\')")\n  deny "No"', 4),
        ('local f = function() return 1 end deny("No")', 2),
    ],
)
def test_a_verdict_that_is_not_returned_in_lua(instance: Path, capsys: pytest.CaptureFixture[str], body: str, line: int) -> None:
    told = found(instance, capsys, f"function on_rcpt(mail, rcpt)\n  {body}\nend\n", "20-rule.lua")
    assert told == f"{line}: deny() decides nothing where it stands: write `return deny(...)`"


@pytest.mark.parametrize(
    "body",
    ['return deny("No")', 'local v = deny("No") return v', 'local t = { deny("No") } return t[1]',
     'local v = rcpt.domain == "x" and deny("No") or nil\n  return v', '--[==[ deny("No") ]==]', 'local t = [[\ndeny("No")]]'],
)  # fmt: skip
def test_verdicts_in_lua_that_are_used(instance: Path, capsys: pytest.CaptureFixture[str], body: str) -> None:
    assert lint(instance, capsys, f"function on_rcpt(mail, rcpt)\n  {body}\nend\n", "20-rule.lua") == []


SETTINGS = "from smtpproxy.script import settings\nclass Settings:\n    one: int = 1\n    two: int = 2\n"


def test_settings_that_are_never_read(instance: Path, capsys: pytest.CaptureFixture[str]) -> None:
    read = "def on_data(mail): mail.notes.one = settings.one\n"
    assert found(instance, capsys, SETTINGS + read) == '4: setting "two" is declared and never read'
    whole = "def on_data(mail): mail.notes.one = getattr(settings, mail.notes.name)\n"
    assert lint(instance, capsys, SETTINGS + whole) == []


def test_settings_that_lua_never_reads(instance: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = "settings = { one = 1,\n two = { three = 3 } }\nfunction on_data(mail) mail.notes.x = settings.one end\n"
    assert found(instance, capsys, text, "20-rule.lua") == '2: setting "two" is declared and never read'
    assert lint(instance, capsys, text.replace("settings.one", 'settings["one"]'), "20-rule.lua") == []


def test_settings_of_the_configuration_that_the_rule_does_not_know(instance: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (instance / "rules.toml").write_text("[rule.20-rule]\nonne = 2\n")
    text = SETTINGS + "def on_data(mail): mail.notes.x = settings.one + settings.two\n"
    assert 'unknown setting "onne"; did you mean "one"?' in found(instance, capsys, text)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("from smtpproxy.script import denny", '1: smtpproxy.script has no "denny"; did you mean "deny"?'),
        ("def on_data(mail):\n    from smtpproxy.script import denny", '2: smtpproxy.script has no "denny"'),
        ("from smtpproxy import script\ndef on_data(mail):\n    return script.denny('No')",
         '3: smtpproxy.script has no "denny"'),
        ("from smtpproxy.script import dns\ndef on_mail(mail, sender):\n    dns.mxs('x')",
         '3: dns has no "mxs"; did you mean "mx"?'),
    ],
)  # fmt: skip
def test_names_that_the_api_does_not_have(instance: Path, capsys: pytest.CaptureFixture[str], text: str, told: str) -> None:
    lines = lint(instance, capsys, f"{text}\n")
    assert any(line.startswith(f"20-rule.py:{told}") for line in lines), lines


@pytest.mark.parametrize(
    ("text", "line", "told"),
    [
        ("def on_data(mail):\n    import psycopg2",
         2, "psycopg2 holds everybody up: it waits for the database in C; use psycopg 3"),
        ("import sqlite3 as db\ndef on_data(mail):\n    db.connect('x')", 3, "sqlite3.connect() holds everybody up"),
        ("from os import system\ndef on_data(mail):\n    system('x')",
         3, "os.system() holds everybody up: it waits for the program"),
        ("from gevent import monkey\ndef on_data(mail):\n    monkey.get_original('time', 'sleep')(1)",
         3, "gevent.monkey.get_original()"),
        ("import re\ndef on_data(mail):\n    re.search(r'^(\\w+\\s?)*$|(a+)+$', 'x')", 3, "repeats a repetition"),
        ("import re\nP = re.compile('(?:a|b+)*c')\ndef on_data(mail): P.match('x')", 2, "repeats a repetition"),
    ],
)  # fmt: skip
def test_calls_that_hold_everybody_up(
    instance: Path, capsys: pytest.CaptureFixture[str], text: str, line: int, told: str
) -> None:
    lines = lint(instance, capsys, f"{text}\n")
    assert any(one.startswith(f"20-rule.py:{line}: ") and told in one for one in lines), lines


@pytest.mark.parametrize(
    "text",
    ["import time\ndef on_data(mail): time.sleep(1)", "import subprocess\ndef on_data(mail): subprocess.run(['true'])",
     "import re\nP = re.compile(r'^(?:[a-z]+\\.)+[a-z]+$')\ndef on_data(mail): P.match('x')",
     "import socket\ndef on_data(mail): socket.create_connection(('x', 1))"],
)  # fmt: skip
def test_what_waits_as_it_should(instance: Path, capsys: pytest.CaptureFixture[str], text: str) -> None:
    assert lint(instance, capsys, f"{text}\n") == []


@pytest.mark.parametrize(
    ("hook", "why"),
    [
        ("on_delivered(delivery)", 'no [handoff.NAME] has kind = "queue"'),
        ("watch_bounced(delivery)", 'no [handoff.NAME] has kind = "queue"'),
        ("on_auth(client, login)", "no [listener.NAME] has tls or auth_without_tls"),
        ("on_starttls(client)", "no [listener.NAME] has tls"),
    ],
)
def test_hooks_whose_moment_never_comes(instance: Path, capsys: pytest.CaptureFixture[str], hook: str, why: str) -> None:
    name = hook.partition("(")[0]
    assert found(instance, capsys, f"\ndef {hook}: pass\n") == f"2: {name} can never run: {why}"
    lua = hook.replace(":", "")
    assert found(instance, capsys, f"function {lua} end\n", "30-rule.lua") == f"1: {name} can never run: {why}"


def test_a_rule_that_no_listener_runs(instance: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (instance / "smtpproxy.toml").write_text(one_listener("discard", listener='rules = ["!50-other"]'))
    told = found(instance, capsys, "def on_data(mail): pass\n", "50-other.py")
    assert told.startswith("1: on_data can never run: no listener runs this rule")


def test_a_rule_that_is_switched_off(instance: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (instance / "rules.toml").write_text("[rule.20-rule]\nenabled = false\n")
    assert "enabled = false" in found(instance, capsys, "def on_data(mail): pass\n")


def test_a_hook_behind_one_that_decides_whatever_comes(instance: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first = instance / "scripts" / "10-first.py"
    first.write_text("from smtpproxy.script import accept\ndef on_rcpt(mail, rcpt):\n    x = 1\n    return accept()\n")
    told = found(instance, capsys, "def on_rcpt(mail, rcpt): pass\n")
    assert told == "1: on_rcpt can never run: 10-first answers accept() before it whatever comes, at 10-first.py:4"
    first.write_text(first.read_text().replace("x = 1", "if rcpt.domain: return"))
    assert lint(instance, capsys, "def on_rcpt(mail, rcpt): pass\n") == []


def test_a_hook_that_is_defined_twice(instance: Path, capsys: pytest.CaptureFixture[str]) -> None:
    twice = "def on_data(mail): pass\ndef on_data(mail): return None\n"
    assert found(instance, capsys, twice) == "1: on_data can never run: line 2 defines it again"


def test_a_rule_that_does_not_load_is_told_with_its_line(instance: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert found(instance, capsys, "x = 1\ndef on_data(mail)\n") == "2: SyntaxError: expected ':'"


def test_all_files_of_the_folder(instance: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (instance / "scripts" / "20-a.py").write_text("from smtpproxy.script import deny\ndef on_data(mail): deny('No')\n")
    (instance / "scripts" / "30-b.lua").write_text("function on_data(mail) deny('No') end\n")
    assert main(["lint", "--config", str(instance)]) == 1
    assert [line.split(": ")[0] for line in capsys.readouterr().out.splitlines()] == ["20-a.py:2", "30-b.lua:1"]
    assert main(["check", "--config", str(instance)]) == 0
    warned = capsys.readouterr().err.splitlines()
    assert len(warned) == 2 and warned[0].startswith("warning: 20-a.py:2: deny() decides nothing")


def test_what_is_no_rule(instance: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["lint", str(instance / "smtpproxy.toml"), "--config", str(instance)]) == 2
    assert "is no rule" in capsys.readouterr().err


def test_what_we_ship_is_clean(instance: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for folder in (ROOT / "scripts", ROOT / "scripts/samples", ROOT / "scripts/samples/lua"):
        for file in [*folder.glob("*.py"), *folder.glob("*.lua")]:
            text = file.read_text("utf-8")
            told = lint(instance, capsys, text, file.name)
            no_use_here = "can never run: no ["
            assert [line for line in told if no_use_here not in line] == []
            (instance / "scripts" / file.name).unlink()


@pytest.mark.parametrize("words", [["30-mine"], ["30-mine", "--lua"]])
def test_a_new_rule_is_clean(
    instance: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, words: list[str]
) -> None:
    monkeypatch.chdir(instance)
    assert main(["rules", "new", *words]) == 0
    assert main(["lint"]) == 0, capsys.readouterr().out
