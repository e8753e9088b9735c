"""Viruses: what ClamAV says of a mail."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Protocol

from smtpproxy.facts.mail import Mail
from smtpproxy.facts.parts import Part
from smtpproxy.facts.scan import Scan
from smtpproxy.scripting.doors.base import Door, running_call, through

NAME = "clamav"


class Scanner(Protocol):
    """Whatever scans: clamd, or a stand-in in a test."""

    def scan(self, content: Callable[[], Iterable[bytes]], size: int) -> Scan:
        """Blocks this greenlet only; `content` can be read again and again. Raises ScanError."""

    def ping(self) -> bool: ...

    def version(self) -> str: ...


class Clamav(Door):
    """Has mail scanned for viruses by ClamAV, see [scanner.clamav].

    Raises ScanError when no server could scan it: what was not scanned is never called clean.
    """

    __slots__ = ()

    def scan(self, what: Mail | Part) -> Scan:
        """A whole mail, as it came, or one of its parts, decoded. `mail.results` has it under "clamav"."""
        mail, subject, content, size = _subject(what)

        def ask(scanner: Scanner) -> Scan:
            return scanner.scan(content, size)

        try:
            scan = through(NAME, f"clamav.scan {subject} ({size} octets)", ask, str)
        except Exception:
            _note(mail, "error")
            raise
        _note(mail, scan.value, **({"virus": scan.name} if scan.infected else {}))
        return scan

    def ping(self) -> bool:
        """Whether a server answers."""
        return through(NAME, "clamav.ping", lambda scanner: bool(scanner.ping()))

    def version(self) -> str:
        """What the server says of itself and of the age of its signatures."""
        return through(NAME, "clamav.version", lambda scanner: str(scanner.version()))


def _subject(what: Mail | Part) -> tuple[Mail | None, str, Callable[[], Iterable[bytes]], int]:
    if isinstance(what, Mail):
        return what, "the mail", what.original.content, what.original.size
    if isinstance(what, Part):
        return running_call(NAME).mail, what.filename or what.content_type, what.content, what.size
    raise TypeError(f"clamav.scan takes a mail or one of its parts, no {type(what).__name__}")


def _note(mail: Mail | None, value: str, **keys: str) -> None:
    """Among several scans of one mail, what was found stays."""
    if mail is None:
        return
    before = mail.results.get(NAME)
    if before is None or before.value != "fail" or value == "fail":
        mail.results.add(NAME, value, **keys)
