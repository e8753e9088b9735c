"""Servers that say nothing: who stops asking them leaves no connection behind, whatever the garbage collector does."""

from __future__ import annotations

import gc
import os
import socket
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from smtpproxy.accounts.base import AccountsError
from smtpproxy.accounts.hashing import Hashing
from smtpproxy.accounts.ldap import LdapAccounts
from smtpproxy.accounts.sql import PostgreSQL, SqlAccounts
from smtpproxy.config.directory import LdapServer
from smtpproxy.config.users import UsersLdap
from smtpproxy.config.values import Duration


@pytest.fixture
def mute() -> Iterator[int]:
    """The port of one that lets everybody connect, and does no more."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield listening.getsockname()[1]


@pytest.fixture
def full() -> Iterator[int]:
    """The port of one that has no room for another connection."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as listening, socket.create_connection(listening.getsockname()):
        yield listening.getsockname()[1]


@pytest.fixture
def uncollected() -> Iterator[None]:
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def postgresql(port: int) -> SqlAccounts:
    database = PostgreSQL(f"postgresql://a@127.0.0.1:{port}/mail?sslmode=disable", None, 2, 0.2)
    return SqlAccounts("staff", Hashing(), database, "select 1 where %(name)s <> ''", "", "")


def ldap(protocol: str = "ldap", starttls: bool = False) -> Callable[[int], LdapAccounts]:
    def made(port: int) -> LdapAccounts:
        server = LdapServer(protocol, "127.0.0.1", port)
        return LdapAccounts("staff", Hashing(), UsersLdap(to=(server,), base="dc=x", starttls=starttls, timeout=Duration(0.2)))

    return made


def sockets() -> set[str]:
    """Those of this process, by names of their own (proc(5), fd)."""
    found = set()
    for descriptor in Path("/proc/self/fd").iterdir():
        with suppress(FileNotFoundError):  # the one that the folder is read with
            found.add(os.readlink(descriptor))
    return {name for name in found if name.startswith("socket:")}


@pytest.mark.parametrize("server", ["mute", "full"])
@pytest.mark.parametrize(
    "accounts", [postgresql, ldap(), ldap(starttls=True), ldap("ldaps")], ids=["postgresql", "ldap", "ldap-starttls", "ldaps"]
)
@pytest.mark.usefixtures("uncollected")
def test_who_gives_up_hangs_up(
    request: pytest.FixtureRequest, server: str, accounts: Callable[[int], SqlAccounts | LdapAccounts]
) -> None:
    staff = accounts(request.getfixturevalue(server))
    before = sockets()
    for _ in range(3):
        with pytest.raises(AccountsError, match="no answer within"):
            staff.find("ann")
    assert sockets() <= before
