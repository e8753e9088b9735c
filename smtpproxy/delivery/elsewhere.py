"""A login tried at another server, for [users.NAME] kind = "smtp": connect, encrypt, AUTH, QUIT (RFC 4954)."""

from __future__ import annotations

from collections.abc import Sequence

from smtpproxy.accounts.connections import Unanswered, within
from smtpproxy.delivery.login import log_in
from smtpproxy.delivery.smtp import UpstreamLost
from smtpproxy.delivery.upstream import Upstream
from smtpproxy.wire.reply import Reply

NOT_ABOUT_IT = frozenset({500, 501, 502, 503, 504, 530, 534, 538})
"""Refusals that say nothing of the password: AUTH is not offered, not so, or not here (RFC 4954 6)."""

SHOWN = ("PLAIN", "LOGIN")
"""Mechanisms that show the password. With SCRAM an account that has no keys there would fail with a password that is good,
and each try costs as much as a hash. What is said is encrypted, or does not leave the machine."""


class LoginElsewhere:
    """The first server that answers decides. `timeout`, in seconds, is for all of it."""

    def __init__(self, servers: Sequence[Upstream], timeout: float) -> None:
        self._servers = servers
        self._timeout = timeout

    def __call__(self, name: str, password: str) -> bool:
        """Whether the password is good there. Raises ``Unanswered``."""
        failures = []
        with within(self._timeout):
            for server in self._servers:
                try:
                    return self._verdict(server, _try(server, name, password))
                except UpstreamLost as lost:
                    failures.append(f"{server}: {lost}")
        raise Unanswered("; ".join(failures))

    def _verdict(self, server: Upstream, reply: Reply) -> bool:
        if reply.positive:
            return True
        if reply.permanent and reply.code not in NOT_ABOUT_IT:
            return False
        raise Unanswered(f"{server}: {reply}")


def _try(server: Upstream, name: str, password: str) -> Reply:
    client = server.open()
    try:
        offered = client.extensions.get("AUTH", "").upper().split()
        shown = [word for word in offered if word in SHOWN]
        if not shown:
            raise UpstreamLost("login", "it offers neither PLAIN nor LOGIN")
        reply = log_in(client, name, password, offered=" ".join(shown))
    finally:
        client.leave()
    return reply
