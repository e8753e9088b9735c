"""The HTTP client against servers on the loopback: bounded, verified, and not to be led astray."""

from __future__ import annotations

import ssl
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gevent
import pytest
from gevent.event import Event
from gevent.pywsgi import WSGIServer

import smtpproxy.net.http
from smtpproxy.config.values import Networks
from smtpproxy.net.http import HttpClient, HttpError, Request, Response, is_public

Headers = list[tuple[str, str]]


class Site:
    """Answers by path; `seen` holds what was asked."""

    def __init__(self, host: str = "127.0.0.1", **tls: Any) -> None:
        self.pages: dict[str, Callable[[], tuple[str, Headers, list[bytes]]]] = {}
        self.seen: list[dict[str, Any]] = []
        self.server = WSGIServer((host, 0), self._answer, log=None, error_log=None, **tls)
        self.server.start()
        self.port: int = self.server.server_port

    def page(self, path: str, *body: bytes, status: str = "200 OK", **headers: str) -> None:
        named = [(name.replace("_", "-"), value) for name, value in headers.items()]
        self.pages[path] = lambda: (status, named, list(body))

    def _answer(self, environ: dict[str, Any], start: Any) -> Any:
        self.seen.append({**environ, "body": environ["wsgi.input"].read()})
        status, headers, body = self.pages[environ["PATH_INFO"]]()
        start(status, headers)
        return body


@pytest.fixture
def site() -> Iterator[Site]:
    made = Site()
    yield made
    made.server.stop()


@pytest.fixture
def inner() -> Iterator[Site]:
    made = Site("127.0.0.2")
    made.page("/secret", b"for us only")
    yield made
    made.server.stop()


NAMES = {"api.example": ["127.0.0.1"], "inner.example": ["127.0.0.2"], "nowhere.example": []}


def client(*allow: str, **more: Any) -> HttpClient:
    return HttpClient(NAMES.__getitem__, Networks(allow or ("127.0.0.1/32",)), **more)


def get(site: Site, path: str, host: str = "api.example", **more: Any) -> Response:
    return client().fetch(Request("GET", f"http://{host}:{site.port}{path}", **more))


def test_an_answer(site: Site) -> None:
    site.page("/x", b'{"a":', b" 1}", X_Kind="test")
    found = get(site, "/x?q=\u00e4 b")
    assert (found.status, found.ok, found.json, found.headers["x-kind"]) == (200, True, {"a": 1}, "test")
    (seen,) = site.seen
    assert seen["QUERY_STRING"] == "q=%C3%A4%20b"
    assert seen["HTTP_HOST"] == f"api.example:{site.port}"


def test_a_post(site: Site) -> None:
    site.page("/x", status="201 Created")
    request = Request("POST", f"http://127.0.0.1:{site.port}/x", {"X-Key": "k"}, b"{}")
    assert client().fetch(request).status == 201
    assert (site.seen[0]["body"], site.seen[0]["HTTP_X_KEY"]) == (b"{}", "k")


def test_a_status_is_an_answer(site: Site) -> None:
    site.page("/x", b"gone", status="404 Not Found")
    found = get(site, "/x")
    assert (found.status, found.ok, found.text) == (404, False, "gone")


def test_too_large(site: Site) -> None:
    site.page("/x", *[b"x" * 1000] * 50)
    assert len(get(site, "/x", limit=50_000).body) == 50_000
    with pytest.raises(HttpError, match="larger than 49999 octets"):
        get(site, "/x", limit=49_999)


def test_the_time_is_for_all_of_it(site: Site) -> None:
    """One that sends an octet now and then is always there and never done."""

    def drip() -> Any:
        for _ in range(1000):
            yield b"x"
            gevent.sleep(0.01)

    site.pages["/x"] = lambda: ("200 OK", [], drip())  # type: ignore[return-value]
    with pytest.raises(HttpError, match=r"no answer within 0\.1 s"), gevent.Timeout(15):
        get(site, "/x", timeout=0.1)


def test_nobody_there(site: Site) -> None:
    site.server.stop()
    with pytest.raises(HttpError, match="ConnectionRefused"):
        get(site, "/x")
    with pytest.raises(HttpError, match="has no address"):
        client().fetch(Request("GET", "http://nowhere.example/"))
    with pytest.raises(HttpError, match=r"other\.example: KeyError"):
        client().fetch(Request("GET", "http://other.example/"))


@pytest.mark.parametrize("url", ["ftp://api.example/", "file:///etc/passwd", "api.example", "http://", "http://u:p@api.example/"])
def test_what_is_no_address(url: str) -> None:
    with pytest.raises(ValueError, match="address"):
        client().fetch(Request("GET", url))


class TestPrivate:
    @pytest.mark.parametrize(
        "address",
        [
            "127.0.0.1", "10.1.2.3", "192.168.0.1", "172.16.0.1", "169.254.169.254", "0.0.0.0", "100.64.0.1", "224.0.0.1",
            "::1", "::", "fe80::1", "fc00::1", "::ffff:10.0.0.1", "2002:a00:1::", "64:ff9b::a00:1", "ff02::1", "192.0.2.1",
        ],
    )  # fmt: skip
    def test_addresses(self, address: str) -> None:
        assert not is_public(address)
        with pytest.raises(HttpError, match=r"is a private address; .* http_allow"):
            host = f"[{address}]" if ":" in address else address
            client("198.51.100.0/24").fetch(Request("GET", f"http://{host}/"))

    @pytest.mark.parametrize("address", ["8.8.8.8", "1.1.1.1", "2606:4700::1111", "::ffff:8.8.8.8", "64:ff9b::808:808"])
    def test_others_are_public(self, address: str) -> None:
        assert is_public(address)

    def test_a_name_that_leads_there(self, inner: Site) -> None:
        with pytest.raises(HttpError, match=r"inner\.example: 127\.0\.0\.2 is a private address"):
            get(inner, "/secret", host="inner.example")
        assert inner.seen == []

    def test_odd_ways_to_write_it(self) -> None:
        for host in ("2130706433", "0x7f.1", "127.1"):
            with pytest.raises(HttpError):
                client("198.51.100.0/24").fetch(Request("GET", f"http://{host}/"))


class TestRedirects:
    def lead(self, site: Site, to: str, status: str = "302 Found") -> None:
        site.page("/go", status=status, Location=to)

    def test_are_answers_unless_followed(self, site: Site, inner: Site) -> None:
        self.lead(site, f"http://inner.example:{inner.port}/secret")
        assert get(site, "/go").status == 302
        assert inner.seen == []

    def test_are_followed(self, site: Site) -> None:
        self.lead(site, "/there")
        site.page("/there", b"here")
        found = get(site, "/go", follow=True, headers={"Authorization": "k"})
        assert (found.text, found.url) == ("here", f"http://api.example:{site.port}/there")
        assert site.seen[1]["HTTP_AUTHORIZATION"] == "k"

    def test_to_private_addresses_are_refused(self, site: Site, inner: Site) -> None:
        self.lead(site, f"http://inner.example:{inner.port}/secret")
        with pytest.raises(HttpError, match=r"127\.0\.0\.2 is a private address"):
            get(site, "/go", follow=True)
        assert inner.seen == []

    def test_from_outside_to_an_allowed_private_address_are_refused(
        self, site: Site, inner: Site, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Rules may ask the inner server; a stranger must not have them do it."""
        monkeypatch.setattr(smtpproxy.net.http, "is_public", lambda address: address == "127.0.0.1")
        self.lead(site, f"http://inner.example:{inner.port}/secret")
        with pytest.raises(HttpError, match=r"redirected to inner\.example: 127\.0\.0\.2 is a private address"):
            client("127.0.0.2/32").fetch(Request("GET", f"http://api.example:{site.port}/go", follow=True))
        assert inner.seen == []

    def test_to_another_server_tell_it_no_secrets(self, site: Site, inner: Site) -> None:
        self.lead(site, f"http://inner.example:{inner.port}/secret")
        url = f"http://api.example:{site.port}/go"
        found = client("127.0.0.0/8").fetch(Request("GET", url, {"Authorization": "k"}, follow=True))
        assert found.text == "for us only"
        assert "HTTP_AUTHORIZATION" not in inner.seen[0]

    def test_without_end_are_refused(self, site: Site) -> None:
        self.lead(site, "/go")
        with pytest.raises(HttpError, match="more than 5 times"):
            get(site, "/go", follow=True)

    def test_to_another_protocol_are_refused(self, site: Site) -> None:
        self.lead(site, "file:///etc/passwd")
        with pytest.raises(ValueError, match="no http:// or https:// address"):
            get(site, "/go", follow=True)


class TestTls:
    @pytest.fixture
    def certificate(self, tmp_path: Path) -> Path:
        key, cert = tmp_path / "key.pem", tmp_path / "cert.pem"
        subject = ["-subj", "/CN=api.example", "-addext", "subjectAltName=DNS:api.example"]
        command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", *subject]
        subprocess.run([*command, "-keyout", str(key), "-out", str(cert)], check=True, capture_output=True)
        return cert

    def test_certificates_are_verified(self, certificate: Path) -> None:
        site = Site(certfile=str(certificate), keyfile=str(certificate.with_name("key.pem")))
        site.page("/x", b"safe")

        def trusting() -> ssl.SSLContext:
            return ssl.create_default_context(cafile=str(certificate))

        url = f"https://api.example:{site.port}/x"
        assert client(make_context=trusting).fetch(Request("GET", url)).text == "safe"
        with pytest.raises(HttpError, match="certificate verify failed"):
            client().fetch(Request("GET", url))
        with pytest.raises(HttpError, match="certificate verify failed"):
            client(make_context=trusting).fetch(Request("GET", url.replace("api.example", "127.0.0.1")))
        site.server.stop()


def test_others_have_their_turn_meanwhile(site: Site) -> None:
    opened = Event()

    def wait() -> tuple[str, Headers, list[bytes]]:
        opened.wait(15)
        return "200 OK", [], [b"x"]

    site.pages["/x"] = wait
    asking = [gevent.spawn(get, site, "/x") for _ in range(20)]
    gevent.sleep(0)
    opened.set()
    assert [each.get(timeout=15).text for each in asking] == ["x"] * 20
