"""Plays a dialogue against a server: sends what the client says, and compares what comes back."""

from __future__ import annotations

from collections.abc import Callable
from itertools import groupby

from smtpproxy.testing.acts import DROP, HANG
from smtpproxy.testing.client import FakeClient, Reply
from smtpproxy.testing.dialogue import Dialogue, Problem, Turn, line_pattern, octets, replies, reply_pattern
from smtpproxy.testing.upstream import FakeUpstream
from smtpproxy.testing.waiting import until


class Differs(AssertionError):
    """The conversation went another way than the dialogue says."""


class Player:
    """One run of a dialogue: the connection, the upstream behind the server (if any), the server's log."""

    def __init__(
        self, dialogue: Dialogue, port: int, upstream: FakeUpstream | None, log: Callable[[], str]
    ) -> None:
        self._dialogue = dialogue
        self._client = FakeClient(port)
        self._upstream = upstream
        self._log = log
        self._transcript: list[str] = []
        self._last = Reply("")
        self._commands = 0
        self._lines = 0

    def play(self) -> int:
        """The number of turns that went as they should; raises Differs with the transcript at the first that did not."""
        steps = {
            "C": self._says, "S": self._answers, "U": self._upstream_got, "M": self._message_has, "L": self._logged,
        }  # fmt: skip
        try:
            for who, turns in groupby(self._dialogue.turns, key=lambda turn: turn.who):
                steps[who](list(turns))
        finally:
            self._client.close()
        return len(self._dialogue.turns)

    def _says(self, turns: list[Turn]) -> None:
        self._transcript += [str(turn)[:200] for turn in turns]
        try:
            self._client.raw(b"".join(octets(turn) for turn in turns))
        except ConnectionError:
            self._transcript.append("(the server hung up meanwhile)")

    def _answers(self, turns: list[Turn]) -> None:
        for how, group in groupby(turns, key=lambda turn: turn.how):
            if how == ":":
                for whole in replies(list(group)):
                    self._reply(whole)
            else:
                for turn in group:
                    self._reply_has(turn)

    def _reply(self, turns: list[Turn]) -> None:
        if turns[0].text == "closed":
            return self._closed(turns[0])
        try:
            self._last = self._client.reply()
        except OSError as error:
            self._differs(turns[0], f"{type(error).__name__}: {error}")
        self._transcript += [f"S: {line}" for line in self._last.split("\n")]
        if not reply_pattern([turn.text for turn in turns]).fullmatch(self._last):
            self._differs(turns[0], self._last)

    def _closed(self, turn: Turn) -> None:
        if not self._client.closed():
            self._differs(turn, self._client.reply())

    def _reply_has(self, turn: Turn) -> None:
        pattern = line_pattern(turn.text)
        has = any(pattern.fullmatch(text) for text in self._last.texts)
        if has is not (turn.how == "+"):
            self._differs(turn, self._last)

    def _upstream_got(self, turns: list[Turn]) -> None:
        upstream = self._upstream
        if upstream is None:
            raise Problem(f"{self._dialogue.title}: there is no upstream to ask")
        for turn in turns:
            if turn.text.startswith("("):
                count = int(turn.text[1:].split()[0])
                self._until(turn, lambda count=count: len(upstream.messages) == count)  # type: ignore[misc]
            elif turn.how == "!":
                self._nowhere(turn, upstream.commands)
            else:
                self._until(turn, lambda turn=turn: self._next_command(turn))  # type: ignore[misc]

    def _next_command(self, turn: Turn) -> bool:
        assert self._upstream is not None
        found = _after(self._upstream.commands, self._commands, turn.text)
        self._commands = found or self._commands
        return bool(found)

    def _message_has(self, turns: list[Turn]) -> None:
        messages = self._upstream.messages if self._upstream else []
        if not messages:
            self._differs(turns[0], "no message at the upstream")
        lines = messages[-1].content.decode("utf-8", "surrogateescape").split("\r\n")
        for turn in turns:
            if turn.how == "!":
                self._nowhere(turn, lines)
                continue
            found = _after(lines, self._lines, turn.text)
            if not found:
                self._differs(turn, "\n".join(lines))
            self._lines = found

    def _logged(self, turns: list[Turn]) -> None:
        for turn in turns:
            pattern = line_pattern(turn.text)
            self._until(turn, lambda p=pattern: any(p.fullmatch(line) for line in self._log().splitlines()))  # type: ignore[misc]

    def _nowhere(self, turn: Turn, lines: list[str]) -> None:
        if _after(lines, 0, turn.text):
            self._differs(turn, "\n".join(lines))

    def _until(self, turn: Turn, condition: Callable[[], object]) -> None:
        try:
            until(condition)
        except AssertionError:
            got = "\n".join(self._upstream.commands) if self._upstream else ""
            self._differs(turn, f"{got}\n{self._log()[-2000:]}")

    def _differs(self, turn: Turn, got: str) -> None:
        place = f"{self._dialogue.path.name}:{turn.line}: {self._dialogue.title}"
        transcript = "\n  ".join(self._transcript)
        raise Differs(f"{place}\nexpected {turn}\ngot      {got}\n  {transcript}")


def _after(lines: list[str], start: int, text: str) -> int:
    """The place just after the first line from `start` on that matches; 0 when none does."""
    pattern = line_pattern(text)
    return next((index + 1 for index, line in enumerate(lines) if index >= start and pattern.fullmatch(line)), 0)


def order(upstream: FakeUpstream, block: str) -> None:
    """Tell an upstream what a dialogue's block says: lines "STAGE argument: act | act".

    Acts at the greeting or at EHLO need new connections: those that were kept are closed.
    """
    if any(line.startswith(("greeting", "EHLO")) for line in block.splitlines()):
        upstream.hang_up()
    for line in block.splitlines():
        if not line.strip() or line.startswith(("announce", "lmtp")):
            continue
        where, _, acts = line.partition(": ")
        stage, _, argument = where.partition(" ")
        upstream.on(stage, *(_act(text.strip()) for text in acts.split(" | ")), argument=argument)


def _act(text: str) -> object:
    if text.startswith("raw "):
        return octets(Turn(0, "C", "|", text[4:]))
    return {"hang": HANG, "drop": DROP}.get(text, text.replace("\\n", "\n"))


def fake_upstream(block: str) -> FakeUpstream:
    """The upstream that a dialogue's block asks for: "announce: PIPELINING, SIZE 1000", "lmtp: yes"."""
    words = dict(line.split(": ", 1) for line in block.splitlines() if line.startswith(("announce", "lmtp")))
    options: dict[str, object] = {"lmtp": words.get("lmtp") == "yes"}
    if "announce" in words:
        options["keywords"] = _keywords(words["announce"])
    if "announce after xclient" in words:
        options["keywords_after_xclient"] = _keywords(words["announce after xclient"])
    return FakeUpstream(**options)  # type: ignore[arg-type]


def _keywords(text: str) -> list[str]:
    return [keyword.strip() for keyword in text.split(",") if keyword.strip() not in ("", "nothing")]
