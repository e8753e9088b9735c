"""Logging in at a server: which mechanism, what is said, what the tap is told, and servers that are not what they pretend."""

from __future__ import annotations

import base64
from collections.abc import Callable

import pytest

from smtpproxy.config.values import Target
from smtpproxy.delivery.login import Credentials, log_in
from smtpproxy.delivery.smtp import SmtpClient, Timeouts, UpstreamLost
from smtpproxy.delivery.upstream import Upstream
from smtpproxy.testing.upstream import FakeUpstream
from smtpproxy.wire.reply import Reply

Dial = Callable[[FakeUpstream], SmtpClient]

NAME, PASSWORD = "jörg", "päss"


def b64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def greeted(upstream: FakeUpstream, dial: Dial, offered: str) -> SmtpClient:
    upstream.keywords.append(offered)
    smtp = dial(upstream)
    smtp.greet()
    smtp.hello("mx.example.com")
    return smtp


def login(upstream: FakeUpstream, dial: Dial, offered: str) -> tuple[Reply, list[str]]:
    reply = log_in(greeted(upstream, dial, offered), NAME, PASSWORD)
    return reply, upstream.commands[1:]


def test_plain(upstream: FakeUpstream, dial: Dial) -> None:
    upstream.on("AUTH", "235 2.7.0 Welcome")
    reply, commands = login(upstream, dial, "AUTH LOGIN PLAIN")
    assert reply.code == 235
    assert commands == [f"AUTH PLAIN {b64(f'{chr(0)}{NAME}{chr(0)}{PASSWORD}')}"]


def test_login_where_nothing_better_is_offered(upstream: FakeUpstream, dial: Dial) -> None:
    upstream.on("AUTH", "334 VXNlcm5hbWU6")
    upstream.on(b64(NAME), "334 UGFzc3dvcmQ6")
    upstream.on(b64(PASSWORD), "235 2.7.0 Welcome")
    reply, commands = login(upstream, dial, "AUTH LOGIN")
    assert reply.code == 235
    assert commands == ["AUTH LOGIN", b64(NAME), b64(PASSWORD)]


def test_a_login_that_is_refused_at_once_tells_no_secret(upstream: FakeUpstream, dial: Dial) -> None:
    upstream.on("AUTH", "535 5.7.8 No")
    reply, commands = login(upstream, dial, "AUTH LOGIN")
    assert (reply.code, commands) == (535, ["AUTH LOGIN"])


def test_scram_says_no_password_and_believes_no_welcome_without_a_proof(upstream: FakeUpstream, dial: Dial) -> None:
    upstream.on("AUTH", "235 2.7.0 Welcome")
    with pytest.raises(UpstreamLost, match="SCRAM-SHA-256"):
        login(upstream, dial, "AUTH PLAIN SCRAM-SHA-256")
    (said,) = upstream.commands[1:]
    assert base64.b64decode(said.split()[2]).decode().startswith(f"n,,n={NAME},r=")


@pytest.mark.parametrize("challenge", ["334 ", "334 !", f"334 {b64('r=other,s=AAAA,i=1')}"])
def test_a_server_that_breaks_the_mechanism_is_lost(upstream: FakeUpstream, dial: Dial, challenge: str) -> None:
    upstream.on("AUTH", challenge)
    with pytest.raises(UpstreamLost):
        login(upstream, dial, "AUTH SCRAM-SHA-256")


def test_a_server_that_asks_for_more_than_there_is_is_lost(upstream: FakeUpstream, dial: Dial) -> None:
    upstream.on("AUTH", "334 ")
    with pytest.raises(UpstreamLost, match="one challenge too many"):
        login(upstream, dial, "AUTH PLAIN")


def test_the_tap_is_told_how_it_went_and_no_secret(upstream: FakeUpstream, dial: Dial) -> None:
    upstream.on("AUTH", "334 VXNlcm5hbWU6")
    upstream.on(b64(NAME), "334 UGFzc3dvcmQ6")
    upstream.on(b64(PASSWORD), "235 2.7.0 Welcome")
    smtp = greeted(upstream, dial, "AUTH LOGIN")
    told: list[object] = []
    smtp.tap = told.append
    log_in(smtp, NAME, PASSWORD)
    assert list(map(str, told)) == ["b'AUTH LOGIN ...'", "235 2.7.0 Welcome"]


def test_no_password_goes_over_the_network_in_the_clear() -> None:
    with FakeUpstream(keywords=["AUTH PLAIN"]) as server:
        far = Target("smtp", "0.0.0.0", server.port)  # of this machine, but nobody may rely on that
        with pytest.raises(UpstreamLost, match="the connection is not encrypted"):
            Upstream(far, Timeouts(5, 5, 5, 5, 5, 5), "mx.example.com", lambda: 0.0, login=Credentials(NAME, PASSWORD)).open()
        assert [command.split()[0] for command in server.commands] == ["EHLO"]
