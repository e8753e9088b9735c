"""Logging in at an upstream: the strongest mechanism that it offers, and nothing of it in any trace (RFC 4954)."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from contextlib import suppress

from gevent import get_hub

from smtpproxy.delivery.smtp import SmtpClient, UpstreamLost
from smtpproxy.wire import sasl, scram
from smtpproxy.wire.reply import Reply

PHASE = "login"

Salt = Callable[[str, bytes, int], bytes]


class Credentials:
    """Our name at an upstream and its password. What SCRAM makes of the password is kept: it takes its time."""

    __slots__ = ("_known", "_salted", "name", "password")

    def __init__(self, name: str, password: str) -> None:
        self.name = name
        self.password = password
        self._known: tuple[bytes, int] | None = None
        self._salted = b""

    def log_in(self, client: SmtpClient) -> Reply:
        """See ``log_in``; long work is done beside the hub."""
        return log_in(client, self.name, self.password, self._salt)

    def _salt(self, password: str, salt: bytes, rounds: int) -> bytes:
        if self._known != (salt, rounds):
            self._salted = get_hub().threadpool.apply(scram.salted, (password, salt, rounds))
            self._known = salt, rounds
        return self._salted


def log_in(
    client: SmtpClient, name: str, password: str, salt: Salt = scram.salted, offered: str | None = None
) -> Reply:
    """The server's last reply. `offered`: mechanisms to choose from, instead of all that it has announced.

    Its tap is told that there was a login, and how it ended.

    Raises ``UpstreamLost``, also for a server that breaks the mechanism or does not know the password itself.
    """
    if offered is None:
        offered = client.extensions.get("AUTH", "")
    mechanism, answers = sasl.log_in(offered, name, password, secrets.token_urlsafe(18), salt)
    tap, client.tap = client.tap, None
    try:
        reply = _exchange(client, mechanism, answers)
    except (scram.ScramError, scram.NotProved, sasl.Malformed, ValueError) as error:
        raise UpstreamLost(PHASE, f"{mechanism}: {error}") from None
    finally:
        client.tap = tap
    if tap is not None:
        tap(f"AUTH {mechanism} ...".encode())
        tap(reply)
    return reply


def _exchange(client: SmtpClient, mechanism: str, answers: sasl.Answers) -> Reply:
    first = next(answers)
    line = f"AUTH {mechanism}".encode() + (b"" if first is None else b" " + (sasl.encode(first) or b"="))
    reply = client.command(line, PHASE)
    while reply.code == 334:
        try:
            answer = answers.send(sasl.decode(reply.text.encode("utf-8", "surrogateescape")))
        except StopIteration:
            raise scram.ScramError("one challenge too many") from None
        reply = client.command(sasl.encode(answer or b""), PHASE)
    if reply.positive:
        with suppress(StopIteration):
            answers.send(b"")  # SCRAM: who lets us in before it has proved itself does not know the password
    return reply
