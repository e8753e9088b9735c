"""TLS contexts for both directions, and what a handshake has come to (RFC 8996, RFC 9325).

A server context is made before the workers are forked: so they share the key of the session tickets, and a client that
comes back to another worker resumes its session there.
"""

from __future__ import annotations

import hashlib
import ssl
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Any

from smtpproxy.facts.tls import Certificate, Tls

CIPHERS = "ECDHE+AESGCM:ECDHE+CHACHA20:DHE+AESGCM:DHE+CHACHA20"
"""For TLS 1.2: forward secrecy and authenticated encryption only. Those of TLS 1.3 are all of that kind."""
VERSIONS = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}


class ServerContext(ssl.SSLContext):
    """With what SCRAM binds a login to (RFC 5929 4): "tls-server-end-point" of its certificate, b"" where that is not defined."""

    end_point = b""


class Untrusted(ssl.SSLError):
    """The server's certificate is not one of those that were asked for."""


def server_context(minimum: str, clients: str, ca: Path | None, ciphers: str = "") -> ServerContext:
    """A context without a certificate of its own yet. Raises OSError, ssl.SSLError for a `ca` that cannot be used.

    `clients`: whether a certificate is asked of them: "none", "request", "require". One that `ca` does not vouch for ends the
    handshake in both cases.
    """
    context = ServerContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = VERSIONS[minimum]
    context.set_ciphers(ciphers or CIPHERS)
    context.num_tickets = 1  # not two: mail servers open one connection after another, and each gives the next ticket
    context.options |= ssl.OP_CIPHER_SERVER_PREFERENCE | ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION
    if clients != "none":
        context.verify_mode = ssl.CERT_REQUIRED if clients == "require" else ssl.CERT_OPTIONAL
        if ca is not None:
            context.load_verify_locations(ca)
        else:
            context.load_default_certs(ssl.Purpose.CLIENT_AUTH)
    return context


class Trust:
    """How a client of ours treats the servers that it speaks to, and the certificate that it shows if it is asked for one.

    `fingerprints`: SHA-256 of certificates that are taken whoever vouches for them, and no others.
    """

    __slots__ = ("context", "fingerprints", "name")

    def __init__(
        self,
        *,
        verify: bool = False,
        ca: Path | None = None,
        name: str = "",
        fingerprints: Iterable[str] = (),
        certificate: tuple[Path, Path] | None = None,
    ) -> None:
        """Raises OSError, ssl.SSLError for files that cannot be used."""
        self.fingerprints: Collection[str] = frozenset(map(plain_fingerprint, fingerprints))
        self.name = name
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        self.context.minimum_version = VERSIONS["1.2"]
        if not verify or self.fingerprints:
            self.context.check_hostname = False
            self.context.verify_mode = ssl.CERT_NONE
        elif ca is not None:
            self.context.load_verify_locations(ca)
        else:
            self.context.load_default_certs()
        if certificate is not None:
            self.context.load_cert_chain(*certificate)

    def check(self, session: ssl.SSLObject) -> None:
        """Raises ``Untrusted`` when fingerprints were asked for and this is none of them."""
        if self.fingerprints:
            found = fingerprint(session.getpeercert(binary_form=True) or b"")
            if found not in self.fingerprints:
                raise Untrusted(f"certificate {found} is none of those that are known")


def plain_fingerprint(text: str) -> str:
    """ "AB:CD:..." as tools print it, without what is there for the eye."""
    return text.replace(":", "").replace(" ", "").lower()


def fingerprint(certificate: bytes) -> str:
    """SHA-256 of a certificate in DER form."""
    return hashlib.sha256(certificate).hexdigest()


def facts(session: ssl.SSLObject) -> Tls:
    """What a finished handshake has come to."""
    cipher = session.cipher() or ("", "", 0)
    shown = session.getpeercert(binary_form=True)
    certificate = _certificate(session.getpeercert() or {}, shown) if shown else None
    server_name = getattr(session, "server_name", None)
    return Tls(session.version() or "", cipher[0], cipher[2], server_name, bool(session.session_reused), certificate)


def end_point(session: ssl.SSLObject) -> bytes:
    """Of the certificate that we have shown in this session."""
    return session.context.end_point if isinstance(session.context, ServerContext) else b""


def _certificate(fields: Any, shown: bytes) -> Certificate:
    subject = {name: value for part in fields.get("subject", ()) for name, value in part}
    issuer = {name: value for part in fields.get("issuer", ()) for name, value in part}
    names = tuple(value for kind, value in fields.get("subjectAltName", ()) if kind in ("DNS", "email"))
    return Certificate(_known_as(subject), _known_as(issuer), names, fingerprint(shown))


def _known_as(name: dict[str, str]) -> str:
    return name.get("commonName") or ", ".join(f"{key}={value}" for key, value in name.items())
