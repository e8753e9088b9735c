"""Where mail for a domain goes (RFC 5321 5.1, RFC 7505)."""

from __future__ import annotations

from typing import Any

import pytest

from smtpproxy.config.values import Target
from smtpproxy.delivery.route import NoRoute, Route, Routes
from smtpproxy.dns.zone import Zone

HOSTS: dict[str, Any] = {
    "mx1.test": {"A": ["192.0.2.1"], "AAAA": ["2001:db8::1"]},
    "mx2.test": {"A": ["192.0.2.2"]},
    "mx.here.test": {"A": ["192.0.2.9"]},
}


def find(domain: str, ours: tuple[str, ...] = (), **names: Any) -> Route:
    zone = Zone({**HOSTS, **{f"{name}.test": types for name, types in names.items()}})
    static = {"static.test": [Target.parse("10.0.0.1:2525")]}
    return Routes(static, zone, "mx.here.test", ours, shuffle=lambda hosts: None).find(domain)


def refused(domain: str, **given: Any) -> str:
    with pytest.raises(NoRoute) as none:
        find(domain, **given)
    return str(none.value.reply)[:9].rstrip()


def hosts(route: Route) -> list[str]:
    return [target.host for target in route.targets]


def test_the_exchangers_by_preference_with_all_their_addresses() -> None:
    route = find("d.test", d={"MX": [[20, "mx2.test"], [10, "mx1.test"]]})
    assert hosts(route) == ["192.0.2.1", "2001:db8::1", "192.0.2.2"]
    assert {target.port for target in route.targets} == {25}


def test_domains_with_the_same_exchangers_are_one_site() -> None:
    same = {"d": {"MX": [[10, "mx1.test"], [20, "mx2.test"]]}, "e": {"MX": [[5, "mx2.test"], [5, "mx1.test"]]}}
    assert find("d.test", **same).site == find("e.test", **same).site


def test_without_exchangers_the_domain_itself() -> None:
    assert hosts(find("d.test", d={"A": ["192.0.2.7"]})) == ["192.0.2.7"]


def test_a_static_route_asks_nobody() -> None:
    assert find("static.test").targets == (Target("smtp", "10.0.0.1", 2525),)


def test_an_address_literal_is_an_address() -> None:
    assert hosts(find("[192.0.2.5]")) == ["192.0.2.5"]
    assert hosts(find("[IPv6:2001:db8::5]")) == ["2001:db8::5"]


def test_only_exchangers_before_us_are_tried() -> None:
    assert hosts(find("d.test", d={"MX": [[10, "mx2.test"], [20, "mx.here.test"], [30, "mx1.test"]]})) == ["192.0.2.2"]


def test_a_domain_beyond_ascii_is_asked_for_in_its_ascii_form() -> None:
    zone = Zone({"xn--bcher-kva.test": {"A": ["192.0.2.8"]}})
    assert hosts(Routes({}, zone, "mx.here.test").find("b\u00fccher.test")) == ["192.0.2.8"]


@pytest.mark.parametrize(
    ("domain", "given", "reply"),
    [
        ("nowhere.test", {}, "550 5.1.2"),
        ("d.test", {"d": {"MX": [[0, "."]]}}, "556 5.1.1"),
        ("d.test", {"d": {"TXT": ["x"]}}, "550 5.4.4"),
        ("d.test", {"d": {"error": "SERVFAIL"}}, "451 4.4.3"),
        ("d.test", {"d": {"MX": [[10, "gone.test"]]}}, "451 4.4.4"),
        ("d.test", {"d": {"MX": [[10, "mx.here.test"], [20, "mx1.test"]]}}, "554 5.4.6"),
        ("d.test", {"d": {"MX": [[10, "mx2.test"]]}, "ours": ("192.0.2.2",)}, "554 5.4.6"),
        ("[192.0.2.2]", {"ours": ("192.0.2.2",)}, "554 5.4.6"),
    ],
)
def test_where_no_mail_can_go(domain: str, given: dict[str, Any], reply: str) -> None:
    assert refused(domain, **given) == reply
