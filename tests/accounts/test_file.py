"""Accounts in a file: who they are, whose an address is, and a file that changes while it is in use."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import gevent
import pytest

from smtpproxy.accounts import passwords
from smtpproxy.accounts.base import Account, AccountsError, may_send
from smtpproxy.accounts.file import FileAccounts, line
from smtpproxy.accounts.hashing import WAITING, Busy, Hashing
from smtpproxy.wire.scram import ScramKeys

CHEAP = "$scrypt$ln=4,r=1,p=1${}${}"


def cheap(password: str) -> str:
    """A hash that costs nothing, for tests that look at something else."""
    salt = b"0123456789abcdef"
    return CHEAP.format(passwords._text(salt), passwords._text(passwords._scrypt(password.encode(), salt, 4, 1, 1)))


ANN = Account("ann@example.com", ("sales@example.com", "@example.org"), cheap("secret"))
BOB = Account("bob", (), cheap("hidden"), ScramKeys.derive("hidden", b"salt", 10))


@pytest.fixture
def records() -> list[dict[str, Any]]:
    return []


@pytest.fixture
def staff(tmp_path: Path, records: list[dict[str, Any]]) -> FileAccounts:
    (tmp_path / "users").write_text(f"# who may log in\n\n{line(ANN)}\n{line(BOB)}\n")


    def log(event: str, **fields: Any) -> None:
        records.append({"event": event, **fields})

    return FileAccounts("staff", Hashing(), tmp_path / "users", log)


def save(staff: FileAccounts, text: str) -> None:
    fresh = staff.path.with_suffix(".new")
    fresh.write_text(text)
    fresh.replace(staff.path)


def test_a_password_lets_its_owner_in_and_nobody_else(staff: FileAccounts) -> None:
    assert staff.check("ann@example.com", "secret") == ANN
    assert staff.check("bob", "hidden") == BOB
    for name, password in [("ann@example.com", "hidden"), ("ann@example.com", ""), ("carl", "secret"), ("", ""), ("a\0b", "x")]:
        assert staff.check(name, password) is None


def test_the_case_of_a_name_does_not_count_that_of_a_password_does(staff: FileAccounts) -> None:
    assert staff.check("Ann@Example.COM", "secret") == ANN
    assert staff.check("ann@example.com", "Secret") is None


def test_whose_an_address_is(staff: FileAccounts) -> None:
    for address in ("ann@example.com", "ANN@example.com", "sales@example.com", "bob@example.net"):
        assert staff.exists(address)
    for address in ("carl@example.com", "any@example.org", "@example.org", "", "ann"):
        assert not staff.exists(address)


def test_from_where_an_account_may_send(staff: FileAccounts) -> None:
    senders = staff.addresses("ann@example.com")
    assert senders == ("ann@example.com", "sales@example.com", "@example.org")
    assert [may_send(senders, it) for it in ("Ann@example.com", "any@example.org", "bob@example.com", "x@sub.example.org")] == [
        True, True, False, False,
    ]  # fmt: skip
    assert staff.addresses("bob") == staff.addresses("carl") == ()


def test_a_change_of_the_file_counts_at_the_next_login(staff: FileAccounts) -> None:
    assert staff.check("bob", "hidden")
    save(staff, line(ANN))
    assert staff.check("bob", "hidden") is None
    save(staff, line(BOB._replace(hash=cheap("new"))))
    assert staff.check("bob", "new")


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("carl secret", "line 1: no hash of a password ($scrypt$... or $argon2id$...)"),
        ("\ncarl", "line 2: carl has no hash of a password"),
        (f"carl {cheap('x')} nobody", "line 1: 'nobody' is no address"),
        (f"carl {cheap('x')} SCRAM-SHA-256$x", "line 1: no SCRAM-SHA-256 keys"),
        (f"carl {cheap('x')}\nCarl {cheap('x')}", "line 2: Carl is there twice"),
        ("carl $scrypt$ln=24,r=8,p=1$AAAA$AAAA", "line 1: a hash of scrypt that asks for too much"),
    ],
)
def test_a_broken_file_is_told_once_and_the_last_good_state_stays(
    staff: FileAccounts, records: list[dict[str, Any]], text: str, error: str
) -> None:
    assert staff.exists("ann@example.com")
    save(staff, text)
    assert staff.exists("ann@example.com") and staff.check("bob", "hidden")
    assert records == [
        {"event": "accounts_failed", "level": "error", "users": "staff", "error": f"{staff.path}: {error}"}
    ]


def test_without_a_file_nobody_is_refused_for_good(staff: FileAccounts) -> None:
    text = staff.path.read_text()
    staff.path.unlink()
    for ask in (lambda: staff.check("bob", "hidden"), lambda: staff.exists("ann@example.com"), lambda: staff.addresses("bob")):
        with pytest.raises(AccountsError, match="No such file or directory"):
            ask()
    save(staff, text)
    assert staff.check("bob", "hidden") == BOB


def test_a_file_that_vanishes_changes_nothing(staff: FileAccounts, records: list[dict[str, Any]]) -> None:
    assert staff.check("bob", "hidden")
    staff.path.unlink()
    assert staff.check("bob", "hidden")
    assert [record["event"] for record in records] == ["accounts_failed"]


def test_a_hash_of_argon2_is_checked_too(staff: FileAccounts) -> None:
    save(staff, line(ANN._replace(hash=passwords.make("secret", "argon2id"))))
    assert staff.check("ann@example.com", "secret")
    assert staff.check("ann@example.com", "Secret") is None


def test_a_hash_that_cannot_be_checked_here_is_no_wrong_password(staff: FileAccounts, monkeypatch: pytest.MonkeyPatch) -> None:
    save(staff, line(ANN._replace(hash=passwords.make("secret", "argon2id"))))
    monkeypatch.setitem(__import__("sys").modules, "argon2", None)
    with pytest.raises(AccountsError, match=r"pip install 'smtpproxy\[argon2\]'"):
        staff.check("ann@example.com", "secret")


def test_the_hub_goes_on_while_a_password_is_checked(staff: FileAccounts) -> None:
    save(staff, line(ANN._replace(hash=passwords.make("secret"))))
    checking = gevent.spawn(staff.check, "ann@example.com", "secret")
    turns = 0
    while not checking.ready():
        gevent.sleep(0.001)
        turns += 1
    assert checking.value and turns > 10


def test_who_would_wait_too_long_is_told_so() -> None:
    hashing = Hashing()
    reading, writing = os.pipe()
    waiting = [gevent.spawn(hashing.run, os.read, reading, 1) for _ in range(WAITING)]
    gevent.idle()
    with pytest.raises(Busy):
        hashing.run(os.read, reading, 1)
    os.write(writing, b"x" * WAITING)
    gevent.joinall(waiting, raise_error=True)
    os.write(writing, b"x")
    assert hashing.run(os.read, reading, 1) == b"x"


def test_what_is_written_names_its_method_and_is_another_one_each_time() -> None:
    one, other = passwords.make("secret"), passwords.make("secret")
    assert one.startswith("$scrypt$ln=14,r=8,p=5$") and one != other
    assert passwords.fits(one, "secret") and passwords.fits(other, "secret") and not passwords.fits(one, "secre")


def test_passwords_that_look_the_same_are_the_same() -> None:
    made = passwords.make("I\u00adX")  # RFC 4013 3: a soft hyphen is nothing
    assert passwords.fits(made, "IX") and passwords.fits(made, "\u2168")
    assert not passwords.fits(made, "\u0007")


def test_scram_is_for_files_in_which_everybody_has_keys(staff: FileAccounts) -> None:
    keyed = line(BOB)
    assert not staff.keyed
    save(staff, f"{keyed}\n")
    assert staff.keyed
    save(staff, f"{keyed}\n{line(ANN)}\n")
    assert not staff.keyed
    save(staff, f"{keyed}\nbroken\n")
    assert not staff.keyed
    save(staff, "")
    assert not staff.keyed


def test_a_file_that_was_never_read_offers_no_scram(tmp_path: Path, records: list[dict[str, Any]]) -> None:
    def log(event: str, **fields: Any) -> None:
        records.append({"event": event, **fields})

    assert not FileAccounts("staff", Hashing(), tmp_path / "users", log).keyed
    assert [record["event"] for record in records] == ["accounts_failed"]
