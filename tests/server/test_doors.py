"""What rules reach in a server as it is started."""

from __future__ import annotations

from pathlib import Path

from gevent.pywsgi import WSGIServer

from smtpproxy.testing.instance import one_listener
from smtpproxy.testing.process import running_server

TOML = one_listener("discard", more='[scripts]\nhttp_allow = ["127.0.0.1/32"]')

COUNT = """
from smtpproxy.script import deny, store
def on_mail(mail, sender):
    return deny(f"{store.increment('n')} {store.hit('n', '1h')}")
"""

ASK = """
function on_mail(mail, sender)
  local one, two = together(
    function() return http.get("http://127.0.0.1:PORT/" .. sender.local_part).json.says end,
    function() return store.increment("asked") end)
  return deny(one .. " " .. two)
end
"""


def test_the_store_outlives_the_server(tmp_path: Path) -> None:
    told = []
    for _ in range(2):
        with running_server(tmp_path, TOML, {"10-count.py": COUNT}) as server:
            client = server.client()
            told += [client.send("MAIL FROM:<a@client.example>") for _ in range(2)]
    assert told == [f"550 5.7.1 {n} {n}" for n in (1, 2, 3, 4)]


def test_a_rule_asks_a_web_server(tmp_path: Path) -> None:
    def answer(environ: dict[str, str], start: object) -> list[bytes]:
        start("200 OK", [])  # type: ignore[operator]
        return [b'{"says": "hello ' + environ["PATH_INFO"].encode() + b'"}']

    site = WSGIServer(("127.0.0.1", 0), answer, log=None)
    site.start()
    with running_server(tmp_path, TOML, {"10-ask.lua": ASK.replace("PORT", str(site.server_port))}) as server:
        assert server.client().send("MAIL FROM:<bob@client.example>") == "550 5.7.1 hello /bob 1"
    site.stop()
