"""A mail that comes once more because its client never heard the 250 (RFC 1047), as rules see it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from smtpproxy.handoff.discard import Discard
from smtpproxy.testing.front import Front
from smtpproxy.testing.waiting import until

MESSAGE = b"Subject: x\r\nMessage-ID: <1@client.example>\r\n\r\ntext\r\n"
RULES = {
    "10-x.py": """
from smtpproxy.script import deny

def on_message(mail):
    if mail.repeats:
        return deny(f"{mail.repeats} again", code="550 5.7.1")
""",
    "10-x.lua": """
function on_message(mail)
  if mail.repeats then return deny(mail.repeats .. " again", {code = "550 5.7.1"}) end
end
""",
}


@pytest.fixture(params=RULES)
def front(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Front]:
    with Front(Discard("out"), folder=tmp_path, rules={request.param: RULES[request.param]}) as front:
        yield front


def send(front: Front, message: bytes = MESSAGE, rcpts: tuple[str, ...] = ("b", "c"), sender: str = "a", last: str = "") -> str:
    """The answer to the message; then the client is gone, behind a last word if it has one."""
    envelope = [f"MAIL FROM:<{sender}@client.example>", *(f"RCPT TO:<{rcpt}@example.com>" for rcpt in rcpts)]
    with front.begun(envelope) as client:
        reply = str(client.message(message))
        if last:
            client.send(last)
    until(lambda: not front.sessions)
    return reply


def test_what_was_taken_and_never_heard_of_is_known_when_it_comes_again(front: Front) -> None:
    assert send(front).startswith("250 ")
    assert send(front, rcpts=("c", "b")) == "550 5.7.1 1.1 again"


@pytest.mark.parametrize("last", ["QUIT", "NOOP"])
def test_who_goes_on_has_heard_it(front: Front, last: str) -> None:
    assert send(front, last=last).startswith("250 ")
    assert send(front).startswith("250 ")


@pytest.mark.parametrize(
    "other",
    [
        {"message": MESSAGE.replace(b"<1@", b"<2@")}, {"message": MESSAGE + b"more\r\n"}, {"rcpts": ("b",)}, {"sender": "z"},
    ],
)  # fmt: skip
def test_another_mail_is_no_repetition(front: Front, other: dict[str, Any]) -> None:
    assert send(front).startswith("250 ")
    assert send(front, **other).startswith("250 ")


def test_without_a_message_id_nobody_can_say(front: Front) -> None:
    for _ in range(2):
        assert send(front, b"Subject: x\r\n\r\ntext\r\n").startswith("250 ")


def test_before_the_message_is_there_nobody_can_say_either(tmp_path: Path) -> None:
    early = {"10-x.py": "def on_data(mail):\n    return mail.repeats\n"}
    with Front(Discard("out"), folder=tmp_path, rules=early) as front:
        assert send(front).startswith("451 ")
        assert "on_message" in str(front.logged("rule_failed"))
