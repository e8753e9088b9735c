"""Rules send mail of their own: it is on disk before they go on, no rule is asked about it, and there is an end to it."""

from __future__ import annotations

import email
import email.policy
import email.utils
import errno
import os
import re
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from smtpproxy.config.values import Rate
from smtpproxy.queue.ledger import Entry
from smtpproxy.queue.submissions import Bounds, Submissions
from smtpproxy.scripting.doors.submit import Submission, SubmitError
from smtpproxy.testing.instance import one_listener
from smtpproxy.testing.process import RunningServer
from smtpproxy.testing.queues import idle_queue
from smtpproxy.testing.upstream import FakeUpstream
from smtpproxy.testing.waiting import FixedClock, until
from smtpproxy.wire.address import parse_address

RULES = {
    "py": """
from smtpproxy.script import log, submit

def on_message(mail):
    log.info("taken as " + submit("audit@example.com", "Grüße", "one\\n.two\\n", sender="alarms@example.com"))
    submit([mail.sender, "c@example.com"], content=mail.raw())

def on_delivered(delivery):
    submit("watcher@example.com", "Delivered", str(delivery.recipients[0]))
""",
    "lua": """
function on_message(mail)
  log.info("taken as " .. submit("audit@example.com", "Grüße", "one\\n.two\\n", {sender = "alarms@example.com"}))
  submit({mail.sender, "c@example.com"}, {content = mail:raw()})
end

function on_delivered(delivery)
  submit("watcher@example.com", "Delivered", tostring(delivery.recipients[1]))
end
""",
}
MESSAGE = b"Subject: x\r\n\r\n.text\r\n"
LANGUAGES = pytest.mark.parametrize("language", RULES)


class Clock(FixedClock):
    def time(self) -> float:
        return self.now

    def date(self) -> str:
        return "Thu, 21 Nov 2024 10:05:00 +0100"


class Office:
    """Submissions into a queue whose sender is idle."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.clock = Clock()
        self.queue = idle_queue(folder, self.clock)
        bounds = Bounds(size=2000, recipients=3, hops=2, rate=Rate.parse("2/1h"))
        self.submissions = Submissions(self.queue, "mx.example.com", lambda: "q1", self.clock, lambda *_, **__: None, bounds)

    def submit(self, *to: str, rule: str = "10-x", subject: str = "", text: str = "", content: bytes | None = None) -> str:
        recipients = tuple(map(parse_address, to or ("b@example.com",)))
        return self.submissions.submit(Submission(rule, None, recipients, subject, text, content))

    def entries(self) -> list[Entry]:
        return self.queue.ledger.lease(10)

    @property
    def files(self) -> list[str]:
        return os.listdir(self.folder / "1" / "bodies")


@pytest.fixture
def office(tmp_path: Path) -> Iterator[Office]:
    office = Office(tmp_path / "queue")
    yield office
    office.queue.stop(0)


@LANGUAGES
def test_a_rule_sends_mail(start: Callable[..., RunningServer], upstream: FakeUpstream, language: str) -> None:
    more = f'[queue]\nretry = ["200ms"]\n[route."*"]\nto = ["{upstream.address}"]\n'
    server = start(one_listener("queue", more=more), {f"10-x.{language}": RULES[language]})
    with server.client() as client:
        client.send("MAIL FROM:<a@client.example>")
        client.send("RCPT TO:<b@example.com>")
        assert client.message(MESSAGE).code == 250
    until(lambda: server.log.count("event=delivered") == 4, within=20)
    found = {tuple(message.recipients): message for message in upstream.messages}
    assert set(found) == {
        ("b@example.com",), ("audit@example.com",), ("a@client.example", "c@example.com"), ("watcher@example.com",),
    }, "no rule is asked about what rules have submitted"  # fmt: skip
    audit = found["audit@example.com",]
    message = email.message_from_bytes(audit.content, policy=email.policy.SMTP)
    received, date = re.fullmatch(r"by mx.example.com \(smtpproxy, rule 10-x\) id (\S+); *(.*)", message["Received"]).groups()
    assert received in server.log and f'text="taken as {received}"' in server.log
    assert abs(time.time() - email.utils.parsedate_to_datetime(date).timestamp()) < 60
    assert (message["From"], message["To"], audit.sender) == ("alarms@example.com", "audit@example.com", "alarms@example.com")
    assert (message["Subject"], message["Auto-Submitted"]) == ("Grüße", "auto-generated")
    assert message.get_content() == "one\r\n.two\r\n"
    whole = found["a@client.example", "c@example.com"]
    assert (whole.sender, whole.content.count(b"Received:")) == ("", 1)
    assert whole.content.endswith(MESSAGE)
    assert found["watcher@example.com",].content.endswith(b"\r\n\r\nb@example.com\r\n")
    assert re.search(r"event=submitted .*rule=10-x .*to=audit@example.com ", server.log)


@LANGUAGES
def test_it_outlives_a_process_that_is_killed(start: Callable[..., RunningServer], upstream: FakeUpstream, language: str) -> None:
    upstream.on("MAIL", "451 Later")
    more = f'[queue]\nretry = ["200ms"]\n[route."*"]\nto = ["{upstream.address}"]\n'
    server = start(one_listener("discard", more=f'[handoff.more]\nkind = "queue"\n{more}'), {f"10-x.{language}": RULES[language]})
    with server.client() as client:
        client.send("MAIL FROM:<a@client.example>")
        client.send("RCPT TO:<b@example.com>")
        assert client.message(MESSAGE).code == 250
    until(lambda: server.log.count("event=submitted") == 2)
    os.kill(server.workers[0], signal.SIGKILL)
    upstream.on("MAIL", "250 Ok")
    upstream.wait_for(lambda it: len(it.messages) == 2, within=20)


def test_where_nothing_is_queued_the_rule_hears_of_it(start: Callable[..., RunningServer], upstream: FakeUpstream) -> None:
    server = start(one_listener("proxy", upstream.address), {"10-x.py": RULES["py"]})
    with server.client() as client:
        client.send("MAIL FROM:<a@client.example>")
        client.send("RCPT TO:<b@example.com>")
        assert client.message(MESSAGE).code == 451
    until(lambda: "SubmitError: no hand-off is of kind" in server.log)


def test_a_rule_may_submit_so_many(office: Office) -> None:
    for _ in range(2):
        office.submit()
    with pytest.raises(SubmitError, match=r"this rule has submitted 2/1h \(\[queue\] submissions\)"):
        office.submit()
    office.submit(rule="20-y")
    office.clock.advance("2h")
    office.submit()
    assert [entry.envelope.recipients[0].path for entry in office.entries()] == ["b@example.com"] * 4


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "too many recipients": ({"to": ("a@b.example",) * 4}, r"\[limits\] recipients"),
    "too large": ({"content": b"Subject: x\r\n\r\n" + b"x" * 2000}, r"\[limits\] message_size"),
    "been here too often": ({"content": b"Received: x\r\n" * 3 + b"\r\ntext\r\n"}, r"loop \(\[limits\] received\)"),
}


@pytest.mark.parametrize("why", REFUSED)
def test_what_is_not_taken(office: Office, why: str) -> None:
    given, reason = REFUSED[why]
    with pytest.raises(SubmitError, match=reason):
        office.submit(*given.get("to", ()), content=given.get("content"))
    assert office.entries() == [] and not office.files


def test_what_the_disk_does_not_take_is_not_promised(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(SubmitError, match=r"could not be kept.*No space left"):
        office.submit()
    monkeypatch.undo()
    assert not office.files


@pytest.mark.parametrize(
    ("to", "content", "params"),
    [
        ("b@example.com", b"Subject: x\r\n\r\ntext\r\n", {}),
        ("b@example.com", "Subject: x\r\n\r\ngrün\r\n".encode(), {"BODY": "8BITMIME"}),
        ("b@example.com", "Subject: grün\n\ntext".encode(), {"BODY": "8BITMIME", "SMTPUTF8": None}),
        ("bär@example.com", b"Subject: x\r\n\r\ntext\r\n", {"SMTPUTF8": None}),
    ],
)
def test_what_it_needs_of_the_next_server(office: Office, to: str, content: bytes, params: dict[str, str | None]) -> None:
    office.submit(to, content=content)
    (entry,) = office.entries()
    assert (entry.envelope.params, entry.envelope.listener) == (params, "")


def test_line_ends_are_those_of_the_wire(office: Office) -> None:
    office.submit(content=b"Subject: x\n\n.one\rtwo")
    (entry,) = office.entries()
    assert b"".join(office.queue.ledger.body(entry).wire()).endswith(b"\r\n\r\n..one\r\ntwo\r\n")


def test_a_subject_has_one_line(office: Office) -> None:
    with pytest.raises(ValueError, match=r"linefeed|newline|carriage"):
        office.submit(subject="x\r\nBcc: all@example.com")


def test_octets_that_are_no_text_are_question_marks(office: Office) -> None:
    office.submit(subject="caf\udce9", text="\udcff")
    (entry,) = office.entries()
    content = b"".join(office.queue.ledger.body(entry).content())
    assert b"Subject: caf?\r\n" in content and content.endswith(b"\r\n\r\n?\r\n")
