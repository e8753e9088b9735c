"""[users.NAME] kind = "smtp": who can log in at another SMTP server with the password is let in here.

A login that was good is believed for a short time; what is kept of it is a keyed hash, and the key is this process's.
"""

from __future__ import annotations

import hmac
import os
import time
from collections.abc import Callable

from smtpproxy.accounts.base import Account, Accounts, AccountsError
from smtpproxy.accounts.connections import Unanswered
from smtpproxy.accounts.hashing import Hashing
from smtpproxy.wire.saslprep import saslprep

MANY = 10_000
"""Logins that are remembered."""

Ask = Callable[[str, str], bool]
"""(name, password) -> whether the other server lets them in. Raises ``Unanswered``."""


class Remembered:
    """What was true lately of a name and a secret, each until its time."""

    __slots__ = ("_clock", "_key", "_known")

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._key = os.urandom(32)
        self._known: dict[bytes, tuple[float, Account]] = {}

    def get(self, name: str, secret: str) -> Account | None:
        until, account = self._known.get(self._of(name, secret), (0.0, None))
        return account if self._clock() < until else None

    def keep(self, name: str, secret: str, account: Account, seconds: float) -> None:
        if len(self._known) >= MANY:
            now = self._clock()
            self._known = {key: kept for key, kept in self._known.items() if now < kept[0]}
            if len(self._known) >= MANY:
                self._known.clear()
        self._known[self._of(name, secret)] = (self._clock() + seconds, account)

    def _of(self, name: str, secret: str) -> bytes:
        return hmac.digest(self._key, f"{len(name)} {name}{secret}".encode("utf-8", "surrogatepass"), "sha256")


class RemoteAccounts(Accounts):
    """`ask` tries a login; `remember` is for how many seconds a good one is believed."""

    def __init__(self, name: str, hashing: Hashing, ask: Ask, remember: float, remembered: Remembered | None = None) -> None:
        super().__init__(name, hashing)
        self._ask = ask
        self._remember = remember
        self._remembered = remembered or Remembered()

    def check(self, name: str, password: str) -> Account | None:
        """See ``Accounts``."""
        try:
            if not name or not saslprep(password):
                return None
        except ValueError:
            return None
        known = self._remembered.get(name, password)
        if known is not None:
            return known
        try:
            good = self._ask(name, password)
        except Unanswered as error:
            raise AccountsError(f"[users.{self.name}] {error}") from None
        if not good:
            return None
        account = Account(name)
        self._remembered.keep(name, password, account, self._remember)
        return account

    def find(self, name: str) -> Account | None:
        """See ``Accounts``: without a password there is nothing to ask."""
        raise AccountsError(f"[users.{self.name}] another server can be asked about a name with its password only")

    def exists(self, address: str) -> bool:
        """See ``Accounts``."""
        raise AccountsError(f"[users.{self.name}] another server cannot be asked whose an address is")
