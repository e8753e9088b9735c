"""`smtpproxy user`: who may log in, in the file of [users.NAME] kind = "file". Servers see a change at once."""

from __future__ import annotations

import argparse
import fcntl
import getpass
import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from smtpproxy.accounts import passwords
from smtpproxy.accounts.base import Account
from smtpproxy.accounts.file import check_name, folded, line, parse
from smtpproxy.wire.scram import ScramKeys

HEAD = "# name, password, and what else is known of it; see `smtpproxy user --help`\n"


class Wrong(Exception):
    """What was asked for cannot be done; str() says why."""


def add(subparsers: Any) -> None:
    parser = subparsers.add_parser("user", help="add, change, delete and list those who may log in", description=__doc__)
    actions = parser.add_subparsers(dest="action", required=True, metavar="add | passwd | delete | list")
    for name, words in {
        "add": "let somebody log in", "passwd": "another password", "delete": "let somebody log in no longer", "list": "who may",
    }.items():  # fmt: skip
        action = actions.add_parser(name, help=words)
        action.add_argument("--file", type=Path, required=True, metavar="FILE", help="what `path` of [users.NAME] says")
        if name != "list":
            action.add_argument("name", metavar="NAME", help="login name, as a rule an address")
        if name in ("add", "passwd"):
            action.add_argument("--password-stdin", action="store_true", help="read the password from standard input")
            action.add_argument("--hash", choices=passwords.METHODS, default="scrypt", help="default scrypt")
            action.add_argument("--no-scram", action="store_true", help="keep no keys for SCRAM-SHA-256")
        if name == "add":
            action.add_argument(
                "--address", action="append", default=[], metavar="ADDRESS",
                help='may also send from it; "@example.com" is all of a domain; may be repeated',
            )  # fmt: skip


def run(args: argparse.Namespace) -> int:
    try:
        _ACTIONS[args.action](args)
    except (Wrong, ValueError, passwords.NoSuchMethod, ImportError) as wrong:
        print(f"smtpproxy user: {wrong}", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"smtpproxy user: {error.filename or args.file}: {error.strerror}", file=sys.stderr)
        return 1
    return 0


def _add(args: argparse.Namespace) -> None:
    check_name(args.name)
    for address in args.address:
        if "@" not in address or address.split() != [address]:
            raise Wrong(f"{address!r} is no address")
    secrets = _secrets(args)
    with _locked(args.file):
        text = _text(args.file) if args.file.exists() else HEAD
        if _position(text, args.name) is not None:
            raise Wrong(f"{args.name} is there already; passwd gives another password")
        newline = "" if text.endswith("\n") or not text else "\n"
        _write(args.file, f"{text}{newline}{line(Account(args.name, tuple(args.address), *secrets))}\n")


def _passwd(args: argparse.Namespace) -> None:
    secrets = _secrets(args)
    with _locked(args.file):
        lines, at = _found(args)
        was = parse(lines[at].split())
        lines[at] = line(Account(was.name, was.addresses, *secrets)) + "\n"
        _write(args.file, "".join(lines))


def _delete(args: argparse.Namespace) -> None:
    with _locked(args.file):
        lines, at = _found(args)
        del lines[at]
        _write(args.file, "".join(lines))


def _list(args: argparse.Namespace) -> None:
    for number, words in _entries(_text(args.file)):
        try:
            account = parse(words)
        except ValueError as wrong:
            raise Wrong(f"{args.file} line {number + 1}: {wrong}") from None
        print(" ".join([account.name, *account.addresses]))


_ACTIONS: dict[str, Callable[[argparse.Namespace], None]] = {
    "add": _add, "passwd": _passwd, "delete": _delete, "list": _list,
}  # fmt: skip


def _secrets(args: argparse.Namespace) -> tuple[str, ScramKeys | None]:
    """The hash and the keys of the password that is typed or comes in."""
    password = _asked(args.password_stdin)
    if not password:
        raise Wrong("an empty password is none")
    keys = None if args.no_scram else ScramKeys.derive(password, os.urandom(16))
    return passwords.make(password, args.hash), keys


def _asked(from_stdin: bool) -> str:
    if from_stdin:
        return sys.stdin.readline().rstrip("\r\n")
    password = getpass.getpass("password: ")
    if getpass.getpass("again: ") != password:
        raise Wrong("the two passwords differ")
    return password


# -- the file --------------------------------------------------------------------------------------------------------


def _text(file: Path) -> str:
    return file.read_text("utf-8-sig")


def _entries(text: str) -> Iterator[tuple[int, list[str]]]:
    """Line numbers from 0 and the words of what is neither empty nor a comment."""
    for number, words in enumerate(map(str.split, text.splitlines())):
        if words and not words[0].startswith("#"):
            yield number, words


def _position(text: str, name: str) -> int | None:
    return next((number for number, words in _entries(text) if folded(words[0]) == folded(name)), None)


def _found(args: argparse.Namespace) -> tuple[list[str], int]:
    text = _text(args.file)
    at = _position(text, args.name)
    if at is None:
        raise Wrong(f"{args.name} is not in {args.file}")
    return text.splitlines(keepends=True), at


@contextmanager
def _locked(file: Path) -> Iterator[None]:
    """One change at a time, by the lock of the folder: the file itself is replaced."""
    folder = os.open(file.absolute().parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        yield
        fcntl.flock(folder, fcntl.LOCK_UN)
    finally:
        os.close(folder)


def _write(file: Path, text: str) -> None:
    """All of it or nothing, for its owner's eyes only; a file that was there keeps its owner and its mode."""
    descriptor, path = tempfile.mkstemp(dir=file.absolute().parent, prefix=f".{file.name}.")  # mode 0600
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as out:
            if file.exists():
                before = file.stat()
                os.fchmod(out.fileno(), before.st_mode & 0o7777)
                if os.geteuid() == 0:
                    os.fchown(out.fileno(), before.st_uid, before.st_gid)
            out.write(text)
            out.flush()
            os.fsync(out.fileno())
        os.replace(path, file.resolve())
    except BaseException:
        os.unlink(path)
        raise
