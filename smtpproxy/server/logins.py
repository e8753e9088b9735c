"""From a [users.NAME] to what knows its accounts."""

from __future__ import annotations

import socket
import ssl
import time
from pathlib import Path

from smtpproxy.accounts.base import Accounts, AccountsError
from smtpproxy.accounts.file import FileAccounts
from smtpproxy.accounts.hashing import Hashing
from smtpproxy.accounts.ldap import LdapAccounts
from smtpproxy.accounts.remote import RemoteAccounts
from smtpproxy.accounts.sql import Database, PostgreSQL, SqlAccounts, SQLite
from smtpproxy.accounts.tokens import OauthAccounts
from smtpproxy.config.users import Users, UsersSmtp, UsersSql
from smtpproxy.config.values import Networks
from smtpproxy.delivery.elsewhere import LoginElsewhere
from smtpproxy.delivery.smtp import Timeouts
from smtpproxy.delivery.tlspolicy import TlsPolicy
from smtpproxy.delivery.upstream import Upstream
from smtpproxy.net.http import HttpClient
from smtpproxy.net.tls import Trust
from smtpproxy.server.refused import Refused
from smtpproxy.session.services import LogLine


def accounts(name: str, settings: Users, hashing: Hashing, log: LogLine, hostname: str) -> Accounts:
    """Nothing is connected yet. Raises ``Refused`` for files that cannot be used, and for a library that is missing."""
    try:
        if settings.kind == "sql":
            sql = settings.sql
            return SqlAccounts(name, hashing, _database(sql), sql.login, sql.addresses, sql.exists)
        if settings.kind == "ldap":
            return LdapAccounts(name, hashing, settings.ldap)
        if settings.kind == "smtp":
            return RemoteAccounts(name, hashing, _elsewhere(settings.smtp, hostname), settings.smtp.remember)
        if settings.kind == "oauth":
            return OauthAccounts(name, hashing, settings.oauth, _web(settings.oauth.ca))
    except (AccountsError, OSError) as error:
        raise Refused(f"users.{name}: {error}") from None
    return FileAccounts(name, hashing, settings.path or Path(), log)


def _elsewhere(settings: UsersSmtp, hostname: str) -> LoginElsewhere:
    trust = Trust(verify=settings.tls == "verify", ca=settings.tls_ca, name=settings.tls_name)
    policy = TlsPolicy(settings.tls, trust)
    timeouts = Timeouts(connect=settings.timeout / len(settings.to) or Timeouts().connect)
    return LoginElsewhere([Upstream(it, timeouts, hostname, time.monotonic, tls=policy) for it in settings.to], settings.timeout)


def _web(ca: Path | None) -> HttpClient:
    """The configuration names the server, so it may be in any network."""
    everywhere = Networks(["0.0.0.0/0", "::/0"])
    return HttpClient(_addresses, everywhere, lambda: ssl.create_default_context(cafile=ca))


def _addresses(host: str) -> list[str]:
    return [str(found[4][0]) for found in socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)]


def _database(settings: UsersSql) -> Database:
    if settings.file is not None:
        return SQLite(settings.file, settings.timeout)
    return PostgreSQL(settings.database, settings.password_file, settings.connections, settings.timeout)
