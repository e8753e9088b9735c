"""swaks -> us -> Postfix with XCLIENT: Postfix sees the client, not us, and acts on it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from smtpproxy.testing.instance import one_listener
from smtpproxy.testing.process import RunningServer

IN_FRONT = 'xclient_from = ["127.0.0.1/32"]'

RESTRICTIONS = {
    "smtpd_client_restrictions": "check_client_access inline:{"
    "{192.0.2.66 = REJECT listed address}, {spam.test = REJECT listed name}}",
    "smtpd_helo_restrictions": "check_helo_access inline:{{liar.test = REJECT listed helo}}",
    "smtpd_delay_reject": "yes",
}
FROM = ("--from", "alice@client.test", "--to", "box@example.com", "--helo", "client.test")


def config(mx: Any, listener: str = IN_FRONT) -> str:
    return one_listener("proxy", f"127.0.0.1:{mx.ports['mx']}", listener=listener, settings='identity = "xclient"')


@pytest.fixture
def mx(postfix: Callable[..., Any]) -> Any:
    return postfix({"mx": {"smtpd_authorized_xclient_hosts": "127.0.0.0/8"}}, **RESTRICTIONS)


@pytest.fixture
def server(mx: Any, start: Callable[..., RunningServer]) -> RunningServer:
    return start(config(mx))


def test_postfix_logs_the_clients_address_name_and_helo(mx: Any, server: RunningServer, swaks: Any) -> None:
    sent = swaks(server.port, *FROM, "--xclient", "ADDR=192.0.2.7 PORT=4711 NAME=host.client.test")
    assert sent.returncode == 0, sent.stdout
    mx.logged("client=host.client.test[192.0.2.7]")
    mx.logged("status=sent")
    (message,) = mx.delivered
    assert b"Received: from client.test (host.client.test [192.0.2.7])" in message


def test_postfix_hears_of_a_login_that_a_server_in_front_of_us_vouches_for(
    mx: Any, start: Callable[..., RunningServer], swaks: Any
) -> None:
    server = start(config(mx, f"{IN_FRONT}\nxclient_login = true"))
    sent = swaks(server.port, *FROM, "--xclient", "ADDR=192.0.2.7 NAME=host.client.test LOGIN=alice")
    assert sent.returncode == 0, sent.stdout
    mx.logged("sasl_username=alice")


def test_a_client_without_a_name_is_unknown(mx: Any, server: RunningServer, swaks: Any) -> None:
    sent = swaks(server.port, *FROM, "--local-interface", "127.0.0.2")
    assert sent.returncode == 0, sent.stdout
    mx.logged("client=unknown[127.0.0.2]")


def test_an_ipv6_client_is_told_in_postfixs_form(mx: Any, server: RunningServer, swaks: Any) -> None:
    sent = swaks(server.port, *FROM, "--xclient", "ADDR=IPV6:2001:db8::7 NAME=[UNAVAILABLE]")
    assert sent.returncode == 0, sent.stdout
    mx.logged("client=unknown[2001:db8::7]")


@pytest.mark.parametrize(
    ("identity", "words"),
    [
        ("ADDR=192.0.2.66 NAME=host.client.test", "listed address"),
        ("ADDR=192.0.2.7 NAME=host.spam.test", "listed name"),
    ],
)
def test_postfixs_restrictions_act_on_the_client(mx: Any, server: RunningServer, swaks: Any, identity: str, words: str) -> None:
    sent = swaks(server.port, *FROM, "--xclient", identity)
    assert sent.returncode != 0
    assert f"554 5.7.1 <{identity.split('NAME=')[1]}[" in sent.stdout and words in sent.stdout
    mx.logged("NOQUEUE: reject: RCPT from " + identity.split("NAME=")[1])
    assert mx.delivered == []


def test_postfixs_restrictions_act_on_the_clients_helo(mx: Any, server: RunningServer, swaks: Any) -> None:
    sent = swaks(server.port, "--from", "alice@client.test", "--to", "box@example.com", "--helo", "liar.test")
    assert sent.returncode != 0
    assert "554 5.7.1 <liar.test>: Helo command rejected: listed helo" in sent.stdout
    mx.logged("helo=<liar.test>")


def test_two_clients_in_a_row_are_two_clients_to_postfix(mx: Any, server: RunningServer, swaks: Any) -> None:
    for number in (8, 9):
        sent = swaks(server.port, *FROM, "--xclient", f"ADDR=192.0.2.{number} NAME=host{number}.client.test")
        assert sent.returncode == 0, sent.stdout
    mx.logged("client=host8.client.test[192.0.2.8]")
    mx.logged("client=host9.client.test[192.0.2.9]")
