"""Accounts in a database: who gets in, what a name cannot do to a query, and a database that is not there."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import gevent
import pytest

from smtpproxy.accounts import passwords
from smtpproxy.accounts.base import Account, AccountsError
from smtpproxy.accounts.hashing import Hashing
from smtpproxy.accounts.sql import Database, PostgreSQL, SqlAccounts, SQLite
from smtpproxy.testing.waiting import until

if TYPE_CHECKING:
    from tests.accounts.conftest import PostgreSQLServer

ANN = "$scrypt$ln=4,r=1,p=1$MDEyMzQ1Njc4OWFiY2RlZg${}".format(
    passwords._text(passwords._scrypt(b"secret", b"0123456789abcdef", 4, 1, 1))
)
TABLES = [
    "drop table if exists users",
    "drop table if exists senders",
    "create table users (name text, hash text, shown text)",
    "create table senders (owner text, address text)",
    f"insert into users values ('ann', '{ANN}', 'ann@example.com'), ('off', null, 'off'), ('two', 'x', 'x'), ('two', 'y', 'y')",
    "insert into senders values ('ann', 'sales@example.com'), ('ann', '@example.org')",
]
LOGIN = "select hash, shown from users where name = lower(%(name)s) and name not like '%nobody'"
ADDRESSES = "select address from senders where owner = lower(%(name)s)"
EXISTS = "select 1 from users where shown = lower(%(local_part)s) || '@' || lower(%(domain)s) and %(address)s <> ''"


def accounts(database: Database, login: str = LOGIN) -> SqlAccounts:
    return SqlAccounts("staff", Hashing(), database, login, ADDRESSES, EXISTS)


@pytest.fixture
def sqlite_file(tmp_path: Path) -> Path:
    connection = sqlite3.connect(tmp_path / "mail.sqlite")
    for statement in TABLES:
        connection.execute(statement)
    connection.commit()
    connection.close()
    return tmp_path / "mail.sqlite"


@pytest.fixture
def cluster(postgresql: PostgreSQLServer) -> PostgreSQLServer:
    with postgresql.connect() as connection:
        for statement in TABLES:
            connection.execute(statement.encode())
    return postgresql


def ask(cluster: PostgreSQLServer, timeout: float = 10.0, connections: int = 2) -> PostgreSQL:
    return PostgreSQL(cluster.url, cluster.folder / "secret", connections, timeout)


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest) -> Iterator[Database]:
    """Both are asked the same."""
    found: Database
    if request.param == "sqlite":
        found = SQLite(request.getfixturevalue("sqlite_file"), 5.0)
    else:
        found = ask(request.getfixturevalue("cluster"))
    yield found
    found.close()


def test_who_gets_in_and_what_is_known_of_an_account(database: Database) -> None:
    staff = accounts(database)
    known = Account("ann@example.com", ("sales@example.com", "@example.org"), ANN)
    assert staff.check("ann", "secret") == staff.check("ANN", "secret") == known
    assert staff.addresses("ann") == ("ann@example.com", "sales@example.com", "@example.org")
    for name, password in [("ann", "Secret"), ("ann", ""), ("bob", "secret"), ("", ""), ("off", ""), ("a\0b", "secret")]:
        assert staff.check(name, password) is None


def test_whose_an_address_is(database: Database) -> None:
    staff = accounts(database)
    assert staff.exists("Ann@example.com")
    for address in ("bob@example.com", "ann@example.org", "", "' or ''='@example.com", "a\0@example.com"):
        assert not staff.exists(address)


def test_a_name_is_never_a_piece_of_a_query(database: Database) -> None:
    staff = accounts(database)
    assert staff.check("ann", "secret")
    for name in ("' or '1'='1", "ann' --", "x'; drop table users; --", "%(name)s", ":name", "%", "$1"):
        assert staff.check(name, "secret") is None
    assert staff.check("ann", "secret")


def test_a_query_that_is_wrong_lets_nobody_in_and_refuses_nobody(database: Database) -> None:
    with pytest.raises(AccountsError, match="nowhere"):
        accounts(database, "select hash from nowhere where name = %(name)s").check("ann", "secret")
    with pytest.raises(AccountsError, match="finds 2 accounts"):
        accounts(database).check("two", "secret")
    assert accounts(database).check("ann", "secret")


def test_an_unknown_name_costs_what_a_wrong_password_costs(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    staff = accounts(database)
    checked: list[str] = []

    def fits(text: str, password: str) -> bool:
        checked.append(text)
        return True

    assert staff.check("ann", "wrong") is None
    monkeypatch.setattr(passwords, "fits", fits)
    assert staff.check("bob", "anything") is None
    assert checked == [ANN]


def test_without_a_file_nobody_is_refused_for_good(sqlite_file: Path) -> None:
    content = sqlite_file.read_bytes()
    sqlite_file.unlink()
    staff = accounts(SQLite(sqlite_file, 5.0))
    with pytest.raises(AccountsError, match="unable to open database file"):
        staff.check("ann", "secret")
    sqlite_file.write_bytes(content)
    assert staff.check("ann", "secret")


def test_a_file_is_only_read(sqlite_file: Path) -> None:
    with pytest.raises(AccountsError, match="readonly"):
        accounts(SQLite(sqlite_file, 5.0), "delete from users where name = %(name)s returning hash").find("ann")


def hub_goes_on(question: Callable[[], object]) -> gevent.Greenlet[..., object]:
    asking = gevent.spawn(question)
    turns = 0
    while not asking.ready():
        gevent.sleep(0.002)
        turns += 1
    assert turns > 5
    return asking


def test_a_slow_query_of_sqlite_keeps_nobody_waiting_and_ends_in_time(sqlite_file: Path) -> None:
    forever = "with recursive n(i) as (select 1 union all select i + 1 from n) select max(i) from n where %(name)s <> ''"
    staff = accounts(SQLite(sqlite_file, 0.3), forever)
    asking = hub_goes_on(lambda: staff.find("ann"))
    assert isinstance(asking.exception, AccountsError) and "interrupted (after 0.3 s)" in str(asking.exception)


def test_a_slow_query_of_postgresql_keeps_nobody_waiting_and_ends_in_time(cluster: PostgreSQLServer) -> None:
    staff = accounts(ask(cluster, timeout=0.5), "select pg_sleep(30)::text where %(name)s <> ''")
    asking = hub_goes_on(lambda: staff.find("ann"))
    assert isinstance(asking.exception, AccountsError) and "no answer within 0.5 s" in str(asking.exception)


def test_connections_are_kept_and_never_more_than_allowed(cluster: PostgreSQLServer) -> None:
    backend = "select pg_backend_pid()::text where %(name)s <> '' and pg_sleep(0.05) is not null"
    staff = accounts(ask(cluster, connections=2), backend)
    asking = [gevent.spawn(staff.find, "ann") for _ in range(8)]
    gevent.joinall(asking, raise_error=True)
    backends = {greenlet.value.hash for greenlet in asking}
    assert len(backends) == 2
    staff.close()
    with cluster.connect() as connection:
        query = b"select 1 from pg_stat_activity where pid::text = any(%s)"
        until(lambda: not connection.execute(query, [list(backends)]).fetchall(), 5.0, "the end of the connections")


def test_a_database_that_goes_puts_logins_off_and_comes_back(cluster: PostgreSQLServer) -> None:
    staff = accounts(ask(cluster))
    assert staff.check("ann", "secret")
    cluster.stop()
    for question in (
        lambda: staff.check("ann", "secret"), lambda: staff.exists("ann@example.com"), lambda: staff.check("bob", "x"),
    ):  # fmt: skip
        with pytest.raises(AccountsError, match="onnection refused"):
            question()
    cluster.start()
    assert staff.check("ann", "secret")


def test_connections_that_died_at_rest_are_noticed_by_nobody(cluster: PostgreSQLServer) -> None:
    staff = accounts(ask(cluster))
    assert staff.check("ann", "secret")
    cluster.stop()
    cluster.start()
    assert staff.check("ann", "secret")


def test_a_database_that_hangs_puts_logins_off(cluster: PostgreSQLServer) -> None:
    staff = accounts(ask(cluster, timeout=0.5))
    cluster.freeze()
    with pytest.raises(AccountsError, match="no answer within"):
        staff.check("ann", "secret")


def test_a_wrong_password_of_our_own_is_nobody_elses_fault_and_not_told(cluster: PostgreSQLServer, tmp_path: Path) -> None:
    (tmp_path / "wrong").write_text("of nobody\n")
    staff = accounts(PostgreSQL(cluster.url, tmp_path / "wrong", 1, 5.0))
    with pytest.raises(AccountsError, match="password authentication failed") as failure:
        staff.check("ann", "secret")
    assert "of nobody" not in str(failure.value) and "secret" not in str(failure.value)


def test_a_file_of_a_password_that_is_not_there_is_named(cluster: PostgreSQLServer, tmp_path: Path) -> None:
    with pytest.raises(AccountsError, match="none: No such file or directory"):
        accounts(PostgreSQL(cluster.url, tmp_path / "none", 1, 5.0)).check("ann", "secret")
