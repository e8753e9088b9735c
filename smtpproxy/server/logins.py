"""From a [users.NAME] to what knows its accounts."""

from __future__ import annotations

from pathlib import Path

from smtpproxy.accounts.base import Accounts, AccountsError
from smtpproxy.accounts.file import FileAccounts
from smtpproxy.accounts.hashing import Hashing
from smtpproxy.accounts.ldap import LdapAccounts
from smtpproxy.accounts.sql import Database, PostgreSQL, SqlAccounts, SQLite
from smtpproxy.config.users import Users, UsersSql
from smtpproxy.server.refused import Refused
from smtpproxy.session.services import LogLine


def accounts(name: str, settings: Users, hashing: Hashing, log: LogLine) -> Accounts:
    """Nothing is connected yet. Raises ``Refused`` for files that cannot be used, and for a library that is missing."""
    try:
        if settings.kind == "sql":
            sql = settings.sql
            return SqlAccounts(name, hashing, _database(sql), sql.login, sql.addresses, sql.exists)
        if settings.kind == "ldap":
            return LdapAccounts(name, hashing, settings.ldap)
    except (AccountsError, OSError) as error:
        raise Refused(f"users.{name}: {error}") from None
    return FileAccounts(name, hashing, settings.path or Path(), log)


def _database(settings: UsersSql) -> Database:
    if settings.file is not None:
        return SQLite(settings.file, settings.timeout)
    return PostgreSQL(settings.database, settings.password_file, settings.connections, settings.timeout)
