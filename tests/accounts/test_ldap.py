"""Accounts in a directory: who can bind gets in, what a name cannot do to a filter, and a directory that is not there."""

from __future__ import annotations

import base64
import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gevent
import pytest

from smtpproxy.accounts.base import Account, AccountsError
from smtpproxy.accounts.hashing import Hashing
from smtpproxy.accounts.ldap import LdapAccounts
from smtpproxy.config.directory import LdapServer
from smtpproxy.config.users import UsersLdap
from smtpproxy.config.values import Duration

if TYPE_CHECKING:
    from tests.accounts.conftest import Slapd

PEOPLE = "ou=people,dc=example,dc=com"


def salted(password: str) -> str:
    return "{SSHA}" + base64.b64encode(hashlib.sha1(password.encode() + b"salt").digest() + b"salt").decode()


def person(name: str, password: str, *mail: str) -> str:
    lines = [f"dn: uid={name},{PEOPLE}", "objectClass: inetOrgPerson", f"uid: {name}", f"cn: {name}", f"sn: {name}"]
    return "\n".join([*lines, f"userPassword: {salted(password)}", *(f"mail: {address}" for address in mail)]) + "\n"


@pytest.fixture(scope="module")
def ldif() -> str:
    top = "dn: dc=example,dc=com\nobjectClass: dcObject\nobjectClass: organization\no: Example\ndc: example\n"
    people = f"dn: {PEOPLE}\nobjectClass: organizationalUnit\nou: people\n"
    proxy = f"dn: cn=proxy,dc=example,dc=com\nobjectClass: person\ncn: proxy\nsn: x\nuserPassword: {salted('of the proxy')}\n"
    ann, bob = person("ann", "secret", "ann@example.com", "sales@example.com"), person("bob", "hidden", "ann@example.com")
    return "\n".join([top, people, proxy, ann, bob])


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    (tmp_path / "secret").write_text("of the proxy\n")
    return tmp_path / "secret"


def directory(slapd: Slapd, secret: Path, **settings: Any) -> LdapAccounts:
    given: dict[str, Any] = {
        "to": (LdapServer("ldap", "127.0.0.1", slapd.port),), "ca": slapd.ca, "base": PEOPLE,
        "exists": "(mail=%(address)s)", "search_dn": "cn=proxy,dc=example,dc=com", "search_password_file": secret,
        "timeout": Duration(5), **settings,
    }  # fmt: skip
    return LdapAccounts("staff", Hashing(), UsersLdap(**given))


TEMPLATE = {"dn": f"uid=%(name)s,{PEOPLE}"}


@pytest.mark.parametrize("settings", [{}, TEMPLATE], ids=["searched", "template"])
def test_who_can_bind_gets_in_and_nobody_else(slapd: Slapd, secret: Path, settings: dict[str, Any]) -> None:
    staff = directory(slapd, secret, **settings)
    assert staff.check("Ann", "secret") == Account("ann", ("ann@example.com", "sales@example.com"))
    others = [("ann", "hidden"), ("carl", "secret"), ("", "secret"), ("a\0b", "secret"), ("ann ", "x"), ("\u00e4", "x")]
    assert [name for name, password in others if staff.check(name, password)] == []
    assert staff.addresses("ann") == ("ann@example.com", "sales@example.com")
    assert staff.addresses("carl") == () and staff.find("carl") is None


@pytest.mark.parametrize("settings", [{}, TEMPLATE], ids=["searched", "template"])
def test_no_password_is_no_bind(slapd: Slapd, secret: Path, settings: dict[str, Any]) -> None:
    assert directory(slapd, secret, **settings).check("ann", "") is None  # slapd would call it a success


@pytest.mark.parametrize("settings", [{}, TEMPLATE], ids=["searched", "template"])
def test_a_name_is_never_a_piece_of_a_filter_or_of_another_name(slapd: Slapd, secret: Path, settings: dict[str, Any]) -> None:
    staff = directory(slapd, secret, **settings)
    names = ("*", "a*", "ann)(uid=*", "*)(|(uid=*", f"ann,{PEOPLE}", "ann+cn=ann", "\\61nn", "#616e6e", "ann\n", " ann,", '"ann"')
    assert [name for name in names if staff.check(name, "secret")] == []


def test_whose_an_address_is(slapd: Slapd, secret: Path) -> None:
    staff = directory(slapd, secret)
    assert staff.exists("Sales@example.com")
    assert not any(staff.exists(address) for address in ("nobody@example.com", "*", "*@example.com", ""))


def test_a_filter_that_finds_several_is_a_mistake_and_no_wrong_password(slapd: Slapd, secret: Path) -> None:
    with pytest.raises(AccountsError, match=r"finds uid=(ann|bob),.* and uid="):
        directory(slapd, secret, filter="(mail=%(name)s)").check("ann@example.com", "secret")


def test_ldaps_and_the_certificate(slapd: Slapd, secret: Path, tmp_path: Path) -> None:
    secure = (LdapServer("ldaps", "127.0.0.1", slapd.tls_port),)
    assert directory(slapd, secret, to=secure).check("ann", "secret")
    for settings in ({}, {"to": secure}):
        with pytest.raises(AccountsError, match="certificate verify failed"):
            directory(slapd, secret, ca=None, **settings).check("ann", "secret")
    with pytest.raises(AccountsError, match="not valid for"):
        directory(slapd, secret, to=(LdapServer("ldap", "localhost", slapd.port),)).check("ann", "secret")


def test_a_directory_that_goes_puts_logins_off_and_comes_back(slapd: Slapd, secret: Path) -> None:
    searched, template = directory(slapd, secret), directory(slapd, secret, **TEMPLATE)
    assert searched.check("ann", "secret") and template.check("ann", "secret")
    slapd.stop()
    for question in (
        lambda: searched.check("ann", "secret"), lambda: template.check("ann", "wrong"),
        lambda: searched.exists("ann@example.com"), lambda: searched.find("ann"),
    ):  # fmt: skip
        with pytest.raises(AccountsError, match="Connection refused"):
            question()
    slapd.start()
    assert searched.check("ann", "secret") and template.check("ann", "secret")


def test_connections_that_died_at_rest_are_noticed_by_nobody(slapd: Slapd, secret: Path) -> None:
    staff = directory(slapd, secret)
    assert staff.exists("ann@example.com")
    slapd.stop()
    slapd.start()
    assert staff.exists("ann@example.com") and staff.check("ann", "secret")


def test_the_next_server_is_asked_where_the_first_is_gone(slapd: Slapd, secret: Path) -> None:
    servers = (LdapServer("ldap", "127.0.0.1", 1), LdapServer("ldap", "127.0.0.1", slapd.port))
    assert directory(slapd, secret, to=servers).check("ann", "secret")


@pytest.mark.parametrize("settings", [{}, TEMPLATE], ids=["searched", "template"])
def test_a_directory_that_hangs_puts_logins_off_and_keeps_nobody_waiting(
    slapd: Slapd, secret: Path, settings: dict[str, Any]
) -> None:
    staff = directory(slapd, secret, timeout=Duration(0.5), **settings)
    slapd.freeze()
    asking = gevent.spawn(staff.check, "ann", "secret")
    turns = 0
    while not asking.ready():
        gevent.sleep(0.005)
        turns += 1
    assert turns > 5
    assert isinstance(asking.exception, AccountsError) and "no answer within 0.5 s" in str(asking.exception)


def test_a_search_that_is_not_allowed_is_nobody_elses_fault_and_tells_no_password(slapd: Slapd, tmp_path: Path) -> None:
    (tmp_path / "wrong").write_text("of nobody")
    with pytest.raises(AccountsError, match="bind as cn=proxy,dc=example,dc=com: invalidCredentials") as failure:
        directory(slapd, tmp_path / "wrong").check("ann", "secret")
    assert "of nobody" not in str(failure.value) and "secret" not in str(failure.value)
