"""Hashes that other programs have made: Dovecot's and those that SQL databases of mail systems hold."""

from __future__ import annotations

import base64
import hashlib
import subprocess

import pytest

from smtpproxy.accounts import passwords
from smtpproxy.accounts.foreign import without_scheme

BCRYPT = "$2a$05$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW"
"""Of "U*U": a vector of crypt_blowfish."""


def crypt(kind: str) -> str:
    """Of "Hello world!", by OpenSSL."""
    command = ["openssl", "passwd", f"-{kind}", "-salt", "saltstring", "Hello world!"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def pbkdf2() -> str:
    key = hashlib.pbkdf2_hmac("sha256", b"Hello world!", b"saltstring", 1000)
    salt, text = (base64.b64encode(octets).decode().rstrip("=").replace("+", ".") for octets in (b"saltstring", key))
    return f"$pbkdf2-sha256$1000${salt}${text}"


def test_what_others_write() -> None:
    for text in (crypt("5"), crypt("6"), pbkdf2()):
        assert passwords.fits(text, "Hello world!")
        assert not passwords.fits(text, "hello world!") and not passwords.fits(text, "Hello world!\0")
    assert passwords.fits(BCRYPT, "U*U") and not passwords.fits(BCRYPT, "U*U*")


@pytest.mark.parametrize("scheme", ["SHA512-CRYPT", "SHA256-CRYPT", "BLF-CRYPT", "ARGON2ID", "SSHA", "SSHA256", "SSHA512"])
def test_what_dovecot_writes(scheme: str) -> None:
    made = subprocess.run(["doveadm", "pw", "-s", scheme, "-p", "secret"], capture_output=True, text=True, check=True)
    text = made.stdout.strip()
    assert text.startswith(f"{{{scheme}}}")
    assert passwords.fits(text, "secret") and not passwords.fits(text, "Secret")


@pytest.mark.parametrize("text", ["", "secret", "{PLAIN}secret", "{MD5}Xr4ilOzQ4PCOq3aQ0qbuaQ==", "$1$salt$x", "$6$", "{SSHA}x"])
def test_what_is_none_lets_nobody_in_and_says_so(text: str) -> None:
    with pytest.raises(ValueError, match="hash"):
        passwords.fits(text, "secret")


def test_without_the_library_it_is_said_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "passlib", None)
    with pytest.raises(passwords.NoSuchMethod, match=r"pip install 'smtpproxy\[hashes\]'"):
        passwords.fits(BCRYPT, "U*U")


def test_only_a_scheme_in_front_of_a_hash_that_names_itself_is_dropped() -> None:
    assert without_scheme("{blf-crypt}$2y$05$x") == "$2y$05$x"
    assert without_scheme("{SSHA}x") == "{SSHA}x"
