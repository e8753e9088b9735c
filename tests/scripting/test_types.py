"""What an editor and a type checker know of a rule in Python: its arguments' types, by the names that a rule imports."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from smtpproxy.testing.rules import run_rule

ROOT = Path(__file__).parents[2]

RULE = """\
from smtpproxy.script import Client, Mail, Part, Recipient, Sender, Verdict, deny, dns, log

def names(parts: tuple[Part, ...]) -> list[str]:
    return [part.filename for part in parts]

def on_connect(client: Client) -> Verdict | None:
    return deny("Go away") if client.name == "bad.example" else None

def on_mail(mail: Mail, sender: Sender) -> None:
    mail.results.add("mx", "pass" if dns.mx(sender.domain) else "fail")

def on_rcpt(mail: Mail, rcpt: Recipient) -> Verdict | None:
    if rcpt.local_part == "nobody":
        return deny("No such user", code="550 5.1.1")
    rcpt.via = "archive"
    return None

def on_message(mail: Mail) -> None:
    log.info("files", names=names(mail.attachments))
    mail.header["Subject"] = (mail.header["Subject"] or "").upper()
"""


def checked(folder: Path, text: str) -> str:
    """What mypy says of a rule."""
    rule = folder / "rule.py"
    rule.write_text(text)
    command = [sys.executable, "-m", "mypy", "--strict", "--config-file=", "--no-incremental", str(rule)]
    environment = {**os.environ, "MYPYPATH": str(ROOT)}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=120, check=False)
    return done.stdout


@pytest.mark.timeout(300)
def test_a_rule_with_types_is_checked(tmp_path: Path) -> None:
    assert checked(tmp_path, RULE) == "Success: no issues found in 1 source file\n"
    wrong = RULE.replace('mail.header["Subject"] or ""', 'mail.subject or ""').replace("rcpt.local_part", "rcpt.lokal_part")
    told = checked(tmp_path, wrong.replace("deny(\"No such user\", code=", "deny(\"No such user\", cod="))
    assert '"Mail" has no attribute "subject"' in told
    assert '"Recipient" has no attribute "lokal_part"' in told
    assert 'Unexpected keyword argument "cod" for "deny"' in told


def test_and_runs() -> None:
    assert run_rule(RULE, "on_rcpt", recipients=["nobody@example.com"]).reply == "550 5.1.1 No such user"
    assert run_rule(RULE, "on_message", message=b"Subject: hello\r\n\r\n").mail.header["Subject"] == "HELLO"
