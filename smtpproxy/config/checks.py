"""What no single setting can get wrong: names that refer to nothing, addresses taken twice, an open relay."""

from __future__ import annotations

import ipaddress
import itertools
import re
from collections.abc import Callable, Iterator
from typing import Any

from smtpproxy.config.lines import Keys
from smtpproxy.config.logins import check_users
from smtpproxy.config.problem import Problem, did_you_mean
from smtpproxy.config.schema import QUARANTINE, Config, Handoff, Listener
from smtpproxy.config.values import LOCAL, Endpoint, Networks

Report = Callable[[Keys, str, str], None]
Raw = dict[str, Any]

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")
_RULE = re.compile(r"\*|!?[A-Za-z0-9_][A-Za-z0-9_.-]*")


def cross_checks(config: Config, raw: Raw, report: Report) -> None:
    """Reports what does not fit together. `raw` is what the files say: a table that is wrong in itself still counts
    as there, so that one mistake is not told twice."""
    listeners, handoffs = _table(raw, "listener"), _table(raw, "handoff")
    if not listeners:
        report(("listener",), "there is none: nothing would be served", "write a [listener.NAME] with bind and handoff")
    for name, listener in config.listener.items():
        _check_listener(name, listener, handoffs, _table(raw, "users"), report)
    for name, handoff in config.handoff.items():
        _check_handoff(name, handoff, _table(handoffs, name), report)
    for name, route in config.route.items():
        if bool(route.login) != (route.password_file is not None):
            report(("route", name, "login"), "login and password_file need one another", "")
    for name, rule in config.rule.items():
        for listed in set(rule.get("listeners", ())) - listeners.keys():
            text = f"there is no [listener.{listed}]"
            report(("rule", name, "listeners"), text, did_you_mean(listed, listeners))
    for name, users in config.users.items():
        if not _NAME.fullmatch(name):
            report(("users", name), "a name has letters, digits, dots, hyphens and underscores", "")
        check_users(name, users, report)
    _check_binds(config, report)
    if "folder" in _table(raw, "scripts") and not config.scripts.folder.is_dir():
        report(("scripts", "folder"), f"{config.scripts.folder}: no such folder", "")


def _table(raw: Raw, name: str) -> Raw:
    found = raw.get(name)
    return found if isinstance(found, dict) else {}


def warnings(config: Config) -> Iterator[Problem]:
    """What is allowed and probably not meant."""
    yield from _everybody(config, "relaying.networks", config.relaying.networks, "is an open relay: anybody may send anywhere")
    for name, listener in config.listener.items():
        for key in ("proxy_from", "xclient_from"):
            text = "is everybody: anybody may say that he is somebody else"
            yield from _everybody(config, f"listener.{name}.{key}", getattr(listener, key), text)
    for name, handoff in config.handoff.items():
        sure = handoff.tls == "verify" or handoff.tls_fingerprints or all(target.near for target in handoff.to)
        if handoff.login and not sure:
            text = 'whoever poses as the upstream learns the password, unless tls = "verify"'
            yield _told(config, f"handoff.{name}.login", text)


def _everybody(config: Config, key: str, networks: Networks, text: str) -> Iterator[Problem]:
    for network in networks:
        if network != LOCAL and ipaddress.ip_network(network).prefixlen == 0:
            yield _told(config, key, f"{network} {text}")


def _told(config: Config, key: str, text: str) -> Problem:
    file, _, line = config.origins.get(key, "").rpartition(":")
    return Problem(file, key, text, line=int(line or 0))


def _check_listener(name: str, listener: Listener, handoffs: Raw, users: Raw, report: Report) -> None:
    at = ("listener", name)
    if not _NAME.fullmatch(name):
        report(at, "a name has letters, digits, dots, hyphens and underscores", "")
    if not listener.bind:
        report((*at, "bind"), "is empty: nothing would be served", "")
    if listener.tls.mode != "starttls" and not listener.tls.wanted:
        report((*at, "tls", "mode"), f'"{listener.tls.mode}" needs a certificate', "write cert and key, or folder")
    if listener.tls.cert is not None and listener.tls.folder is not None:
        report((*at, "tls", "folder"), "cert is there, too", "write one of them")
    if listener.handoff not in handoffs:
        hint = did_you_mean(listener.handoff, handoffs) or f"write a [handoff.{listener.handoff}]"
        report((*at, "handoff"), f"there is no [handoff.{listener.handoff}]", hint)
    for key, given in (("proxy_mode", listener.proxy_mode != "require"), ("proxy_tls", listener.proxy_tls)):
        if given and not listener.proxy_from:
            report((*at, key), "has no use without proxy_from", "")
    _check_auth(at, listener, users, report)
    for rule in listener.rules:
        if not _RULE.fullmatch(rule):
            report((*at, "rules"), f'{rule!r}: write "*", "name" or "!name"', "")


def _check_handoff(name: str, handoff: Handoff, raw: Raw, report: Report) -> None:
    at = ("handoff", name)
    if not _NAME.fullmatch(name):
        report(at, "a name has letters, digits, dots, hyphens and underscores", "")
    stays = {"discard": "is discarded", "quarantine": "is kept here", "queue": "goes by [route] and the DNS"}.get(handoff.kind)
    if stays and handoff.to:
        report((*at, "to"), f"has no use where mail {stays}", "")
    if handoff.folder != QUARANTINE and handoff.kind != "quarantine":
        report((*at, "folder"), f"has no use for a {handoff.kind}", "")
    if bool(handoff.login) != (handoff.password_file is not None):
        report((*at, "login"), "login and password_file need one another", "")
    if handoff.login and handoff.identity == "xclient":
        report((*at, "login"), "after XCLIENT the upstream has forgotten who we are", 'give identity = "xforward" or "none"')
    if not stays and not raw.get("to"):
        report((*at, "to"), f"a {handoff.kind} needs at least one upstream", 'such as to = ["127.0.0.1:10025"]')


def _check_auth(at: Keys, listener: Listener, users: Raw, report: Report) -> None:
    if listener.auth and listener.auth not in users:
        hint = did_you_mean(listener.auth, users) or f"write a [users.{listener.auth}]"
        report((*at, "auth"), f"there is no [users.{listener.auth}]", hint)
    if not (listener.tls.wanted or listener.auth_without_tls or listener.proxy_tls):
        for key, given in (("auth", bool(listener.auth)), ("auth_required", listener.auth_required)):
            if given:
                report((*at, key), "nobody could log in without TLS", "give tls, or auth_without_tls = true")


def _check_binds(config: Config, report: Report) -> None:
    taken = [(name, endpoint) for name, listener in config.listener.items() for endpoint in listener.bind]
    for (first, one), (second, other) in itertools.combinations(taken, 2):
        if _collide(one, other):
            where = "twice here" if first == second else f"in [listener.{first}] too"
            text = f"{other} is bound {where}" if one == other else f"{other} collides with {one} in [listener.{first}]"
            report(("listener", second, "bind"), text, "")


def _collide(one: Endpoint, other: Endpoint) -> bool:
    if one.path:
        return one == other
    if one.port != other.port or one.port == 0:
        return False
    return one.host == other.host or any(
        wild in (one.host, other.host) and (":" in one.host) == (":" in other.host) for wild in ("0.0.0.0", "::")
    )
