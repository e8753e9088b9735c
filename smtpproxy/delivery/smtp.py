"""The one SMTP and LMTP client: proxy, relay, probes and `smtpproxy send` all speak through it (RFC 5321, 2033, 2920).

Commands are queued by ``send`` and answered in order by ``reply``, so a caller pipelines by sending before it reads.
A reply of the server's is a value, whatever its code; only a peer that is lost, silent or talks nonsense raises.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import NamedTuple

from smtpproxy.net.connection import NEVER, Connection, Expired
from smtpproxy.net.deadlines import from_now
from smtpproxy.wire.extensions import Extensions
from smtpproxy.wire.lines import LineFlood, LineTooLong
from smtpproxy.wire.reply import Reply, ReplyError, ReplyParser

QUIT_WAIT = 2.0
SOON = 0.001
"""Seconds; 0 would be for ever."""
REPLY_LINE = 2048
LAST_CHUNK = b"BDAT 0 LAST"


class Timeouts(NamedTuple):
    """Seconds per phase: the minima of RFC 5321 4.5.3.2, but for connecting; final is below the client's 10 minutes."""

    connect: float = 30.0
    greeting: float = 300.0
    mail: float = 300.0
    data: float = 120.0
    block: float = 180.0
    final: float = 540.0


class UpstreamLost(Exception):
    """The server closed, was silent or answered nonsense; str() says in which phase and how."""

    def __init__(self, phase: str, reason: str, silent: bool = False) -> None:
        super().__init__(f"{reason} ({phase})")
        self.phase = phase
        self.reason = reason
        self.silent = silent
        """Nothing came in time: it may be slow, not dead."""


class TurnedAway(Exception):
    """The server is well, and does not want the client whose connection this is: ``reply`` is what it said."""

    def __init__(self, server: str, reply: Reply) -> None:
        super().__init__(f"{server} turned the client away: {reply}")
        self.reply = reply


class SmtpClient:
    """One connection to a server; ``extensions`` are what it announced last."""

    __slots__ = ("_parser", "connection", "extensions", "lmtp", "tap", "timeouts", "uses", "verified")

    def __init__(self, connection: Connection, timeouts: Timeouts, lmtp: bool = False) -> None:
        connection.lines.limit = REPLY_LINE
        self.connection = connection
        self.timeouts = timeouts
        self.lmtp = lmtp
        self.extensions = Extensions()
        self.verified = False
        """It speaks TLS and has proved its name: else REQUIRETLS is none of its extensions (RFC 8689 4.2.1)."""
        self.uses = 0
        """How often this connection was at rest; if ever, it may have died there."""
        self.tap: Callable[[bytes | Reply], None] | None = None
        """Told every command as it is queued and every reply as it comes: a printed dialogue, a trace."""
        self._parser = ReplyParser()

    # -- commands and replies ------------------------------------------------------------------------------------

    def send(self, line: bytes) -> None:
        """Queue one command line (without CRLF)."""
        self.connection.write(line + b"\r\n")
        if self.tap is not None:
            self.tap(line)

    def reply(self, phase: str, timeout: float) -> Reply:
        """Read the next reply; all of it comes within ``timeout`` seconds, however many lines it has. Raises ``UpstreamLost``."""
        connection, parser = self.connection, self._parser
        connection.timeout = timeout
        end = from_now(timeout)
        try:
            while (reply := parser.feed(connection.read_line())) is None:
                connection.timeout = max(end - connection.now(), SOON) if timeout else timeout
        except Expired:
            raise UpstreamLost(phase, f"no reply within {timeout:g} s", silent=True) from None
        except ReplyError as error:
            raise UpstreamLost(phase, f"not an SMTP reply: {error}") from None
        except (LineTooLong, LineFlood):
            raise UpstreamLost(phase, "reply line too long") from None
        except OSError as error:
            raise UpstreamLost(phase, str(error)) from None
        if self.tap is not None:
            self.tap(reply)
        return reply

    def command(self, line: bytes, phase: str | None = None, timeout: float | None = None) -> Reply:
        """Send one command and read its reply."""
        self.send(line)
        return self.reply(phase or line.split(b" ", 1)[0].decode("ascii"), timeout or self.timeouts.mail)

    # -- the beginning of a session ------------------------------------------------------------------------------

    def greet(self) -> Reply:
        """Read the server's greeting (RFC 5321 3.1)."""
        return self.reply("greeting", self.timeouts.greeting)

    def hello(self, name: str, *, fall_back: bool = True) -> Reply:
        """Say EHLO (LHLO to an LMTP server), HELO to a server that knows no EHLO; fills ``extensions``."""
        encoded = name.encode("ascii", "replace")
        reply = self.command((b"LHLO " if self.lmtp else b"EHLO ") + encoded)
        if reply.permanent and fall_back and not self.lmtp:
            self.extensions = Extensions()
            return self.command(b"HELO " + encoded)
        self.extensions = Extensions.parse(reply.lines[1:]) if reply.positive else Extensions()
        if "REQUIRETLS" in self.extensions and not self.verified:
            self.extensions = Extensions({key: text for key, text in self.extensions.items() if key != "REQUIRETLS"})
        return reply

    def start_tls(self, context: ssl.SSLContext, hostname: str | None) -> Reply:
        """STARTTLS and the handshake (RFC 3207), which has as long as the connection; say ``hello`` again afterwards.

        Raises ssl.SSLError, ``UpstreamLost``.
        """
        reply = self.command(b"STARTTLS")
        if reply.positive:
            connection = self.connection
            connection.end_at(from_now(self.timeouts.connect))
            try:
                connection.start_tls(context, server_side=False, hostname=hostname)
            except ssl.SSLError:
                raise
            except OSError as error:
                raise UpstreamLost("TLS handshake", str(error), isinstance(error, Expired)) from None
            connection.end_at(NEVER)
            self.extensions = Extensions()
        return reply

    # -- the message ---------------------------------------------------------------------------------------------

    def data(self) -> Reply:
        """DATA; 354 is the reply that lets ``body`` follow."""
        return self.command(b"DATA", "DATA", self.timeouts.data)

    def body(self, chunks: Iterable[bytes]) -> None:
        """Stream a message in wire form, without its closing dot; raises ``UpstreamLost``.

        What ``chunks`` raises passes through: the caller then closes, never sends the dot.
        """
        connection = self.connection
        connection.timeout = self.timeouts.block
        write, flush = connection.write, connection.flush
        for chunk in chunks:
            write(chunk)
            try:
                flush()
            except OSError as error:
                raise UpstreamLost("message", str(error)) from None

    def chunks(self, chunks: Iterable[bytes]) -> Reply | None:
        """Stream a message in content form by BDAT, without its end (RFC 3030); the refusal of a chunk. Raises as ``body``."""
        connection = self.connection
        for chunk in chunks:
            if not chunk:
                continue
            self.send(b"BDAT %d" % len(chunk))
            connection.timeout = self.timeouts.block
            connection.write(chunk)
            try:
                connection.flush()
            except OSError as error:
                raise UpstreamLost("message", str(error)) from None
            if not (reply := self.reply("BDAT", self.timeouts.block)).positive:
                return reply
        return None

    def end_of_data(self, end: bytes = b".") -> Reply:
        """The dot and its reply (of the first recipient, for LMTP). What was said before the dot answers no message.

        `end`: `LAST_CHUNK` behind chunks.
        """
        if not self.connection.quiet():
            raise UpstreamLost("message", "it spoke or closed before the end of the message")
        self.send(end)
        return self.final_reply()

    def final_reply(self) -> Reply:
        return self.reply("end of data", self.timeouts.final)

    # -- the end ------------------------------------------------------------------------------------------------

    def quit(self) -> None:
        """Say QUIT, wait a moment for the answer, close; never raises."""
        with suppress(UpstreamLost, OSError):
            self.command(b"QUIT", timeout=QUIT_WAIT)
        self.close()

    def leave(self) -> None:
        """Say QUIT and close without waiting: nothing is owed any more (RFC 5321 4.1.1.10 allows the loss)."""
        self.send(b"QUIT")
        self.connection.finish()

    def close(self) -> None:
        self.connection.close()
