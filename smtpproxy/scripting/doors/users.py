"""Who has an account: the tables [users.NAME]."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol, TypeVar

from smtpproxy.config.problem import did_you_mean
from smtpproxy.scripting.doors.base import Door, through

NAME = "users"

T = TypeVar("T")


class Known(Protocol):
    """Whatever knows accounts: [users.NAME], or a stand-in in a test. Both block this greenlet only."""

    def exists(self, address: str) -> bool: ...

    def addresses(self, name: str) -> tuple[str, ...]: ...


class Accounts(Door):
    """One of them."""

    __slots__ = ("_name",)

    def __init__(self, name: str) -> None:
        self._name = name

    def exists(self, address: object) -> bool:
        """Whether mail for this address (or recipient) is for somebody who has an account. A failure is an error, never a no."""
        return self._ask("exists", str(address), lambda known, asked: known.exists(asked))

    def addresses(self, login: object) -> tuple[str, ...]:
        """From which addresses an account may send; "@example.com" is all of a domain. Nothing where there is no account."""
        return self._ask("addresses", str(login), lambda known, asked: known.addresses(asked))

    def _ask(self, question: str, what: str, ask: Callable[[Known, str], T]) -> T:
        def asked(tables: Mapping[str, Known]) -> T:
            return ask(_table(tables, self._name), what)

        return through(NAME, f"users.{self._name}.{question} {what}", asked)


class Users(Door):
    """The accounts of [users.NAME], by that name: `users["staff"].exists(rcpt)`, in Lua `users.staff.exists(rcpt)`."""

    __slots__ = ()

    def __getitem__(self, name: str) -> Accounts:
        return Accounts(name)

    def exists(self, name: str, address: object) -> bool:
        """Whether mail for this address (or recipient) is for somebody who has an account there."""
        return Accounts(name).exists(address)

    def addresses(self, name: str, login: object) -> tuple[str, ...]:
        """From which addresses an account may send."""
        return Accounts(name).addresses(login)


def _table(tables: Mapping[str, Known], name: str) -> Known:
    if name not in tables:
        raise LookupError(f"there is no [users.{name}]; {did_you_mean(name, tables)}".rstrip("; "))
    return tables[name]
