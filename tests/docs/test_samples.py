"""What the manual shows works: every rule in it is loaded and run, every configuration read, every command parsed."""

from __future__ import annotations

import argparse
import importlib
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from smtpproxy.cli.main import COMMANDS, word_of
from smtpproxy.cli.run_it import answers
from smtpproxy.config.load import load
from smtpproxy.config.problem import ConfigErrors, Problem
from smtpproxy.dns.zone import Zone
from smtpproxy.scripting.hooks import HOOKS
from smtpproxy.scripting.list_files import ListFiles
from smtpproxy.scripting.loader import Rules
from smtpproxy.scripting.verdict import deny
from smtpproxy.testing.rules import Outcome, run_rule

ROOT = Path(__file__).parents[2]
PAGES = sorted([ROOT / "README.md", ROOT / "DEVELOPING.md", *(ROOT / "docs").rglob("*.md"), *(ROOT / "scripts").rglob("*.md")])
FENCE = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
FIRST_LINE = re.compile(r"(?:#|--) (\S+\.(?:py|lua|toml))$", re.MULTILINE)
LINK = re.compile(r"\]\(([^)#:]+)(?:#[^)]*)?\)")

ZONE = Zone({"client.example": {"MX": [[10, "mx.client.example"]]}, "7.2.0.192.in-addr.arpa": {"PTR": ["host.client.example"]}})
HTTP = {"https://reputation.example/client.example": {"score": 1}}
MESSAGE = b"Subject: hello\r\nX-Mailer: one\r\n\r\nHello.\r\n"


class Sample(NamedTuple):
    """A block of code: the page it stands on, its language, the file its first line names."""

    page: str
    language: str
    file: str
    text: str


def samples(page: Path) -> Iterator[Sample]:
    for language, text in FENCE.findall(page.read_text("utf-8")):
        named = FIRST_LINE.match(text)
        yield Sample(str(page.relative_to(ROOT)), language, named[1] if named else "", text)


ALL = [sample for page in PAGES for sample in samples(page)]
RULES = [sample for sample in ALL if re.fullmatch(r"scripts/[^/]+", sample.file)]
TESTS = [sample for sample in ALL if sample.file.startswith("scripts/tests/")]
ZONES = [sample for sample in ALL if sample.file == "zone.toml"]
TOML = [sample for sample in ALL if sample.language == "toml" and sample not in ZONES]


def name(sample: Sample) -> str:
    return f"{sample.page}:{sample.file}"


def write(page: str, folder: Path) -> None:
    """All files of a page, as a reader would save them."""
    (folder / "scripts" / "tests").mkdir(parents=True)
    (folder / "scripts").chmod(0o755)
    for sample in ALL:
        if sample.page == page and sample.file:
            target = folder / sample.file
            assert not target.exists(), f"{page} has two of {sample.file}"
            target.write_text(sample.text, "utf-8")


def instance(text: str, folder: Path) -> Any:
    """A configuration made of a sample and of what it leaves out."""
    handoff = re.search(r"^\[handoff\.(\w+)\]", text, re.MULTILINE)
    if not handoff:
        text += '\n[handoff.inbound]\nkind = "discard"\n'
    if "[listener." not in text:
        text += f'\n[listener.mx]\nbind = "127.0.0.1:0"\nhandoff = "{handoff[1] if handoff else "inbound"}"\n'
    file = folder / "smtpproxy.toml"
    file.write_text(text, "utf-8")
    return load(file)


def mistakes(text: str, folder: Path) -> tuple[Problem, ...]:
    try:
        instance(text, folder)
    except ConfigErrors as errors:
        return errors.problems
    return ()


def run(rule: Path, hook: str, **facts: Any) -> tuple[Outcome, list[dict[str, Any]]]:
    """What became of a hook, and how the rule failed if it did."""
    usual = {"message": MESSAGE, "viruses": {}, "zone": ZONE, "http": HTTP, "client": {"address": "192.0.2.7"}}
    outcome = run_rule(rule, hook, **usual | {"reply": "550 5.1.1 No", "verdict": deny("No")} | facts)
    return outcome, [fields for event, fields in outcome.logged if event == "rule_failed"]


def ask(rule: Path, hook: str, **facts: Any) -> Outcome:
    """Run a hook; a rule that fails fails the test."""
    outcome, failed = run(rule, hook, **facts)
    assert failed == []
    return outcome


def test_every_sample_is_of_a_known_kind() -> None:
    assert {sample.language for sample in ALL} <= {"python", "lua", "toml", "sh", "text", "cf", "ini", "eml"}
    code = [sample for sample in ALL if sample.language in ("python", "lua")]
    assert [sample for sample in code if not sample.file] == [], "the first line of a sample names its file"
    assert len(code) == len(RULES) + len(TESTS)


@pytest.mark.parametrize("page", sorted({sample.page for sample in RULES}))
def test_the_rules_of_a_page_go_live_together_with_its_settings(page: str, tmp_path: Path) -> None:
    write(page, tmp_path)
    settings: dict[str, Any] = {}
    handoffs: dict[str, str] = {}
    for sample in TOML:
        if sample.page == page:
            config = instance(sample.text, tmp_path)
            settings |= config.rule
            handoffs |= {name: handoff.kind for name, handoff in config.handoff.items()}
    doors = {"lists": ListFiles(tmp_path, log=lambda *_, **__: None)}
    rules = Rules(tmp_path / "scripts", settings, {"mx": ["*"]}, log=lambda *_, **__: None, doors=doors, handoffs=handoffs)
    assert rules.load().problems == ()
    rules.stop()


@pytest.mark.parametrize("sample", RULES, ids=name)
def test_every_hook_of_a_sample_runs(sample: Sample, tmp_path: Path) -> None:
    write(sample.page, tmp_path)
    rule = tmp_path / sample.file
    hooks = [hook for hook in HOOKS if re.search(rf"^(def|function) {hook}\(", sample.text, re.MULTILINE)]
    asked = [hook for hook in hooks if hook.startswith("on_") and HOOKS[hook].stage != "lifecycle"]
    assert {hook: run(rule, hook, recipients=["4711@example.com"])[1] for hook in asked} == {hook: [] for hook in asked}


# what the guide shows has a test that fails, and is followed by test_first_rule.py
@pytest.mark.parametrize("page", sorted({sample.page for sample in TESTS} - {"docs/first-rule.md"}))
def test_the_tests_of_rules_that_a_page_shows_pass(page: str, tmp_path: Path) -> None:
    write(page, tmp_path)
    command = [sys.executable, "-m", "smtpproxy", "test", "-v", "scripts"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=50, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    shown = sum(len(re.findall(r"^def test_", sample.text, re.MULTILINE)) for sample in TESTS if sample.page == page)
    assert done.stdout.count(" PASSED") >= shown


@pytest.fixture
def manual(tmp_path: Path) -> Path:
    write("docs/rules.md", tmp_path)
    return tmp_path / "scripts"


def test_the_rules_of_the_readme(tmp_path: Path) -> None:
    write("README.md", tmp_path)
    office = tmp_path / "scripts/30-office.py"
    nameless = ask(office, "on_rcpt", recipients=["office@example.com"], client={"address": "192.0.2.8"})
    assert nameless.reply.startswith("550 5.7.25 ")
    assert ask(office, "on_rcpt", recipients=["office@example.com"], client={"name": "host.example"}).reply == ""
    office = tmp_path / "scripts/31-office.lua"
    assert ask(office, "on_message", recipients=["office@example.com"], message=b"\r\n").reply.startswith("550 5.7.1 ")
    assert ask(office, "on_message", recipients=["office@example.com"]).reply == ""
    assert ask(office, "on_message", message=b"\r\n").reply == ""


def test_the_rule_of_the_start(tmp_path: Path) -> None:
    write("docs/start.md", tmp_path)
    rule = tmp_path / "scripts/30-greeting.py"
    assert ask(rule, "on_mail", client={"helo": "localhost"}).reply.startswith("451 4.7.1 ")
    assert ask(rule, "on_mail").reply == ""


@pytest.mark.parametrize("file", ["30-local-people.py", "31-local-people.lua"])
def test_local_people(manual: Path, file: str) -> None:
    assert ask(manual / file, "on_rcpt", recipients=["eve@example.com"]).reply == "550 5.1.1 No such user"
    assert ask(manual / file, "on_rcpt", recipients=["alice@example.com"]).reply == ""
    assert ask(manual / file, "on_rcpt", recipients=["carol@example.com"], settings={"people": ["carol"]}).reply == ""
    assert ask(manual / file, "on_message", settings={"large": 3}).mail.header["Subject"] == "[large] hello"


def test_partners(manual: Path) -> None:
    verdict = ask(manual / "40-partners.py", "on_rcpt", client={"address": "192.0.2.7"}).verdict
    assert verdict is not None and verdict.relay
    many = [f"r{number}@example.com" for number in range(51)]
    assert ask(manual / "40-partners.py", "on_rcpt", client={"address": "198.51.100.1"}, recipients=many).reply.startswith("452 ")


def test_notes_and_edits(manual: Path) -> None:
    mail = ask(manual / "50-notes.py", "on_mail", sender="").mail
    assert mail.notes.bulk is True and str(mail.results) == "bulk=pass"
    edited = ask(manual / "60-footer.lua", "on_message", sender="a@example.com").message
    assert edited == b"X-Footer: added\r\nSubject: hello\r\n\r\nHello.\r\n\r\n-- \r\nSent through example.com\r\n"


def test_routes_helpers_and_doors(manual: Path) -> None:
    assert ask(manual / "90-vips.py", "on_rcpt", sender="", recipients=["ceo@example.com"]).reply == "550 5.7.1 No bounces here"
    assert ask(manual / "80-sender.py", "on_mail", sender="a@nowhere.example").reply.startswith("450 4.1.8 ")
    assert ask(manual / "80-sender.py", "on_mail", sender="a@client.example").reply == ""


def test_a_failure_that_the_manual_shows(manual: Path) -> None:
    assert run_rule(manual / "95-careful.py", "on_rcpt", recipients=["x@example.com"]).reply.startswith("550 5.7.1 ")


@pytest.mark.parametrize("sample", TOML, ids=name)
def test_configurations_can_be_read(sample: Sample, tmp_path: Path) -> None:
    assert mistakes(sample.text, tmp_path) == ()


@pytest.mark.parametrize("sample", ZONES, ids=name)
def test_answers_of_the_dns_can_be_read(sample: Sample, tmp_path: Path) -> None:
    file = tmp_path / sample.file
    file.write_text(sample.text, "utf-8")
    assert all(Zone(answers(file)).query(name, type).records for name, types in answers(file).items() for type in types)


def commands() -> Iterator[tuple[str, str]]:
    for sample in ALL:
        if sample.language == "sh":
            for line in sample.text.splitlines():
                if line.strip() and not line.startswith("#"):
                    yield sample.page, line


@pytest.mark.parametrize(("page", "line"), list(commands()))
def test_commands_are_known_with_their_options(page: str, line: str) -> None:
    program, *words = shlex.split(line, comments=True)
    if program == "make":
        targets = (ROOT / "Makefile").read_text().partition(".PHONY:")[2].splitlines()[0].split()
        assert set(words) <= set(targets)
    elif program.rpartition("/")[2] == "smtpproxy":
        command = word_of(words)
        parser = argparse.ArgumentParser()
        importlib.import_module(f"smtpproxy.cli.{COMMANDS[command].module}").add(parser.add_subparsers())
        parser.parse_args([command, *words[len(command.split()) :]])
    else:
        assert program in ("kill", "systemctl"), f"{page}: what is {program}?"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    links = LINK.findall(page.read_text("utf-8"))
    assert [link for link in links if not (page.parent / link).exists()] == []


def test_the_manual_lists_every_event_of_the_log() -> None:
    source = "\n".join(file.read_text("utf-8") for file in (ROOT / "smtpproxy").rglob("*.py") if "testing" not in file.parts)
    logged = set(re.findall(r'\blog\(\s*"(\w+)"', source)) | set(re.findall(r'doors\["log"\]\("(\w+)"', source))
    logged |= set(re.findall(r'(?:Episode\([\w.]+, |\bself\()"(\w+)"', source))
    section = (ROOT / "docs/operating.md").read_text("utf-8").partition("## The log")[2].partition("\n## ")[0]
    assert sorted(logged) == sorted(re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE))
