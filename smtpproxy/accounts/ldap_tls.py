"""TLS to a directory, names and addresses checked by OpenSSL: ldap3's own check knows no addresses since Python 3.12."""

from __future__ import annotations

import ssl

from ldap3 import Connection, Tls


class VerifiedTls(Tls):
    """The server's certificate must name the host that was asked for, or its address."""

    def __init__(self, ca: str | None) -> None:
        """`ca`: a file of certificates that are trusted; None: the system's. Raises OSError, ssl.SSLError."""
        super().__init__(validate=ssl.CERT_REQUIRED)
        self._context = ssl.create_default_context(cafile=ca)

    def wrap_socket(self, connection: Connection, do_handshake: bool = False) -> None:
        """Called by ldap3. Raises ssl.SSLError, also for another's certificate."""
        connection.socket = self._context.wrap_socket(connection.socket, server_hostname=connection.server.host)
