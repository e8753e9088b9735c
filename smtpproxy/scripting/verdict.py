"""What a rule answers: accept, deny, defer, close; nothing at all means continue."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from functools import lru_cache
from types import FrameType
from typing import TYPE_CHECKING, Self

from smtpproxy.wire.reply import Reply

_CODE = re.compile(r"([2-5]\d\d)(?:[ -]([245]\.\d{1,3}\.\d{1,3}))?\Z")
_CONTROLS = re.compile(r"[\x00-\x1f\x7f]+")
# RFC 5321 4.5.3.1.5: a reply line has at most 512 octets, code and CRLF included
_TEXT_LIMIT = 450


_KINDS: Mapping[str, str] = {"accept": "2", "deny": "5", "defer": "4", "close": "45"}
"""What kinds there are, and the first digits that their reply codes may have."""

_put = object.__setattr__


class Verdict:
    """One answer, which rules cannot change: `rule` and `hook` are who gave it last, `line` and `path` where it was made."""

    __slots__ = ("code", "enhanced", "hang_up", "hook", "kind", "line", "path", "relay", "rule", "text")

    def __new__(
        cls,
        kind: str,
        code: int,
        enhanced: str,
        text: str,
        *,
        relay: bool = False,
        hang_up: bool = False,
        frame: FrameType | None = None,
    ) -> Self:
        """Whole, or not at all. Raises ValueError for what cannot be."""
        self = super().__new__(cls)
        if kind not in _KINDS or str(code)[0] not in _KINDS[kind]:
            raise ValueError(f"there is no {kind} with code {code}")
        _put(self, "kind", kind)
        _put(self, "code", code)
        _put(self, "enhanced", enhanced)
        _put(self, "text", text)
        _put(self, "relay", relay)
        _put(self, "hang_up", hang_up)
        self.given_by("", "")
        self.made_at(frame.f_lineno if frame is not None else 0, frame.f_code.co_filename if frame is not None else "")
        return self

    if TYPE_CHECKING:
        kind: str
        code: int
        enhanced: str
        text: str
        relay: bool
        hang_up: bool
        rule: str
        hook: str
        line: int
        path: str
    else:

        def __setattr__(self, name: str, value: object = None) -> None:
            raise AttributeError(f"a verdict cannot be changed: answer with another one instead of setting its {name}")

        __delattr__ = __setattr__

    def given_by(self, rule: str, hook: str) -> None:
        """Which rule has answered with it, at which hook (the runner says so)."""
        _put(self, "rule", rule)
        _put(self, "hook", hook)

    def made_at(self, line: int, path: str) -> None:
        """Where, when no frame of Python's can tell (a Lua rule's arena says so)."""
        _put(self, "line", line)
        _put(self, "path", path)

    @property
    def file(self) -> str:
        """The name of the file that `line` is in: the rule's own, or a helper's."""
        return self.path.rpartition("/")[2]

    @property
    def refusal(self) -> bool:
        """True for deny, defer and close."""
        return self.kind != "accept"

    def reply(self) -> Reply:
        """The reply that this verdict asks for."""
        return Reply(self.code, self.enhanced, self.text)

    def __str__(self) -> str:
        if self.kind == "accept":
            return " ".join(filter(None, ("accept", "(relay)" if self.relay else "", self.text)))
        return f"{self.kind} {self.code} {self.enhanced} {self.text}".rstrip()

    def __repr__(self) -> str:
        return f"<{self}>"


def accept(text: str = "", *, relay: bool = False) -> Verdict:
    """End this hook's chain with yes; `relay=True` also grants relaying.

    `text` is for our reply, where the reply is ours.
    """
    return Verdict("accept", 250, "2.0.0", _clean(text) or "OK", relay=bool(relay), frame=sys._getframe(1))


def deny(text: str = "", *, code: str | int = "550 5.7.1") -> Verdict:
    """Refuse for good: `code` is a 5xx reply code, with or without its enhanced code (RFC 3463)."""
    number, enhanced = parse_code(code, "5", "5.7.1")
    return Verdict("deny", number, enhanced, _clean(text) or "Refused", frame=sys._getframe(1))


def defer(text: str = "", *, code: str | int = "451 4.7.1") -> Verdict:
    """Refuse for now, the client tries again: `code` is a 4xx reply code, with or without its enhanced code."""
    number, enhanced = parse_code(code, "4", "4.7.1")
    return Verdict("defer", number, enhanced, _clean(text) or "Try again later", frame=sys._getframe(1))


def close(text: str = "", *, code: str | int = "421 4.7.0") -> Verdict:
    """Reply and hang up: `code` is a 4xx or 5xx reply code."""
    number, enhanced = parse_code(code, "45", ".7.0")
    return Verdict("close", number, enhanced, _clean(text) or "Closing the connection", hang_up=True, frame=sys._getframe(1))


@lru_cache(256)
def parse_code(code: str | int, classes: str, default: str) -> tuple[int, str]:
    """`"550 5.1.1"`, `"550"` or `550` as (550, "5.1.1").

    Raises ValueError for what is not of these classes, or mixes two.
    """
    found = _CODE.match(str(code))
    if not found or found[1][0] not in classes:
        wanted = " or ".join(f"{digit}xx" for digit in classes)
        raise ValueError(f'code must be {wanted}, such as "{classes[0]}50 {classes[0]}{default[-4:]}", not {code!r}')
    enhanced = found[2] or found[1][0] + default[-4:]
    if enhanced[0] != found[1][0]:
        raise ValueError(f"code {code!r} mixes two classes: RFC 2034 wants the first digits equal")
    return int(found[1]), enhanced


def _clean(text: object) -> str:
    return _CONTROLS.sub(" ", str(text)).strip()[:_TEXT_LIMIT]
