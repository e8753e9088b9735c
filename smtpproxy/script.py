"""What a rule imports: `from smtpproxy.script import accept, deny, settings, dns`.

This is the declaration for editors and type checkers. In a rule each name is the rule's own: its settings, and doors
that lead where the running call says. Used outside of a rule, doors and settings raise.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

from smtpproxy.facts.client import Client
from smtpproxy.facts.delivery import Delivery
from smtpproxy.facts.login import Login
from smtpproxy.facts.mail import Mail
from smtpproxy.facts.notes import Notes, Results
from smtpproxy.facts.parts import Part
from smtpproxy.facts.recipient import Recipient, Sender
from smtpproxy.facts.scan import ScanError
from smtpproxy.net.http import HttpError
from smtpproxy.scripting.doors.base import NoCall
from smtpproxy.scripting.doors.cache import Cache
from smtpproxy.scripting.doors.clamav import Clamav
from smtpproxy.scripting.doors.clock import Clock
from smtpproxy.scripting.doors.digest import Digest
from smtpproxy.scripting.doors.dns import Dns
from smtpproxy.scripting.doors.http import Http
from smtpproxy.scripting.doors.json import Json
from smtpproxy.scripting.doors.lists import Lists
from smtpproxy.scripting.doors.log import Log
from smtpproxy.scripting.doors.sleep import sleep
from smtpproxy.scripting.doors.store import Store
from smtpproxy.scripting.doors.submit import SubmitError, submit
from smtpproxy.scripting.doors.users import Users
from smtpproxy.scripting.facade import together
from smtpproxy.scripting.lists import ListError
from smtpproxy.scripting.secret import Secret
from smtpproxy.scripting.verdict import Verdict, accept, close, defer, deny
from smtpproxy.stores.base import StoreError
from smtpproxy.wire.reply import Reply

__all__ = [
    "Client", "Delivery", "Duration", "HttpError", "ListError", "Login", "Mail", "Notes", "Part", "Rate", "Recipient",
    "Reply", "Results", "ScanError", "Secret", "Sender", "Size", "StoreError", "SubmitError", "Verdict", "accept", "cache",
    "clamav", "clock", "close", "defer", "deny", "digest", "dns", "every", "http", "json", "lists", "log", "notes", "settings",
    "sleep", "store", "submit", "together", "users",
]  # fmt: skip

F = TypeVar("F", bound=Callable[[], Any])

cache = Cache()
clamav = Clamav()
clock = Clock()
digest = Digest()
dns = Dns()
http = Http()
json = Json()
lists = Lists()
log = Log()
store = Store()
users = Users()


if TYPE_CHECKING:
    # what a setting's default is written as; the rule reads what stands in the class of that name
    Duration = float | str
    Rate = str
    Size = int | str
else:
    from smtpproxy.config.values import Duration, Rate, Size


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
