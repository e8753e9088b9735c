"""Dialogues as plain text: a file that reads as the conversation it checks.

    === relaying                     a block: settings, a rule, the upstream's behaviour; "===" alone ends it
    domains = ["example.com"]
    === upstream
    RCPT nobody@: 550 5.1.1 No such user
    ===
    --- the title of a dialogue      what stands before the first title holds for all of the file

    S: 220 mx.example.com ...        a line of a reply; "..." at its end is anything, "*" anything within a line
    C: EHLO client.example           a line from the client; lines in a row go out in one write
    S: 250-...                       any number of lines 250-
    S: 250 ...
    S+ PIPELINING                    the last reply has such a line; S- has no such line
    C| MAIL\\x00FROM{a*600}\\r\\n        bytes as they are: \\r \\n \\t \\0 \\xHH \\\\, {text*times}
    S: closed                        the server hangs up
    U: RCPT TO:<a@example.com>       the upstream got this command, after the one of the last U: line; U! never got it
    U: (1 message)                   so many messages it has answered for
    M: Subject: hello                the last of them has this line, after that of the last M: line; M! has it nowhere
    L: *10-local.py*                 the server's log has such a line

In the block "opening" stands how every dialogue of the file begins.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

TURN = re.compile(r"([CSUML])([:|+!-]) ?(.*)")
BLOCK = re.compile(r"=== ?(.*)")
TITLE = re.compile(r"--- (.+)")


class Turn(NamedTuple):
    """One line of a dialogue: where it stands, who ("C", "S", "U", "M", "L"), how (":", "|", "+", "-", "!"), what."""

    line: int
    who: str
    how: str
    text: str

    def __str__(self) -> str:
        return f"{self.who}{self.how} {self.text}"


class Dialogue:
    """One dialogue: its title, its blocks by name (the file's and its own), its turns with the opening before them."""

    __slots__ = ("_own", "blocks", "path", "title")

    def __init__(self, path: Path, title: str, blocks: dict[str, str]) -> None:
        self.path = path
        self.title = title
        self.blocks = blocks
        self._own: list[Turn] = []

    @property
    def turns(self) -> list[Turn]:
        """The opening and its own turns."""
        return [*_turns(self.blocks.get("opening", "").splitlines(), self.path, 0), *self._own]

    def add(self, line: str, number: int) -> None:
        """A line of the file that belongs to it. Raises Problem."""
        self._own += _turns([line], self.path, number)

    @property
    def rules(self) -> dict[str, str]:
        """The sources of its rules by file name."""
        prefix = "rule "
        return {name.removeprefix(prefix): text for name, text in self.blocks.items() if name.startswith(prefix)}


class Problem(ValueError):
    """A line that is no part of a dialogue."""


def read_dialogues(path: Path) -> Iterator[Dialogue]:
    """The dialogues of a file. Raises Problem with file and line."""
    common = Dialogue(path, "", {})
    dialogue = common
    block = ""
    for number, line in enumerate(path.read_text("utf-8").splitlines(), 1):
        if title := TITLE.fullmatch(line):
            if dialogue is not common:
                yield dialogue
            dialogue, block = Dialogue(path, title[1], dict(common.blocks)), ""
        elif head := BLOCK.fullmatch(line):
            block = head[1]
            dialogue.blocks.update({block: ""} if block else {})
        elif block:
            dialogue.blocks[block] += line + "\n"
        else:
            dialogue.add(line, number)
    if dialogue is not common:
        yield dialogue


def _turns(lines: Iterable[str], path: Path, number: int) -> Iterator[Turn]:
    for line in lines:
        if turn := TURN.fullmatch(line):
            yield Turn(number, turn[1], turn[2], turn[3])
        elif line.strip() and not line.startswith("#"):
            raise Problem(f"{path.name}:{number}: not a turn: {line}")


ESCAPE = re.compile(r"\\(r|n|t|0|\\|x[0-9A-Fa-f]{2})")
REPEAT = re.compile(r"\{([^{}]+)\*(\d+)\}")
PLAIN = {"r": "\r", "n": "\n", "t": "\t", "0": "\0", "\\": "\\"}


def octets(turn: Turn) -> bytes:
    """What a client's turn puts on the wire."""
    if turn.how == ":":
        return turn.text.encode("utf-8") + b"\r\n"
    text = ESCAPE.sub(lambda found: PLAIN.get(found[1]) or chr(int(found[1][1:], 16)), turn.text)
    return REPEAT.sub(lambda found: found[1] * int(found[2]), text).encode("latin-1")


def line_pattern(text: str) -> re.Pattern[str]:
    """A pattern that a whole line must match: "..." at the end is anything, "*" anything."""
    stem, anything = (text.removesuffix("..."), True) if text.endswith("...") else (text, False)
    pattern = ".*".join(re.escape(part) for part in stem.split("*"))
    if anything:
        pattern = pattern.removesuffix(r"\ ") + ("(?: .*)?" if stem.endswith(" ") else ".*")
    return re.compile(pattern, re.DOTALL)


def reply_pattern(lines: list[str]) -> re.Pattern[str]:
    """A pattern that a whole reply must match, its lines joined by LF."""
    parts = []
    for line in lines:
        if re.fullmatch(r"\d{3}-\.\.\.", line):
            parts.append(f"(?:{line[:4]}[^\n]*\n)*")
        else:
            parts.append(line_pattern(line).pattern.replace(".*", "[^\n]*") + ("\n" if line[3:4] == "-" else ""))
    return re.compile("".join(parts))


def replies(turns: list[Turn]) -> Iterator[list[Turn]]:
    """Turns of the server in a row, parted into whole replies."""
    whole: list[Turn] = []
    for turn in turns:
        whole.append(turn)
        if turn.text[3:4] != "-":
            yield whole
            whole = []
    if whole:
        raise Problem(f"line {whole[0].line}: a reply without its last line: {whole[-1].text}")
