"""What can be wrong with a Lua rule, told with the script's own lines."""

from __future__ import annotations

import re

from smtpproxy.config.problem import did_you_mean
from smtpproxy.scripting.errors import RuleError, RuleTimeout

_PLACE = re.compile(r"(.+?):(\d+): (.*)\Z", re.DOTALL)
_NO_PLACE = "?:-1: "
_BOUNDARY = "attempt to yield across a C-call boundary"
_NIL_GLOBAL = re.compile(r"global '(\w+)'\)\Z")


class LuaError(RuleError):
    """`str()` is "FILE:LINE: TEXT", `at` "FILE:LINE"; `frames` are the script's own, outermost first: "FILE:LINE in NAME"."""

    def __init__(self, text: str, at: str, frames: tuple[str, ...] = ()) -> None:
        super().__init__(f"{at}: {text}", at)
        self.text = text
        self.frames = frames


class LuaTimeout(LuaError, RuleTimeout):
    """A hook that used up its instructions or its CPU time."""


def failure(message: str, frames: str, file: str, *, line: int = 0, words: str = "", over_budget: bool = False) -> LuaError:
    """What Lua reported. `frames` innermost first, a line each; `line` is told when neither has one; `words` are known names."""
    message = message.removeprefix(_NO_PLACE)
    stack = tuple(reversed(frames.splitlines()))
    found = _PLACE.match(message)
    if found and found[1] == file:
        at, text = f"{file}:{found[2]}", found[3]
    else:
        at = stack[-1].split(" ")[0] if stack else f"{file}:{line}" if line else file
        text = message
    unknown = _NIL_GLOBAL.search(text)
    if unknown and (hint := did_you_mean(unknown[1], words.split())).startswith("did"):
        text = f"{text}; {hint}"
    if text.endswith(_BOUNDARY):
        text = "a door cannot be asked inside string.gsub, table.sort or a metamethod that these call"
    return (LuaTimeout if over_budget else LuaError)(text, at, stack)
