"""Tokens shown to the server that issued them: whose they are, how long that is believed, and a server that fails."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import pytest
from gevent.pywsgi import WSGIServer

from smtpproxy.accounts.base import Account, AccountsError
from smtpproxy.accounts.hashing import Hashing
from smtpproxy.accounts.tokens import OauthAccounts
from smtpproxy.config.users import UsersOauth
from smtpproxy.config.values import Duration, Networks
from smtpproxy.net.http import HttpClient

NOW = 1_000_000.0


class Issuer:
    """A web server that knows tokens (RFC 7662)."""

    def __init__(self) -> None:
        self.tokens: dict[str, Any] = {}
        self.asked: list[str] = []
        self.status = "200 OK"
        self.server = WSGIServer(("127.0.0.1", 0), self._answer, log=None)
        self.server.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.address[1]}/introspect"

    def _answer(self, environ: dict[str, Any], start: Any) -> list[bytes]:
        form = parse_qs(environ["wsgi.input"].read().decode())
        self.asked.append(form["token"][0])
        wanted = "Basic " + base64.b64encode(b"proxy%3A1:of%20us").decode()
        start(self.status if environ.get("HTTP_AUTHORIZATION") == wanted else "401 Unauthorized", [])
        return [json.dumps(self.tokens.get(form["token"][0], {"active": False})).encode()]


@pytest.fixture
def issuer() -> Iterator[Issuer]:
    server = Issuer()
    yield server
    server.server.stop()


class Clock:
    now = NOW

    def __call__(self) -> float:
        return self.now


def staff(issuer: Issuer, tmp_path: Path, clock: Clock, **settings: Any) -> OauthAccounts:
    (tmp_path / "secret").write_text("of us\n")
    ours = {"client_id": "proxy:1", "client_secret_file": tmp_path / "secret"}
    given = {"url": issuer.url, "timeout": Duration(2), **ours, **settings}
    return OauthAccounts("staff", Hashing(), UsersOauth(**given), HttpClient(lambda name: [], Networks(["127.0.0.0/8"])), clock)


def test_a_token_is_its_owners_as_long_as_it_is_active(issuer: Issuer, tmp_path: Path) -> None:
    accounts = staff(issuer, tmp_path, Clock(), scope="smtp")
    ann = {"active": True, "username": "ann@example.com", "scope": "mail smtp"}
    issuer.tokens = {
        "good": ann, "ended": {**ann, "exp": NOW}, "narrow": {**ann, "scope": "smtps"}, "odd": {**ann, "active": "true"},
        "anonymous": {"active": True, "scope": "smtp"},
    }  # fmt: skip
    assert accounts.token("Ann@example.com", "good") == accounts.token("", "good") == Account("ann@example.com")
    assert accounts.token("bob@example.com", "good") is None
    assert [token for token in ("ended", "narrow", "odd", "anonymous", "unknown") if accounts.token("", token)] == []


def test_an_answer_is_believed_for_a_while_and_never_longer_than_the_token(issuer: Issuer, tmp_path: Path) -> None:
    clock = Clock()
    accounts = staff(issuer, tmp_path, clock, remember=Duration(60))
    issuer.tokens = {"long": {"active": True, "username": "ann"}, "short": {"active": True, "username": "ann", "exp": NOW + 10}}
    assert all(accounts.token("ann", token) for token in ("long", "long", "short", "short"))
    assert issuer.asked == ["long", "short"]
    issuer.tokens = {}
    clock.now += 10
    assert accounts.token("ann", "long") and accounts.token("ann", "short") is None
    clock.now += 50
    assert accounts.token("ann", "long") is None


@pytest.mark.parametrize("status", ["500 Internal Server Error", "403 Forbidden", "302 Found"])
def test_a_server_that_fails_says_nothing_of_the_token(issuer: Issuer, tmp_path: Path, status: str) -> None:
    issuer.status = status
    with pytest.raises(AccountsError, match=f"answered {status[:3]}"):
        staff(issuer, tmp_path, Clock()).token("ann", "good")


def test_a_wrong_secret_of_ours_and_a_server_that_is_gone_tell_no_secret(issuer: Issuer, tmp_path: Path) -> None:
    with pytest.raises(AccountsError, match="answered 401"):
        staff(issuer, tmp_path, Clock(), client_id="another").token("ann", "the-token")
    issuer.server.stop()
    with pytest.raises(AccountsError, match="refused") as failure:
        staff(issuer, tmp_path, Clock()).token("ann", "the-token")
    assert "the-token" not in str(failure.value) and "of us" not in str(failure.value)
