"""`smtpproxy test`: what an author's tests may do, and what a test run says and ends with."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

LOCAL = """
from smtpproxy.script import deny, settings

class Settings:
    people: set[str] = {"alice"}

def on_rcpt(mail, rcpt):
    if rcpt.local_part not in settings.people:
        return deny("No such user", code="550 5.1.1")
"""
LOCAL_LUA = """
settings = { people = set{"alice"} }

function on_rcpt(mail, rcpt)
  if not settings.people[rcpt.local_part] then return deny("No such user", {code = "550 5.1.1"}) end
end
"""
STUBBORN = """
def on_rcpt(mail, rcpt):
    def again():
        try:
            while True:
                pass
        except BaseException:
            pass
        again()
    again()

def on_message(mail):
    while True:
        try:
            for _ in range(10 ** 9):
                pass
        except BaseException:
            pass
"""


class Scripts:
    """A folder of rules with their tests, and the command."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "scripts" / "tests").mkdir(parents=True)
        (folder / "scripts").chmod(0o755)

    def write(self, name: str, text: str) -> None:
        file = self.folder / "scripts" / name
        file.parent.mkdir(exist_ok=True)
        file.write_text(textwrap.dedent(text))

    def test(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "smtpproxy", "test", *arguments]
        return subprocess.run(command, cwd=self.folder, capture_output=True, text=True, timeout=50, check=False)


@pytest.fixture
def scripts(tmp_path: Path) -> Scripts:
    return Scripts(tmp_path)


def ran(done: subprocess.CompletedProcess[str]) -> int:
    """The exit status, where no test failed."""
    assert " failed" not in done.stdout and " error" not in done.stdout, done.stdout + done.stderr
    return done.returncode


def test_a_rule_in_either_language_is_tested_by_the_same_tests(scripts: Scripts) -> None:
    scripts.write("10-local-people.py", LOCAL)
    scripts.write("11-local-people.lua", LOCAL_LUA)
    scripts.write("tests/test_local_people.py", """
        def test_unknown(rule):
            run = rule.rcpt(to="nobody@example.com", client="192.0.2.1")
            assert run.reply == "550 5.1.1 No such user"

        def test_settings(rule):
            rule.configure(people=["bob"])
            assert rule.rcpt(to="bob@example.com").accepted
    """)  # fmt: skip
    done = scripts.test("-v")
    assert ran(done) == 0
    assert done.stdout.count("PASSED") == 4
    assert "test_unknown[10-local-people.py]" in done.stdout and "test_unknown[11-local-people.lua]" in done.stdout


def test_a_failed_test_shows_its_own_lines_and_the_story(scripts: Scripts) -> None:
    scripts.write("10-local.py", LOCAL)
    scripts.write("tests/test_local.py", """
        def test_bob(rule):
            assert rule.send(to="bob@example.com").reply == "250 2.0.0 Ok"
    """)  # fmt: skip
    done = scripts.test()
    assert done.returncode == 1
    assert "assert '550 5.1.1 No such user' == '250 2.0.0 Ok'" in done.stdout
    assert "deny 550 5.1.1 No such user at line 9" in done.stdout and "RCPT TO:<bob@example.com>" in done.stdout
    assert "author.py" not in done.stdout


def test_what_was_noted_before_and_what_is_submitted(scripts: Scripts) -> None:
    scripts.write("10-told.py", """
        from smtpproxy.script import submit

        def on_delivered(delivery):
            if delivery.notes.wanted:
                submit(delivery.notes.wanted, "Delivered", str(delivery.reply))
    """)
    scripts.write("11-told.lua", """
        function on_delivered(delivery)
          if delivery.notes.wanted then
            submit(delivery.notes.wanted, "Delivered", tostring(delivery.reply))
          end
        end
    """)
    scripts.write("tests/test_told.py", """
        def test_who_wants_to_know(rule):
            rule.delivered(notes={"wanted": "ann@example.com"})
            (taken,) = rule.outbox.taken
            assert (list(map(str, taken.recipients)), taken.subject) == (["ann@example.com"], "Delivered")
            assert taken.text == "250 2.0.0 Ok"

        def test_who_does_not(rule):
            rule.delivered()
            assert rule.outbox.taken == []
    """)  # fmt: skip
    done = scripts.test("-v")
    assert ran(done) == 0 and done.stdout.count("PASSED") == 4, done.stdout


def test_copies_are_seen_beside_the_mail(scripts: Scripts) -> None:
    scripts.write("10-vip.py", "def on_message(mail):\n    mail.copy_for('vip@example.com').header['X-Copy'] = 'vip'\n")
    scripts.write("tests/test_vip.py", """
        def test_vip(rule):
            run = rule.send(to=["bob@example.com", "vip@example.com"])
            (copy,) = run.copies
            assert copy.recipients == ["vip@example.com"] and b"X-Copy: vip" in copy.content
            assert run.delivered["default"].recipients == ["bob@example.com"]
            assert b"X-Copy" not in run.message
    """)  # fmt: skip
    assert ran(scripts.test()) == 0


def test_a_rule_that_fails_ends_a_test_that_did_not_expect_it(scripts: Scripts) -> None:
    scripts.write("10-late.py", 'on_error = "continue"\n\ndef on_message(mail):\n    return 1 / 0\n')
    scripts.write("tests/test_late.py", """
        def test_message(rule):
            rule.message()

        def test_expected(rule):
            assert rule.message(fails=True).failures == ["10-late.py:4: ZeroDivisionError: division by zero"]
    """)  # fmt: skip
    done = scripts.test()
    assert done.returncode == 1
    assert "10-late.py:4: ZeroDivisionError: division by zero" in done.stdout
    assert "1 failed, 1 passed" in done.stdout


def test_a_rule_that_does_not_load_says_where(scripts: Scripts) -> None:
    scripts.write("10-typo.py", "def on_rcpt(mail, rcpt)\n    pass\n")
    scripts.write("20-good.py", LOCAL)
    scripts.write("tests/test_typo.py", "def test_typo(rule):\n    rule.rcpt()\n")
    scripts.write("tests/test_good.py", "def test_good(rule):\n    assert rule.rcpt().refused\n")
    done = scripts.test()
    assert done.returncode == 1
    assert "10-typo.py:1: SyntaxError: expected ':'" in done.stdout
    assert "1 failed, 1 passed" in done.stdout


def test_a_rule_that_cannot_be_stopped_ends_its_test_and_no_other(scripts: Scripts) -> None:
    scripts.write("10-stubborn.py", STUBBORN)
    scripts.write("20-good.py", LOCAL)
    scripts.write("tests/test_a_stubborn.py", """
        import pytest

        @pytest.fixture
        def stubborn(rule):
            return rule("10-stubborn")

        def test_alone(stubborn):
            stubborn.message()

        def test_whole(stubborn):
            assert stubborn.send(fails=True).reply.startswith("4")
    """)  # fmt: skip
    scripts.write("tests/test_good.py", "def test_good(rule):\n    assert rule.rcpt().refused\n")
    done = scripts.test()
    assert done.returncode == 1
    assert "10-stubborn.py" in done.stdout and "over its CPU budget" in done.stdout
    assert "1 failed, 2 passed" in done.stdout, done.stdout


def test_a_rule_that_hangs_in_c_ends_the_run_and_is_named(scripts: Scripts) -> None:
    scripts.write("10-held.py", "import ctypes\n\ndef on_mail(mail, sender):\n    ctypes.PyDLL(None).sleep(600)\n")
    scripts.write("tests/test_held.py", "def test_held(rule):\n    rule.mail()\n")
    done = scripts.test("--timeout", "3")
    assert done.returncode == 1
    assert "Timeout (0:00:03)!" in done.stderr and 'scripts/10-held.py", line 4 in on_mail' in done.stderr


def test_time_moves_when_it_is_told_to(scripts: Scripts) -> None:
    scripts.write("10-clock.py", """
        import time
        from smtpproxy.script import deny, every, log, notes, store

        @every("30m")
        def tick():
            notes.ticks = (notes.ticks or 0) + 1

        def on_mail(mail, sender):
            if store.get(str(sender)) is not None:
                return deny("Seen", code="550 5.7.1")
            store.set(str(sender), 1, expires="1h")
            log.info("first", ticks=notes.ticks, now=int(time.time()))
    """)  # fmt: skip
    scripts.write("tests/test_clock.py", """
        def test_an_hour(rule):
            first = rule.mail(sender="a@client.example")
            assert rule.mail(sender="a@client.example").reply == "550 5.7.1 Seen"
            rule.clock.advance("2h")
            again = rule.mail(sender="a@client.example")
            assert again.accepted
            assert (first.log[0].fields["ticks"], again.log[0].fields["ticks"]) == (None, 4)
            assert again.log[0].fields["now"] - first.log[0].fields["now"] == 7200
    """)  # fmt: skip
    assert ran(scripts.test()) == 0


def test_rules_together_watch_each_other(scripts: Scripts) -> None:
    scripts.write("10-first.py", 'def on_message(mail):\n    mail.header["X-First"] = "yes"\n    mail.via = "archive"\n')
    scripts.write("20-second.lua", """
        function on_message(mail) mail.header:add("X-Second", mail.header["X-First"] or "no") end
        function watch_message(mail) log.info("gone", {subject = mail.header["Subject"]}) end
    """)  # fmt: skip
    scripts.write("tests/test_both.py", """
        def test_both(rule):
            run = rule("10-first", "20-second").send(message="Subject: hello\\n\\nHello.\\n")
            assert run.delivered["archive"].recipients == ["recipient@example.com"]
            assert run.message == b"Subject: hello\\r\\nX-First: yes\\r\\nX-Second: yes\\r\\n\\r\\nHello.\\r\\n"
            assert "+X-Second: yes" in run.diff.splitlines()
            assert [entry.text for entry in run.log] == ["gone"]
    """)  # fmt: skip
    assert ran(scripts.test()) == 0


def test_a_rule_is_tested_by_name(scripts: Scripts) -> None:
    scripts.write("10-local.py", LOCAL)
    scripts.write("20-other.py", LOCAL)
    scripts.write("tests/test_local.py", "def test_local(rule):\n    assert rule.rcpt().refused\n")
    assert "1 passed" in scripts.test("scripts/10-local.py").stdout
    done = scripts.test("scripts/20-other.py")
    assert (done.returncode, done.stdout) == (5, "")
    assert done.stderr == "smtpproxy test: scripts/20-other.py has no test; write scripts/tests/test_other.py\n"


def test_no_test_is_no_success(scripts: Scripts) -> None:
    done = scripts.test()
    assert done.returncode == 5 and "there is no test in" in done.stderr
    scripts.write("tests/test_x.py", "def test_x(rule):\n    rule.rcpt()\n")
    assert scripts.test("-k", "nothing").returncode == 5
    done = scripts.test()
    assert done.returncode == 1 and 'which rule? Say rule("NAME")' in done.stdout
    assert scripts.test("scripts/10-nowhere.py").returncode == 2
    scripts.write("tests/test_x.py", "def test_x(rule)\n")
    assert scripts.test().returncode == 2


def test_without_pytest_it_says_what_is_missing(scripts: Scripts, tmp_path: Path) -> None:
    scripts.write("tests/test_x.py", "def test_x(rule):\n    pass\n")
    code = "import sys; sys.modules['pytest'] = None; from smtpproxy.cli.main import main; sys.exit(main(['test']))"
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "pip install 'smtpproxy[test]'" in done.stderr


def test_the_rules_that_come_along_pass_their_tests() -> None:
    command = [sys.executable, "-m", "smtpproxy", "test", *map(str, sorted((ROOT / "scripts").rglob("test_*.py")))]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=50, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_init_writes_rules_with_tests_that_pass(tmp_path: Path) -> None:
    smtpproxy = [sys.executable, "-m", "smtpproxy"]
    subprocess.run([*smtpproxy, "init", "mail"], cwd=tmp_path, capture_output=True, check=True)
    done = subprocess.run([*smtpproxy, "test", "--config", "mail"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0 and "7 passed" in done.stdout
    assert not list(tmp_path.rglob("__pycache__"))
