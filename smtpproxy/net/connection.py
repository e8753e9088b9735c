"""One TCP or unix connection, plain or TLS, as server and as client: the socket door of the house.

The lean path (a plain non-blocking socket, one kept io watcher, readiness first and then recv, one send for all that
was written since the last wait) is worth a factor of two against gevent's socket object and its sendall: that one
creates two watchers, asks getsockopt at every send and pays an exception per EAGAIN.
"""

from __future__ import annotations

import _socket
import errno
import os
import ssl
from contextlib import suppress
from typing import Any

from gevent import get_hub
from greenlet import getcurrent

from smtpproxy.net.deadlines import NEVER, Deadline, Expired
from smtpproxy.wire.lines import LineBuffer

__all__ = ["NEVER", "Connection", "ConnectionLost", "Expired"]

CHUNK = 65536  # from 128 KB on each recv allocates by mmap: twice the system time
GATHERED = 256
"""Pieces that are queued before they go out: a client may ask for ten thousand long answers in one packet."""
FOREVER = 1e9
_READ, _WRITE = 1, 2
_ESTABLISHED = b"\x01"  # tcpi_state, the first octet of TCP_INFO


class ConnectionLost(OSError):
    """The peer closed or reset the connection."""


class Connection:
    """Lines and octets in, octets out.  Used by one greenlet at a time; every wait has a deadline (``timeout`` seconds, 0: none).

    ``write`` gathers; what was written goes out in one send before the next wait for input, or at ``flush``.
    Reads raise ``ConnectionLost`` at the end of the stream and ``Expired`` when ``timeout`` is over.
    """

    __slots__ = (
        "_deadline", "_hub_switch", "_loop", "_out", "_reader", "_socket", "_tls", "lines", "now", "octets_in", "octets_out",
        "timeout",
    )  # fmt: skip

    def __init__(self, sock: _socket.socket, timeout: float = 300.0, line_limit: int = 4096) -> None:
        self._socket = sock
        hub = get_hub()
        self._loop = hub.loop
        self._hub_switch = hub.switch
        self._reader = self._loop.io(sock.fileno(), _READ)
        self._deadline = Deadline()
        self.now = self._deadline.now
        """Seconds, as the loop counts them; for ``end_at``."""
        self._out: list[bytes] = []
        self._tls: _Tls | None = None
        self.lines = LineBuffer(line_limit)
        self.timeout = timeout
        self.octets_in = 0
        """What came so far; with TLS, as it is on the wire. Likewise ``octets_out``."""
        self.octets_out = 0

    # -- reading -----------------------------------------------------------------------------------------------

    def read_line(self) -> bytes:
        """The next line without its CRLF; raises also ``LineTooLong`` and ``LineFlood`` (wire/lines.py).

        All of it comes within ``timeout``, however many pieces it is sent in.
        """
        lines = self.lines
        if (line := lines.next()) is not None:
            return line
        lines.feed(self.receive())
        if (line := lines.next()) is not None:
            return line
        return self._rest_of_line()

    def _rest_of_line(self) -> bytes:
        lines, deadline = self.lines, self._deadline
        limit = deadline.limit
        deadline.limit = min(limit, self.now() + (self.timeout or FOREVER))
        try:
            while (line := lines.next()) is None:
                lines.feed(self.receive())
            return line
        finally:
            deadline.limit = limit

    def receive(self) -> bytes:
        """Wait for input and give what came, at most 64 KB; what is waiting to go out is sent first."""
        if self._out:
            self.flush()
        if self._tls is not None:
            return self._tls.receive(self)
        return self.receive_raw()

    def receive_raw(self) -> bytes:
        """``receive`` below TLS.  The wait stands here in full: it is the most frequent thing that a server does."""
        current, deadline, reader = getcurrent(), self._deadline, self._reader
        while True:
            deadline.arm(current, self.timeout or FOREVER)
            reader.start(current.switch)
            try:
                self._hub_switch()
            finally:
                reader.stop()
                deadline.waiting = None
            try:
                data = self._socket.recv(CHUNK)
            except BlockingIOError:
                continue
            except OSError as error:
                raise ConnectionLost(error.strerror or "connection lost") from None
            if not data:
                raise ConnectionLost("closed by the peer")
            self.octets_in += len(data)
            return data

    def take(self) -> bytes:
        """What was read but not used yet, else ``receive``: how DATA is read."""
        return self.lines.rest() if len(self.lines) else self.receive()

    def gone(self) -> bool:
        """Whether the peer has hung up, as far as can be told without waiting: EOF and nothing left to read."""
        if len(self.lines) or (self._tls is not None and self._tls.pending()):
            return False
        try:
            # costs a third of a peek, which says by an exception that all is well
            if self._socket.getsockopt(_socket.IPPROTO_TCP, _socket.TCP_INFO, 1) == _ESTABLISHED:
                return False
        except OSError:
            pass  # a unix socket has no such state
        try:
            return not self._socket.recv(1, _socket.MSG_PEEK)
        except BlockingIOError:
            return False
        except OSError:
            return True

    def ahead(self) -> bool:
        """The peer has sent something that nobody has read yet; what a TLS handshake leaves behind counts as well."""
        if len(self.lines) or (self._tls is not None and self._tls.pending()):
            return True
        try:
            return bool(self._socket.recv(1, _socket.MSG_PEEK))
        except OSError:
            return False

    def quiet(self) -> bool:
        """No input is waiting and the peer has not hung up: an idle client connection may be used again."""
        if len(self.lines):
            return False
        if self._tls is not None:
            return self._tls.quiet(self._socket)
        try:
            self._socket.recv(1, _socket.MSG_PEEK)
        except BlockingIOError:
            return True
        except OSError:
            return False
        return False

    # -- time --------------------------------------------------------------------------------------------------

    def end_at(self, moment: float) -> None:
        """No wait goes on past ``moment`` (see ``now``), whatever ``timeout`` says; ``NEVER`` takes that back."""
        self._deadline.limit = moment

    @property
    def overdue(self) -> bool:
        """That moment has come."""
        return self.now() >= self._deadline.limit

    # -- writing -----------------------------------------------------------------------------------------------

    def interrupt(self, error: BaseException) -> None:
        """Have whoever waits on this connection get ``error`` instead; nothing happens when nobody waits."""
        self._deadline.interrupt(error)

    def write(self, data: bytes) -> None:
        """Queue ``data`` for the next ``flush`` or wait; when much is queued it goes out now (and raises what ``flush`` does)."""
        out = self._out
        out.append(data)
        if len(out) >= GATHERED:
            self.flush()

    def flush(self) -> None:
        """Send all that was written; raises ``ConnectionLost``, ``Expired``."""
        out = self._out
        if not out:
            return
        data = out[0] if len(out) == 1 else b"".join(out)
        out.clear()
        if self._tls is not None:
            data = self._tls.encrypt(data)
        self.send_raw(data)

    def send_raw(self, data: bytes) -> None:
        """Send below TLS; waits while the peer's window is shut."""
        self.octets_out += len(data)
        send = self._socket.send
        try:
            sent = send(data)
        except BlockingIOError:
            sent = 0
        except OSError as error:
            raise ConnectionLost(error.strerror or "connection lost") from None
        if sent < len(data):
            self._send_rest(memoryview(data)[sent:])

    def _send_rest(self, view: memoryview) -> None:
        writer = self._loop.io(self._socket.fileno(), _WRITE)
        try:
            while view:
                self._wait(writer)
                try:
                    view = view[self._socket.send(view) :]
                except BlockingIOError:
                    continue
                except OSError as error:
                    raise ConnectionLost(error.strerror or "connection lost") from None
        finally:
            writer.close()

    def _wait(self, watcher: Any) -> None:
        current = getcurrent()
        deadline = self._deadline
        deadline.arm(current, self.timeout or FOREVER)
        watcher.start(current.switch)
        try:
            self._hub_switch()
        finally:
            watcher.stop()
            deadline.waiting = None

    # -- TLS ---------------------------------------------------------------------------------------------------

    @property
    def tls(self) -> ssl.SSLObject | None:
        """The TLS session's facts (cipher, version, peer certificate), None on a plain connection."""
        return self._tls.session if self._tls is not None else None

    def start_tls(
        self, context: ssl.SSLContext, *, server_side: bool, hostname: str | None = None, hello: bytes = b""
    ) -> None:
        """Shake hands.  Whatever was read before is dropped (RFC 3207 4.2, CVE-2011-0411), on either side.

        ``hello``: the beginning of the peer's handshake, where something else was read before it (a PROXY header).
        """
        self.flush()
        self.lines.rest()
        tls = _Tls(context, server_side, hostname, hello)
        tls.handshake(self)
        self._tls = tls

    # -- the end -----------------------------------------------------------------------------------------------

    def close(self) -> None:
        """Close without waiting; sends nothing more. May be called twice."""
        if self._socket.fileno() < 0:
            return
        self._deadline.close()
        self._reader.stop()
        self._reader.close()
        self._socket.close()

    def finish(self) -> None:
        """Send what is waiting if the peer takes it, with TLS also that this is all (RFC 8446 6.1), then close."""
        with suppress(OSError):
            self.flush()
            if self._tls is not None:
                self.send_raw(self._tls.farewell())
        self.close()

    def __del__(self) -> None:
        self.close()


class _Tls:
    """SSLObject over two memory buffers: TLS without a second socket class."""

    __slots__ = ("_incoming", "_outgoing", "session")

    def __init__(self, context: ssl.SSLContext, server_side: bool, hostname: str | None, hello: bytes) -> None:
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._incoming.write(hello)
        self.session = context.wrap_bio(self._incoming, self._outgoing, server_side=server_side, server_hostname=hostname)

    def handshake(self, connection: Connection) -> None:
        while True:
            try:
                self.session.do_handshake()
            except ssl.SSLWantReadError:
                self._send(connection)
                self._incoming.write(connection.receive_raw())
                continue
            except ssl.SSLError:
                self._send(connection)  # the alert that tells the peer why
                raise
            self._send(connection)
            return

    def receive(self, connection: Connection) -> bytes:
        while True:
            try:
                data = self.session.read(CHUNK)
            except ssl.SSLWantReadError:
                self._send(connection)
                self._incoming.write(connection.receive_raw())
                continue
            except ssl.SSLError as error:  # also SSLZeroReturnError and SSLEOFError: it has ended
                raise ConnectionLost(str(error)) from None
            if not data:
                raise ConnectionLost("closed by the peer")
            return data

    def pending(self) -> bool:
        """Something was received and not read yet."""
        return self.session.pending() > 0 or self._incoming.pending > 0

    def quiet(self, sock: _socket.socket) -> bool:
        """Nothing was said, and the peer is there; session tickets and other records without words may have come."""
        with suppress(BlockingIOError):
            while data := sock.recv(CHUNK):
                self._incoming.write(data)
            return False
        try:
            self.session.read(1)
        except ssl.SSLWantReadError:
            return True
        return False

    def encrypt(self, data: bytes) -> bytes:
        try:
            self.session.write(data)
        except ssl.SSLError as error:
            raise ConnectionLost(str(error)) from None
        return self._outgoing.read()

    def farewell(self) -> bytes:
        """The alert close_notify: what came before is whole."""
        with suppress(ssl.SSLError):
            self.session.unwrap()
        return self._outgoing.read()

    def _send(self, connection: Connection) -> None:
        if self._outgoing.pending:
            connection.send_raw(self._outgoing.read())


def connect(address: tuple[str, int] | str, timeout: float, *, source: str | None = None) -> Connection:
    """Open a connection to ``(IP address, port)`` or to the unix socket at a path; ``timeout`` seconds for the handshake.

    Raises OSError (refused, unreachable), ``Expired``.
    """
    if isinstance(address, str):
        sock = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)
    else:
        sock = _socket.socket(_socket.AF_INET6 if ":" in address[0] else _socket.AF_INET, _socket.SOCK_STREAM)
    sock.setblocking(False)
    try:
        if not isinstance(address, str):
            sock.setsockopt(_socket.IPPROTO_TCP, _socket.TCP_NODELAY, 1)
            if source:
                sock.bind((source, 0))
        _finish_connect(sock, address, timeout)
    except BaseException:
        sock.close()
        raise
    return Connection(sock)


def _finish_connect(sock: _socket.socket, address: tuple[str, int] | str, timeout: float) -> None:
    error = sock.connect_ex(address)
    if error == errno.EINPROGRESS:
        deadline, current = Deadline(), getcurrent()
        writer = get_hub().loop.io(sock.fileno(), _WRITE)
        deadline.arm(current, timeout or FOREVER)
        writer.start(current.switch)
        try:
            get_hub().switch()
        finally:
            writer.stop()
            writer.close()
            deadline.close()
        error = sock.getsockopt(_socket.SOL_SOCKET, _socket.SO_ERROR)
    if error:
        raise OSError(error, os.strerror(error))
