from __future__ import annotations

import pytest

from smtpproxy.dns.resolver import Temporary, addresses, mx, ptr, reverse_name, txt
from smtpproxy.dns.zone import Zone


def test_an_absent_name_is_nxdomain_an_absent_type_is_no_data() -> None:
    zone = Zone({"example.com": {"A": ["192.0.2.1"]}})
    assert not zone.query("other.example", "A").exists
    answer = zone.query("Example.COM.", "MX")
    assert answer.exists and answer.records == ()


def test_records_are_plain_values() -> None:
    zone = Zone({"example.com": {"MX": [[20, "B.example.com."], [10, "a.example.com"]], "TXT": ["v=spf1 -all"]}})
    assert mx(zone, "example.com") == ((10, "a.example.com"), (20, "b.example.com"))
    assert txt(zone, "example.com") == ("v=spf1 -all",)


def test_addresses_are_both_kinds() -> None:
    zone = Zone({"mx.example": {"A": ["192.0.2.1"], "AAAA": ["2001:db8::1"]}})
    assert addresses(zone, "mx.example") == ("192.0.2.1", "2001:db8::1")


def test_an_error_answers_the_types_not_listed() -> None:
    zone = Zone({"example.com": {"A": ["192.0.2.1"], "error": "SERVFAIL"}})
    assert zone.query("example.com", "A").records == ("192.0.2.1",)
    with pytest.raises(Temporary, match="SERVFAIL"):
        zone.query("example.com", "MX")


def test_an_alias_is_followed_and_a_loop_of_aliases_is_given_up() -> None:
    zone = Zone(
        {
            "www.example": {"CNAME": ["host.example"]},
            "host.example": {"A": ["192.0.2.1"]},
            "a.example": {"CNAME": ["b.example"]},
            "b.example": {"CNAME": ["a.example"]},
        }
    )
    assert zone.query("www.example", "A").records == ("192.0.2.1",)
    with pytest.raises(Temporary, match="aliases"):
        zone.query("a.example", "A")


def test_it_remembers_what_was_asked() -> None:
    zone = Zone()
    zone.query("Example.com", "a")
    assert zone.asked == [("example.com", "A")]


FORWARD_CONFIRMED = {
    "1.2.0.192.in-addr.arpa": {"PTR": ["mail.example."]},
    "mail.example": {"A": ["192.0.2.9", "192.0.2.1"]},
}


def test_a_name_whose_address_is_the_clients_is_confirmed() -> None:
    assert reverse_name(Zone(FORWARD_CONFIRMED), "192.0.2.1") == ("mail.example", False)


def test_an_ipv4_address_mapped_into_ipv6_is_ipv4() -> None:
    assert reverse_name(Zone(FORWARD_CONFIRMED), "::ffff:192.0.2.1") == ("mail.example", False)


def test_ipv6_is_confirmed_by_aaaa() -> None:
    pointer = "1." + "0." * 23 + "8.b.d.0.1.0.0.2.ip6.arpa"
    zone = Zone({pointer: {"PTR": ["six.example"]}, "six.example": {"AAAA": ["2001:0db8::0:1"]}})
    assert reverse_name(zone, "2001:db8::1") == ("six.example", False)


@pytest.mark.parametrize(
    "names",
    [
        pytest.param({}, id="no pointer"),
        pytest.param({"1.2.0.192.in-addr.arpa": {"PTR": ["forged.example"]}}, id="the name does not exist"),
        pytest.param({"1.2.0.192.in-addr.arpa": {"PTR": ["a.example"]}, "a.example": {"A": ["192.0.2.2"]}}, id="another address"),
        pytest.param({"1.2.0.192.in-addr.arpa": {"PTR": ["192.0.2.1"]}, "192.0.2.1": {"A": ["192.0.2.1"]}}, id="numeric name"),
        pytest.param(
            {"1.2.0.192.in-addr.arpa": {"PTR": ["b d\r\n.example"]}, "b d\r\n.example": {"A": ["192.0.2.1"]}},
            id="not a host name",
        ),
    ],
)
def test_an_unconfirmed_name_is_unknown(names: dict[str, dict[str, list[str]]]) -> None:
    assert reverse_name(Zone(names), "192.0.2.1") == (None, False)


@pytest.mark.parametrize("failing", ["1.2.0.192.in-addr.arpa", "mail.example"])
def test_a_failing_dns_is_temporary(failing: str) -> None:
    assert reverse_name(Zone({**FORWARD_CONFIRMED, failing: {"error": "TIMEOUT"}}), "192.0.2.1") == (None, True)


def test_what_is_no_address_has_no_name() -> None:
    assert reverse_name(Zone(), "unknown") == (None, False)


def test_the_claimed_name_alone() -> None:
    assert ptr(Zone(FORWARD_CONFIRMED), "192.0.2.1") == "mail.example"
    assert ptr(Zone(), "192.0.2.1") is None
