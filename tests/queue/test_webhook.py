"""A sample at work: a web server hears of each delivery of a real queue, in either language."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from gevent.pywsgi import WSGIServer

from smtpproxy.testing.instance import one_listener
from smtpproxy.testing.process import RunningServer
from smtpproxy.testing.upstream import FakeUpstream
from smtpproxy.testing.waiting import until

SAMPLES = Path(__file__).parents[2] / "scripts" / "samples"


class Shop:
    """A web server; `told` is what it was posted, in the order of coming."""

    def __init__(self) -> None:
        self.told: list[dict[str, Any]] = []
        self.server = WSGIServer(("127.0.0.1", 0), self._answer, log=None)
        self.server.start()
        self.url = f"http://127.0.0.1:{self.server.server_port}/mail-events"

    def _answer(self, environ: dict[str, Any], start: Callable[..., object]) -> list[bytes]:
        self.told.append(json.loads(environ["wsgi.input"].read()))
        start("204 No Content", [])
        return []


@pytest.fixture
def shop() -> Iterator[Shop]:
    shop = Shop()
    yield shop
    shop.server.stop()


@pytest.mark.parametrize("sample", ["webhook-on-delivery.py", "lua/webhook-on-delivery.lua"])
def test_what_is_delivered_and_what_is_not(
    start: Callable[..., RunningServer], upstream: FakeUpstream, shop: Shop, sample: str
) -> None:
    upstream.on("RCPT", "550 5.1.1 No such user", argument="nobody@")
    more = f'[route."*"]\nto = ["{upstream.address}"]\n[scripts]\nhttp_allow = ["127.0.0.1/32"]\n'
    source = SAMPLES / sample
    server = start(one_listener("queue", more=f'{more}[rule.webhook-on-delivery]\nurl = "{shop.url}"\n'), {
        source.name: source.read_text(),
    })  # fmt: skip
    with server.client() as client:
        client.send("MAIL FROM:<shop@example.com>")
        client.send("RCPT TO:<ann@example.com>")
        client.send("RCPT TO:<nobody@example.com>")
        assert client.message(b"Subject: x\r\n\r\ntext\r\n").code == 250
    until(lambda: len(shop.told) >= 3, within=20)  # the notice is a delivery, too
    usual = {"host": upstream.address, "attempts": 1}
    id = shop.told[0]["id"]
    assert {"event": "delivered", "id": id, "sender": "shop@example.com", "recipients": ["ann@example.com"],
            "reply": "250 2.0.0 Ok: taken", **usual} in shop.told  # fmt: skip
    assert {"event": "bounced", "id": id, "sender": "shop@example.com", "recipients": ["nobody@example.com"],
            "reply": "550 5.1.1 No such user", **usual} in shop.told  # fmt: skip
    (notice,) = (told for told in shop.told if told["id"] != id)
    assert (notice["event"], notice["sender"], notice["recipients"]) == ("delivered", "", ["shop@example.com"])
