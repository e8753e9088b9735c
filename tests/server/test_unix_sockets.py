"""Listeners on Unix sockets: who may connect, who counts as whom there, and what is left behind."""

from __future__ import annotations

import grp
import os
import signal
import socket
import stat
from collections.abc import Callable
from pathlib import Path

import pytest
from gevent import socket as gevent_socket

from smtpproxy.config.load import load
from smtpproxy.config.values import BadValue, Endpoint, Networks
from smtpproxy.server.refused import Refused
from smtpproxy.server.sockets import close_all, open_missing
from smtpproxy.testing.client import FakeClient
from smtpproxy.testing.process import RunningServer
from smtpproxy.testing.waiting import until

Start = Callable[..., RunningServer]

WHO = """
from smtpproxy.script import deny

def on_rcpt(mail, rcpt):
    client = mail.client
    if rcpt.local_part == "who":
        return deny(f"[{client.address}] [{client.name}] {client.listener.address} {client.trusted}")
"""


def toml(path: Path, listener: str = "", networks: str = "") -> str:
    return (
        f'hostname = "mx.example.com"\n[listener.local]\nbind = ["unix:{path}"]\nhandoff = "out"\n{listener}\n'
        f'[handoff.out]\nkind = "discard"\n[relaying]\ndomains = ["example.com"]\nnetworks = [{networks}]\n'
    )


def connected(path: Path, hello: str = "EHLO client.example") -> FakeClient:
    sock = gevent_socket.socket(socket.AF_UNIX)
    sock.settimeout(10.0)
    sock.connect(str(path))
    client = FakeClient.over(sock)
    client.expect("220")
    client.send(hello)
    return client


def test_mail_comes_in_by_a_unix_socket(start: Start, tmp_path: Path) -> None:
    path = tmp_path / "in.sock"
    server = start(toml(path), {"10-who.py": WHO})
    with connected(path) as client:
        client.send("MAIL FROM:<a@client.example>")
        assert client.send("RCPT TO:<who@example.com>") == f"550 5.7.1 [] [None] unix:{path} False"
        assert client.send("RCPT TO:<b@elsewhere.example>").startswith("554 5.7.1")
        assert client.send("RCPT TO:<b@example.com>").code == 250
        assert client.message(b"Subject: x\r\n\r\n").code == 250
    until(lambda: "event=message" in server.log)
    assert f"listening on unix:{path} (local)" in server.log


def test_lmtp_by_a_unix_socket(start: Start, tmp_path: Path) -> None:
    path = tmp_path / "in.sock"
    start(toml(path, 'protocol = "lmtp"'))
    with connected(path, "LHLO client.example") as client:
        client.send("MAIL FROM:<a@client.example>")
        for user in "ab":
            assert client.send(f"RCPT TO:<{user}@example.com>").code == 250
        assert client.message(b"Subject: x\r\n\r\n").code == 250
        assert client.reply().code == 250


def test_the_word_unix_stands_for_who_comes_this_way(start: Start, tmp_path: Path) -> None:
    path = tmp_path / "in.sock"
    start(toml(path, 'xclient_from = ["unix"]', '"unix"'), {"10-who.py": WHO})
    with connected(path) as client:
        client.send("MAIL FROM:<a@client.example>")
        assert client.send("RCPT TO:<b@elsewhere.example>").code == 250
        client.send("RSET")
        assert client.send("XCLIENT ADDR=[UNAVAILABLE]").code == 220
        client.send("EHLO client.example")
        client.send("MAIL FROM:<a@client.example>")
        assert client.send("RCPT TO:<b@elsewhere.example>").startswith("554 5.7.1"), "who is unknown is not who is here"
        client.send("RSET")
        assert client.send("XCLIENT ADDR=192.0.2.7").code == 220
        client.send("EHLO client.example")
        client.send("MAIL FROM:<a@client.example>")
        assert client.send("RCPT TO:<who@example.com>").startswith("550 5.7.1 [192.0.2.7]")


def test_more_may_connect_than_from_one_address(start: Start, tmp_path: Path) -> None:
    path = tmp_path / "in.sock"
    start(toml(path) + "[limits]\nconnections_per_client = 1\n")
    clients = [connected(path) for _ in range(3)]
    assert [client.send("NOOP").code for client in clients] == [250] * 3


def test_mode_and_owner(tmp_path: Path) -> None:
    path = tmp_path / "in.sock"
    (tmp_path / "a.toml").write_text(toml(path, f'socket_mode = "0640"\nsocket_owner = ":{grp.getgrgid(os.getgid()).gr_name}"'))
    sockets = open_missing(load(tmp_path / "a.toml"), {})
    found = path.stat()
    assert (stat.S_IMODE(found.st_mode), found.st_gid) == (0o640, os.getgid())
    close_all(sockets.values())


def test_an_owner_that_nobody_knows(tmp_path: Path) -> None:
    (tmp_path / "a.toml").write_text(toml(tmp_path / "in.sock", 'socket_owner = "nobody-of-that-name"'))
    with pytest.raises(Refused, match=r"cannot listen on unix:.*nobody-of-that-name"):
        open_missing(load(tmp_path / "a.toml"), {})


def test_a_socket_that_was_left_behind_gives_way_and_no_other(tmp_path: Path) -> None:
    path = tmp_path / "in.sock"
    (tmp_path / "a.toml").write_text(toml(path))
    config = load(tmp_path / "a.toml")
    first = open_missing(config, {})
    with pytest.raises(Refused, match="Address already in use"):
        open_missing(config, {})
    close_all(first.values())
    assert path.exists()
    close_all(open_missing(config, {}).values())
    path.unlink()
    path.write_text("a file")
    with pytest.raises(Refused, match="Address already in use"):
        open_missing(config, {})
    assert path.read_text() == "a file"


def test_a_new_program_takes_the_socket_over(start: Start, tmp_path: Path) -> None:
    path = tmp_path / "in.sock"
    server = start(toml(path))
    inode = path.stat().st_ino
    server.signal(signal.SIGHUP)
    until(lambda: "event=reloaded" in server.log)
    server.signal(signal.SIGUSR2)
    until(lambda: "event=upgraded" in server.log, 30.0)
    assert path.stat().st_ino == inode
    with connected(path) as client:
        assert client.send("NOOP").code == 250
        client.send("QUIT")
    heir = int(server.log.rpartition("event=upgrade_started pid=")[2].split()[0])
    os.kill(heir, signal.SIGTERM)
    until(lambda: "event=stopped" in server.log, 20.0)


@pytest.mark.parametrize("text", ["unix:run/x.sock", "unix:", f"unix:/{'x' * 107}", "/run/x.sock"])
def test_paths_that_are_none(text: str) -> None:
    with pytest.raises(BadValue):
        Endpoint.parse(text)


def test_the_word_in_lists_of_networks() -> None:
    networks = Networks.parse(["192.0.2.0/24", "unix"])
    assert "" in networks and "192.0.2.1" in networks and "198.51.100.1" not in networks
    assert list(networks) == ["192.0.2.0/24", "unix"] and Networks.parse(["unix"])
    assert "" not in Networks.parse(["192.0.2.0/24"])
