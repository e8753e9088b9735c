"""Postfix does not let us say who the client is: the mail waits at the client, and nothing is relayed as our own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from smtpproxy.testing.instance import one_listener
from smtpproxy.testing.process import RunningServer


@pytest.mark.parametrize("identity", ["xclient", "xforward"])
def test_the_mail_is_deferred_and_nothing_is_relayed(
    postfix: Callable[..., Any], start: Callable[..., RunningServer], swaks: Any, identity: str
) -> None:
    mx = postfix({"mx": {}})
    server = start(one_listener("proxy", f"127.0.0.1:{mx.ports['mx']}", settings=f'identity = "{identity}"'))
    sent = swaks(server.port, "--from", "alice@client.test", "--to", "box@example.com")
    assert sent.returncode != 0
    assert "451 4.7.1 " in sent.stdout
    disconnected = mx.logged("disconnect from unknown[127.0.0.1]")
    assert not any(" mail=" in line or " rcpt=" in line for line in disconnected)
    assert "client=" not in mx.log
    assert mx.delivered == []


def test_it_goes_through_once_postfix_allows_it(
    postfix: Callable[..., Any], start: Callable[..., RunningServer], swaks: Any
) -> None:
    mx = postfix({"mx": {}})
    server = start(one_listener("proxy", f"127.0.0.1:{mx.ports['mx']}", settings='identity = "xclient"'))
    assert swaks(server.port, "--from", "alice@client.test", "--to", "box@example.com").returncode != 0
    mx.stop()
    mx.configure({"mx": {"smtpd_authorized_xclient_hosts": "127.0.0.0/8"}}, {})
    mx.start()
    sent = swaks(server.port, "--from", "alice@client.test", "--to", "box@example.com")
    assert sent.returncode == 0, sent.stdout
    mx.logged("status=sent")
