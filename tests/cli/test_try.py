"""`smtpproxy try`: no configuration, rules live on save, a story for each message, no trace left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from smtpproxy.testing.client import FakeClient
from smtpproxy.testing.waiting import until


def save(trying: Any, old: str, new: str) -> None:
    rule = trying.folder / "scripts" / "10-hello.py"
    rule.write_text(rule.read_text().replace(old, new))


def test_it_says_what_to_type_next_and_that_works(trying: Any) -> None:
    hints = [line.strip() for line in trying.printed.splitlines() if " send --" in line]
    assert hints[0] == f"{sys.executable} -m smtpproxy send --port {trying.port} --to you@example.com"
    statuses = [subprocess.run(hint, shell=True, capture_output=True, timeout=30, check=False).returncode for hint in hints]
    assert statuses == [0, 1]


def test_a_message_goes_the_whole_way_to_the_embedded_upstream(trying: Any) -> None:
    sent = trying.send("--to", "you@example.com", "--subject", "hello", "--helo", "client.example")
    assert sent.returncode == 0, sent.stdout
    (kept,) = (trying.folder / ".try" / "upstream").glob("*.eml")
    assert f"kept as {kept.name}" in sent.stdout
    assert b"Subject: hello\r\n" in kept.read_bytes()
    assert kept.read_bytes().startswith(b"Received: from client.example (")
    assert "XCLIENT ADDR=127.0.0.1 " in trying.says("kept as")


def test_the_story_names_sender_and_recipients_on_the_console_and_in_the_file(trying: Any) -> None:
    trying.send("--from", "alice@client.example", "--to", "you@example.com,nobody@example.com")
    heading = "from <alice@client.example>  to <you@example.com>, <nobody@example.com> (refused)\n"
    told = trying.says(heading)
    assert "on_rcpt 10-hello [" in told and "deny 550 5.1.1 Nobody is not here at line 5" in told
    story = told[told.index("message ", told.index("Ctrl-C")) :]
    until(lambda: (trying.folder / ".try" / "stories.log").read_text() == story)


def test_other_domains_are_refused(trying: Any) -> None:
    sent = trying.send("--to", "you@example.org")
    assert sent.returncode == 1
    assert "554 5.7.1" in sent.stdout


def test_a_save_changes_the_verdict_of_an_open_session(trying: Any) -> None:
    with FakeClient.greeted(trying.port) as client:
        client.send("MAIL FROM:<a@client.example>")
        assert client.send("RCPT TO:<nobody@example.com>") == "550 5.1.1 Nobody is not here"
        client.send("RSET")
        save(trying, "Nobody is not here", "Nobody at all")
        trying.says("rule 10-hello is live, version ", times=2)
        client.send("MAIL FROM:<a@client.example>")
        assert client.send("RCPT TO:<nobody@example.com>") == "550 5.1.1 Nobody at all"
        assert client.send("RCPT TO:<you@example.com>").startswith("250 ")
        assert client.message(b"Subject: still here\r\n\r\n").startswith("250 ")


def test_a_broken_save_tells_the_line_and_the_old_version_goes_on(trying: Any) -> None:
    save(trying, "on_rcpt(mail, rcpt):", "on_rcpt(mail, rcpt)")
    trying.says("10-hello.py:3: SyntaxError: ")
    trying.says("the version before it goes on")
    assert "550 5.1.1 Nobody is not here" in trying.send("--to", "nobody@example.com").stdout
    save(trying, "on_rcpt(mail, rcpt)", "on_rcpt(mail, rcpt):")
    trying.says("rule 10-hello is live, version ", times=2)


def test_a_rule_that_fails_is_told_with_its_line(trying: Any) -> None:
    (trying.folder / "scripts" / "20-bad.lua").write_text('function on_mail(mail, sender)\n  error("oh")\nend\n')
    trying.says("rule 20-bad is live")
    assert trying.send("--to", "you@example.com").returncode == 1
    trying.says("20-bad.lua:2: LuaError: oh (rule 20-bad, on_mail, verdict defer)")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_it_ends_with_its_upstream(trying: Any, number: int) -> None:
    offspring = trying.offspring
    assert len(offspring) == 1
    assert trying.end(number) == 0
    assert not any(child.exists() for child in offspring)


def test_the_upstream_ends_however_it_ends(trying: Any) -> None:
    (upstream,) = trying.offspring
    assert trying.end(signal.SIGKILL) == -signal.SIGKILL
    assert until(lambda: not upstream.exists(), what="the end of the upstream")


def test_a_port_that_is_taken(trying: Any, run: Callable[..., Any]) -> None:
    other = run("try", "--port", str(trying.port))
    assert other.process.wait(20) == 1
    assert f"cannot listen on 127.0.0.1:{trying.port} (try): Address already in use" in other.printed
    assert f"{sys.executable} -m smtpproxy try --port 0" in other.printed


def test_the_shipped_rules_are_copied_where_there_are_none(run: Callable[..., Any]) -> None:
    started = run("try", "--port", "0")
    started.says("Then edit a file in .try/scripts, save it")
    rule = started.folder / ".try" / "scripts" / "10-hello.py"
    rule.write_text(rule.read_text().replace("nobody@", "you@"))
    started.says("rule 10-hello is live", times=2)
    assert started.send("--to", "you@example.com").returncode == 1


def test_a_folder_of_rules_that_is_not_there(run: Callable[..., Any]) -> None:
    started = run("try", "--port", "0", "--scripts", "none")
    assert started.process.wait(20) == 1
    assert started.printed == "smtpproxy try: there is no folder none\n"


def test_a_console_that_goes_away_is_no_harm(tmp_path: Path) -> None:
    (tmp_path / "scripts").mkdir(mode=0o755)
    read, write = os.pipe()
    command = [sys.executable, "-m", "smtpproxy", "try", "--port", "0"]
    with subprocess.Popen(command, cwd=tmp_path, stdout=write) as process:
        os.close(write)
        told = b""
        while b"Ctrl-C ends it." not in told:
            told += os.read(read, 4096)
        os.close(read)
        port = int(told.partition(b"listening on 127.0.0.1:")[2].split()[0])
        with FakeClient.greeted(port) as client:
            for number in range(2):
                assert client.send(f"MAIL FROM:<a{number}@client.example>").startswith("250 ")
                assert client.send("RCPT TO:<you@example.com>").startswith("250 ")
                assert client.message(b"Subject: hello\r\n\r\n").startswith("250 ")
        process.terminate()
    stories = (tmp_path / ".try" / "stories.log").read_text()
    assert "a0@client.example" in stories and "a1@client.example" in stories
