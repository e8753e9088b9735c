"""[users.NAME] kind = "sql": accounts in PostgreSQL or in a file of SQLite, found by queries of the configuration.

Questions to PostgreSQL wait in the hub, as sockets do; those to SQLite are asked by one thread for each file.
"""

from __future__ import annotations

import socket
import sqlite3
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from gevent.threadpool import ThreadPool

from smtpproxy.accounts.base import Account, Accounts, AccountsError
from smtpproxy.accounts.connections import Connections, Unanswered
from smtpproxy.accounts.hashing import Hashing
from smtpproxy.accounts.secrets import read_secret
from smtpproxy.config.template import Template, of_address

if TYPE_CHECKING:
    import psycopg

MANY = 1000
"""Rows of an answer; an account with more addresses than that is a mistake in a query."""
_STEPS = 10_000
"""Instructions of SQLite's between two looks at the clock."""

Row = tuple[Any, ...]


class Database(Protocol):
    """Whatever answers queries."""

    def rows(self, query: Template, values: Mapping[str, str]) -> Sequence[Row]:
        """At most MANY. Raises ``Unanswered``."""

    def close(self) -> None: ...


class SqlAccounts(Accounts):
    """`login` finds hash and name, `addresses` senders, `exists` any row."""

    def __init__(self, name: str, hashing: Hashing, database: Database, login: str, addresses: str, exists: str) -> None:
        super().__init__(name, hashing)
        self._database = database
        self._login = Template(login)
        self._addresses = Template(addresses)
        self._exists = Template(exists)

    def find(self, name: str) -> Account | None:
        """See ``Accounts``. As many queries for nobody as for somebody: the time tells nothing."""
        if "\0" in name:
            return None
        found = self._rows(self._login, {"name": name})
        addresses = self._rows(self._addresses, {"name": name}) if self._addresses else []
        if len(found) > 1:
            raise AccountsError(f"[users.{self.name}] {name}: `login` finds {len(found)} accounts")
        if not found or not found[0][0]:
            return None
        known, *rest = found[0]
        return Account(str(rest[0]) if rest else name, tuple(str(row[0]) for row in addresses if row[0]), str(known))

    def exists(self, address: str) -> bool:
        """See ``Accounts``."""
        if not self._exists:
            raise AccountsError(f"[users.{self.name}.sql] has no query `exists`")
        return "\0" not in address and bool(self._rows(self._exists, of_address(address)))

    def close(self) -> None:
        """See ``Accounts``."""
        self._database.close()

    def _rows(self, query: Template, values: Mapping[str, str]) -> Sequence[Row]:
        try:
            return self._database.rows(query, values)
        except Unanswered as error:
            raise AccountsError(f"[users.{self.name}] {error}") from None


class PostgreSQL:
    """psycopg waits in the hub by itself once the standard library is patched, but for looking up names: done here."""

    def __init__(self, url: str, password_file: Path | None, connections: int, timeout: float) -> None:
        try:
            import psycopg
        except ImportError:
            raise AccountsError("PostgreSQL needs psycopg: pip install 'smtpproxy[postgresql]'") from None
        self._url = url
        self._password_file = password_file
        self._timeout = timeout
        self._connections = Connections(self._open, (psycopg.Error, OSError), connections, timeout)

    def rows(self, query: Template, values: Mapping[str, str]) -> Sequence[Row]:
        """See ``Database``."""
        text = query.with_places("%({})s".format, lambda plain: plain.replace("%", "%%"))
        return self._connections.ask(lambda connection: connection.execute(text.encode(), values).fetchmany(MANY))

    def close(self) -> None:
        """See ``Database``."""
        self._connections.close()

    def _open(self) -> psycopg.Connection[tuple[Any, ...]]:
        import psycopg

        settings: dict[str, Any] = psycopg.conninfo.conninfo_to_dict(self._url)
        if self._password_file is not None:
            settings["password"] = read_secret(self._password_file)
        host = str(settings.get("host", ""))
        if host and "hostaddr" not in settings and not any(sign in host for sign in "/,"):
            settings["hostaddr"] = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)[0][4][0]
        settings.setdefault("application_name", "smtpproxy")
        settings.setdefault("connect_timeout", max(2, round(self._timeout)))
        return psycopg.connect(**settings, autocommit=True, prepare_threshold=None)


class SQLite:
    """A file that somebody else writes, opened for reading with the first question; one thread asks it."""

    def __init__(self, path: Path, timeout: float) -> None:
        self._path = path
        self._timeout = timeout
        self._thread: ThreadPool | None = None
        self._connection: sqlite3.Connection | None = None

    def rows(self, query: Template, values: Mapping[str, str]) -> Sequence[Row]:
        """See ``Database``."""
        if self._thread is None:
            self._thread = ThreadPool(1)
        text = query.with_places(":{}".format)
        found: list[Row] | str = self._thread.apply(self._ask, (text, values, time.monotonic() + self._timeout))
        if isinstance(found, str):
            raise Unanswered(f"{self._path}: {found}")
        return found

    def close(self) -> None:
        """See ``Database``."""
        if self._thread is not None:
            self._thread.apply(self._forget)
            self._thread.kill()
            self._thread = None

    # in the thread, from here on

    def _ask(self, text: str, values: Mapping[str, str], until: float) -> list[Row] | str:
        """The rows, or why there are none: what is raised here gevent would print."""
        try:
            connection = self._connection or self._open()
            connection.set_progress_handler(lambda: time.monotonic() > until, _STEPS)
            return connection.execute(text, dict(values)).fetchmany(MANY)
        except sqlite3.Error as error:
            self._forget()
            late = f" (after {self._timeout:g} s)" if time.monotonic() > until else ""
            return f"{error}{late}"

    def _open(self) -> sqlite3.Connection:
        self._connection = sqlite3.connect(
            f"{self._path.absolute().as_uri()}?mode=ro", uri=True, timeout=self._timeout, isolation_level=None,
            check_same_thread=False,
        )  # fmt: skip
        return self._connection

    def _forget(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None
