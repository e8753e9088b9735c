"""Servers that rules name: the settings they get, how long they are kept, what is no address."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from smtpproxy.config.schema import Handoff
from smtpproxy.config.values import BadValue, Target
from smtpproxy.server import outlets
from smtpproxy.server.outlets import Outlets

INBOUND = Handoff(kind="proxy", to=(Target.parse("10.0.0.9:25"),), identity="xclient", helo="front.example.com", connections=3)
SETTINGS = {"inbound": INBOUND, "trash": Handoff(kind="discard"), "plain": Handoff(kind="relay", to=INBOUND.to)}


@pytest.fixture
def made() -> Outlets:
    """An outlet of this kind is its name and its settings."""

    def make(name: str, settings: Handoff) -> Any:
        return SimpleNamespace(name=name, settings=settings)

    return Outlets({name: make(name, settings) for name, settings in SETTINGS.items()}, SETTINGS, make)


def test_a_server_has_the_settings_of_the_hand_off_but_for_its_address(made: Outlets) -> None:
    found: Any = made.server("lmtp://[2001:db8::1]:24", "inbound")
    assert found.settings.to == (Target("lmtp", "2001:db8::1", 24),)
    for setting in ("kind", "identity", "helo", "connections", "timeouts", "balance"):
        assert getattr(found.settings, setting) == getattr(INBOUND, setting)


@pytest.mark.parametrize("like", ["trash", "not-there"])
def test_beside_one_without_upstreams_it_is_a_relay_that_says_nothing_of_the_client(made: Outlets, like: str) -> None:
    found: Any = made.server("10.0.0.1", like)
    assert (found.settings.kind, found.settings.identity) == ("relay", "none")


def test_one_server_is_one_outlet_for_each_hand_off_that_it_is_like(made: Outlets) -> None:
    first = made.server("smtp://10.0.0.1", "inbound")
    assert made.server("10.0.0.1:25", "inbound") is first
    assert made.server("10.0.0.1:25", "plain") is not first
    assert made[first.name] is first
    assert first.name not in SETTINGS


def test_the_one_used_longest_ago_makes_room(made: Outlets, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outlets, "SERVERS", 2)
    first, second = made.server("10.0.0.1:25", "inbound"), made.server("10.0.0.2:25", "inbound")
    assert made.server("10.0.0.1:25", "inbound") is first
    made.server("10.0.0.3:25", "inbound")
    assert first.name in made and second.name not in made
    assert set(SETTINGS) < set(made)


@pytest.mark.parametrize("address", ["smtp://", "http://10.0.0.1:25", "10.0.0.1:99999", "2001:db8::1", "lmtp+unix:", ":25"])
def test_what_is_no_address_is_refused_and_nothing_is_kept(made: Outlets, address: str) -> None:
    with pytest.raises(BadValue):
        made.server(address, "inbound")
    assert set(made) == set(SETTINGS)
