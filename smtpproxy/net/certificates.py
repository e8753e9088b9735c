"""Certificates and their keys in files: which names each is for, which one a client gets, and whether they are to be read anew.

A folder holds them in any of the usual ways:

    NAME.pem                          certificate, chain and key in one
    NAME.crt (or .cert) and NAME.key  side by side
    NAME/fullchain.pem, privkey.pem   a folder each, as ACME clients keep them
"""

from __future__ import annotations

import _ssl
import ssl
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.hashes import MD5, SHA1, SHA256
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from smtpproxy.net.tls import ServerContext

_NAME_ASKED: Any = _ssl._SSLContext.sni_callback
"""Below gevent's SSLContext, whose own setter knows sockets only and not the SSLObject of net/connection.py."""
SOON = 7 * 86400
"""Seconds before its end at which a certificate is worth a warning."""


class CertificateError(Exception):
    """A certificate that cannot be used; str() names the file and says why."""


class Pair(NamedTuple):
    """A certificate with its chain, and its key; both in one file, perhaps."""

    certificate: Path
    key: Path


class Certified(NamedTuple):
    """A pair that was read: the names it is for, from when to when (seconds since the epoch), its tls-server-end-point."""

    pair: Pair
    names: tuple[str, ...]
    begins: float
    ends: float
    end_point: bytes = b""

    def complaint(self, now: float) -> str:
        """What is wrong with its time, "" when nothing is."""
        if now < self.begins:
            return f"{self.pair.certificate}: not valid before {_day(self.begins)}"
        if now >= self.ends:
            return f"{self.pair.certificate}: expired on {_day(self.ends)}"
        return f"{self.pair.certificate}: expires on {_day(self.ends)}" if now > self.ends - SOON else ""


def pairs(folder: Path) -> list[Pair]:
    """What is in a folder. Raises ``CertificateError`` when nothing is."""
    try:
        found = list(_pairs(folder))
    except OSError as error:
        raise CertificateError(f"{folder}: {error.strerror}") from None
    if not found:
        raise CertificateError(f"{folder}: there is no certificate with its key in it")
    return found


def _pairs(folder: Path) -> Iterator[Pair]:
    for path in sorted(folder.iterdir()):
        if path.is_dir():
            if (path / "fullchain.pem").exists():
                yield Pair(path / "fullchain.pem", path / "privkey.pem")
        elif path.suffix == ".pem" and b"PRIVATE KEY-----" in path.read_bytes():
            yield Pair(path, path)
        elif path.suffix in (".crt", ".cert", ".pem") and path.with_suffix(".key").exists():
            yield Pair(path, path.with_suffix(".key"))


def read(pair: Pair) -> Certified:
    """Raises ``CertificateError``."""
    for path in dict.fromkeys(pair):
        try:
            data = path.read_bytes()
        except OSError as error:
            raise CertificateError(f"{path}: {error.strerror}") from None
        if path == pair.certificate:
            try:
                leaf = x509.load_pem_x509_certificate(data)
            except ValueError:
                raise CertificateError(f"{path}: holds no certificate in PEM form") from None
        if path == pair.key:
            try:
                key = load_pem_private_key(data, None)
            except (ValueError, TypeError):
                raise CertificateError(f"{path}: holds no private key in PEM form, or one with a passphrase") from None
    if key.public_key() != leaf.public_key():
        raise CertificateError(f"{pair.key}: is not the key of {pair.certificate}")
    begins, ends = leaf.not_valid_before_utc.timestamp(), leaf.not_valid_after_utc.timestamp()
    return Certified(pair, _names(leaf), begins, ends, _end_point(leaf))


def serve(context: Callable[[], ServerContext], certified: Iterable[Certified], hostname: str) -> ssl.SSLContext:
    """One context for all of them: a client gets the certificate for the name it asks for, else the one for `hostname`.

    `context` makes an empty one. Raises ``CertificateError``.
    """
    by_name: dict[str, ssl.SSLContext] = {}
    made = []
    for item in certified:
        one = context()
        try:
            one.load_cert_chain(*item.pair)
        except (OSError, ssl.SSLError) as error:
            raise CertificateError(f"{item.pair.certificate}: {error}") from None
        one.end_point = item.end_point
        made.append(one)
        for name in item.names:
            by_name.setdefault(name, one)
    default = _find(by_name, hostname) or made[0]

    def choose(session: ssl.SSLObject, name: str | None, _: ssl.SSLContext) -> None:
        session.server_name = name  # type: ignore[attr-defined]
        chosen = _find(by_name, name) if name else None
        if chosen is not None and chosen is not default:
            session.context = chosen

    _NAME_ASKED.__set__(default, choose)
    return default


def stamp(paths: Iterable[Path]) -> tuple[tuple[str, int, int], ...]:
    """What changes when one of these files or folders does."""
    found = []
    for path in paths:
        for each in (path, *path.rglob("*")) if path.is_dir() else (path,):
            try:
                status = each.stat()
            except OSError:
                continue
            found.append((str(each), status.st_mtime_ns, status.st_ino))
    return tuple(sorted(found))


def _find(by_name: dict[str, ssl.SSLContext], name: str) -> ssl.SSLContext | None:
    """By the name itself, else by the wildcard for its place (RFC 9525 6.3)."""
    name = name.lower()
    return by_name.get(name) or by_name.get("*." + name.partition(".")[2])


def _end_point(leaf: x509.Certificate) -> bytes:
    """RFC 5929 4.1: a hash of the certificate, by the hash of its signature, at least SHA-256."""
    try:
        algorithm = leaf.signature_hash_algorithm
    except UnsupportedAlgorithm:
        algorithm = None
    if algorithm is None:
        return b""
    return leaf.fingerprint(SHA256() if isinstance(algorithm, MD5 | SHA1) else algorithm)


def _names(leaf: x509.Certificate) -> tuple[str, ...]:
    try:
        names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value.get_values_for_type(x509.DNSName)
    except x509.ExtensionNotFound:
        names = []
    common = [str(name.value) for name in leaf.subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)]
    return tuple(name.lower() for name in (names or common))


def _day(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d")
