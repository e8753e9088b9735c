"""The dialogue files themselves: read, matched, played against the fake upstream as the server."""

from __future__ import annotations

from pathlib import Path

import pytest

from smtpproxy.testing.dialogue import Problem, Turn, line_pattern, octets, read_dialogues, reply_pattern
from smtpproxy.testing.player import Differs, Player, order
from smtpproxy.testing.upstream import FakeUpstream


def dialogue_file(folder: Path, text: str) -> Path:
    path = folder / "x.smtp"
    path.write_text(text, "utf-8")
    return path


def test_blocks_of_the_file_hold_for_every_dialogue_unless_it_has_its_own(tmp_path: Path) -> None:
    text = "=== limits\nerrors = 1\n=== opening\nS: 220 ...\n===\n--- one\nC: QUIT\n--- two\n=== limits\nerrors = 2\n===\n"
    one, two = read_dialogues(dialogue_file(tmp_path, text))
    assert [str(turn) for turn in one.turns] == ["S: 220 ...", "C: QUIT"]
    assert (one.blocks["limits"], two.blocks["limits"]) == ("errors = 1\n", "errors = 2\n")


def test_a_line_that_is_no_turn(tmp_path: Path) -> None:
    with pytest.raises(Problem, match=r"x\.smtp:2"):
        list(read_dialogues(dialogue_file(tmp_path, "--- one\nX: what\n")))


@pytest.mark.parametrize(
    ("pattern", "reply", "matches"),
    [
        ("250 2.1.0 ...", "250 2.1.0 Ok", True),
        ("250 2.1.0 ...", "250 2.1.0", True),
        ("250 2.1.0 ...", "250 2.1.01", False),
        ("250 2.1.0 Ok", "250 2.1.0 Okay", False),
        ("451 4.* ...", "451 4.4.2 lost", True),
        ("S (a|b)", "S a", False),
    ],
)
def test_patterns_of_a_line(pattern: str, reply: str, matches: bool) -> None:
    assert bool(line_pattern(pattern).fullmatch(reply)) is matches


def test_patterns_of_a_reply() -> None:
    pattern = reply_pattern(["250-mx...", "250-...", "250-SIZE *", "250-...", "250 ..."])
    assert pattern.fullmatch("250-mx.example\n250-A\n250-SIZE 1\n250 B")
    assert not pattern.fullmatch("250-mx.example\n250-A\n250 B")


def test_bytes_as_they_are() -> None:
    assert octets(Turn(1, "C", "|", r"a{x*3}\r\n\0\xff\\n")) == b"axxx\r\n\0\xff\\n"
    assert octets(Turn(1, "C", ":", r"a{x*3}\r")) == b"a{x*3}\\r\r\n"


def play(upstream: FakeUpstream, folder: Path, text: str) -> int:
    (dialogue,) = read_dialogues(dialogue_file(folder, "--- it\n" + text))
    order(upstream, dialogue.blocks.get("upstream", ""))
    return Player(dialogue, upstream.port, upstream, lambda: "one line\nanother line\n").play()


GOOD = """\
=== upstream
RCPT nobody@: 550 5.1.1 No such user
===
S: 220 ...
C: EHLO x.example
S: 250-...
S: 250 ...
S+ PIPELINING
S- STARTTLS
C: MAIL FROM:<a@client.example>
C: RCPT TO:<nobody@example.com>
C: RCPT TO:<b@example.com>
C: DATA
S: 250 2.1.0 ...
S: 550 5.1.1 *
S: 250 2.1.5 ...
S: 354 ...
C: Subject: x
C:
C: ..
C: .
S: 250 ...
U: MAIL *
U: DATA
U! RSET
U: (1 message)
M: Subject: x
M: .
M! To: *
L: another*
C: QUIT
S: 221 ...
S: closed
"""


def test_a_conversation_that_goes_as_it_should(upstream: FakeUpstream, tmp_path: Path) -> None:
    turns = GOOD.partition("===\n")[2].splitlines()
    assert play(upstream, tmp_path, GOOD) == len(turns)


@pytest.mark.parametrize(
    ("turn", "instead"),
    [
        ("S: 250 2.1.5 ...", "S: 250 2.1.6 ..."),
        ("S+ PIPELINING", "S+ CHUNKING"),
        ("S- STARTTLS", "S- PIPELINING"),
        ("U! RSET", "U! DATA"),
        ("M: Subject: x", "M: Subject: y"),
        ("M! To: *", "M! Subject: *"),
        ("S: 221 ...", "S: closed"),
    ],
)
def test_a_conversation_that_goes_otherwise(
    upstream: FakeUpstream, tmp_path: Path, turn: str, instead: str
) -> None:
    assert turn in GOOD
    with pytest.raises(Differs, match=r"x\.smtp:[0-9]+: it"):
        play(upstream, tmp_path, GOOD.replace(turn, instead))
