"""The accept loop and its greenlets: reused, each run in a context of its own; out of file descriptors and back."""

from __future__ import annotations

import _socket
import contextvars
import subprocess
import sys
from collections.abc import Callable, Iterator

import gevent
import pytest
from gevent import socket

from smtpproxy.net.accept import Acceptor, GreenletPool
from smtpproxy.testing.waiting import until

MARK: contextvars.ContextVar[str] = contextvars.ContextVar("mark")

Start = Callable[[Callable[..., None]], tuple[Acceptor, tuple[str, int]]]


@pytest.fixture
def start() -> Iterator[Start]:
    acceptors = []

    def starter(handler: Callable[..., None]) -> tuple[Acceptor, tuple[str, int]]:
        sock = _socket.socket()
        sock.bind(("127.0.0.1", 0))
        sock.listen(16)
        acceptor = Acceptor(sock, handler, GreenletPool())
        acceptors.append(acceptor)
        acceptor.start()
        return acceptor, sock.getsockname()

    yield starter
    for acceptor in acceptors:
        acceptor.close()


def test_each_connection_is_handed_over_with_its_address(start: Start) -> None:
    seen = []

    def handler(sock: _socket.socket, peer: tuple[str, int]) -> None:
        seen.append(peer)
        sock.close()

    _, address = start(handler)
    clients = [socket.create_connection(address) for _ in range(3)]
    until(lambda: len(seen) == 3)
    assert seen == [client.getsockname() for client in clients]


def test_a_stopped_acceptor_lets_nobody_in_until_it_is_started_again(start: Start) -> None:
    seen, elsewhere = [], []
    acceptor, address = start(lambda sock, peer: seen.append(sock.close()))
    _, another = start(lambda sock, peer: elsewhere.append(sock.close()))
    acceptor.stop()
    clients = [socket.create_connection(address), socket.create_connection(another)]
    until(lambda: elsewhere)
    assert not seen
    acceptor.start()
    assert until(lambda: seen)
    for client in clients:
        client.close()


def test_a_closed_acceptor_has_given_its_port_back(start: Start) -> None:
    acceptor, address = start(lambda sock, peer: sock.close())
    acceptor.close()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(address)


def test_greenlets_are_used_again() -> None:
    pool, ran = GreenletPool(), []
    for _ in range(5):
        pool.spawn(lambda: ran.append(gevent.getcurrent()))
        until(lambda: not pool.busy and ran)
        gevent.sleep(0)
    assert len(ran) == 5
    assert len(set(ran)) == 1


def test_each_run_begins_with_an_empty_context() -> None:
    pool, found = GreenletPool(), []

    def run() -> None:
        found.append(MARK.get(""))
        MARK.set("left over")

    for count in (1, 2):
        pool.spawn(run)
        until(lambda count=count: len(found) == count)
    assert found == ["", ""]


def test_busy_are_those_that_run() -> None:
    pool, go = GreenletPool(), gevent.event.Event()
    for _ in range(3):
        pool.spawn(go.wait)
    assert until(lambda: len(pool.busy) == 3)
    go.set()
    assert until(lambda: not pool.busy)


def test_a_killed_run_ends_quietly_and_the_pool_goes_on() -> None:
    pool, ran = GreenletPool(), []

    def leave() -> None:
        raise gevent.GreenletExit

    pool.spawn(leave)
    pool.spawn(ran.append, True)
    assert until(lambda: ran) == [True]
    assert not pool.busy


OUT_OF_DESCRIPTORS = """
from gevent import monkey; monkey.patch_all()
import _socket, os, resource, gevent
from gevent import socket
from smtpproxy.net.accept import Acceptor, GreenletPool
from smtpproxy.testing.waiting import until

class Listening(_socket.socket):
    tries = []

    def _accept(self):
        self.tries.append(gevent.get_hub().loop.now())
        return super()._accept()

served = []
listening = Listening()
listening.bind(("127.0.0.1", 0))
listening.listen(16)
acceptor = Acceptor(listening, lambda sock, peer: served.append(sock.close()), GreenletPool())
client = socket.socket()
gevent.sleep(0)
soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))  # not even the descriptor that was kept can be had again
acceptor.start()
client.connect(listening.getsockname())
until(lambda: len(listening.tries) > 4)
assert not served
assert listening.tries[4] - listening.tries[0] > 0.25, "it spins"
resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
until(lambda: served)
print("served")
"""

TURNED_AWAY = """
from gevent import monkey; monkey.patch_all()
import _socket, os, resource, gevent
from gevent import socket
from smtpproxy.net.accept import Acceptor, GreenletPool
from smtpproxy.testing.waiting import until

served, told = [], []
listening = _socket.socket()
listening.bind(("127.0.0.1", 0))
listening.listen(16)
acceptor = Acceptor(listening, lambda sock, peer: served.append(sock.close()), GreenletPool(), short=told.append)
clients = [socket.socket() for _ in range(4)]
gevent.sleep(0)
soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (64, hard))
try:
    while True:
        os.open("/dev/null", os.O_RDONLY)
except OSError:
    pass
acceptor.start()
for client in clients[:3]:
    client.connect(listening.getsockname())
    reply = client.recv(100)
    assert reply.startswith(b"421 4.3.2 "), reply
    assert client.recv(100) == b""
assert not served
resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
clients[3].connect(listening.getsockname())
until(lambda: served)
assert sum(told[:-1]) == 3, told
assert told[-1] is None, told
print("served")
"""


def test_out_of_file_descriptors_it_waits_and_comes_back() -> None:
    done = subprocess.run([sys.executable, "-c", OUT_OF_DESCRIPTORS], check=False, capture_output=True, text=True, timeout=20)
    assert done.stdout == "served\n", done.stderr


def test_out_of_file_descriptors_clients_are_told_to_come_back() -> None:
    done = subprocess.run([sys.executable, "-c", TURNED_AWAY], check=False, capture_output=True, text=True, timeout=20)
    assert done.stdout == "served\n", done.stderr
