"""`clamav.scan` as rules use it, in both languages."""

from __future__ import annotations

from pathlib import Path

import pytest

from smtpproxy.scanners.clamav import ClamAV
from smtpproxy.scripting.trace import story
from smtpproxy.testing.clamd import FakeClamd
from smtpproxy.testing.front import Front
from smtpproxy.testing.handoffs import live
from smtpproxy.testing.rules import Outcome, run_rule

LANGUAGES = pytest.mark.parametrize("language", ["py", "lua"])
VIRUSES = {b"EVIL": "Test.Evil-1"}
MESSAGE = (
    b"Content-Type: multipart/mixed; boundary=b\r\n\r\n"
    b"--b\r\nContent-Disposition: attachment; filename=a.bin\r\nContent-Transfer-Encoding: base64\r\n\r\nRVZJTA==\r\n"
    b"--b\r\nContent-Disposition: attachment; filename=b.bin\r\n\r\nfine\r\n--b--\r\n"
)  # fmt: skip
PARTS = {
    "py": """
from smtpproxy.script import clamav, deny
def on_message(mail):
    scans = [clamav.scan(part) for part in mail.attachments]
    return deny(" ".join(f"{scan} {scan.infected} {scan.clean}" for scan in scans))
""",
    "lua": """
function on_message(mail)
  local said = {}
  for i, part in pairs(mail.attachments) do
    local scan = clamav.scan(part)
    said[i] = tostring(scan) .. " " .. (scan.infected and "True" or "False") .. " " .. (scan.clean and "True" or "False")
  end
  return deny(table.concat(said, " "))
end
""",
}


def asked(language: str, expression: str, **options: object) -> Outcome:
    """A rule whose on_message answers with this expression."""
    if language == "py":
        source = f"from smtpproxy.script import clamav, deny\ndef on_message(mail): return deny(str({expression}))"
    else:
        source = f"function on_message(mail) return deny(tostring({expression})) end"
    return run_rule(source, "on_message", language=language, message=MESSAGE, **options)  # type: ignore[arg-type]


@LANGUAGES
def test_attachments_are_scanned_decoded_and_what_was_found_stays(language: str) -> None:
    outcome = run_rule(PARTS[language], "on_message", language=language, message=MESSAGE, viruses=VIRUSES)
    assert outcome.reply == "550 5.7.1 infected: Test.Evil-1 True False clean False True"
    assert str(outcome.mail.results) == "clamav=fail virus=Test.Evil-1"


@LANGUAGES
def test_the_whole_mail_is_scanned_as_it_came(language: str) -> None:
    lines = ["mail.header['X-Edit'] = 'EVIL'", "return deny(clamav.scan(mail).value)"]
    source = {
        "py": "\n    ".join(["from smtpproxy.script import clamav, deny\ndef on_message(mail):", *lines]),
        "lua": "\n".join(["function on_message(mail)", *lines, "end"]),
    }
    outcome = run_rule(source[language], "on_message", language=language, message=MESSAGE, viruses=VIRUSES)
    assert outcome.reply == "550 5.7.1 pass"


@LANGUAGES
def test_ping_and_version(language: str) -> None:
    assert asked(language, "clamav.version()", viruses={}).reply == "550 5.7.1 FakeScanner"
    assert asked(language, "clamav.ping()", viruses={}).reply.lower() == "550 5.7.1 true"
    assert asked(language, "clamav.ping()").reply.lower() == "550 5.7.1 false"


@LANGUAGES
def test_only_a_mail_or_a_part_is_scanned(language: str) -> None:
    outcome = asked(language, "clamav.scan(mail.sender)", viruses={})
    (failed,) = [fields["error"] for event, fields in outcome.logged if event == "rule_failed"]
    assert "clamav.scan takes a mail or one of its parts, no Sender" in failed


@LANGUAGES
@pytest.mark.parametrize("declared", ["defer", "deny", "continue"])
def test_a_scan_that_cannot_be_done_is_the_rules_failure(language: str, declared: str, tmp_path: Path) -> None:
    source = {
        "py": f"from smtpproxy.script import clamav\non_error = {declared!r}\ndef on_message(mail): clamav.scan(mail)",
        "lua": f"on_error = {declared!r}\nfunction on_message(mail) clamav.scan(mail) end",
    }
    out = live()
    with (
        FakeClamd(answers=[b"x ERROR\0"]) as clamd,
        Front(out, folder=tmp_path, rules={f"a.{language}": source[language]}, doors={"clamav": ClamAV([clamd.target])}) as front,
    ):
        reply = front.begun().message(b"Subject: x\r\n\r\nx\r\n")
    assert reply.code == {"defer": 451, "deny": 550, "continue": 250}[declared]
    assert len(out.delivered) == (declared == "continue")
    (failed,) = front.logged("rule_failed")
    assert "ScanError" in failed["error"] and "x ERROR" in failed["error"]


def test_the_story_has_question_and_answer(tmp_path: Path) -> None:
    told: list[str] = []
    rule = "from smtpproxy.script import clamav\ndef on_message(mail): clamav.scan(mail)"
    with (
        FakeClamd(VIRUSES) as clamd,
        Front(
            live(), folder=tmp_path, rules={"a.py": rule}, doors={"clamav": ClamAV([clamd.target])},
            story=lambda trace, mail: told.extend(story(trace, mail)),
        ) as front,
    ):  # fmt: skip
        assert front.begun().message(b"Subject: x\r\n\r\nEVIL\r\n").code == 250
    assert any("clamav.scan the mail (20 octets)" in line and "infected: Test.Evil-1" in line for line in told)
