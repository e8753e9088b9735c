"""[users.NAME] kind = "file": a line for each account, written by `smtpproxy user`, read anew when it has changed.

    # name             password         what else is known of it
    ann@example.com    $scrypt$ln=...   SCRAM-SHA-256$...  sales@example.com  @example.org

A name without a domain stands for that local part in every domain of ours: which those are, who asks has to know.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol

from smtpproxy.accounts import passwords
from smtpproxy.accounts.base import Account, Accounts, AccountsError
from smtpproxy.accounts.hashing import Hashing
from smtpproxy.wire.saslprep import saslprep
from smtpproxy.wire.scram import SHA256, ScramKeys

SIZE_LIMIT = 64 << 20


class Log(Protocol):
    def __call__(self, event: str, **fields: Any) -> None: ...


class FileAccounts(Accounts):
    """The accounts in a file; what is broken in it changes nothing: the last good state stays, and the log says why."""

    def __init__(self, name: str, hashing: Hashing, path: Path, log: Log) -> None:
        super().__init__(name, hashing)
        self.path = path
        self.log = log
        self._stamp: tuple[int, int, int] | None = None
        self._told = ""
        self._read = False
        self._by_name: Mapping[str, Account] = {}
        self._addresses: frozenset[str] = frozenset()
        self._keyed = False

    @property
    def keyed(self) -> bool:
        """See ``Accounts``."""
        with suppress(AccountsError):
            self._refresh()
        return self._keyed

    def find(self, name: str) -> Account | None:
        """See ``Accounts``."""
        self._refresh()
        try:
            return self._by_name.get(folded(name))
        except ValueError:
            return None

    def exists(self, address: str) -> bool:
        """See ``Accounts``."""
        self._refresh()
        address = address.lower()
        local_part, at, _ = address.rpartition("@")
        return address in self._addresses or (bool(at) and local_part in self._addresses)

    def _refresh(self) -> None:
        try:
            status = os.stat(self.path)
            stamp = (status.st_mtime_ns, status.st_size, status.st_ino)
            if stamp != self._stamp:
                self._take(read(self.path))
                self._stamp, self._told = stamp, ""
        except (OSError, ValueError) as error:
            self._complain(f"{self.path}: {error.strerror if isinstance(error, OSError) else error}")

    def _take(self, accounts: Iterable[Account]) -> None:
        self._by_name = {folded(account.name): account for account in accounts}
        found = {address.lower() for account in self._by_name.values() for address in (account.name, *account.addresses)}
        self._addresses = frozenset(address for address in found if not address.startswith("@"))
        self._keyed = bool(self._by_name) and not keyless(self._by_name.values())
        self._read = True

    def _complain(self, error: str) -> None:
        """Once for each state of the file. Raises ``AccountsError`` as long as it could never be read."""
        if error != self._told:
            self.log("accounts_failed", level="error", users=self.name, error=error)
            self._told = error
        if not self._read:
            raise AccountsError(error)


def keyless(accounts: Iterable[Account]) -> list[str]:
    """The names of those without keys for SCRAM."""
    return [account.name for account in accounts if account.scram is None]


def folded(name: str) -> str:
    """A login name as it is compared: the case of letters does not count. Raises ValueError for what is none."""
    return saslprep(name).casefold()


def read(path: Path) -> list[Account]:
    """The accounts in a file. Raises OSError, ValueError: the line that is wrong is named."""
    with path.open("rb") as file:
        data = file.read(SIZE_LIMIT + 1)
    if len(data) > SIZE_LIMIT:
        raise ValueError(f"is larger than {SIZE_LIMIT >> 20} MB")
    found: dict[str, Account] = {}
    for number, line in enumerate(data.decode("utf-8-sig").splitlines(), 1):
        words = line.split()
        if words and not words[0].startswith("#"):
            try:
                account = parse(words)
                if found.setdefault(folded(account.name), account) is not account:
                    raise ValueError(f"{account.name} is there twice")
            except ValueError as error:
                raise ValueError(f"line {number}: {error}") from None
    return list(found.values())


def parse(words: list[str]) -> Account:
    """Raises ValueError."""
    name, *rest = words
    check_name(name)
    if not rest:
        raise ValueError(f"{name} has no hash of a password")
    passwords.check_form(rest[0])
    keys = [ScramKeys.parse(word) for word in rest[1:] if word.startswith(SHA256)]
    addresses = [word for word in rest[1:] if not word.startswith(SHA256)]
    wrong = next((word for word in addresses if "@" not in word), None)
    if wrong is not None:
        raise ValueError(f"{wrong!r} is no address")
    return Account(name, tuple(addresses), rest[0], keys[0] if keys else None)


def line(account: Account) -> str:
    """As `parse` reads it."""
    return " ".join([account.name, account.hash, *([str(account.scram)] if account.scram else []), *account.addresses])


def check_name(name: str) -> None:
    """Raises ValueError for what cannot be a name in a file."""
    if not name or name.startswith("#") or name.split() != [name] or not saslprep(name):
        raise ValueError(f"{name!r} is no name: no white space, no # at the beginning")
