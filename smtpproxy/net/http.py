"""A careful HTTP client: one request, one answer, bounded in time and size, and never by a detour into the own network.

The name is resolved once and the connection goes to an address that was looked at: a name that answers differently a
moment later changes nothing. Blocks this greenlet only, as far as gevent has patched the standard library.
"""

from __future__ import annotations

import http.client
import ipaddress
import json
import socket
import ssl
from collections.abc import Callable, Container, Mapping, Sequence
from functools import cached_property
from typing import Any, Final, NamedTuple, Protocol
from urllib.parse import SplitResult, quote, urljoin, urlsplit

import gevent

REDIRECTS: Final = 5
_PORTS: Final = {"http": 80, "https": 443}
_REDIRECTED: Final = frozenset({301, 302, 303, 307, 308})
_SAFE: Final = "%/:=&?~#+!$,;'@()*[]"
_NAT64: Final = ipaddress.IPv6Network("64:ff9b::/96")


class HttpError(Exception):
    """There is no answer: not reached, refused by policy, too slow, too large, not HTTP."""


class Request(NamedTuple):
    """`timeout` is in seconds for all of it, `limit` in octets of the answer's body."""

    method: str
    url: str
    headers: Mapping[str, str] = {}
    body: bytes = b""
    timeout: float = 10.0
    limit: int = 1 << 20
    follow: bool = False


class Response:
    """What a web server answered. `headers` have lower-case names; `url` is the one that answered."""

    _noun = "answer"

    def __init__(self, status: int, body: bytes = b"", headers: Mapping[str, str] | None = None, url: str = "") -> None:
        self.status = status
        self.body = body
        self.headers = dict(headers or {})
        self.url = url

    @property
    def ok(self) -> bool:
        """The status is 2xx."""
        return 200 <= self.status < 300

    @property
    def text(self) -> str:
        """The body as text: UTF-8, what is not is replaced."""
        return self.body.decode("utf-8", "replace")

    @cached_property
    def json(self) -> Any:
        """The body as JSON. Raises ValueError when it is none."""
        try:
            return json.loads(self.body)
        except ValueError as wrong:
            raise ValueError(f"the answer is no JSON: {wrong}") from None

    def __str__(self) -> str:
        return f"{self.status}, {len(self.body)} octets"


class Fetcher(Protocol):
    """Whatever answers requests: `HttpClient`, a dictionary in a test, a recording."""

    def fetch(self, request: Request) -> Response:
        """Blocks this greenlet only. Raises HttpError."""


class HttpClient:
    """`resolve` gives the addresses of a name; `allow` holds the private ones that may be asked."""

    def __init__(
        self,
        resolve: Callable[[str], Sequence[str]],
        allow: Container[str] = (),
        make_context: Callable[[], ssl.SSLContext] = ssl.create_default_context,
    ) -> None:
        self._resolve = resolve
        self._allow = allow
        self._make_context = make_context

    @cached_property
    def _context(self) -> ssl.SSLContext:
        """Certificates are read once, by those who need them, and not in the hub."""
        context: ssl.SSLContext = gevent.get_hub().threadpool.apply(self._make_context)
        return context

    def fetch(self, request: Request) -> Response:
        """Ask, and follow redirects if told so. Raises HttpError, and ValueError for what is no request."""
        with gevent.Timeout(request.timeout, HttpError(f"no answer within {request.timeout:g} s")):
            try:
                return self._fetch(request)
            except (OSError, http.client.HTTPException) as error:
                raise HttpError(f"{type(error).__name__}: {error}".removesuffix(": ")) from None

    def _fetch(self, request: Request) -> Response:
        parts = _split(request.url)
        address, private = self._target(parts, redirected=False)
        for _ in range(REDIRECTS + 1):
            response = self._exchange(request, parts, address)
            location = response.headers.get("location", "")
            if not (request.follow and response.status in _REDIRECTED and location):
                return response
            url = urljoin(request.url, location)
            onward = _split(url)
            if (parts.scheme, onward.scheme) == ("https", "http"):
                raise HttpError(f"redirected to {url}: that is not encrypted any more")
            # what one server is told in a header is none of the next one's business
            headers = request.headers if onward[:2] == parts[:2] else {}
            request, parts = request._replace(url=url, headers=headers), onward
            address, private = self._target(parts, redirected=not private)
        raise HttpError(f"redirected more than {REDIRECTS} times")

    def _target(self, parts: SplitResult, *, redirected: bool) -> tuple[str, bool]:
        """An address to ask, and whether it is private. A public server that redirects leads to public ones only."""
        host = _host(parts)
        try:
            found = [str(ipaddress.ip_address(host))]
        except ValueError:
            try:
                found = list(self._resolve(host))
            except Exception as error:
                raise HttpError(f"{host}: {type(error).__name__}: {error}") from None
        if not found:
            raise HttpError(f"{host} has no address")
        for address in found:
            if is_public(address):
                return address, False
            if address in self._allow and not redirected:
                return address, True
        if redirected:
            raise HttpError(f"redirected to {host}: {found[0]} is a private address")
        raise HttpError(f"{host}: {found[0]} is a private address; [scripts] http_allow may allow it")

    def _exchange(self, request: Request, parts: SplitResult, address: str) -> Response:
        secure = self._context if parts.scheme == "https" else None
        connection = _Connection(_host(parts), parts.port or _PORTS[parts.scheme], address, secure)
        path = quote(parts.path or "/", safe=_SAFE) + (f"?{quote(parts.query, safe=_SAFE)}" if parts.query else "")
        sent = {"User-Agent": "smtpproxy", "Accept-Encoding": "identity", "Connection": "close", **request.headers}
        try:
            connection.request(request.method, path, request.body or None, sent)
            answer = connection.getresponse()
            body = answer.read(request.limit + 1)
            if len(body) > request.limit:
                raise HttpError(f"the answer is larger than {request.limit} octets")
            headers = {name.lower(): value for name, value in answer.getheaders()}
            return Response(answer.status, body, headers, request.url)
        finally:
            connection.close()


class _Connection(http.client.HTTPConnection):
    """To an address that was chosen; the name is for the Host field and the certificate."""

    def __init__(self, host: str, port: int, address: str, context: ssl.SSLContext | None) -> None:
        if context is not None:
            self.default_port = _PORTS["https"]
        super().__init__(host, port)
        self._address = address
        self._context = context

    def connect(self) -> None:
        self.sock = socket.create_connection((self._address, self.port))
        if self._context is not None:
            self.sock = self._context.wrap_socket(self.sock, server_hostname=self.host)


def is_public(address: str) -> bool:
    """Whether it belongs to the internet at large. An IPv4 address inside an IPv6 one counts as itself."""
    ip = ipaddress.ip_address(address)
    if isinstance(ip, ipaddress.IPv6Address):
        inner = ip.ipv4_mapped or ip.sixtofour or (ip.teredo or (None, None))[1]
        if inner is None and ip in _NAT64:
            inner = ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
        if inner is not None:
            return is_public(str(inner))
    return ip.is_global and not ip.is_multicast


def _split(url: str) -> SplitResult:
    """Raises ValueError for what is no URL of a web server."""
    parts = urlsplit(url)
    if parts.scheme not in _PORTS or not parts.hostname:
        raise ValueError(f"{url!r} is no http:// or https:// address")
    if "@" in parts.netloc:
        raise ValueError("a name and password belong into a header, not into the address")
    return parts


def _host(parts: SplitResult) -> str:
    host = parts.hostname or ""
    try:
        return host if host.isascii() else host.encode("idna").decode()
    except UnicodeError as error:
        raise ValueError(f"{host!r} is no name of a host: {error}") from None
