"""[users.NAME]: what each kind needs, and where a password must not stand."""

from __future__ import annotations

from pathlib import Path

import pytest

from smtpproxy.config.load import load
from smtpproxy.config.problem import ConfigErrors

REST = '[listener.mx]\nbind = "127.0.0.1:0"\nhandoff = "out"\n[handoff.out]\nkind = "discard"\n'
SQL = 'kind = "sql"\n[users.staff.sql]\nlogin = "select hash from users where name = %(name)s"\n'
LDAP = 'kind = "ldap"\n[users.staff.ldap]\nto = ["ldap://ldap.example.com"]\nbase = "dc=example,dc=com"\n'


def complaints(tmp_path: Path, table: str) -> str:
    (tmp_path / "smtpproxy.toml").write_text(f"{REST}[users.staff]\n{table}")
    try:
        load(tmp_path)
    except ConfigErrors as errors:
        return str(errors)
    return ""


@pytest.mark.parametrize(
    "table",
    [
        'kind = "smtp"\nsmtp.to = ["127.0.0.1:25"]\nsmtp.tls = "none"', 'kind = "oauth"\noauth.url = "http://localhost/x"',
        SQL + 'file = "mail.sqlite"', SQL + 'database = "postgresql://me@db/mail"', LDAP, LDAP + 'search_dn = "cn=x"',
    ],
)
def test_what_can_be_used(tmp_path: Path, table: str) -> None:
    assert complaints(tmp_path, table) == ""


@pytest.mark.parametrize(
    ("table", "complaint"),
    [
        ('kind = "sql"\n[users.staff.sql]\nfile = "x"', "users.staff.sql.login: is missing"),
        (SQL, "users.staff.sql: needs either database or file"),
        (SQL + 'file = "x"\ndatabase = "postgresql://db/mail"', "users.staff.sql: needs either database or file"),
        (SQL + 'database = "mysql://db/mail"', "users.staff.sql.database: is no address of a database"),
        (SQL.replace("(name)", "(login)") + 'file = "x"', "users.staff.sql.login: %(login)s is unknown here"),
        (SQL + 'file = "x"\nexists = "select %(name)s"', "users.staff.sql.exists: %(name)s is unknown here"),
        ('kind = "ldap"', "users.staff.ldap.to: is missing"),
        ('kind = "ldap"\nldap.to = ["ldaps://db"]', "users.staff.ldap.base: is missing"),
        ('kind = "smtp"', "users.staff.smtp.to: is missing"),
        ('kind = "smtp"\nsmtp.to = ["mx.example.com:587"]\nsmtp.tls = "none"', "mx.example.com:587 in the clear"),
        ('kind = "smtp"\nsmtp.to = ["lmtp://localhost:24"]', "nobody logs in over LMTP"),
        ('kind = "oauth"', "users.staff.oauth.url: is no address of a web server"),
        ('kind = "oauth"\noauth.url = "http://id.example.com/x"', "tokens would cross the network in the clear"),
        (LDAP.replace("ldap://", "http://"), "neither ldap://host nor ldaps://host"),
        (LDAP.replace('"ldap"', '"file"', 1).replace("\n[", '\npath = "x"\n[', 1), "has no use for accounts of kind file"),
    ],
)
def test_what_cannot(tmp_path: Path, table: str, complaint: str) -> None:
    assert complaint in complaints(tmp_path, table)


@pytest.mark.parametrize("url", ["postgresql://me:hidden@db/mail", "postgresql://db/mail?user=me&password=hidden"])
def test_a_password_in_an_address_is_refused_and_not_repeated(tmp_path: Path, url: str) -> None:
    told = complaints(tmp_path, SQL + f'database = "{url}"')
    assert "users.staff.sql.database: a password does not stand here" in told and "hidden" not in told
