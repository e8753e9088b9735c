"""`smtpproxy run`: what the rules would do with a message, and that it does nothing else."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from smtpproxy.testing.upstream import FakeUpstream

MESSAGE = b"From: a@client.example\r\nSubject: hello\r\n\r\nHello.\r\n"
LOCAL = """\
from smtpproxy.script import deny

def on_rcpt(mail, rcpt):
    if rcpt.local_part == "nobody":
        return deny("No such user", code="550 5.1.1")
"""
TAG = """\
function on_message(mail)
  mail.header["Subject"] = "[x] " .. mail.header["Subject"]
  mail.results:add("tagged", "pass")
end
"""
CONFIG = """
hostname = "mx.example.com"

[listener.mx]
bind = ["127.0.0.1:0"]
handoff = "inbound"

[listener.submission]
bind = ["127.0.0.1:0"]
handoff = "inbound"
rules = ["!10-local"]

[handoff.inbound]
kind = "proxy"
to = ["127.0.0.1:{port}"]

[handoff.archive]
kind = "quarantine"

[relaying]
domains = ["example.com"]
"""


class Runner:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "scripts").mkdir(mode=0o755)
        self.rule("10-local.py", LOCAL)
        self.rule("20-tag.lua", TAG)
        (folder / "mail.eml").write_bytes(MESSAGE)

    def rule(self, name: str, text: str) -> None:
        (self.folder / "scripts" / name).write_text(text)

    def run(self, *options: str, file: str = "mail.eml", stdin: bytes = b"") -> tuple[int, str, str]:
        """Exit status, and what it printed on standard output and error."""
        command = [sys.executable, "-m", "smtpproxy", "run", file, *options]
        done = subprocess.run(command, cwd=self.folder, input=stdin, capture_output=True, timeout=50, check=False)
        return done.returncode, done.stdout.decode(), done.stderr.decode()


@pytest.fixture
def dry(tmp_path: Path) -> Runner:
    return Runner(tmp_path)


@pytest.fixture
def configured(dry: Runner) -> Iterator[tuple[Runner, FakeUpstream]]:
    with FakeUpstream() as upstream:
        (dry.folder / "smtpproxy.toml").write_text(CONFIG.replace("{port}", str(upstream.port)))
        yield dry, upstream


def test_the_story_and_the_edits_of_a_message_that_is_accepted(dry: Runner) -> None:
    status, told, _ = dry.run("--to", "you@example.com", "--client", "192.0.2.7:host.example", "--helo", "host")
    assert status == 0
    assert told.startswith("the message at ") and "accepted by upstream: 250 2.0.0 Ok\n" in told
    assert "client: address 192.0.2.7, name host.example, helo host, listener try" in told
    assert "results: tagged=pass" in told
    for line in ("EHLO host", "on_rcpt 10-local [", "on_message 20-tag [", "replace Subject: [x] hello"):
        assert line in told
    assert "-Subject: hello\n+Subject: [x] hello\n" in told
    assert told.endswith("would go to <you@example.com> by the hand-off upstream\n")


def test_a_refusal_names_rule_and_line_and_ends_with_1(dry: Runner) -> None:
    status, told, _ = dry.run("--to", "nobody@example.com")
    assert status == 1
    first = told.splitlines()[0]
    assert first.startswith("<nobody@example.com> was refused at ")
    assert first.endswith(" by rule 10-local, 10-local.py:5 in on_rcpt: 550 5.1.1 No such user")


def test_one_recipient_of_two_is_not_all(dry: Runner) -> None:
    status, told, _ = dry.run("--to", "nobody@example.com", "--to", "you@example.com")
    assert status == 1
    assert "accepted by upstream" in told and "would go to <you@example.com>" in told


def test_only_the_rules_that_are_named_run(dry: Runner) -> None:
    status, told, _ = dry.run("--to", "nobody@example.com", "--rule", "20-tag")
    assert status == 0 and "10-local" not in told and "20-tag" in told
    elsewhere = dry.folder / "elsewhere"
    elsewhere.mkdir(mode=0o755)
    (elsewhere / "90-hello.py").write_text('def on_message(mail):\n    mail.header["X-Hello"] = "yes"\n')
    status, told, _ = dry.run("--rule", "elsewhere/90-hello.py")
    assert status == 0 and "+X-Hello: yes" in told and "20-tag" not in told


def test_the_message_as_it_would_go_on(dry: Runner) -> None:
    _, told, _ = dry.run("--show", "--rule", "20-tag")
    shown = told.partition("the message:\n")[2]
    assert shown.startswith("Received: from client.example ([192.0.2.1])")
    assert shown.endswith("From: a@client.example\r\nSubject: [x] hello\r\n\r\nHello.\r\n")


def test_a_message_from_standard_input_may_have_lf(dry: Runner) -> None:
    status, told, _ = dry.run("--show", "--rule", "20-tag", file="-", stdin=MESSAGE.replace(b"\r\n", b"\n"))
    assert status == 0
    assert "note: lines that did not end with CRLF were taken as if they did\n" in told
    assert told.endswith("Subject: [x] hello\r\n\r\nHello.\r\n")


def test_nothing_is_handed_on_and_nothing_kept(configured: tuple[Runner, FakeUpstream]) -> None:
    dry, upstream = configured
    dry.rule("30-store.py", """\
from smtpproxy.script import store

def on_message(mail):
    store.set("seen", "yes")
    mail.via = "archive"
""")  # fmt: skip
    before = sorted(dry.folder.rglob("*"))
    status, told, _ = dry.run("--to", "you@example.com")
    assert status == 0 and "would go to <you@example.com> by the hand-off archive" in told
    assert sorted(dry.folder.rglob("*")) == before
    assert upstream.conversations == []


def test_a_listener_has_its_own_rules(configured: tuple[Runner, FakeUpstream]) -> None:
    dry, _ = configured
    assert dry.run("--to", "nobody@example.com")[0] == 1
    status, told, _ = dry.run("--to", "nobody@example.com", "--listener", "submission", "--login", "alice")
    assert status == 0 and "login alice, listener submission" in told
    status, _, error = dry.run("--listener", "submision")
    assert status == 2 and 'did you mean "submission"?' in error


def test_relaying_is_refused_as_by_the_server(configured: tuple[Runner, FakeUpstream]) -> None:
    dry, _ = configured
    status, told, _ = dry.run("--to", "you@elsewhere.example")
    assert status == 1 and "554 5.7.1 <you@elsewhere.example>: Relay access denied" in told.splitlines()[0]


SENDER = """\
from smtpproxy.script import deny, dns, http

on_error = {"on_rcpt": "deny"}

def on_mail(mail, sender):
    if not dns.mx(sender.domain):
        return deny("No mail server", code="550 5.1.8")

def on_rcpt(mail, rcpt):
    http.get("http://127.0.0.1:9/")
"""


def test_the_world_outside_is_what_a_file_says(dry: Runner) -> None:
    dry.rule("30-sender.py", SENDER)
    status, told, _ = dry.run("--from", "a@client.example")
    assert status == 1 and "550 5.1.8 No mail server" in told.splitlines()[0]
    assert "note: these were answered with NXDOMAIN: client.example MX (--dns FILE gives answers, --live asks)" in told
    (dry.folder / "zone.toml").write_text('["client.example"]\nMX = [[10, "mx.client.example"]]\n')
    status, told, _ = dry.run("--from", "a@client.example", "--dns", "zone.toml")
    assert "asked     dns.mx client.example -> ((10, 'mx.client.example'),)" in told
    assert status == 1 and "is not asked in a dry run without --live" in told


def test_with_live_web_servers_are_asked(dry: Runner) -> None:
    dry.rule("30-sender.py", SENDER)
    (dry.folder / "zone.json").write_text('{"client.example": {"MX": [[10, "mx.client.example"]]}}')
    status, told, _ = dry.run("--from", "a@client.example", "--dns", "zone.json", "--live")
    assert status == 1 and "asked     http.get http://127.0.0.1:9/" in told and "dry run" not in told


def test_a_rule_that_fails_or_spins_is_told_of(dry: Runner) -> None:
    dry.rule("30-fail.py", "def on_message(mail):\n    return 1 / 0\n")
    status, told, _ = dry.run()
    assert status == 1 and "30-fail.py:2 in on_message: ZeroDivisionError" in told
    dry.rule("30-fail.py", "def on_message(mail):\n    while True:\n        pass\n")
    status, told, _ = dry.run()
    assert status == 1 and "Timeout: over its CPU budget at 30-fail.py" in told


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--rule", "20-tagg"], 'there is no rule "20-tagg"'),
        (["--from", "a b"], "a b"),
        (["--client", "nowhere"], "nowhere"),
        (["--dns", "nowhere.toml"], "nowhere.toml"),
        (["--config", "nowhere"], "nowhere"),
    ],
)
def test_what_makes_no_sense_ends_with_2(dry: Runner, options: list[str], words: str) -> None:
    status, told, error = dry.run(*options)
    assert (status, told) == (2, "")
    assert words in error and "Traceback" not in error


def test_no_message_and_no_rules(dry: Runner) -> None:
    status, _, error = dry.run(file="nowhere.eml")
    assert status == 2 and "nowhere.eml" in error
    dry.rule("20-tag.lua", "function on_message(mail")
    status, _, error = dry.run()
    assert status == 2 and "20-tag.lua:1" in error
