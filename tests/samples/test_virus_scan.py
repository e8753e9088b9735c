from __future__ import annotations

from pathlib import Path

import pytest

from smtpproxy.testing.rules import run_rule

SAMPLES = Path(__file__).parents[2] / "scripts" / "samples"
FILES = [SAMPLES / "virus-scan.py", SAMPLES / "lua" / "virus-scan.lua"]
VIRUSES = {b"EVIL": "Test.Evil-1"}

each = pytest.mark.parametrize("rule", FILES, ids=lambda file: file.suffix)


@each
def test_a_virus_is_refused_by_its_name(rule: Path) -> None:
    outcome = run_rule(rule, "on_message", viruses=VIRUSES, message=b"Subject: x\r\n\r\nEVIL\r\n")
    assert outcome.reply == "554 5.7.1 Virus found: Test.Evil-1"
    assert str(outcome.mail.results) == "clamav=fail virus=Test.Evil-1"
    assert [fields["name"] for event, fields in outcome.logged if event == "rule"] == ["Test.Evil-1"]


@each
def test_clean_mail_goes_on(rule: Path) -> None:
    outcome = run_rule(rule, "on_message", viruses=VIRUSES, message=b"Subject: x\r\n\r\nfine\r\n")
    assert outcome.verdict is None
    assert str(outcome.mail.results) == "clamav=pass"


@each
def test_without_a_scanner_mail_is_deferred(rule: Path) -> None:
    outcome = run_rule(rule, "on_message", message=b"Subject: x\r\n\r\nfine\r\n")
    assert outcome.reply.startswith("451 4.3.0 ")
    assert str(outcome.mail.results) == "clamav=error"
    (failed,) = [fields for event, fields in outcome.logged if event == "rule_failed"]
    assert "ScanError: no scanner can be reached" in failed["error"]
