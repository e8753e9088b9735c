"""What [users.NAME] must say for its kind, and what it must not."""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from typing import Final
from urllib.parse import urlsplit

from smtpproxy.config.lines import Keys
from smtpproxy.config.template import ADDRESS, LOGIN, Template
from smtpproxy.config.users import Users, UsersLdap, UsersOauth, UsersSmtp, UsersSql
from smtpproxy.config.values import Target

Report = Callable[[Keys, str, str], None]

_TABLES: Final = (("sql", UsersSql()), ("ldap", UsersLdap()), ("smtp", UsersSmtp()), ("oauth", UsersOauth()))
"""Kinds with a table of their own, and what stands in it when nothing does."""


def check_users(name: str, users: Users, report: Report) -> None:
    at = ("users", name)
    if users.kind == "file" and users.path is None:
        report((*at, "path"), "is missing", 'such as path = "users"')
    for table, plain in _TABLES:
        if table != users.kind and getattr(users, table) != plain:
            report((*at, table), f"has no use for accounts of kind {users.kind}", "")
    if users.kind == "sql":
        _check_sql((*at, "sql"), users.sql, report)
    elif users.kind == "ldap":
        _check_ldap((*at, "ldap"), users.ldap, report)
    elif users.kind == "smtp":
        _check_smtp((*at, "smtp"), users.smtp, report)
    elif users.kind == "oauth":
        _check_oauth((*at, "oauth"), users.oauth, report)


def _check_sql(at: Keys, sql: UsersSql, report: Report) -> None:
    if bool(sql.database) == (sql.file is not None):
        report(at, "needs either database or file", "")
    if sql.database:
        _check_url((*at, "database"), sql.database, report)
        _check_installed((*at, "database"), "psycopg", "postgresql", report)
    if not sql.login:
        report((*at, "login"), "is missing", 'such as login = "select hash from users where name = %(name)s"')
    for key, text, known in (("login", sql.login, LOGIN), ("addresses", sql.addresses, LOGIN), ("exists", sql.exists, ADDRESS)):
        _check_places((*at, key), text, known, report)


def _check_url(at: Keys, url: str, report: Report) -> None:
    try:
        parts = urlsplit(url)
        known = parts.scheme in ("postgresql", "postgres")
        secret = parts.password is not None or "password=" in parts.query
    except ValueError:
        known = secret = False
    if not known:
        report(at, "is no address of a database", 'such as "postgresql://smtpproxy@db.example.com/mail"')
    if secret:
        report(at, "a password does not stand here", "give password_file")


def _check_ldap(at: Keys, ldap: UsersLdap, report: Report) -> None:
    if not ldap.to:
        report((*at, "to"), "is missing", 'such as to = ["ldap://ldap.example.com"]')
    if not (ldap.dn or ldap.base):
        report((*at, "base"), "is missing: entries are searched below it", "give base, or dn")
    if ldap.exists and not ldap.base:
        report((*at, "exists"), "has no use without base", "")
    for key, text, known in (("dn", ldap.dn, LOGIN), ("filter", ldap.filter, LOGIN), ("exists", ldap.exists, ADDRESS)):
        _check_places((*at, key), text, known, report)
    _check_installed(at, "ldap3", "ldap", report)


def _check_smtp(at: Keys, smtp: UsersSmtp, report: Report) -> None:
    if not smtp.to:
        report((*at, "to"), "is missing", 'such as to = ["mail.example.com:587"]')
    for target in smtp.to:
        if target.protocol != "smtp":
            report((*at, "to"), f"{target}: nobody logs in over LMTP", "")
        elif smtp.tls == "none" and not target.near:
            report((*at, "tls"), f"passwords would go to {target} in the clear", 'tls = "verify"')


def _check_oauth(at: Keys, oauth: UsersOauth, report: Report) -> None:
    parts = urlsplit(oauth.url)
    if parts.scheme not in ("https", "http") or not parts.hostname or "@" in parts.netloc:
        report((*at, "url"), "is no address of a web server", 'such as "https://id.example.com/oauth2/introspect"')
    elif parts.scheme == "http" and not Target("http", parts.hostname, 0).near:
        report((*at, "url"), "tokens would cross the network in the clear", "https://")


def _check_places(at: Keys, text: str, known: frozenset[str], report: Report) -> None:
    for name in sorted(Template(text).names - known):
        report(at, f"%({name})s is unknown here", f"there is {', '.join(f'%({one})s' for one in sorted(known))}")


def _check_installed(at: Keys, module: str, extra: str, report: Report) -> None:
    if find_spec(module) is None:
        report(at, f"needs {module}, which is not installed", f"pip install 'smtpproxy[{extra}]'")
