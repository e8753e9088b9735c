"""Certificates and keys of a configuration: read by the master, before privileges are dropped and workers are forked."""

from __future__ import annotations

import os
import ssl
import time
from collections.abc import Iterable
from pathlib import Path

from smtpproxy.config.queue import Route
from smtpproxy.config.schema import Config, Handoff, Listener
from smtpproxy.delivery.login import Credentials
from smtpproxy.net import certificates
from smtpproxy.net.certificates import CertificateError, Pair
from smtpproxy.net.tls import ServerContext, Trust, server_context
from smtpproxy.server.refused import Refused


class Keys:
    """`contexts` by listener, `trusts`, `logins` by hand-off; `complaints` say which certificates have ended or are about to."""

    def __init__(self, config: Config) -> None:
        """Raises ``Refused``: a file that cannot be used is named."""
        self.complaints: list[str] = []
        self.secret = os.urandom(32)
        """All workers invent the same for what nobody has."""
        self._files = tuple(path for listener in config.listener.values() for path in listener.tls.files)
        self._stamp = certificates.stamp(self._files)
        self.contexts: dict[str, ssl.SSLContext] = {}
        self.trusts: dict[str, Trust] = {}
        self.logins: dict[str, Credentials] = {}
        for name, listener in config.listener.items():
            if listener.tls.wanted:
                self.contexts[name] = self._context(name, listener, listener.hostname or config.hostname)
        for name, handoff in config.handoff.items():
            if handoff.tls != "none":
                self.trusts[name] = trust(name, handoff)
            if handoff.login:
                self.logins[name] = credentials(f"handoff.{name}", handoff)
        self.route_logins = {
            name.lower(): credentials(f"route.{name}", route) for name, route in config.route.items() if route.login
        }

    def renewed(self) -> bool:
        """Files have changed since the last time that somebody asked."""
        before, self._stamp = self._stamp, certificates.stamp(self._files)
        return self._stamp != before

    def _context(self, name: str, listener: Listener, hostname: str) -> ssl.SSLContext:
        tls = listener.tls

        def empty() -> ServerContext:
            return server_context(tls.minimum, tls.clients, tls.ca, tls.ciphers)

        try:
            certified = [certificates.read(pair) for pair in _pairs(listener)]
            self._note(item.complaint(time.time()) for item in certified)
            return certificates.serve(empty, certified, hostname)
        except (CertificateError, OSError) as error:
            raise Refused(f"listener.{name}.tls: {error}") from None

    def _note(self, complaints: Iterable[str]) -> None:
        self.complaints += [text for text in complaints if text and text not in self.complaints]


def _pairs(listener: Listener) -> list[Pair]:
    tls = listener.tls
    if tls.folder is not None:
        return certificates.pairs(tls.folder)
    cert: Path = tls.cert or Path()
    return [Pair(cert, tls.key or cert)]


def credentials(table: str, settings: Handoff | Route) -> Credentials:
    """How we log in at the servers of a [handoff.NAME] or [route.NAME]. Raises ``Refused``."""
    file = settings.password_file or Path()
    try:
        password = file.read_text("utf-8").partition("\n")[0].rstrip("\r")
    except (OSError, UnicodeDecodeError) as error:
        raise Refused(f"{table}: {file}: {getattr(error, 'strerror', None) or error}") from None
    if not password:
        raise Refused(f"{table}: {file}: there is no password in it")
    return Credentials(settings.login, password)


def trust(name: str, handoff: Handoff) -> Trust:
    """How we treat the servers of a [handoff.NAME]. Raises ``Refused``."""
    shown = (handoff.tls_cert, handoff.tls_key or handoff.tls_cert) if handoff.tls_cert else None
    try:
        return Trust(
            verify=handoff.tls == "verify",
            ca=handoff.tls_ca,
            name=handoff.tls_name,
            fingerprints=handoff.tls_fingerprints,
            certificate=shown,
        )
    except OSError as error:
        file = handoff.tls_ca if handoff.tls_ca and not shown else f"{handoff.tls_ca or ''} {handoff.tls_cert or ''}".strip()
        raise Refused(f"handoff.{name}: {file}: {error.strerror or error}") from None
