"""Logins tried at another server: who it lets in gets in here, and what it cannot say is no wrong password."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from gevent.server import StreamServer

from smtpproxy.accounts import passwords
from smtpproxy.accounts.base import Account, AccountsError
from smtpproxy.accounts.file import line
from smtpproxy.accounts.hashing import Hashing
from smtpproxy.accounts.remote import Remembered, RemoteAccounts
from smtpproxy.config.values import Target
from smtpproxy.delivery.elsewhere import LoginElsewhere
from smtpproxy.delivery.smtp import Timeouts
from smtpproxy.delivery.tlspolicy import TlsPolicy
from smtpproxy.delivery.upstream import Upstream
from smtpproxy.net.tls import Trust
from smtpproxy.testing.instance import one_listener
from smtpproxy.testing.process import RunningServer
from smtpproxy.testing.upstream import FakeUpstream

OTHER = one_listener(
    "discard", listener='auth = "staff"\nauth_without_tls = true', more="[limits]\nauth_delay = 0\n[users.staff]"
)


def accounts(port: int, tls: str = "none", remember: float = 0.0, remembered: Remembered | None = None) -> RemoteAccounts:
    policy = TlsPolicy(tls, Trust(verify=tls == "verify"))
    server = Upstream(Target("smtp", "127.0.0.1", port), Timeouts(), "proxy.example", time.monotonic, tls=policy)
    return RemoteAccounts("staff", Hashing(), LoginElsewhere([server], 5.0), remember, remembered)



def test_who_the_other_server_lets_in_gets_in(start: Callable[..., RunningServer], tmp_path: Path) -> None:
    (tmp_path / "users").write_text(line(Account("ann@example.com", (), passwords.make("secret"))) + "\n")
    other = start(f'{OTHER}kind = "file"\npath = "{tmp_path / "users"}"\n')
    staff = accounts(other.port)
    assert staff.check("ann@example.com", "secret") == Account("ann@example.com")
    for name, password in [("ann@example.com", "Secret"), ("bob@example.com", "secret"), ("ann@example.com", ""), ("", "x")]:
        assert staff.check(name, password) is None
    assert other.stop() == 0
    with pytest.raises(AccountsError, match="refused"):
        staff.check("ann@example.com", "secret")


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


class Elsewhere:
    """The other server, with a counter."""

    def __init__(self, *good: str) -> None:
        self.good = set(good)
        self.asked = 0

    def __call__(self, name: str, password: str) -> bool:
        self.asked += 1
        return f"{name} {password}" in self.good


def test_a_good_login_is_believed_for_a_while_and_a_bad_one_never() -> None:
    clock, other = Clock(), Elsewhere("ann secret")
    remembered = Remembered(clock)
    staff = RemoteAccounts("staff", Hashing(), other, 60.0, remembered)
    assert staff.check("ann", "secret") and staff.check("ann", "secret") and other.asked == 1
    for _ in range(2):
        assert staff.check("ann", "wrong") is None
    assert staff.check("ann s", "ecret") is None and other.asked == 4
    other.good.clear()
    clock.now = 59.0
    assert staff.check("ann", "secret") and other.asked == 4
    clock.now = 60.0
    assert staff.check("ann", "secret") is None
    assert not any(b"secret" in key for key in remembered._known)


@pytest.mark.parametrize(
    ("reply", "outcome"),
    [
        ("535 5.7.8 Wrong", "no"), ("525 5.7.13 Disabled", "no"), ("454 4.7.0 Later", "later"), ("421 4.3.2 Bye", "later"),
        ("530 5.7.0 STARTTLS first", "later"), ("538 5.7.11 Encrypt", "later"), ("502 5.5.1 No", "later"), ("nonsense", "later"),
    ],
)  # fmt: skip
def test_what_the_other_server_answers_and_what_that_means(reply: str, outcome: str) -> None:
    with replying(reply) as port:
        if outcome == "no":
            assert accounts(port).check("ann", "secret") is None
        else:
            with pytest.raises(AccountsError) as failure:
                accounts(port).check("ann", "secret")
            assert "secret" not in str(failure.value)


def test_passwords_go_nowhere_without_the_tls_that_is_asked_for() -> None:
    heard: list[bytes] = []
    with replying("235 2.7.0 In", heard) as port:
        for tls in ("must", "verify"):
            with pytest.raises(AccountsError, match="does not offer STARTTLS"):
                accounts(port, tls).check("ann", "secret")
    assert not any(said.startswith(b"AUTH") for said in heard)


def test_a_server_that_offers_no_logins_says_nothing_of_the_password(upstream: FakeUpstream) -> None:
    with pytest.raises(AccountsError, match="offers neither PLAIN nor LOGIN"):
        accounts(upstream.port).check("ann", "secret")


@contextmanager
def replying(reply: str, heard: list[bytes] | None = None) -> Iterator[int]:
    """The port of a server that offers AUTH and answers it like this."""

    def serve(channel: Any, peer: Any) -> None:
        with channel, channel.makefile("rwb") as stream:
            stream.write(b"220 other\r\n")
            stream.flush()
            for said in stream:
                if heard is not None:
                    heard.append(said)
                answer = "250-other\r\n250 AUTH PLAIN" if said.startswith(b"EHLO") else reply
                stream.write(f"{answer}\r\n".encode())
                stream.flush()

    server = StreamServer(("127.0.0.1", 0), serve)
    server.start()
    yield server.server_port
    server.stop()
