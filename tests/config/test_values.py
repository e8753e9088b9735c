"""Durations, sizes, addresses, upstreams and networks, as they are written and as they are understood."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smtpproxy.config.values import (
    BadValue,
    Domains,
    Duration,
    Endpoint,
    Hostname,
    Networks,
    ScannerTarget,
    Size,
    Target,
)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("500ms", 0.5), ("30s", 30), ("5m", 300), ("1h30m", 5400), ("2.5s", 2.5), ("5d", 432000), ("0", 0), (0, 0)],
)
def test_a_duration_is_seconds(text: object, seconds: float) -> None:
    assert Duration.parse(text) == seconds


@pytest.mark.parametrize("text", ["5", 5, "5 m", "m", "", "-5m", True, None, "5m!", ["5m"], "1e3s", "nan"])
def test_a_duration_needs_a_unit(text: object) -> None:
    with pytest.raises(BadValue):
        Duration.parse(text)


@pytest.mark.parametrize(
    ("text", "octets"), [("64KB", 65536), ("50MB", 50 << 20), ("1.5 MB", 3 << 19), ("2GiB", 2 << 30), ("7", 7), (7, 7)]
)
def test_a_size_is_octets(text: object, octets: int) -> None:
    assert Size.parse(text) == octets


@pytest.mark.parametrize("text", ["", "MB", "-1", -1, 1.5, True, "5 apples", None])
def test_what_is_no_size(text: object) -> None:
    with pytest.raises(BadValue):
        Size.parse(text)


@given(st.integers(0, 10**9))
def test_durations_and_sizes_print_as_they_are_written(number: int) -> None:
    assert Duration.parse(str(Duration(number / 1000))) == pytest.approx(number / 1000)
    assert Size.parse(str(Size(number))) == number


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        ("127.0.0.1:25", "127.0.0.1", 25),
        ("[::]:25", "::", 25),
        ("[::1]:0", "::1", 0),
        ("localhost:2525", "localhost", 2525),
    ],
)
def test_an_address_to_listen_on(text: str, host: str, port: int) -> None:
    endpoint = Endpoint.parse(text)
    assert endpoint == (host, port, "")
    assert str(endpoint) == text


@pytest.mark.parametrize(
    ("text", "suggestion"),
    [
        (":25", '"0.0.0.0:25" and "[::]:25"'),
        ("*:25", '"0.0.0.0:25" and "[::]:25"'),
        ("25", '"0.0.0.0:25" and "[::]:25"'),
        ("::1:25", '"[::1]:25"'),
        ("127.0.0.1", ""),
        ("127.0.0.1:65536", ""),
        ("256.0.0.1:25", ""),
        ("[zz]:25", ""),
        ("a b:25", ""),
        ("", ""),
        (25, ""),
    ],
)
def test_what_is_no_address_to_listen_on(text: object, suggestion: str) -> None:
    with pytest.raises(BadValue) as raised:
        Endpoint.parse(text)
    assert raised.value.suggestion == suggestion


@pytest.mark.parametrize(
    ("text", "target", "printed"),
    [
        ("127.0.0.1:10025", Target("smtp", "127.0.0.1", 10025), "127.0.0.1:10025"),
        ("smtp://mail.example:2525", Target("smtp", "mail.example", 2525), "mail.example:2525"),
        ("mail.example", Target("smtp", "mail.example", 25), "mail.example:25"),
        ("lmtp://[::1]:24", Target("lmtp", "::1", 24), "lmtp://[::1]:24"),
        ("lmtp://[::1]", Target("lmtp", "::1", 24), "lmtp://[::1]:24"),
        ("[2001:db8::1]:25", Target("smtp", "2001:db8::1", 25), "[2001:db8::1]:25"),
        ("lmtp+unix:/run/lmtp", Target("lmtp", "", 0, "/run/lmtp"), "lmtp+unix:/run/lmtp"),
    ],
)
def test_an_upstream(text: str, target: Target, printed: str) -> None:
    assert Target.parse(text) == target
    assert str(target) == printed


@pytest.mark.parametrize("text", ["", "http://a:1", "::1", "a:0", "a:b", "lmtp+unix:", "smtp://", "a:70000", "[::1", "a b", 7])
def test_what_is_no_upstream(text: object) -> None:
    with pytest.raises(BadValue):
        Target.parse(text)


def test_networks_hold_addresses() -> None:
    networks = Networks.parse(["192.0.2.0/24", "198.51.100.7", "2001:db8::/32"])
    held = ["192.0.2.255", "198.51.100.7", "2001:db8:1::", "::ffff:192.0.2.1"]
    others = ["192.0.3.0", "198.51.100.8", "2001:db9::", "::192.0.2.1", "", "nonsense", "unix"]
    assert [address for address in (*held, *others) if address in networks] == held


def test_no_networks_hold_nothing() -> None:
    assert "127.0.0.1" not in Networks()
    assert not Networks()


def test_a_network_with_bits_behind_its_prefix_is_told_the_one_that_was_meant() -> None:
    with pytest.raises(BadValue) as raised:
        Networks.parse(["10.1.2.3/8"])
    assert raised.value.suggestion == '"10.0.0.0/8"'


def test_domains_are_compared_in_lower_case() -> None:
    assert Domains.parse(["Example.COM.", "bücher.example"]) == {"example.com", "bücher.example"}


@pytest.mark.parametrize("domain", ["*.example.com", ".example.com", "user@example.com", "a..b", "", 5])
def test_what_is_no_domain(domain: object) -> None:
    with pytest.raises(BadValue):
        Domains.parse([domain])


def test_this_machine_has_a_name() -> None:
    assert Hostname.parse(Hostname.own())


class TestScannerTarget:
    @pytest.mark.parametrize("text", ["clamav+unix:/run/clamav/clamd.ctl", "127.0.0.1:3310", "[::1]:3310", "av.example:3310"])
    def test_reads_and_prints(self, text: str) -> None:
        assert str(ScannerTarget.parse(text)) == text

    @pytest.mark.parametrize(
        ("text", "suggestion"),
        [
            ("/run/clamd.ctl", '"clamav+unix:/run/clamd.ctl"'),
            ("clamav+unix:", '"clamav+unix:/run/clamav/clamd.ctl"'),
            ("clamav+unix:clamd.ctl", '"clamav+unix:/run/clamav/clamd.ctl"'),
            ("127.0.0.1:0", ""),
            ("127.0.0.1", ""),
            ("", ""),
        ],
    )
    def test_what_is_none(self, text: str, suggestion: str) -> None:
        with pytest.raises(BadValue) as wrong:
            ScannerTarget.parse(text)
        assert suggestion in wrong.value.suggestion
