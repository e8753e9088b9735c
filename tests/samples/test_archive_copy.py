from __future__ import annotations

from pathlib import Path

import pytest

from smtpproxy.handoff.quarantine import QuarantineOutlet
from smtpproxy.handoff.shelf import items
from smtpproxy.testing.front import Front
from smtpproxy.testing.handoffs import live
from smtpproxy.testing.rules import run_rule
from smtpproxy.wire.reply import Reply

SAMPLES = Path(__file__).parents[2] / "scripts" / "samples"
FILES = [SAMPLES / "archive-copy.py", SAMPLES / "lua" / "archive-copy.lua"]
MESSAGE = b"Subject: x\r\n\r\nhello\r\n"

each = pytest.mark.parametrize("rule", FILES, ids=lambda file: file.suffix)


@each
def test_mail_to_the_domains_is_copied(rule: Path) -> None:
    recipients = ["a@other.example", "b@example.com", "c@example.com"]
    assert run_rule(rule, "on_message", recipients=recipients, message=MESSAGE).mail.copied_to == ("archive",)


@each
def test_other_mail_is_not(rule: Path) -> None:
    assert run_rule(rule, "on_message", recipients=["a@other.example"], message=MESSAGE).mail.copied_to == ()


@each
def test_what_is_delivered_stands_in_the_folder_and_nothing_else(rule: Path, tmp_path: Path) -> None:
    out = live()
    archive = QuarantineOutlet("archive", tmp_path / "archive", lambda *_: None)
    folder = tmp_path / "scripts"
    folder.mkdir()
    with Front(out, archive, folder=folder, rules={rule.name: rule.read_text()}) as front:
        assert front.begun().message(MESSAGE).code == 250
        out.on("finish", Reply(554, "5.7.1", "Spam"))
        assert front.begun().message(MESSAGE).code == 554
    (item,) = items(tmp_path / "archive")
    assert item.message.read_bytes() == out.delivered[0].content
    assert (item.slip.recipients, item.slip.reason) == (["b@example.com"], "a copy for the archive")
