"""The contract of everything that knows who may log in: a file, a database, a directory, another server.

Four questions, all of which may block the greenlet that asks, never the hub:

    check(name, password)   who that is, None when it is nobody or another one's password
    find(name)              the account with its SCRAM keys, for mechanisms that do not show the password
    exists(address)         whether mail for this address is somebody's of these
    addresses(name)         from which addresses the account may send, its own name among them

Who cannot answer now raises ``AccountsError``: the client is told 454 and comes back, a rule has failed. Nobody gets in
because the question could not be answered.
"""

from __future__ import annotations

import hmac
from abc import ABC, abstractmethod
from typing import ClassVar, NamedTuple

from smtpproxy.accounts import passwords
from smtpproxy.accounts.hashing import Busy, Hashing
from smtpproxy.wire.scram import ROUNDS, ScramKeys

NOBODY = f"$scrypt$ln={passwords.LN},r={passwords.BLOCK},p={passwords.PARALLEL}${'A' * 22}${'A' * 43}"
"""Checked for a name that nobody has, until there is an account to learn from what its hash costs."""


class AccountsError(Exception):
    """The question cannot be answered now; str() says why, for the log."""


class Account(NamedTuple):
    """Somebody who may log in. It may send from `addresses` besides its name; "@example.com" is all of a domain."""

    name: str
    addresses: tuple[str, ...] = ()
    hash: str = ""
    """Of its password, see accounts/passwords.py; "" where somebody else checks it."""
    scram: ScramKeys | None = None

    @property
    def senders(self) -> tuple[str, ...]:
        """What it may send from: its name, where that is an address, and its addresses."""
        return (self.name, *self.addresses) if "@" in self.name else self.addresses


class Accounts(ABC):
    """[users.NAME]. A kind says how to find an account and whether an address is somebody's.

    One that has somebody else check the password overrides `check` as well.
    """

    passwords: ClassVar[bool] = True
    """Its accounts have passwords."""
    tokens: ClassVar[bool] = False
    """It can say whose a token of XOAUTH2 and OAUTHBEARER is."""

    def __init__(self, name: str, hashing: Hashing) -> None:
        self.name = name
        self.hashing = hashing
        self._usual = NOBODY
        """Checked for nobody, too: that takes as long as for somebody, whatever made the hashes."""

    @property
    def keyed(self) -> bool:
        """All of its accounts have keys for SCRAM. One that has none could not log in where SCRAM is offered: clients that
        know it choose it, and try nothing else when it fails."""
        return False

    @abstractmethod
    def find(self, name: str) -> Account | None:
        """The account of this login name. Raises ``AccountsError``."""

    @abstractmethod
    def exists(self, address: str) -> bool:
        """Whether mail for this address, local@domain, is for one of the accounts. Raises ``AccountsError``."""

    def check(self, name: str, password: str) -> Account | None:
        """The account, if that is its password. Raises ``AccountsError``."""
        account = self.find(name)
        if account is not None and account.hash:
            self._usual = account.hash
        try:
            fits = self.hashing.run(passwords.fits, self._usual, password)
        except (passwords.NoSuchMethod, ValueError, Busy) as error:
            raise AccountsError(f"[users.{self.name}] {name}: {error}") from None
        return account if fits and account is not None and account.hash else None

    def keys(self, name: str) -> ScramKeys:
        """What SCRAM needs of an account; for one without keys, and for nobody, such that no password fits, always the same.

        Raises ``AccountsError``.
        """
        account = self.find(name)
        if account is not None and account.scram is not None:
            return account.scram
        salt, stored, server = (hmac.digest(self.hashing.secret, word + name.encode(), "sha256") for word in (b"1", b"2", b"3"))
        return ScramKeys(salt[:16], ROUNDS, stored, server)

    def token(self, name: str, token: str) -> Account | None:
        """Whose this token is, if that is `name`, or nobody was named. Raises ``AccountsError``."""
        return None

    def addresses(self, name: str) -> tuple[str, ...]:
        """From where this account may send; nothing for nobody. Raises ``AccountsError``."""
        account = self.find(name)
        return account.senders if account is not None else ()

    def close(self) -> None:
        """Let go of connections. Nothing is asked afterwards."""
        return None


def may_send(senders: tuple[str, ...], address: str) -> bool:
    """Whether one of `senders` is this address or its domain; the case of letters does not count."""
    address = address.lower()
    domain = address[address.rfind("@") :]
    return any(sender.lower() in (address, domain) for sender in senders)
