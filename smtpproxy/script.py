"""What a rule imports: `from smtpproxy.script import accept, deny, settings, dns`.

This is the declaration for editors and type checkers. In a rule each name is the rule's own: its settings, and doors
that lead where the running call says. Used outside of a rule, doors and settings raise.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NoReturn, TypeVar

from smtpproxy.scripting.facade import Dns, Log, NoCall, together
from smtpproxy.scripting.verdict import Verdict, accept, close, defer, deny

__all__ = ["Verdict", "accept", "close", "defer", "deny", "dns", "every", "log", "notes", "settings", "together"]

F = TypeVar("F", bound=Callable[[], Any])

dns = Dns()
log = Log()


class _Declared:
    """Stands for an object that only a rule has."""

    __slots__ = ("_name",)

    def __init__(self, name: str) -> None:
        object.__setattr__(self, "_name", name)

    def __getattr__(self, name: str) -> NoReturn:
        raise NoCall(f"{self._name}.{name}: {self._name} is there in a rule file only")

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise NoCall(f"{self._name}.{name}: {self._name} is there in a rule file only")


settings: Any = _Declared("settings")
"""The values of the rule's `class Settings`, as [rule.NAME] has set them; read-only."""

notes: Any = _Declared("notes")
"""Plain values that all rules of this worker share; a missing one is None."""


def every(interval: str, *, once: bool = False) -> Callable[[F], F]:
    """Run the function below as often as "5m" says, from the newest version only.

    `once`: in one worker of the instance.
    """
    raise NoCall("every() is there in a rule file only")
