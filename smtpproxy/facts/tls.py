"""What is known of a connection's encryption, as rules and the log see it."""

from __future__ import annotations

from smtpproxy.facts.missing import Fact


class Certificate(Fact):
    """The one that the peer has shown; it was verified, for no other gets through the handshake."""

    __slots__ = ("fingerprint", "issuer", "names", "subject")
    _noun = "certificate"

    def __init__(self, subject: str, issuer: str, names: tuple[str, ...], fingerprint: str) -> None:
        self.subject = subject
        """Its common name, else the whole subject."""
        self.issuer = issuer
        """Who has signed it: common name, else the whole name."""
        self.names = names
        """The DNS names and mail addresses that it is for."""
        self.fingerprint = fingerprint
        """SHA-256 of the certificate, in lower-case hexadecimal digits; empty where a balancer in front of us has seen it."""


class Tls(Fact):
    """An encrypted connection."""

    __slots__ = ("bits", "certificate", "cipher", "resumed", "server_name", "version")
    _noun = "tls"

    def __init__(
        self,
        version: str,
        cipher: str,
        bits: int,
        server_name: str | None = None,
        resumed: bool = False,
        certificate: Certificate | None = None,
    ) -> None:
        self.version = version
        """ "TLSv1.3"; empty where a balancer in front of us has not said."""
        self.cipher = cipher
        """As OpenSSL calls it."""
        self.bits = bits
        """Of the key that the cipher uses."""
        self.server_name = server_name
        """Whom the client wanted to reach (SNI); None when it did not say."""
        self.resumed = resumed
        """The session goes on from an earlier one, without a whole handshake."""
        self.certificate = certificate
        """The client's, None when it has shown none."""

    def __str__(self) -> str:
        return f"{self.version} {self.cipher}".strip() or "TLS"
