"""The PROXY protocol's headers: the published vectors, whole and octet by octet, and what we write read back."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smtpproxy.wire.proxyheader import (
    ALPN,
    AUTHORITY,
    LOCAL_V1,
    LOCAL_V2,
    SIGNATURE,
    UNIQUE_ID,
    ProxyHeader,
    ProxyHeaderError,
    ProxyTls,
    crc32c,
    format_v1,
    format_v2,
    may_begin,
    parse,
    ssl_tlv,
)

COUNT = 46
BEHIND = b"EHLO x\r\n"
V4 = (("192.0.2.1", 4321), ("198.51.100.2", 25))


@pytest.fixture(scope="module")
def cases(vectors: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads((vectors / "proxy_protocol/vectors.json").read_text())
    assert len(found) == COUNT
    return found


def outcome(data: bytes) -> ProxyHeader | str:
    try:
        return parse(data) or "incomplete"
    except ProxyHeaderError:
        return "error"


def described(header: ProxyHeader) -> dict[str, Any]:
    """In the words of the vectors, which leave out what does not count."""
    said: dict[str, Any] = {"version": header.version, "command": header.command, "header_length": header.length}
    if header.family:
        said["family"] = header.family
    if header.family not in ("", "UNSPEC"):
        said |= {"protocol": header.protocol, "src": header.source, "dst": header.destination}
    if header.known:
        said |= {"sport": header.source_port, "dport": header.destination_port}
    if header.tlvs:
        said["tlvs"] = [[kind, value.hex()] for kind, value in header.tlvs]
    return said


def test_vectors_whole(cases: list[dict[str, Any]]) -> None:
    for case in cases:
        data, expected = bytes.fromhex(case["hex"]), case["expect"]
        found = outcome(data)
        if isinstance(expected, dict):
            assert isinstance(found, ProxyHeader), case["name"]
            assert described(found) == expected, case["name"]
            if not case["name"].startswith("v2 bad"):
                assert data[found.length :] == BEHIND, case["name"]
        else:
            assert found in expected.split("-or-"), case["name"]


def test_vectors_octet_by_octet_are_judged_as_soon_as_they_can_be_and_never_otherwise(cases: list[dict[str, Any]]) -> None:
    for case in cases:
        data, whole = bytes.fromhex(case["hex"]), outcome(bytes.fromhex(case["hex"]))
        steps = [outcome(data[:end]) for end in range(1, len(data) + 1)]
        first = next((step for step in steps if step != "incomplete"), "incomplete")
        assert first == whole, case["name"]
        if isinstance(whole, ProxyHeader):
            assert steps.index(whole) + 1 == whole.length, case["name"]


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"EHLO x\r\n", "it begins with b'EHLO x"),
        (b"PROXY TCP4 1.2.3.4 5.6.7.8 1 2\n", "CRLF"),
        (b"PROXY TCP4 1.2.3.4 5.6.7.8 1\r\n", "3 words behind TCP4"),
        (b"PROXY TCP4 1.2.3.4 5.6.7.8 1 70000\r\n", "'70000' is no port"),
        (b"PROXY TCP6 1.2.3.4 ::1 1 2\r\n", "'1.2.3.4' is no IPv6 address"),
        (b"PROXY TCP6 fe80::1%lo ::1 1 2\r\n", "'fe80::1%lo' is no IPv6 address"),
        (b"PROXY SCTP 1.2.3.4 5.6.7.8 1 2\r\n", "'SCTP' is none of"),
        (b"PROXY UNKNOWN " + b"x" * 100, "107 octets"),
        (SIGNATURE + b"\x11\x11\x00\x00", "version 1"),
        (SIGNATURE + b"\x2f\x11\x00\x00", "command 15"),
        (SIGNATURE + b"\x21\x41\x00\x00", "0x41"),
        (SIGNATURE + b"\x21\x21\x00\x0c", "12 octets do not hold the addresses of INET6"),
        (format_v2(*V4, [(0x20, b"\x01")]), "TLS has 1 octets"),
        (format_v2(*V4, [(0x20, b"\x01\x00\x00\x00\x00\x21\x00\x09TLS")]), "runs past"),
        (format_v2(*V4, [(0x03, b"\x01")]), "a checksum of 1 octets"),
        (format_v2(*V4, checksum=True)[:-1] + b"\x00", "checksum is wrong"),
    ],
)
def test_an_error_says_what_is_wrong(data: bytes, words: str) -> None:
    with pytest.raises(ProxyHeaderError, match=words.replace("(", r"\(")):
        parse(data)


def test_the_checksum_is_that_of_rfc_3720() -> None:
    assert crc32c(bytes(32)) == 0x8A9136AA
    assert crc32c(b"\xff" * 32) == 0x62A8AB43
    assert crc32c(bytes(range(32))) == 0x46DD794E


def test_an_ipv4_address_mapped_into_ipv6_is_an_ipv4_address() -> None:
    header = parse(b"PROXY TCP6 ::ffff:192.0.2.1 ::1 1 2\r\n")
    assert header is not None and header.source == "192.0.2.1"


def test_what_the_balancer_says_of_tls() -> None:
    tls = ProxyTls("TLSv1.3", "TLS_AES_256_GCM_SHA384", True, "client.example")
    header = parse(format_v2(*V4, [(ALPN, b"smtp"), (AUTHORITY, b"mx.example.com"), (UNIQUE_ID, b"id-1"), ssl_tlv(tls)]))
    assert header is not None and header.tls == tls
    assert (header.text(ALPN), header.text(AUTHORITY), header.text(UNIQUE_ID)) == ("smtp", "mx.example.com", "id-1")


def test_a_certificate_that_was_not_verified_has_no_name(cases: list[dict[str, Any]]) -> None:
    unverified = parse(format_v2(*V4, [(0x20, b"\x07\x00\x00\x00\x01\x22\x00\x01x")]))
    assert unverified is not None and unverified.tls == ProxyTls("", "", False, "")
    given = next(case for case in cases if "PP2_TYPE_SSL" in case["name"])
    verified = parse(bytes.fromhex(given["hex"]))
    assert verified is not None and verified.tls == ProxyTls("TLSv1.3", "", True, "client.example")


def test_a_client_without_tls_has_no_tls() -> None:
    header = parse(format_v2(*V4, [(0x20, b"\x00\x00\x00\x00\x01")]))
    assert header is not None and header.tls is None


def test_health_checks_name_nobody() -> None:
    for data in (LOCAL_V1, LOCAL_V2):
        header = parse(data + BEHIND)
        assert header is not None and not header.known and header.length == len(data)


def test_two_families_go_out_in_the_wider_one() -> None:
    ends = ("192.0.2.1", 5), ("2001:db8::1", 25)
    assert format_v1(*ends) == b"PROXY TCP6 ::ffff:192.0.2.1 2001:db8::1 5 25\r\n"
    header = parse(format_v2(*ends))
    assert header is not None and (header.family, header.source) == ("INET6", "192.0.2.1")


PORTS = st.integers(0, 65535)


@given(st.one_of(st.ip_addresses(v=4), st.ip_addresses(v=6)), PORTS, st.binary(max_size=300), st.booleans())
def test_what_is_written_reads_back(address: Any, port: int, value: bytes, checksum: bool) -> None:
    source, destination = (str(address), port), ("2001:db8::25", 25)
    plain = getattr(address, "ipv4_mapped", None) or address
    for data in (format_v1(source, destination), format_v2(source, destination, [(UNIQUE_ID, value)], checksum=checksum)):
        header = parse(data + BEHIND)
        assert header is not None
        assert (header.source, header.source_port, header.length) == (str(plain), port, len(data))


@given(st.sampled_from([b"", b"PROXY ", SIGNATURE, SIGNATURE + b"\x21\x11"]), st.binary(max_size=200))
def test_anything_at_all_is_a_header_or_incomplete_or_an_error(start: bytes, rest: bytes) -> None:
    data = start + rest
    found = outcome(data)
    assert may_begin(data) or found == "error"
    if isinstance(found, ProxyHeader):
        assert 0 < found.length <= len(data)
