"""Who may log in: the tables [users.NAME]."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from msgspec import Struct

from smtpproxy.config.about import Count, about, vouching
from smtpproxy.config.directory import LdapServer
from smtpproxy.config.values import Duration, Target

Authorities = Annotated[Path | None, vouching("the server's certificate")]
Remembering = Annotated[
    Duration,
    about(
        "How long a good answer is believed without asking again, a token's no longer than it lasts; a keyed hash of what it was "
        "about is kept. 0: not at all."
    ),
]
Timeout = Annotated[Duration, about("For one question, connecting included; then the login is put off with 454.")]
"""What all have in common that ask elsewhere."""


class UsersSql(Struct, frozen=True, kw_only=True):
    """Accounts in PostgreSQL (extra `postgresql`) or SQLite. Queries know %(name)s; `exists` knows %(address)s,
    %(local_part)s and %(domain)s. What they stand for is never part of the query's text."""

    database: Annotated[
        str, about('PostgreSQL: "postgresql://user@host/database", without a password. Its options are libpq\'s.')
    ] = ""
    password_file: Annotated[
        Path | None, about("The database user's password, alone in a file. Without it PGPASSFILE and PGPASSWORD count.")
    ] = None
    file: Annotated[Path | None, about("Instead of database, a file of SQLite; it is only read.")] = None
    login: Annotated[
        str,
        about(
            'Finds the hash of the password, such as "select hash from users where name = %(name)s"; in a second column '
            "the login's name as rules and the log shall see it."
        ),
    ] = ""
    addresses: Annotated[
        str, about("Finds the addresses that the account may send from besides its name, one a row; empty: none.")
    ] = ""
    exists: Annotated[
        str, about("Finds a row when mail for an address is for somebody here; empty: rules cannot ask that.")
    ] = ""
    connections: Annotated[Count, about("Connections of a worker to PostgreSQL at one time.")] = 4
    timeout: Timeout = Duration(10)


class UsersLdap(Struct, frozen=True, kw_only=True):
    """Accounts in a directory (extra `ldap`): who can bind with the password is let in. Filters know %(name)s, or
    %(address)s, %(local_part)s and %(domain)s; what they stand for is escaped."""

    to: Annotated[
        tuple[LdapServer, ...],
        about('Servers: "ldap://host", "ldaps://host:port"; the first that answers.'),
    ] = ()
    starttls: Annotated[
        bool, about("With ldap://: STARTTLS or nothing. Without it passwords cross the network in the clear.")
    ] = True
    ca: Authorities = None
    dn: Annotated[
        str, about('The entry to bind as, such as "uid=%(name)s,ou=people,dc=example,dc=com"; empty: it is searched for.')
    ] = ""
    base: Annotated[str, about('Where entries are searched, such as "ou=people,dc=example,dc=com".')] = ""
    filter: Annotated[str, about("Which entry is the one of a login.")] = "(uid=%(name)s)"
    exists: Annotated[
        str,
        about(
            'Finds an entry when mail for an address is for somebody here, such as "(mail=%(address)s)"; empty: rules '
            "cannot ask that."
        ),
    ] = ""
    addresses: Annotated[
        tuple[str, ...], about("Attributes that hold addresses which the account may send from besides its name.")
    ] = ("mail",)
    search_dn: Annotated[str, about("Who searches; empty: an anonymous client.")] = ""
    search_password_file: Annotated[Path | None, about("The password of search_dn, alone in a file.")] = None
    connections: Annotated[Count, about("Connections of a worker that search at one time.")] = 4
    timeout: Timeout = Duration(10)


class UsersSmtp(Struct, frozen=True, kw_only=True):
    """Whoever can log in at another SMTP server. It can be asked neither whose an address is nor who has an account."""

    to: Annotated[tuple[Target, ...], about('Servers: "host:port"; the first that answers.')] = ()
    tls: Annotated[
        Literal["verify", "must", "none"],
        about(
            "verify: STARTTLS, and the certificate must be good for the server's name. must: STARTTLS, whatever the "
            "certificate. none: in the clear, on the loopback only."
        ),
    ] = "verify"
    tls_ca: Authorities = None
    tls_name: Annotated[str, about("The name that the certificate must have; empty for the server's own.")] = ""
    remember: Remembering = Duration(60)
    timeout: Timeout = Duration(20)


class UsersOauth(Struct, frozen=True, kw_only=True):
    """Tokens of OAuth 2.0, with XOAUTH2 and OAUTHBEARER: the server that issued them says whose they are (RFC 7662)."""

    url: Annotated[str, about("Where tokens are introspected; https://, or http:// on the loopback.")] = ""
    client_id: Annotated[str, about("Who we are there.")] = ""
    client_secret_file: Annotated[Path | None, about("Our secret there, alone in a file.")] = None
    ca: Authorities = None
    claim: Annotated[str, about("Which member of the answer is the login's name.")] = "username"
    scope: Annotated[str, about("The scope that a token must have; empty: any.")] = ""
    remember: Remembering = Duration(300)
    timeout: Timeout = Duration(10)


class Users(Struct, frozen=True, kw_only=True):
    """Who may log in. One table for each set of accounts; listeners and rules choose one by its name."""

    kind: Annotated[
        Literal["file", "sql", "ldap", "smtp", "oauth"],
        about(
            "file: a file that `smtpproxy user` writes. sql: a database, see [users.NAME.sql]. "
            "ldap: a directory, see [users.NAME.ldap]. smtp: another server, see [users.NAME.smtp]. "
            "oauth: tokens instead of passwords, see [users.NAME.oauth]."
        ),
    ]
    path: Annotated[Path | None, about("Of kind file: the file; a change of it counts at the next login.")] = None
    sql: Annotated[UsersSql, about("A database.")] = UsersSql()
    ldap: Annotated[UsersLdap, about("A directory.")] = UsersLdap()
    smtp: Annotated[UsersSmtp, about("Another server.")] = UsersSmtp()
    oauth: Annotated[UsersOauth, about("A server of OAuth.")] = UsersOauth()
