"""A server in a process of its own: reload, drain, connection caps, what it has learned."""

from __future__ import annotations

import re
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from smtpproxy.testing.acts import Hold
from smtpproxy.testing.client import FakeClient
from smtpproxy.testing.front import ENVELOPE
from smtpproxy.testing.process import RunningServer
from smtpproxy.testing.upstream import FakeUpstream
from smtpproxy.testing.waiting import until

Start = Callable[..., RunningServer]

DISCARD = '[handoff.out]\nkind = "discard"\n'
MESSAGE = b"Subject: x\r\n\r\nhello\r\n"


def toml(handoff: str = DISCARD, more: str = "", domains: str = '"example.com"', listeners: str = "") -> str:
    return (
        'hostname = "mx.example.com"\n[listener.mx]\nbind = ["127.0.0.1:0"]\nhandoff = "out"\n'
        f"{listeners}{handoff}[relaying]\ndomains = [{domains}]\n{more}"
    )


def proxy(upstream: FakeUpstream) -> str:
    return f'[handoff.out]\nkind = "proxy"\nto = ["{upstream.address}"]\n'


def takes(client: FakeClient, domain: str) -> bool:
    client.send("RSET")
    client.send(ENVELOPE[0])
    return client.send(f"RCPT TO:<b@{domain}>").code == 250


def logged(server: RunningServer, words: str) -> None:
    until(lambda: words in server.log, what=words)


# -- reload --------------------------------------------------------------------------------------------------------------


def reload(server: RunningServer, text: str, outcome: str) -> None:
    """Save a configuration, send SIGHUP, wait for what comes of it."""
    (server.folder / "smtpproxy.toml").write_text(text)
    server.signal(signal.SIGHUP)
    logged(server, f"event={outcome}")


def test_an_address_that_is_taken_is_named(start: Start) -> None:
    taken = start(toml()).port
    with pytest.raises(AssertionError, match="the server ended with 1") as caught:
        start(toml().replace("127.0.0.1:0", f"127.0.0.1:{taken}"))
    assert f"cannot listen on 127.0.0.1:{taken} (mx): Address already in use" in str(caught.value)


def test_a_reload_to_an_address_that_is_taken_leaves_everything_as_it_was(start: Start) -> None:
    taken, server = start(toml()).port, start(toml())
    client = server.client()
    other = f'[listener.other]\nbind = ["127.0.0.1:{taken}"]\nhandoff = "out"\n'
    reload(server, toml(listeners=other, domains='"example.net"'), "reload_refused")
    assert f"cannot listen on 127.0.0.1:{taken} (other): Address already in use" in server.log
    assert takes(client, "example.com") and takes(server.client(), "example.com")


def test_levels_of_the_log_change_while_sessions_go_on(start: Start) -> None:
    server = start(toml())
    client = server.client()
    for command in ENVELOPE:
        client.send(command)
    assert "event=command" not in server.log
    reload(server, toml(more='[log]\nlevels = { session = "debug", mail = "off" }\n'), "reloaded")
    assert server.client().send("NOOP").code == 250
    logged(server, "event=command level=debug")
    assert client.message(MESSAGE).startswith("250"), "who was in the middle of a mail goes on"


def test_a_reload_takes_effect_for_new_sessions(start: Start) -> None:
    server = start(toml())
    before = server.client()
    reload(server, toml(domains='"example.net"'), "reloaded")
    assert takes(server.client(), "example.net")
    assert takes(before, "example.com"), "who was connected goes on as before"


BROKEN = {
    "a slip of the pen": (toml(more="[limits]\nerors = 3\n"), "errors"),
    "no TOML at all": ("[listener.mx\n", "smtpproxy.toml"),
    "a hand-off that is not there": (toml(handoff=""), "out"),
    "a value that cannot be": (toml(more='[limits]\nmessage_size = "big"\n'), "big"),
}


def test_a_broken_configuration_changes_nothing(start: Start) -> None:
    server = start(toml())
    for count, (text, words) in enumerate(BROKEN.values(), 1):
        reload(server, text.replace("example.com", "example.net"), "reload_refused")
        until(lambda count=count: server.log.count("event=reload_refused") == count)  # type: ignore[misc]
        assert words in server.log
        assert takes(server.client(), "example.com")
    reload(server, toml(domains='"example.net"'), "reloaded")
    assert takes(server.client(), "example.net")


def test_an_address_that_cannot_be_bound_changes_nothing(start: Start, upstream: FakeUpstream) -> None:
    server = start(toml())
    more = (
        '[listener.free]\nbind = ["127.0.0.1:0"]\nhandoff = "out"\n'
        f'[listener.taken]\nbind = ["127.0.0.1:{upstream.port}"]\nhandoff = "out"\n'
    )
    reload(server, toml(listeners=more, domains='"example.net"'), "reload_refused")
    assert f"cannot listen on 127.0.0.1:{upstream.port}" in server.log
    assert list(server.ports) == ["mx"]
    assert takes(server.client(), "example.com")


def test_listeners_come_and_go(start: Start) -> None:
    server = start(toml())
    second = '[listener.second]\nbind = ["127.0.0.1:0"]\nhandoff = "out"\n'
    reload(server, toml(listeners=second), "reloaded")
    port = until(lambda: server.ports.get("second"))
    FakeClient.greeted(port).close()
    (server.folder / "smtpproxy.toml").write_text(toml())
    server.signal(signal.SIGHUP)

    def closed() -> bool:
        try:
            FakeClient(port).close()
        except ConnectionRefusedError:
            return True
        return False

    assert until(closed)
    assert takes(server.client(), "example.com")


def test_a_transaction_goes_on_over_a_reload(start: Start, upstream: FakeUpstream) -> None:
    server = start(toml(proxy(upstream)))
    client = server.client()
    for line in ENVELOPE:
        client.send(line)
    with FakeUpstream() as other:
        reload(server, toml(proxy(other)), "reloaded")
        assert client.message(MESSAGE).code == 250
        assert len(upstream.messages) == 1
        fresh = server.client()
        for line in ENVELOPE:
            fresh.send(line)
        assert fresh.message(MESSAGE).code == 250
        assert len(other.messages) == 1


# -- the end -------------------------------------------------------------------------------------------------------------


def test_a_stop_finishes_the_message_and_begins_nothing_new(start: Start, upstream: FakeUpstream) -> None:
    server = start(toml(proxy(upstream)))
    idle, busy = server.client(), server.client()
    for line in (*ENVELOPE, "DATA"):
        busy.send(line)
    busy.raw(b"Subject: x\r\n\r\nfirst half\r\n")
    upstream.wait_for(lambda it: b"first half" in it.conversations[0].wire)
    server.signal(signal.SIGTERM)
    assert idle.reply().startswith("421 4.3.2")
    assert idle.closed()
    with pytest.raises(ConnectionRefusedError):
        FakeClient(server.port)
    assert busy.data(b"second half\r\n.\r\n").code == 250
    assert busy.send(ENVELOPE[0]).startswith("421 4.3.2")
    assert busy.closed()
    assert server.process.wait(15) == 0
    assert upstream.messages[0].content.endswith(b"first half\r\nsecond half\r\n")


def test_a_stop_waits_for_the_upstreams_answer(start: Start, upstream: FakeUpstream) -> None:
    upstream.on("dot", hold := Hold())
    server = start(toml(proxy(upstream)))
    client = server.client()
    for line in (*ENVELOPE, "DATA"):
        client.send(line)
    client.raw(MESSAGE + b".\r\nQUIT\r\n")
    until(hold.reached.is_set)
    server.signal(signal.SIGTERM)
    logged(server, "listening")
    hold.release()
    assert [client.reply().code, client.reply().code] == [250, 221]
    assert server.process.wait(15) == 0


def test_a_drain_has_an_end(start: Start) -> None:
    server = start(toml(more='[limits.timeouts]\ndrain = "200ms"\n'))
    client = server.client()
    for line in ENVELOPE:
        client.send(line)
    server.signal(signal.SIGTERM)
    assert server.process.wait(15) == 0


# -- caps ----------------------------------------------------------------------------------------------------------------


def let_in(port: int, source: str) -> bool:
    """Whether a connection from this address is greeted; it stays open."""
    client = FakeClient(port, source=source)
    OPEN.append(client)
    reply = client.reply()
    if reply.code == 421:
        assert client.closed()
    return reply.code == 220


OPEN: list[FakeClient] = []


@pytest.fixture(autouse=True)
def hang_up() -> Iterator[None]:
    yield
    while OPEN:
        OPEN.pop().close()


def test_connections_have_a_cap_in_all_and_from_each_address(start: Start) -> None:
    server = start(toml(more="[limits]\nconnections = 4\nconnections_per_client = 2\n"))
    assert [let_in(server.port, "127.0.0.2") for _ in range(3)] == [True, True, False]
    assert [let_in(server.port, f"127.0.0.{number}") for number in (3, 4, 5)] == [True, True, False]
    OPEN[0].close()
    until(lambda: let_in(server.port, "127.0.0.2"))
    assert "event=connection_refused" in server.log or until(lambda: "event=connection_refused" in server.log)


# -- what it has learned -------------------------------------------------------------------------------------------------


def offered(server: RunningServer) -> str:
    client = FakeClient(server.port)
    client.expect("220")
    return client.send("EHLO client.example")


def test_what_an_upstream_offers_is_known_after_a_restart_while_it_is_down(start: Start, tmp_path: Path) -> None:
    data = f'data = "{tmp_path}/data"\n'
    with FakeUpstream(keywords=["PIPELINING", "SIZE 4711"]) as upstream:
        first = start(data + toml(proxy(upstream)))
        assert "SIZE 4711" in offered(first)
        first.stop()
        second_toml = data + toml(proxy(upstream))
    second = start(second_toml)
    assert "SIZE 4711" in offered(second)
    assert "8BITMIME" not in offered(second)


def test_a_spoilt_memory_of_upstreams_is_no_reason_not_to_start(start: Start, tmp_path: Path, upstream: FakeUpstream) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "upstreams.json").write_bytes(b'{"half')
    server = start(f'data = "{tmp_path}/data"\n' + toml(proxy(upstream)))
    assert "SIZE" in offered(server)


# -- the log -------------------------------------------------------------------------------------------------------------


def test_octets_of_an_upstream_that_are_no_text_do_not_undo_a_delivery(start: Start, upstream: FakeUpstream) -> None:
    upstream.on("dot", "250 2.0.0 f\udcfcr dich")
    server = start(toml(proxy(upstream), more='[log]\nformat = "json"\n'))
    client = server.client()
    for line in ENVELOPE:
        client.send(line)
    assert client.message(MESSAGE).startswith("250 2.0.0")
    until(lambda: '"event": "message"' in server.log or '"event":"message"' in server.log)


def test_one_record_a_message(start: Start) -> None:
    server = start(toml())
    client = server.client()
    ids = []
    for _ in range(3):
        for line in ENVELOPE:
            client.send(line)
        ids.append(client.message(MESSAGE).rsplit(" ", 1)[1])
    until(lambda: server.log.count("event=message") == 3)
    assert re.findall(r"event=message id=(\S+)", server.log) == ids
    assert len(set(ids)) == 3


def test_a_reload_opens_the_log_anew(start: Start) -> None:
    server = start(toml())
    log = server.folder / "moved.log"
    reloaded = "event=reloaded"
    for old in ("first.log", "second.log"):
        (server.folder / "smtpproxy.toml").write_text(toml(more=f'[log]\nto = "{log}"\n'))
        server.signal(signal.SIGHUP)
        until(lambda: log.exists() and reloaded in log.read_text())
        log.rename(server.folder / old)
    assert reloaded in (server.folder / "first.log").read_text()


def test_a_reload_may_change_anything(start: Start) -> None:
    server = start(toml())
    elsewhere = server.folder / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "10-no.py").write_text("from smtpproxy.script import deny\ndef on_mail(mail, sender): return deny('not here')\n")
    reload(server, f'data = "{server.folder}/other"\n' + toml(more='[scripts]\nfolder = "elsewhere"\n'), "reloaded")
    assert server.client().send(ENVELOPE[0]).startswith("550 5.7.1 not here")
    assert (server.folder / "other" / "rules").is_dir()


def test_a_reload_says_what_it_changes(start: Start) -> None:
    server = start(toml(more="[limits]\nerrors = 20\n"))
    reload(server, toml(more="[limits]\nerrors = 3\n"), "reloaded")
    assert "limits.errors: 20 -> 3" in server.log
