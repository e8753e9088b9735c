"""What a rule says to submit(), in both languages, and what is no mail."""

from __future__ import annotations

from typing import Any

import pytest

from smtpproxy.testing.doors import Outbox

LANGUAGES = pytest.mark.parametrize("language", ["py", "lua"])
GIVEN = {
    "one address": {"py": 'submit("b@example.com", "x", "y")', "lua": 'submit("b@example.com", "x", "y")'},
    "the recipient": {"py": 'submit(rcpt, "x", "y")', "lua": 'submit(rcpt, "x", "y")'},
    "a list": {"py": 'submit([rcpt], text="y", subject="x")', "lua": 'submit({rcpt}, {text = "y", subject = "x"})'},
}
WRONG = {
    "no recipient": {"py": "submit([])", "lua": "submit({})"},
    "one without a domain": {"py": 'submit("postmaster")', "lua": 'submit("postmaster")'},
    "no address": {"py": 'submit("b@@example.com")', "lua": 'submit("b@@example.com")'},
    "no text": {"py": 'submit(rcpt, 5)', "lua": "submit(rcpt, 5)"},
}


def asked(scripts: Any, language: str, line: str) -> Outbox:
    """A rule whose on_rcpt is this line."""
    scripts.doors["submit"] = outbox = Outbox()
    if language == "py":
        scripts.write("a.py", f"from smtpproxy.script import submit\ndef on_rcpt(mail, rcpt):\n    {line}\n")
    else:
        scripts.write("a.lua", f"function on_rcpt(mail, rcpt)\n  {line}\nend\n")
    assert not scripts.rules.load().problems
    return outbox


@LANGUAGES
@pytest.mark.parametrize("what", GIVEN)
def test_to_whom(scripts: Any, language: str, what: str) -> None:
    outbox = asked(scripts, language, GIVEN[what][language])
    scripts.rcpt("b@example.com")
    (taken,) = outbox.taken
    assert [str(address) for address in taken.recipients] == ["b@example.com"]
    assert (taken.rule, taken.sender, taken.subject, taken.text, taken.content) == ("a", None, "x", "y", None)


@LANGUAGES
def test_octets_of_a_message_stay_as_they_are(scripts: Any, language: str) -> None:
    line = {"py": 'submit(rcpt, sender="a@example.com", content=b"\\xff\\n")',
            "lua": 'submit(rcpt, {sender = "a@example.com", content = "\\xff\\n"})'}  # fmt: skip
    outbox = asked(scripts, language, line[language])
    scripts.rcpt("b@example.com")
    (taken,) = outbox.taken
    assert (str(taken.sender), taken.content) == ("a@example.com", b"\xff\n")


@LANGUAGES
@pytest.mark.parametrize("what", WRONG)
def test_what_is_no_mail_is_a_failure_of_the_rule(scripts: Any, language: str, what: str) -> None:
    outbox = asked(scripts, language, WRONG[what][language])
    assert scripts.rcpt("b@example.com").startswith("defer")
    assert outbox.taken == []


@LANGUAGES
def test_the_trace_tells_to_whom_and_by_which_id(scripts: Any, language: str) -> None:
    asked(scripts, language, GIVEN["one address"][language])
    scripts.rcpt("b@example.com")
    assert any("submit to b@example.com" in str(event) and "submitted.1" in str(event) for event in scripts.call.trace.events)
