"""The whole way: AUTH at a server whose accounts are a database, another server, an issuer of tokens; and each of them gone."""

from __future__ import annotations

import base64
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from gevent.pywsgi import WSGIServer

from smtpproxy.accounts import passwords
from smtpproxy.testing.instance import one_listener
from smtpproxy.testing.process import RunningServer

if TYPE_CHECKING:
    from tests.accounts.conftest import Slapd

SERVER = one_listener(
    "discard", listener='auth = "staff"\nauth_without_tls = true', more="[limits]\nauth_delay = 0\n[users.staff]"
)


def plain(name: str, password: str) -> str:
    return "AUTH PLAIN " + base64.b64encode(f"\0{name}\0{password}".encode()).decode()


def bearer(name: str, token: str) -> str:
    return "AUTH XOAUTH2 " + base64.b64encode(f"user={name}\1auth=Bearer {token}\1\1".encode()).decode()


def said(server: RunningServer, line: str, *more: str) -> str:
    with server.client() as client:
        reply = str(client.send(line))
        for answer in more:
            reply = str(client.send(answer))
        return reply


def test_a_database(start: Callable[..., RunningServer], tmp_path: Path) -> None:
    file = tmp_path / "mail.sqlite"
    with sqlite3.connect(file) as connection:
        connection.execute("create table users (name text, hash text)")
        connection.execute("insert into users values ('ann', ?)", [passwords.make("secret")])
    query = "select hash from users where name = %(name)s"
    server = start(f'{SERVER}kind = "sql"\nsql.file = "{file}"\nsql.login = "{query}"\n')
    assert said(server, plain("ann", "secret")).startswith("235 2.7.0")
    wrong = {said(server, plain(name, "wrong")) for name in ("ann", "bob")}
    assert len(wrong) == 1 and wrong.pop().startswith("535 5.7.8")
    with sqlite3.connect(file) as connection:
        connection.execute("drop table users")
    assert said(server, plain("ann", "secret")).startswith("454 4.7.0")
    server.stop()
    assert "no such table: users" in server.log and "secret" not in server.log


def test_another_server(start: Callable[..., RunningServer], tmp_path: Path) -> None:
    (tmp_path / "users").write_text(f"ann {passwords.make('secret')}\n")
    other = start(f'{SERVER}kind = "file"\npath = "{tmp_path / "users"}"\n')
    server = start(f'{SERVER}kind = "smtp"\nsmtp = {{ to = "127.0.0.1:{other.port}", tls = "none", remember = 0 }}\n')
    assert said(server, plain("ann", "secret")).startswith("235 2.7.0")
    assert {said(server, plain(name, "wrong"))[:9] for name in ("ann", "bob")} == {"535 5.7.8"}
    other.stop()
    assert said(server, plain("ann", "secret")).startswith("454 4.7.0")


def test_tokens(start: Callable[..., RunningServer]) -> None:
    def answer(environ: dict[str, object], begin: Callable[..., object]) -> list[bytes]:
        begin("200 OK", [])
        good = b"token=good&" in environ["wsgi.input"].read()  # type: ignore[attr-defined]
        return [b'{"active": true, "username": "ann"}' if good else b'{"active": false}']

    issuer = WSGIServer(("127.0.0.1", 0), answer, log=None)
    issuer.start()
    url = f"http://127.0.0.1:{issuer.server_port}/introspect"
    server = start(f'{SERVER}kind = "oauth"\noauth = {{ url = "{url}", remember = 0 }}\n')
    with server.client() as client:
        assert "AUTH XOAUTH2 OAUTHBEARER" in str(client.send("EHLO client.example"))
    assert said(server, bearer("ann", "good")).startswith("235 2.7.0")
    assert said(server, bearer("ann", "bad"), "").startswith("535 5.7.8")
    assert said(server, bearer("bob", "good"), "").startswith("535 5.7.8")
    assert said(server, plain("ann", "good")).startswith("504")
    issuer.stop()
    assert said(server, bearer("ann", "good")).startswith("454 4.7.0")
    server.stop()
    assert "login_deferred" in server.log and "good" not in server.log


@pytest.fixture(scope="module")
def ldif() -> str:
    top = "dn: dc=example,dc=com\nobjectClass: dcObject\nobjectClass: organization\no: Example\ndc: example\n"
    return f"{top}\ndn: cn=ann,dc=example,dc=com\nobjectClass: person\ncn: ann\nsn: ann\nuserPassword: secret\n"


def test_a_directory(start: Callable[..., RunningServer], slapd: Slapd) -> None:
    server = start(
        f'{SERVER}kind = "ldap"\n[users.staff.ldap]\nto = "ldap://127.0.0.1:{slapd.port}"\nca = "{slapd.ca}"\n'
        'dn = "cn=%(name)s,dc=example,dc=com"\ntimeout = "5s"\n'
    )
    assert said(server, plain("ann", "secret")).startswith("235 2.7.0")
    assert {said(server, plain(name, "wrong"))[:9] for name in ("ann", "bob")} == {"535 5.7.8"}
    slapd.stop()
    assert said(server, plain("ann", "secret")).startswith("454 4.7.0")
