"""What rules reach in a test: web servers that answer from a dictionary, a scanner that looks for given octets."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from smtpproxy.facts.scan import Scan, ScanError
from smtpproxy.net.http import HttpError, Request, Response


class FakeHttp:
    """Answers by address: a text or octets, a value for JSON, a status, a Response, or an exception to raise.

    `asked` holds the requests. An address that is not there cannot be reached.
    """

    def __init__(self, answers: Mapping[str, Any]) -> None:
        self.answers = answers
        self.asked: list[Request] = []

    def fetch(self, request: Request) -> Response:
        self.asked.append(request)
        answer = self.answers.get(request.url, HttpError(f"{request.url} cannot be reached"))
        if isinstance(answer, Exception):
            raise answer
        response = _response(answer)
        if len(response.body) > request.limit:
            raise HttpError(f"the answer is larger than {request.limit} octets")
        return response


def _response(answer: Any) -> Response:
    if isinstance(answer, Response):
        return answer
    if isinstance(answer, int) and not isinstance(answer, bool):
        return Response(answer)
    if isinstance(answer, str | bytes):
        return Response(200, answer.encode() if isinstance(answer, str) else answer)
    return Response(200, json.dumps(answer).encode(), {"content-type": "application/json"})


class FakeScanner:
    """Finds octets, by the name that they have: {b"EVIL": "Test.Evil"}. Told None it cannot be reached.

    `scanned` holds what it was given.
    """

    def __init__(self, viruses: Mapping[bytes, str] | None) -> None:
        self.viruses = viruses
        self.scanned: list[bytes] = []

    def scan(self, content: Callable[[], Iterable[bytes]], size: int) -> Scan:
        if self.viruses is None:
            raise ScanError("no scanner can be reached")
        self.scanned.append(b"".join(content()))
        found = (name for octets, name in self.viruses.items() if octets in self.scanned[-1])
        return Scan(next(found, ""), server="test")

    def ping(self) -> bool:
        return self.viruses is not None

    def version(self) -> str:
        if self.viruses is None:
            raise ScanError("no scanner can be reached")
        return "FakeScanner"
