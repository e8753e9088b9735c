"""When a connection to the next server is encrypted, and how sure we must be whose it is (RFC 3207, RFC 7435).

    none     never
    may      when STARTTLS is offered, whoever the server is; in the clear when the handshake fails
    must     encrypted or not at all, whoever the server is
    verify   and its certificate is good for its name
"""

from __future__ import annotations

from typing import NamedTuple

from smtpproxy.config.values import Target
from smtpproxy.net.tls import Trust


class TlsPolicy(NamedTuple):
    """`trust` is None for "none" alone."""

    level: str
    trust: Trust | None = None

    @property
    def demanded(self) -> bool:
        """The server gets nothing in the clear."""
        return self.level in ("must", "verify")

    def asks(self, target: Target) -> bool:
        """Whether to encrypt if that is offered: what does not leave the machine is not, unless it is demanded."""
        return self.demanded or (self.level == "may" and not target.near)

    def server_name(self, target: Target) -> str | None:
        """Whose certificate is expected (and asked for by SNI); None for a server that has no name."""
        name = (self.trust.name if self.trust else "") or target.host
        return name or None


IN_THE_CLEAR = TlsPolicy("none")
