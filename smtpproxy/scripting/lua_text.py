"""What the text of a Lua rule shows without running it: its words, and the verdicts that each hook returns."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple

VERDICTS = frozenset({"accept", "deny", "defer", "close"})

_TOKEN = re.compile(
    r"""
    (?P<skip>\s+|--\[(?P<c>=*)\[.*?\](?P=c)\]|--[^\n]*)
  | (?P<text>\[(?P<s>=*)\[.*?\](?P=s)\]|"(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])*')
  | (?P<word>[A-Za-z_]\w*|0[xX][\w.]+|\d[\w.]*|\.\.\.?|[=~<>]=|::|//|<<|>>|.)
    """,
    re.VERBOSE | re.DOTALL,
)
_OPENS = frozenset({"function", "if", "do", "repeat"})
_CLOSES = frozenset({"end", "until"})
_OPERATORS = "= ( , { [ .. == ~= < > <= >= . : + - * / // % ^ # & | ~ << >>"
_EXPECTS_A_VALUE = frozenset(f"{_OPERATORS} return and or not function local in if while until elseif".split())


class Token(NamedTuple):
    """A word, an operator, or a text with its quotes."""

    text: str
    line: int


class Returned(NamedTuple):
    """`return deny("text", {code = "550 5.1.1"})` in a hook; `code` is "" where none is written out."""

    hook: str
    kind: str
    line: int
    code: str


def tokens(source: bytes) -> list[Token]:
    """The words of a file, without comments."""
    text = source.decode("latin-1")
    found, line, at = [], 1, 0
    for match in _TOKEN.finditer(text):
        line += text.count("\n", at, match.start())
        at = match.start()
        if match["skip"] is None:
            found.append(Token(match[0], line))
    return found


def verdict_words(words: Sequence[Token]) -> frozenset[str]:
    """Those of our verdicts that the file does not give another meaning."""
    redefined = {word.text for before, word in pairwise(words) if before.text in ("local", "function")}
    return VERDICTS - redefined


def dropped(words: Sequence[Token]) -> Iterator[Token]:
    """Verdicts that are made as statements, and so decide nothing."""
    verdicts = verdict_words(words)
    for place, word in enumerate(words):
        if word.text in verdicts and _is_call(words, place):
            before = words[place - 1].text if place else ";"
            if before not in _EXPECTS_A_VALUE:
                yield word


def returned(words: Sequence[Token]) -> Iterator[Returned]:
    """The verdicts that hooks return themselves; functions inside them answer to themselves."""
    verdicts = verdict_words(words)
    blocks: list[str] = []
    for place, word in enumerate(words):
        if word.text in _CLOSES:
            del blocks[-1:]
        elif word.text in _OPENS:
            blocks.append(_hook(words, place, bool(blocks)) if word.text == "function" else "")
        elif word.text in verdicts and words[place - 1].text == "return" and _is_call(words, place):
            functions = [block for block in blocks if block]
            if functions and functions[-1] != "?":
                yield Returned(functions[-1], word.text, word.line, _code(words, place + 1))


def _hook(words: Sequence[Token], place: int, inside: bool) -> str:
    """The name of the function that begins here if it is a global's at the top of the file, else "?"."""
    before = [word.text for word in words[max(0, place - 3) : place]]
    after = words[place + 1].text if place + 1 < len(words) else ""
    if inside or before[-1:] == ["local"]:
        return "?"
    if after.isidentifier():
        return after if place + 2 < len(words) and words[place + 2].text == "(" else "?"
    return before[-2] if before[-1:] == ["="] and before[-2].isidentifier() and before[:-2] != ["local"] else "?"


def _is_call(words: Sequence[Token], place: int) -> bool:
    return place + 1 < len(words) and words[place + 1].text[0] in "({\"'"


def _code(words: Sequence[Token], place: int) -> str:
    """The text behind `code =` in the arguments that begin here."""
    depth = 0
    for at in range(place, len(words) - 2):
        depth += (words[at].text in ("(", "{")) - (words[at].text in (")", "}"))
        if words[at].text == "code" and words[at + 1].text == "=" and words[at + 2].text[0] in "\"'":
            return words[at + 2].text[1:-1]
        if depth <= 0:
            break
    return ""


def declared_settings(words: Sequence[Token]) -> list[Token]:
    """The names in `settings = { ... }`."""
    found: list[Token] = []
    for place in range(len(words) - 2):
        if [word.text for word in words[place : place + 3]] == ["settings", "=", "{"]:
            depth = 1
            for at in range(place + 3, len(words) - 1):
                depth += (words[at].text in ("(", "{")) - (words[at].text in (")", "}"))
                if depth == 0:
                    break
                if depth == 1 and words[at].text.isidentifier() and words[at + 1].text == "=":
                    found.append(words[at])
    return found


def read_settings(words: Sequence[Token]) -> set[str] | None:
    """The settings that are read by name; None when they are handed on as a whole."""
    names = set()
    for place, word in enumerate(words):
        if word.text != "settings" or words[place - 1].text == ".":
            continue
        following = [one.text for one in words[place + 1 : place + 3]]
        if following[:1] == ["="]:
            continue
        if following[:1] != ["."] or len(following) < 2:
            return None
        names.add(following[1])
    return names
