"""One connection, both directions, over a socket pair: lines, gathering, deadlines, the end, TLS."""

from __future__ import annotations

import _socket
import os
import ssl
import time
from collections.abc import Iterator
from contextlib import suppress

import gevent
import pytest
import trustme
from gevent import socket

from smtpproxy.net.connection import Connection, ConnectionLost, Expired, connect
from smtpproxy.testing.waiting import until
from smtpproxy.wire.lines import LineFlood, LineTooLong

Pair = tuple[Connection, socket.socket]


@pytest.fixture
def pair() -> Iterator[Pair]:
    """Our connection, and the peer's plain socket."""
    ours, theirs = socket.socketpair()
    theirs.settimeout(5)
    connection = Connection(plain(ours), timeout=5.0)
    yield connection, theirs
    connection.close()
    theirs.close()


def plain(sock: socket.socket) -> _socket.socket:
    raw = _socket.socket(fileno=sock.detach())
    raw.setblocking(False)
    return raw


def read_all(sock: socket.socket) -> bytes:
    data = b""
    while chunk := sock.recv(65536):
        data += chunk
    return data


# -- reading -----------------------------------------------------------------------------------------------------------


def test_lines_come_one_by_one_however_they_were_sent(pair: Pair) -> None:
    connection, peer = pair
    peer.sendall(b"one\r\ntwo\r\nthr")
    assert [connection.read_line(), connection.read_line()] == [b"one", b"two"]
    gevent.spawn(peer.sendall, b"ee\r\n")
    assert connection.read_line() == b"three"


def test_whether_the_peer_is_ahead_of_us(pair: Pair) -> None:
    connection, peer = pair
    assert not connection.ahead()
    peer.sendall(b"one\r\ntwo\r\n")
    until(connection.ahead)
    connection.read_line()
    assert connection.ahead()  # read, but not used
    connection.read_line()
    assert not connection.ahead()
    peer.close()
    assert not connection.ahead()


def test_what_stands_behind_a_line_is_taken_for_the_message(pair: Pair) -> None:
    connection, peer = pair
    peer.sendall(b"DATA\r\nSubject: x\r\n")
    connection.read_line()
    assert connection.take() == b"Subject: x\r\n"
    peer.sendall(b"more\r\n")
    assert connection.take() == b"more\r\n"


def test_a_line_too_long_is_raised_once(pair: Pair) -> None:
    connection, peer = pair
    peer.sendall(b"x" * 5000 + b"\r\nNOOP\r\n")
    with pytest.raises(LineTooLong):
        connection.read_line()
    assert connection.read_line() == b"NOOP"


def test_a_flood_without_a_line_end(pair: Pair) -> None:
    connection, peer = pair
    gevent.spawn(peer.sendall, b"x" * (2 << 20))
    with pytest.raises(LineFlood):
        connection.read_line()


# -- writing -----------------------------------------------------------------------------------------------------------


def test_what_is_written_goes_out_in_one_send_before_the_next_wait() -> None:
    near, far = socket.socketpair(_socket.AF_UNIX, _socket.SOCK_SEQPACKET)  # keeps each send apart
    connection = Connection(plain(near))
    for line in (b"250 one\r\n", b"250 two\r\n", b"354 three\r\n"):
        connection.write(line)
    gevent.spawn(connection.read_line)
    assert far.recv(65536) == b"250 one\r\n250 two\r\n354 three\r\n"
    far.close()


def test_nothing_is_sent_before_a_flush(pair: Pair) -> None:
    connection, peer = pair
    connection.write(b"later")
    peer.setblocking(False)
    with pytest.raises(BlockingIOError):
        peer.recv(1)
    connection.flush()
    assert peer.recv(10) == b"later"


def test_a_large_write_waits_for_a_slow_reader(pair: Pair) -> None:
    connection, peer = pair
    data = os.urandom(1 << 20) * 4
    reader = gevent.spawn(read_all, peer)
    connection.write(data)
    connection.flush()
    connection.close()
    assert reader.get(timeout=15) == data


def test_a_reader_that_stops_expires(pair: Pair) -> None:
    connection, _peer = pair
    connection.timeout = 0.05
    connection.write(b"x" * (8 << 20))
    with pytest.raises(Expired):
        connection.flush()


def test_a_peer_that_leaves_in_the_middle_of_a_write(pair: Pair) -> None:
    connection, peer = pair
    connection.write(b"x" * (8 << 20))
    writer = gevent.spawn(connection.flush)
    until(lambda: len(peer.recv(1, _socket.MSG_PEEK)))
    peer.close()
    with pytest.raises(ConnectionLost):
        writer.get(timeout=15)


# -- deadlines ---------------------------------------------------------------------------------------------------------


def expires_after(connection: Connection, seconds: float) -> float:
    """How long that took by the loop's clock, which deadlines go by."""
    connection.timeout = seconds
    loop = gevent.get_hub().loop
    began = loop.now()
    with pytest.raises(Expired):
        connection.receive()
    return float(loop.now() - began)


def test_a_wait_is_over_after_its_time(pair: Pair) -> None:
    assert 0.049 <= expires_after(pair[0], 0.05) < 10.0


def test_a_shorter_deadline_behind_a_longer_one(pair: Pair) -> None:
    connection, peer = pair
    connection.timeout = 60.0
    peer.sendall(b"x")
    connection.receive()
    assert expires_after(connection, 0.05) < 30.0


def test_a_longer_deadline_behind_a_shorter_one(pair: Pair) -> None:
    connection, peer = pair
    connection.timeout = 0.05
    peer.sendall(b"x")
    connection.receive()
    assert expires_after(connection, 0.2) >= 0.199


def test_time_between_waits_does_not_count(pair: Pair) -> None:
    connection, peer = pair
    connection.timeout = 0.05
    peer.sendall(b"x")
    connection.receive()
    began = time.monotonic()
    until(lambda: time.monotonic() > began + 0.06)  # the kept timer goes off while nobody waits
    assert expires_after(connection, 0.05) >= 0.049


def test_an_expired_connection_can_still_be_written_to(pair: Pair) -> None:
    connection, peer = pair
    expires_after(connection, 0.02)
    connection.write(b"421 Timeout\r\n")
    connection.finish()
    assert read_all(peer) == b"421 Timeout\r\n"


def test_whoever_waits_can_be_interrupted(pair: Pair) -> None:
    connection, _ = pair
    gevent.spawn(connection.interrupt, InterruptedError())
    with pytest.raises(InterruptedError):
        connection.receive()


def test_an_interrupt_when_nobody_waits_does_nothing(pair: Pair) -> None:
    connection, peer = pair
    connection.interrupt(InterruptedError())
    gevent.sleep(0)
    peer.sendall(b"x")
    assert connection.receive() == b"x"


# -- the end -----------------------------------------------------------------------------------------------------------


def test_a_peer_that_closes(pair: Pair) -> None:
    connection, peer = pair
    peer.close()
    with pytest.raises(ConnectionLost, match="closed by the peer"):
        connection.read_line()


def test_a_peer_that_resets() -> None:
    listener = socket.create_server(("127.0.0.1", 0))
    connection = connect(listener.getsockname(), 5.0)
    peer, _ = listener.accept()
    peer.setsockopt(_socket.SOL_SOCKET, _socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    peer.close()
    with pytest.raises(ConnectionLost):
        connection.read_line()
    connection.close()
    listener.close()


def test_gone_is_known_without_waiting(pair: Pair) -> None:
    connection, peer = pair
    assert not connection.gone()
    peer.sendall(b"QUIT\r\n")
    assert not connection.gone(), "what it has still said counts"
    connection.receive()
    peer.close()
    assert connection.gone()


def test_quiet_is_a_connection_at_rest(pair: Pair) -> None:
    connection, peer = pair
    assert connection.quiet()
    peer.sendall(b"421 Bye\r\n")
    assert not connection.quiet()


def test_a_connection_whose_peer_left_is_not_quiet(pair: Pair) -> None:
    connection, peer = pair
    peer.close()
    assert not connection.quiet()


def test_closing_twice_is_closing_once(pair: Pair) -> None:
    connection, peer = pair
    connection.close()
    connection.close()
    assert peer.recv(1) == b""


def test_finish_sends_what_is_waiting(pair: Pair) -> None:
    connection, peer = pair
    connection.write(b"221 Bye\r\n")
    connection.finish()
    assert read_all(peer) == b"221 Bye\r\n"


def open_inodes() -> set[int]:
    found = set()
    for descriptor in os.listdir("/proc/self/fd"):
        with suppress(OSError):
            found.add(os.fstat(int(descriptor)).st_ino)
    return found


def test_many_connections_leave_nothing_behind() -> None:
    inodes: set[int] = set()

    def one() -> None:
        near, far = socket.socketpair()
        inodes.update(os.fstat(end.fileno()).st_ino for end in (near, far))
        connection = Connection(plain(near), timeout=5.0)
        far.sendall(b"NOOP\r\n")
        connection.read_line()
        connection.timeout = 0.001
        with pytest.raises(Expired):
            connection.receive()
        connection.close()
        far.close()

    def a_hundred() -> int:
        """In a thread with a loop of its own, on which no other test has left anything; the watchers that are left."""
        hub = gevent.get_hub()
        one()
        watchers = hub.loop.activecnt
        for _ in range(99):
            one()
        return int(hub.loop.activecnt - watchers)

    assert gevent.get_hub().threadpool.apply(a_hundred) == 0
    assert len(inodes) > 100
    assert open_inodes() & inodes == set()


# -- connecting --------------------------------------------------------------------------------------------------------


def test_a_port_where_nobody_listens() -> None:
    listener = socket.create_server(("127.0.0.1", 0))
    address = listener.getsockname()
    listener.close()
    with pytest.raises(ConnectionRefusedError):
        connect(address, 5.0)


def test_connecting_to_a_unix_socket(tmp_path: os.PathLike[str]) -> None:
    path = os.path.join(tmp_path, "lmtp")
    listener = socket.socket(_socket.AF_UNIX)
    listener.bind(path)
    listener.listen()
    connection = connect(path, 5.0)
    peer, _ = listener.accept()
    peer.sendall(b"220 here\r\n")
    assert connection.read_line() == b"220 here"
    for it in (connection, peer, listener):
        it.close()


def test_the_source_address_is_chosen() -> None:
    listener = socket.create_server(("127.0.0.1", 0))
    connection = connect(listener.getsockname(), 5.0, source="127.0.0.2")
    peer, address = listener.accept()
    assert address[0] == "127.0.0.2"
    for it in (connection, peer, listener):
        it.close()


# -- TLS ---------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def contexts() -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """The server's and the client's."""
    authority = trustme.CA()
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("mx.example.com").configure_cert(server)
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    authority.configure_trust(client)
    return server, client


Contexts = tuple[ssl.SSLContext, ssl.SSLContext]


@pytest.fixture
def both() -> Iterator[tuple[Connection, Connection]]:
    near, far = socket.socketpair()
    connections = Connection(plain(near), timeout=5.0), Connection(plain(far), timeout=5.0)
    yield connections
    for connection in connections:
        connection.close()


def shake_hands(server: Connection, client: Connection, contexts: Contexts) -> None:
    serving = gevent.spawn(server.start_tls, contexts[0], server_side=True)
    client.start_tls(contexts[1], server_side=False, hostname="mx.example.com")
    serving.get(timeout=15)


def test_tls_in_both_directions(both: tuple[Connection, Connection], contexts: Contexts) -> None:
    server, client = both
    shake_hands(server, client, contexts)
    client.write(b"EHLO client.example\r\n")
    client.flush()
    assert server.read_line() == b"EHLO client.example"
    server.write(b"250 mx.example.com\r\n")
    server.flush()
    assert client.read_line() == b"250 mx.example.com"
    assert client.tls is not None and client.tls.version() == server.tls.version()  # type: ignore[union-attr]


def test_whether_the_peer_is_ahead_of_us_over_tls(both: tuple[Connection, Connection], contexts: Contexts) -> None:
    server, client = both
    shake_hands(server, client, contexts)
    assert not server.ahead()
    client.write(b"one\r\ntwo\r\n")
    client.flush()
    until(server.ahead)
    assert server.read_line() == b"one"
    assert server.ahead()
    assert server.read_line() == b"two"
    assert not server.ahead()


def test_a_large_message_over_tls(both: tuple[Connection, Connection], contexts: Contexts) -> None:
    server, client = both
    shake_hands(server, client, contexts)
    data = os.urandom(1 << 20)

    def send() -> None:
        client.write(data)
        client.finish()

    gevent.spawn(send)
    received = b""
    while len(received) < len(data):
        received += server.receive()
    assert received == data
    with pytest.raises(ConnectionLost):
        server.receive()


def test_commands_injected_before_the_handshake_are_dropped_by_the_server(
    both: tuple[Connection, Connection], contexts: Contexts
) -> None:
    server, client = both
    client.write(b"STARTTLS\r\nMAIL FROM:<evil@example.com>\r\n")
    client.flush()
    assert server.read_line() == b"STARTTLS"
    shake_hands(server, client, contexts)
    client.write(b"EHLO client.example\r\n")
    client.flush()
    assert server.read_line() == b"EHLO client.example"


def test_replies_injected_before_the_handshake_are_dropped_by_the_client(
    both: tuple[Connection, Connection], contexts: Contexts
) -> None:
    server, client = both
    server.write(b"220 Go ahead\r\n250 injected\r\n")
    server.flush()
    assert client.read_line() == b"220 Go ahead"
    shake_hands(server, client, contexts)
    server.write(b"250 true\r\n")
    server.flush()
    assert client.read_line() == b"250 true"


def test_a_certificate_that_nobody_signed_is_refused(both: tuple[Connection, Connection], contexts: Contexts) -> None:
    server, client = both
    gevent.spawn(_fails, server, contexts[0])
    with pytest.raises(ssl.SSLCertVerificationError):
        client.start_tls(ssl.create_default_context(), server_side=False, hostname="mx.example.com")


def test_a_handshake_has_a_deadline(both: tuple[Connection, Connection], contexts: Contexts) -> None:
    server, _ = both
    server.timeout = 0.05
    with pytest.raises(Expired):
        server.start_tls(contexts[0], server_side=True)


def _fails(server: Connection, context: ssl.SSLContext) -> None:
    with pytest.raises(ssl.SSLError):
        server.start_tls(context, server_side=True)
