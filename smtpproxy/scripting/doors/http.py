"""Questions to web servers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, TypeAlias

from smtpproxy.config.values import BadValue, Size
from smtpproxy.net.http import Fetcher, Request, Response
from smtpproxy.scripting.doors.base import Door, Seconds, seconds, through
from smtpproxy.scripting.doors.json import encode

TIMEOUT: Final = 4.0
"""Seconds: below the five that a call of a hook may take, so that a rule hears of it."""
LIMIT: Final = 1 << 20

Headers: TypeAlias = Mapping[str, str]


class Http(Door):
    """Questions to web servers; certificates are verified, answers above `limit` refused.

    Servers at private addresses can be asked where [scripts] http_allow says so. Raises HttpError when there is no
    answer; an answer with a status such as 404 is one: look at `.ok` or `.status`.
    """

    __slots__ = ()

    def get(
        self,
        url: str,
        headers: Headers | None = None,
        timeout: Seconds = TIMEOUT,
        limit: int | str = LIMIT,
        follow: bool = False,
    ) -> Response:
        """GET: `timeout` is for all of it, `limit` in octets or "1MB". Redirects are answers, unless `follow`."""
        return self._ask(Request("GET", url, headers or {}, b"", seconds(timeout, "timeout"), _octets(limit), follow))

    def post_json(
        self,
        url: str,
        data: Any,
        headers: Headers | None = None,
        timeout: Seconds = TIMEOUT,
        limit: int | str = LIMIT,
    ) -> Response:
        """POST a value as JSON. Redirects are not followed."""
        sent = {"Content-Type": "application/json", **(headers or {})}
        body = encode(data).encode("utf-8", "replace")
        return self._ask(Request("POST", url, sent, body, seconds(timeout, "timeout"), _octets(limit)))

    def _ask(self, request: Request) -> Response:
        size = f" ({len(request.body)} octets)" if request.method == "POST" else ""
        question = f"http.{request.method.lower()} {request.url}{size}"

        def ask(client: Fetcher) -> Response:
            return client.fetch(request)

        return through("http", question, ask, str)


def _octets(limit: int | str) -> int:
    try:
        return int(Size.parse(limit))
    except BadValue as wrong:
        raise ValueError(f"limit: {wrong}") from None
