"""Verdicts on single recipients: where they can still be refused alone they are, else one answer refuses all."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from smtpproxy.scripting.trace import Refusal
from smtpproxy.testing.front import ENVELOPE, Front
from smtpproxy.testing.handoffs import FakeOutlet, live
from smtpproxy.testing.rules import run_rule
from smtpproxy.testing.waiting import until

MESSAGE = b"Subject: x\r\n\r\nhello\r\n"
TWO = (*ENVELOPE, "RCPT TO:<c@example.com>")
REFUSED = "550 5.7.1 Not this one"

Begin = Callable[..., Front]


def rule(hook: str, language: str, who: str = "c", verdict: str = "deny") -> str:
    if language == "lua":
        return f"""
function {hook}(mail)
  for _, rcpt in pairs(mail.recipients) do
    if rcpt.local_part == "{who}" then rcpt.verdict = {verdict}("Not this one") end
  end
end
"""
    return f"""
from smtpproxy.script import {verdict}
def {hook}(mail):
    for rcpt in mail.recipients:
        if rcpt.local_part == "{who}":
            rcpt.verdict = {verdict}("Not this one")
"""


LINE = {"py": 6, "lua": 4}


@pytest.fixture
def out() -> FakeOutlet:
    return live()


@pytest.fixture
def front(tmp_path: Path, out: FakeOutlet) -> Iterator[Begin]:
    """Sessions in front of `out`, with these rules; `refusals` is filled from the story."""
    fronts = []

    def make(rules: dict[str, str], refusals: list[Refusal] | None = None) -> Front:
        def story(trace: Any, mail: object) -> None:
            if refusals is not None:
                refusals.extend(trace.refusals)

        fronts.append(Front(out, folder=tmp_path, rules=rules, story=story))
        return fronts[-1]

    yield make
    for it in fronts:
        it.close()


@pytest.mark.parametrize("language", ["py", "lua"])
@pytest.mark.parametrize("hook", ["on_data", "on_header", "on_message", "on_route"])
def test_one_recipient_refused_late_refuses_all_and_nothing_is_delivered(
    front: Begin, out: FakeOutlet, hook: str, language: str
) -> None:
    refusals: list[Refusal] = []
    rules = {f"10-rule.{language}": rule(hook, language), "20-other.py": f"def {hook}(mail): pass\n"}
    it = front(rules, refusals)
    with it.begun(TWO) as client:
        assert client.message(MESSAGE) == REFUSED
    assert out.delivered == []
    (record,) = it.logged("refused")
    assert (record["to"], record["by"]) == ("c@example.com", f"rule 10-rule:{LINE[language]}")
    (refusal,) = until(lambda: refusals)
    assert (refusal.rule, refusal.to, refusal.hook) == ("10-rule", "c@example.com", hook)
    assert refusal.place == f"10-rule.{language}:{LINE[language]}"


def test_alone_it_is_a_refusal_like_any_other(front: Begin, out: FakeOutlet) -> None:
    client = front({"10-rule.py": rule("on_message", "py", "b", "defer")}).begun()
    assert client.message(MESSAGE) == "451 4.7.1 Not this one"
    client.send(ENVELOPE[0])
    client.send("RCPT TO:<c@example.com>")
    assert client.message(MESSAGE).code == 250
    assert [letter.recipients for letter in out.delivered] == [["c@example.com"]]


def test_the_worst_verdict_answers(front: Begin) -> None:
    rules = {"10-a.py": rule("on_message", "py", "b", "defer"), "20-b.py": rule("on_message", "py", "c", "deny")}
    it = front(rules)
    assert it.begun(TWO).message(MESSAGE) == REFUSED
    assert [record["to"] for record in it.logged("refused")] == ["b@example.com", "c@example.com"]


def test_at_on_rcpt_it_is_that_recipients_answer(front: Begin, out: FakeOutlet) -> None:
    text = """
from smtpproxy.script import deny
def on_rcpt(mail, rcpt):
    if rcpt.local_part == "c":
        rcpt.verdict = deny("Not this one")
"""
    client = front({"10-rule.py": text}).begun()
    assert client.send(TWO[2]) == REFUSED
    assert client.message(MESSAGE).code == 250
    assert [letter.recipients for letter in out.delivered] == [["b@example.com"]]


def test_a_later_recipient_may_be_the_end_of_an_earlier_one(front: Begin, out: FakeOutlet) -> None:
    text = """
from smtpproxy.script import deny
def on_rcpt(mail, rcpt):
    for earlier in mail.recipients:
        earlier.verdict = deny("Not this one")
"""
    it = front({"10-rule.py": text})
    assert it.begun(TWO).message(MESSAGE) == REFUSED
    assert out.delivered == []
    assert it.logged("refused")[0]["by"] == "rule 10-rule:5"


def test_taken_back_or_overruled_it_does_not_count(front: Begin, out: FakeOutlet) -> None:
    back = "def on_message(mail):\n    mail.recipients[0].verdict = None\n"
    over = """
from smtpproxy.script import accept
def on_deny(client, mail, verdict):
    if verdict.text == "Not this one" and verdict.kind == "defer":
        return accept()
"""
    rules = {
        "10-a.py": rule("on_message", "py", "b", "deny"),
        "20-b.py": back,
        "30-c.py": rule("on_message", "py", "c", "defer"),
        "40-d.py": over,
    }
    assert front(rules).begun(TWO).message(MESSAGE).code == 250
    assert [letter.recipients for letter in out.delivered] == [["b@example.com", "c@example.com"]]


def test_a_recipient_taken_out_needs_no_verdict(front: Begin, out: FakeOutlet) -> None:
    text = rule("on_message", "py") + "            mail.remove_recipient(rcpt)\n            break\n"
    assert front({"10-rule.py": text}).begun(TWO).message(MESSAGE).code == 250
    assert [letter.recipients for letter in out.delivered] == [["b@example.com"]]


@pytest.mark.parametrize(
    ("language", "value", "words"),
    [
        ("py", "'no'", r"rcpt.verdict is deny(...), defer(...) or nothing"),
        ("py", "accept()", r"rcpt.verdict is deny(...), defer(...) or nothing"),
        ("lua", "accept()", r"rcpt.verdict is deny(...), defer(...) or nothing"),
        ("lua", "deny('x', {code = 250})", "deny: code must be 5xx"),
    ],
)
def test_what_is_no_verdict_is_the_rules_failure(language: str, value: str, words: str) -> None:
    source = {
        "py": f"from smtpproxy.script import *\ndef on_message(mail):\n    mail.recipients[0].verdict = {value}\n",
        "lua": f"function on_message(mail)\n  mail.recipients[1].verdict = {value}\nend",
    }
    outcome = run_rule(source[language], "on_message", language=language, message=MESSAGE)
    (failed,) = [fields["error"] for event, fields in outcome.logged if event == "rule_failed"]
    assert words in failed


def test_it_is_there_to_be_read() -> None:
    outcome = run_rule(rule("on_message", "lua", "recipient"), "on_message", language="lua", message=MESSAGE)
    assert str(outcome.mail.recipients[0].verdict) == "deny 550 5.7.1 Not this one"
