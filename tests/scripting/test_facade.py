"""What a rule imports."""

from __future__ import annotations

import contextvars
import inspect
from typing import Any, ClassVar

import gevent
import gevent.event
import pytest

import smtpproxy.script as declared
from smtpproxy.dns.zone import Zone
from smtpproxy.scripting.doors.base import NoCall
from smtpproxy.scripting.facade import Every, Facade
from smtpproxy.scripting.runner import CALL
from smtpproxy.scripting.trace import story


def test_the_declaration_names_what_a_rule_gets() -> None:
    facade = Facade(None, Every(), None)
    assert set(facade.names) == set(declared.__all__)


def test_the_declaration_raises_outside_of_a_rule() -> None:
    with pytest.raises(NoCall, match=r"settings\.domains"):
        _ = declared.settings.domains
    with pytest.raises(NoCall):
        declared.notes.x = 1
    with pytest.raises(NoCall):
        declared.every("5m")
    with pytest.raises(NoCall, match="dns works while a rule runs"):
        contextvars.Context().run(declared.dns.mx, "example.com")


def test_every_declared_name_has_a_docstring() -> None:
    functions = [getattr(declared, name) for name in declared.__all__ if callable(getattr(declared, name))]
    assert all(inspect.getdoc(function) for function in functions)


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("from smtpproxy.script import deni", 'smtpproxy.script has no "deni"; did you mean "deny"?'),
        ("from smtpproxy.script import spamd", 'smtpproxy.script has no "spamd"'),
        ("from smtpproxy.script import deny, rspamd", 'smtpproxy.script has no "rspamd"'),
        ("from smtpproxy.session.session import Session", "a rule imports smtpproxy.script and libraries of its own"),
        ("import smtpproxy.wire", "not smtpproxy.wire"),
        ("import smtpproxy.script as s\ns.deni", 'did you mean "deny"?'),
    ],
)
def test_what_is_not_there_fails_at_load(problem: Any, line: str, told: str) -> None:
    text = problem(f"{line}\ndef on_rcpt(mail, rcpt): pass")
    assert text.startswith("10-rule.py:")
    assert told in text


@pytest.mark.parametrize(
    "way",
    [
        "from smtpproxy.script import deny",
        "from smtpproxy.script import *",
        "import smtpproxy.script\ndeny = smtpproxy.script.deny",
        "import smtpproxy.script as s\ndeny = s.deny",
        "from smtpproxy import script\ndeny = script.deny",
    ],
)
def test_ways_to_import(scripts: Any, way: str) -> None:
    scripts.load(a=f"{way}\ndef on_rcpt(mail, rcpt): return deny('x')")
    assert scripts.rcpt() == "deny 550 5.7.1 x"


def test_libraries_that_look_a_module_up_by_name_work(scripts: Any) -> None:
    scripts.load(
        a="""
            from __future__ import annotations
            import copy, dataclasses, enum, pickle, typing
            from smtpproxy.script import deny
            @dataclasses.dataclass(frozen=True)
            class Point:
                x: int = 1
                kind: typing.ClassVar[str] = "p"
            class Color(enum.Enum):
                RED = 1
            class Pair(typing.NamedTuple):
                a: int
            def on_rcpt(mail, rcpt):
                again = pickle.loads(pickle.dumps((Point(2), Color.RED, Pair(3))))
                return deny(f"{again[0].x} {again[1].name} {again[2].a} {typing.get_type_hints(Point)['x'].__name__}")
        """
    )
    assert scripts.rcpt() == "deny 550 5.7.1 2 RED 3 int"


class TestDns:
    ZONE: ClassVar[dict[str, Any]] = {
        "example.com": {"MX": [[20, "b.example.com"], [10, "a.example.com"]], "A": ["192.0.2.1"], "TXT": ["v=spf1 -all"]},
        "1.2.0.192.in-addr.arpa": {"PTR": ["example.com"]},
        "broken.example": {"error": "SERVFAIL"},
    }

    def answer(self, scripts: Any, expression: str) -> str:
        scripts.doors["dns"] = Zone(self.ZONE)
        scripts.load(a=f"from smtpproxy.script import deny, dns\ndef on_rcpt(mail, rcpt): return deny(str({expression}))")
        return scripts.rcpt().removeprefix("deny 550 5.7.1 ")

    @pytest.mark.parametrize(
        ("expression", "answer"),
        [
            ("dns.mx('example.com')", "((10, 'a.example.com'), (20, 'b.example.com'))"),
            ("dns.mx('nowhere.example')", "()"),
            ("dns.a('example.com')", "('192.0.2.1',)"),
            ("dns.aaaa('example.com')", "()"),
            ("dns.addresses('example.com')", "('192.0.2.1',)"),
            ("dns.txt('example.com')", "('v=spf1 -all',)"),
            ("dns.ptr('192.0.2.1')", "example.com"),
            ("dns.query('nowhere.example', 'A').exists", "False"),
        ],
    )
    def test_answers(self, scripts: Any, expression: str, answer: str) -> None:
        assert self.answer(scripts, expression) == answer

    def test_comes_from_the_running_call(self, scripts: Any) -> None:
        self.answer(scripts, "dns.a('example.com')")
        scripts.doors["dns"] = Zone({"example.com": {"A": ["198.51.100.1"]}})
        assert scripts.rcpt() == "deny 550 5.7.1 ('198.51.100.1',)"

    def test_question_and_answer_stand_in_the_trace(self, scripts: Any) -> None:
        self.answer(scripts, "dns.mx('nowhere.example')")
        assert "asked     dns.mx nowhere.example -> ()" in "\n".join(story(scripts.call.trace))

    def test_no_answer_is_a_failure_unless_the_rule_catches_it(self, scripts: Any) -> None:
        assert self.answer(scripts, "dns.a('broken.example')").startswith("defer 451 4.3.0")
        assert "Temporary: broken.example" in "\n".join(story(scripts.call.trace))

    def test_is_not_there_while_the_file_is_loaded_without_it(self, problem: Any) -> None:
        told = problem("from smtpproxy.script import dns\nx = dns.mx('example.com')")
        assert "dns is not there in this run" in told


class TestTogether:
    def run(self, scripts: Any, body: str) -> str:
        scripts.load(
            a=f"import gevent, gevent.event\nfrom smtpproxy.script import deny, dns, together\n"
            f"def on_rcpt(mail, rcpt):\n    {body}"
        )
        return scripts.rcpt()

    def test_results_in_order(self, scripts: Any) -> None:
        body = "return deny(str(together(lambda: gevent.sleep(0.01) or 1, lambda: 2)))"
        assert self.run(scripts, body) == "deny 550 5.7.1 (1, 2)"

    def test_nothing_to_do(self, scripts: Any) -> None:
        assert self.run(scripts, "return deny(str(together()))") == "deny 550 5.7.1 ()"

    def test_at_the_same_time(self, scripts: Any) -> None:
        body = "e = gevent.event.Event(); return deny(str(together(lambda: e.wait(15), lambda: e.set())))"
        assert self.run(scripts, body) == "deny 550 5.7.1 (True, None)"

    def test_doors_are_those_of_the_call(self, scripts: Any) -> None:
        scripts.doors["dns"] = Zone({"a.example": {"A": ["192.0.2.1"]}})
        body = "return deny(str(together(lambda: dns.a('a.example'), lambda: dns.a('b.example'))))"
        assert self.run(scripts, body) == "deny 550 5.7.1 (('192.0.2.1',), ())"

    def test_the_first_error_ends_the_others_and_shows_the_authors_line(self, scripts: Any) -> None:
        body = "together(lambda: gevent.event.Event().wait(), lambda: 1/0)"
        with gevent.Timeout(15):
            assert self.run(scripts, body).startswith("defer 451 4.3.0")
        assert scripts.logged("rule_failed")[0]["at"] == "a.py:4"

    def test_no_more_than_sixteen_at_a_time(self, scripts: Any) -> None:
        body = """n = [0, 0]
    def one():
        n[0] += 1
        n[1] = max(n)
        gevent.sleep(0)
        n[0] -= 1
    together(*[one] * 40)
    return deny(str(n[1]))"""
        assert self.run(scripts, body) == "deny 550 5.7.1 16"

    def test_a_killed_call_leaves_nobody_behind(self, scripts: Any) -> None:
        begun, ended = gevent.event.Event(), gevent.event.Event()
        scripts.load(
            a="import gevent.event\nfrom smtpproxy.script import together\ndef on_rcpt(mail, rcpt):\n"
            "    begun, ended = rcpt\n"
            "    def wait():\n        try:\n            begun.set()\n            gevent.event.Event().wait()\n"
            "        finally:\n            ended.set()\n"
            "    together(wait)"
        )
        asking = gevent.spawn(scripts.rcpt, (begun, ended))
        assert begun.wait(15)
        asking.kill()
        assert ended.wait(15)


class TestLog:
    def test_records_name_the_rule_and_the_session(self, scripts: Any) -> None:
        scripts.load(a="from smtpproxy.script import log\ndef on_rcpt(mail, rcpt): log.warning('odd', event='x', n=1)")
        scripts.rcpt()
        assert scripts.logged("rule") == [{"event_": "x", "n": 1, "level": "warning", "rule": "a", "id": "s1", "text": "odd"}]

    def test_stand_in_the_trace(self, scripts: Any) -> None:
        scripts.load(a="from smtpproxy.script import log\ndef on_rcpt(mail, rcpt): log.info('odd')")
        scripts.rcpt()
        assert "note      a info: odd" in "\n".join(story(scripts.call.trace))


def test_notes_are_the_workers(scripts: Any) -> None:
    scripts.load(
        a="from smtpproxy.script import notes\ndef on_rcpt(mail, rcpt): notes.seen = (notes.seen or 0) + 1",
        b="from smtpproxy.script import deny, notes\ndef on_rcpt(mail, rcpt): return deny(str(notes.seen))",
    )
    scripts.rcpt()
    assert scripts.rcpt() == "deny 550 5.7.1 2"


def test_decide_leaves_its_call_for_doors(scripts: Any) -> None:
    scripts.load(a="def on_rcpt(mail, rcpt): pass")
    scripts.rcpt()
    assert CALL.get() is scripts.call
