"""`smtpproxy user`: the file that it writes, and what it refuses."""

from __future__ import annotations

import io
import os
import stat
from pathlib import Path

import pytest

from smtpproxy.accounts import passwords
from smtpproxy.accounts.file import read
from smtpproxy.cli.main import main


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "users"


def user(monkeypatch: pytest.MonkeyPatch, file: Path, action: str, *words: str, password: str = "") -> int:
    monkeypatch.setattr("sys.stdin", io.StringIO(f"{password}\n"))
    more = ("--password-stdin",) if password else ()
    return main(["user", action, "--file", str(file), *words, *more])


def test_who_is_added_can_log_in(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert user(monkeypatch, file, "add", "ann@example.com", "--address", "sales@example.com", password="se cret") == 0
    assert user(monkeypatch, file, "add", "bob", "--no-scram", "--hash", "argon2id", password="hidden") == 0
    ann, bob = read(file)
    assert ann.name == "ann@example.com" and ann.addresses == ("sales@example.com",)
    assert passwords.fits(ann.hash, "se cret") and ann.scram is not None
    assert bob.scram is None and passwords.fits(bob.hash, "hidden")
    assert "secret" not in file.read_text() and "hidden" not in file.read_text()


def test_the_file_is_for_its_owner_alone_and_keeps_its_mode(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    user(monkeypatch, file, "add", "ann", password="x")
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    file.chmod(0o640)
    user(monkeypatch, file, "add", "bob", password="x")
    assert stat.S_IMODE(file.stat().st_mode) == 0o640
    assert os.listdir(file.parent) == ["users"]


def test_another_password_leaves_the_rest_as_it_is(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    user(monkeypatch, file, "add", "ann", "--address", "a@example.com", password="old")
    file.write_text("# mine\n" + file.read_text() + "# end\n")
    assert user(monkeypatch, file, "passwd", "ANN", password="new") == 0
    (ann,) = read(file)
    assert ann.addresses == ("a@example.com",) and passwords.fits(ann.hash, "new")
    assert file.read_text().startswith("# mine\n") and file.read_text().endswith("# end\n")


def test_delete_and_list(file: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    user(monkeypatch, file, "add", "ann", "--address", "a@example.com", password="x")
    user(monkeypatch, file, "add", "bob", password="x")
    assert user(monkeypatch, file, "list") == 0
    assert capsys.readouterr().out == "ann a@example.com\nbob\n"
    assert user(monkeypatch, file, "delete", "ann") == 0
    assert [account.name for account in read(file)] == ["bob"]


@pytest.mark.parametrize(
    ("action", "words", "password", "error"),
    [
        ("add", ("ann",), "x", "ann is there already; passwd gives another password"),
        ("add", ("#ann",), "x", "'#ann' is no name: no white space, no # at the beginning"),
        ("add", ("a b",), "x", "'a b' is no name: no white space, no # at the beginning"),
        ("add", ("carl", "--address", "x"), "x", "'x' is no address"),
        ("add", ("carl", "--password-stdin"), "", "an empty password is none"),
        ("add", ("carl",), "\u0007", "the character U+0007 is not allowed in names and passwords"),
        ("passwd", ("carl",), "x", "carl is not in {}"),
        ("delete", ("carl",), "", "carl is not in {}"),
    ],
)
def test_what_it_refuses_changes_nothing(
    file: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], action: str, words: tuple[str, ...],
    password: str, error: str,
) -> None:  # fmt: skip
    user(monkeypatch, file, "add", "ann", password="x")
    before = file.read_bytes()
    assert user(monkeypatch, file, action, *words, password=password) == 1
    assert capsys.readouterr().err == f"smtpproxy user: {error.format(file)}\n"
    assert file.read_bytes() == before


def test_a_file_that_is_not_there_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert user(monkeypatch, tmp_path / "no" / "users", "add", "ann", password="x") == 1
    assert capsys.readouterr().err == f"smtpproxy user: {tmp_path / 'no'}: No such file or directory\n"
    assert user(monkeypatch, tmp_path / "users", "list") == 1
    assert capsys.readouterr().err == f"smtpproxy user: {tmp_path / 'users'}: No such file or directory\n"
