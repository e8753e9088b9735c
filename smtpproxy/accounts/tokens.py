"""[users.NAME] kind = "oauth": a token of XOAUTH2 or OAUTHBEARER is shown to the server that issued it (RFC 7662).

An answer is believed until the token ends, and never longer than `remember`; a refusal is not kept.
"""

from __future__ import annotations

import base64
import time
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import quote, urlencode

from smtpproxy.accounts.base import Account, Accounts, AccountsError
from smtpproxy.accounts.connections import Unanswered
from smtpproxy.accounts.hashing import Hashing
from smtpproxy.accounts.remote import Remembered
from smtpproxy.accounts.secrets import read_secret
from smtpproxy.config.users import UsersOauth
from smtpproxy.net.http import Fetcher, HttpError, Request


class OauthAccounts(Accounts):
    """`now` tells seconds since the epoch, as tokens do."""

    passwords = False
    tokens = True

    def __init__(
        self, name: str, hashing: Hashing, settings: UsersOauth, web: Fetcher, now: Callable[[], float] = time.time
    ) -> None:
        super().__init__(name, hashing)
        self._settings = settings
        self._web = web
        self._now = now
        self._remembered = Remembered(now)

    def token(self, name: str, token: str) -> Account | None:
        """See ``Accounts``."""
        known = self._remembered.get(name, token)
        if known is not None:
            return known
        claims = self._introspected(token)
        account = self._account(name, claims)
        if account is not None:
            end = _number(claims.get("exp"), self._now() + self._settings.remember)
            self._remembered.keep(name, token, account, min(end - self._now(), self._settings.remember))
        return account

    def check(self, name: str, password: str) -> Account | None:
        """See ``Accounts``: nobody has a password here."""
        return None

    def find(self, name: str) -> Account | None:
        """See ``Accounts``."""
        raise AccountsError(f"[users.{self.name}] can be asked about tokens only")

    def exists(self, address: str) -> bool:
        """See ``Accounts``."""
        raise AccountsError(f"[users.{self.name}] can be asked about tokens only")

    def _account(self, name: str, claims: Mapping[str, Any]) -> Account | None:
        settings = self._settings
        if claims.get("active") is not True or _number(claims.get("exp"), float("inf")) <= self._now():
            return None
        whose, scopes = claims.get(settings.claim), str(claims.get("scope", "")).split()
        if settings.scope and settings.scope not in scopes:
            return None
        if not isinstance(whose, str) or not whose or name.casefold() not in ("", whose.casefold()):
            return None
        return Account(whose)

    def _introspected(self, token: str) -> Mapping[str, Any]:
        """What the server says of a token. Raises ``AccountsError``: an error there is no word about the token."""
        try:
            answer = self._web.fetch(self._request(token))
            if answer.status != 200:
                raise ValueError(f"answered {answer.status}")
            claims = answer.json
        except (HttpError, Unanswered, ValueError) as error:
            raise AccountsError(f"[users.{self.name}] {self._settings.url}: {error}") from None
        if not isinstance(claims, dict):
            raise AccountsError(f"[users.{self.name}] {self._settings.url}: the answer is no object of JSON")
        return claims

    def _request(self, token: str) -> Request:
        """RFC 7662 2.1; who we are as in RFC 6749 2.3.1."""
        settings = self._settings
        headers = {"Content-Type": "application/x-www-form-urlencoded", "Accept": "application/json"}
        if settings.client_id:
            secret = read_secret(settings.client_secret_file) if settings.client_secret_file else ""
            pair = f"{quote(settings.client_id, safe='')}:{quote(secret, safe='')}"
            headers["Authorization"] = f"Basic {base64.b64encode(pair.encode()).decode()}"
        body = urlencode({"token": token, "token_type_hint": "access_token"}).encode()
        return Request("POST", settings.url, headers, body, settings.timeout)


def _number(value: object, otherwise: float) -> float:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else otherwise
