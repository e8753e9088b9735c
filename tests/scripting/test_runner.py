"""One chain: who is asked, who decides, and what a failure comes to."""

from __future__ import annotations

from typing import Any

import gevent
import pytest

from smtpproxy.facts.client import Client, ListenerFacts
from smtpproxy.facts.mail import Mail
from smtpproxy.scripting.errors import Ended
from smtpproxy.scripting.trace import story
from smtpproxy.wire.address import parse_address

DENY = "from smtpproxy.script import deny\ndef on_rcpt(mail, rcpt): return deny('{0}')"
ACCEPT = "from smtpproxy.script import accept\ndef on_rcpt(mail, rcpt): return accept('{0}')"


def a_mail(id: str = "m1") -> Mail:
    return Mail(id, Client("s1", "192.0.2.1", 25, ListenerFacts("mx")), parse_address("a@example.com"))


def test_nothing_means_continue(scripts: Any) -> None:
    scripts.load(a="def on_rcpt(mail, rcpt): pass", b="def on_rcpt(mail, rcpt): return None")
    assert scripts.ask("on_rcpt", None, "x") is None


def test_a_chain_that_nobody_uses_is_empty(scripts: Any) -> None:
    scripts.load(a="def on_rcpt(mail, rcpt): pass")
    assert scripts.chains.on_mail == ()
    assert scripts.ask("on_mail", None, None) is None


def test_rules_get_the_arguments(scripts: Any) -> None:
    scripts.load(
        a="from smtpproxy.script import deny\ndef on_deny(client, mail, verdict): pass\n"
        "def on_command(client, verb, argument): return deny(f'{client} {verb} {argument}')"
    )
    assert scripts.ask("on_command", "c", "VRFY", "x").text == "c VRFY x"


@pytest.mark.parametrize("first", [DENY, ACCEPT])
def test_the_first_verdict_ends_the_chain(scripts: Any, first: str) -> None:
    scripts.load(a=first.format("a"), b=DENY.format("b"))
    verdict = scripts.ask("on_rcpt", None, "x")
    assert (verdict.text, verdict.rule, verdict.line) == ("a", "a", 2)


class TestOnDeny:
    OVERRULE = "from smtpproxy.script import accept\ndef on_deny(client, mail, verdict): return accept()"

    def test_sees_the_verdict_and_lets_it_stand(self, scripts: Any) -> None:
        scripts.load(
            a=DENY.format("a"),
            b="seen = []\ndef on_deny(client, mail, verdict): seen.append((mail, verdict.rule, verdict.kind))\n"
            "def on_reset(mail): mail.extend(seen)",
        )
        scripts.call.mail = mail = a_mail()
        assert scripts.rcpt() == "deny 550 5.7.1 a"
        scripts.ask("on_reset", seen := [])
        assert seen == [(mail, "a", "deny")]

    def test_accept_goes_on_behind_the_rule_that_denied(self, scripts: Any) -> None:
        scripts.load(a=DENY.format("a"), b=self.OVERRULE, c="def on_rcpt(mail, rcpt): rcpt.append('c')")
        rcpt: list[str] = []
        assert scripts.ask("on_rcpt", None, rcpt) is None
        assert rcpt == ["c"]

    def test_another_refusal_takes_its_place(self, scripts: Any) -> None:
        scripts.load(
            a=DENY.format("a"),
            b="from smtpproxy.script import close\ndef on_deny(client, mail, verdict): return close('enough')",
        )
        verdict = scripts.ask("on_rcpt", None, "x")
        assert (str(verdict), verdict.rule) == ("close 421 4.7.0 enough", "b")

    def test_is_not_asked_about_failures(self, scripts: Any) -> None:
        scripts.load(a="def on_rcpt(mail, rcpt): 1/0", b=self.OVERRULE)
        assert scripts.ask("on_rcpt", None, "x").kind == "defer"

    def test_is_not_asked_about_itself(self, scripts: Any) -> None:
        scripts.load(
            a=DENY.format("a"),
            b="from smtpproxy.script import deny\ndef on_deny(client, mail, verdict): return deny(verdict.text + 'b')",
        )
        assert scripts.ask("on_rcpt", None, "x").text == "ab"

    def test_that_fails_lets_the_verdict_stand(self, scripts: Any) -> None:
        scripts.load(a=DENY.format("a"), b="def on_deny(client, mail, verdict): 1/0")
        assert scripts.rcpt() == "deny 550 5.7.1 a"


class TestSkippedRules:
    DENY = "from smtpproxy.script import deny\ndef on_data(mail): return deny('b')"

    def test_are_not_asked_about_this_mail(self, scripts: Any) -> None:
        scripts.load(a="def on_data(mail):\n    if mail.id == 'm1': mail.skip_rule('b')", b=self.DENY)
        for mail, answer in ((a_mail(), None), (a_mail("m2"), "deny 550 5.7.1 b")):
            scripts.call.mail = mail
            verdict = scripts.ask("on_data", mail)
            assert (str(verdict) if verdict else None) == answer

    def test_in_lua(self, scripts: Any) -> None:
        scripts.write("a.lua", "function on_data(mail) mail:skip_rule('b') mail:keep_trace() end")
        scripts.load(b=self.DENY)
        scripts.call.mail = mail = a_mail()
        assert scripts.ask("on_data", mail) is None
        assert mail.traced

    def test_is_told(self, scripts: Any) -> None:
        scripts.load(a="def on_data(mail): mail.skip_rule('b')", b=self.DENY)
        scripts.call.mail = mail = a_mail()
        scripts.ask("on_data", mail)
        assert "rule b is skipped at on_data" in "\n".join(story(scripts.call.trace))


class TestFailure:
    def test_defers_with_generic_text_and_the_id(self, scripts: Any) -> None:
        scripts.load(a="def on_rcpt(mail, rcpt):\n    raise ValueError('the password is x')")
        scripts.call.mail = a_mail()
        assert scripts.rcpt() == "defer 451 4.3.0 Temporary failure in a rule, id m1"

    def test_is_logged_with_place_type_and_text(self, scripts: Any) -> None:
        scripts.load(a="def on_rcpt(mail, rcpt):\n    check(rcpt)\ndef check(rcpt):\n    raise ValueError('bad one')")
        scripts.rcpt()
        (record,) = scripts.logged("rule_failed")
        version = scripts.rules.table.rules[0].version
        assert record == {
            "level": "error",
            "id": "s1",
            "rule": "a",
            "version": version,
            "hook": "on_rcpt",
            "at": "a.py:4",
            "error": "ValueError: bad one",
            "verdict": "defer",
        }

    @pytest.mark.parametrize(
        ("declared", "answer"),
        [("defer", "defer 451"), ("deny", "deny 550 5.7.1 Refused: a rule failed, id s1"), ("continue", "continue")],
    )
    def test_is_declared(self, scripts: Any, declared: str, answer: str) -> None:
        scripts.load(a=f"on_error = '{declared}'\ndef on_rcpt(mail, rcpt): 1/0")
        assert scripts.rcpt().startswith(answer)

    def test_is_declared_by_hook(self, scripts: Any) -> None:
        scripts.load(a="on_error = {'on_rcpt': 'deny'}\ndef on_rcpt(mail, rcpt): 1/0\ndef on_data(mail): 1/0")
        assert scripts.ask("on_rcpt", None, None).kind == "deny"
        assert scripts.ask("on_data", None).kind == "defer"

    def test_continue_goes_on_with_the_next_rule(self, scripts: Any) -> None:
        scripts.load(a="on_error = 'continue'\ndef on_rcpt(mail, rcpt): 1/0", b=DENY.format("b"))
        assert scripts.rcpt() == "deny 550 5.7.1 b"

    @pytest.mark.parametrize("nonsense", ["True", "False", "'deny'", "0", "object()", "deny"])
    def test_a_nonsense_answer_is_one(self, scripts: Any, nonsense: str) -> None:
        scripts.load(a=f"from smtpproxy.script import deny\n\ndef on_rcpt(mail, rcpt): return {nonsense}")
        assert scripts.rcpt().startswith("defer 451 4.3.0")
        assert scripts.logged("rule_failed")[0]["at"] == "a.py:3"

    def test_a_verdict_that_the_hook_does_not_allow_is_one(self, scripts: Any) -> None:
        scripts.load(a="from smtpproxy.script import deny\nno = lambda: deny()\ndef on_reset(mail): return no()")
        assert scripts.ask("on_reset", None) is None
        assert scripts.logged("rule_failed")[0]["error"] == "Nonsense: on_reset may not answer deny()"

    @pytest.mark.parametrize("error", ["SystemExit", "KeyboardInterrupt", "RecursionError", "MemoryError"])
    def test_nothing_that_a_rule_raises_leaves_the_chain(self, scripts: Any, error: str) -> None:
        scripts.load(a=f"def on_rcpt(mail, rcpt): raise {error}")
        assert scripts.rcpt().startswith("defer 451 4.3.0")

    def test_an_error_that_cannot_be_printed_is_told_by_its_type(self, scripts: Any) -> None:
        scripts.load(
            a="class Bad(Exception):\n    def __str__(self): raise self\ndef on_rcpt(mail, rcpt): raise Bad",
        )
        assert scripts.rcpt().startswith("defer")
        assert scripts.logged("rule_failed")[0]["error"] == "Bad"

    def test_a_greenlet_that_we_end_is_no_failure_of_the_rule(self, scripts: Any) -> None:
        scripts.load(a="import gevent.event\ndef on_rcpt(mail, rcpt): gevent.event.Event().wait()")
        asking = gevent.spawn(scripts.rcpt)
        gevent.idle()
        assert len(scripts.rules.budget.running) == 1
        asking.kill(Ended)
        assert not scripts.rules.budget.running
        assert not scripts.logged("rule_failed")

    def test_hooks_after_the_commit_continue_whatever_the_file_says(self, scripts: Any) -> None:
        scripts.load(a="on_error = 'deny'\ndef on_disconnect(client): 1/0\ndef on_mail(mail, sender): 1/0")
        assert scripts.ask("on_disconnect", None) is None
        assert scripts.ask("on_mail", None, None).kind == "deny"

    def test_quarantine_sends_the_mail_there(self, scripts: Any) -> None:
        scripts.restart(handoffs={"inbound": "proxy", "jail": "quarantine"})
        scripts.load(a="on_error = 'quarantine'\ndef on_data(mail): 1/0")
        scripts.call.mail = mail = a_mail()
        assert scripts.ask("on_data", mail) is None
        mail.via = "inbound"
        assert mail.held == "jail"


@pytest.mark.parametrize(
    ("declared", "told"),
    [
        ("on_error = 'quarantine'", 'no [handoff.NAME] with kind = "quarantine"'),
        ("on_error = 'defr'", 'did you mean "defer"?'),
        ("on_timeout = 5", "on_timeout must be a text"),
        ("on_error = {'on_rctp': 'deny'}", 'did you mean "on_rcpt"?'),
        ("on_error = {'on_disconnect': 'deny'}", 'on_disconnect may not fail with "deny", only with continue'),
    ],
)
def test_failure_verdicts_are_checked_at_load(problem: Any, declared: str, told: str) -> None:
    assert told in problem(f"{declared}\ndef on_rcpt(mail, rcpt): pass")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("def on_reset(mail):\n    return deny('x')", "10-rule.py:3: on_reset may not answer deny()"),
        ("def on_reset(mail):\n    if mail:\n        return accept()", "10-rule.py:4: on_reset may not answer accept()"),
        ("def on_rcpt(mail, rcpt):\n    return deny('x', code='450')", "10-rule.py:3: deny: code must be 5xx"),
        ("def on_rcpt(mail, rcpt):\n    return defer(code=550)", "10-rule.py:3: defer: code must be 4xx"),
    ],
)
def test_impossible_verdicts_are_seen_at_load(problem: Any, text: str, told: str) -> None:
    assert problem(f"from smtpproxy.script import accept, deny, defer\n{text}").startswith(told)


def test_a_function_inside_a_hook_answers_for_itself(scripts: Any) -> None:
    text = "from smtpproxy.script import deny\ndef on_reset(mail):\n    def no():\n        return deny()\n    no()"
    assert not scripts.load(a=text).problems
