"""XCLIENT and XFORWARD: every dialect that peers announce, read and written."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smtpproxy.wire.reply import Refusal
from smtpproxy.wire.xclient import (
    TEMPUNAVAIL,
    UNAVAILABLE,
    Identity,
    parse_xclient,
    parse_xforward,
    xclient_commands,
    xforward_commands,
    xtext_decode,
    xtext_encode,
)

POSTFIX = "NAME ADDR PORT PROTO HELO LOGIN DESTADDR DESTPORT REVERSE_NAME"
EXIM = "ADDR NAME PORT LOGIN DESTADDR DESTPORT"
HARAKA = "ADDR NAME PROTO HELO LOGIN"
KUMOMTA = "ADDR PORT DESTADDR DESTPORT"
XFORWARD = "NAME ADDR PORT PROTO HELO IDENT SOURCE"


@pytest.mark.parametrize(
    ("plain", "encoded"),
    [
        ("", ""),
        ("mx.example.com", "mx.example.com"),
        ("a+b=c", "a+2Bb+3Dc"),
        ("a b\x7f", "a+20b+7F"),
        ("é", "+C3+A9"),
        ("\r\n", "+0D+0A"),
        ("\udcff", "+FF"),
    ],
)
def test_xtext(plain: str, encoded: str) -> None:
    assert xtext_encode(plain) == encoded
    assert xtext_decode(encoded) == plain


@pytest.mark.parametrize(
    ("raw", "decoded"), [("a+b", "a+b"), ("+", "+"), ("+2", "+2"), ("+2b", "+"), ("a=b", "a=b"), ("é+20", "é ")]
)
def test_xtext_is_read_liberally(raw: str, decoded: str) -> None:
    assert xtext_decode(raw) == decoded


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_xtext_round_trip(text: str) -> None:
    encoded = xtext_encode(text)
    assert xtext_decode(encoded) == text
    assert all(33 <= ord(c) <= 126 and c != "=" for c in encoded)


@pytest.mark.parametrize(
    ("argument", "attributes"),
    [
        ("ADDR=192.0.2.1", {"ADDR": "192.0.2.1"}),
        ("addr=192.0.2.1  Name=spike.example.com", {"ADDR": "192.0.2.1", "NAME": "spike.example.com"}),
        ("ADDR=IPV6:2001:DB8:0:0::1", {"ADDR": "2001:db8::1"}),
        ("ADDR=ipv6:::1", {"ADDR": "::1"}),
        ("ADDR=2001:db8::1", {"ADDR": "2001:db8::1"}),
        ("ADDR=IPV6:::ffff:192.0.2.1", {"ADDR": "192.0.2.1"}),
        ("ADDR=::ffff:192.0.2.1", {"ADDR": "192.0.2.1"}),
        ("ADDR=[unavailable] PORT=[UNAVAILABLE]", {"ADDR": UNAVAILABLE, "PORT": UNAVAILABLE}),
        ("NAME=[TempUnavail]", {"NAME": TEMPUNAVAIL}),
        ("REVERSE_NAME=[TEMPUNAVAIL] NAME=[UNAVAILABLE]", {"REVERSE_NAME": TEMPUNAVAIL, "NAME": UNAVAILABLE}),
        ("PORT=65535 PROTO=esmtp", {"PORT": "65535", "PROTO": "ESMTP"}),
        ("HELO=my+20pc LOGIN=joe+2Bx@example.com", {"HELO": "my?pc", "LOGIN": "joe+x@example.com"}),
        ("HELO=a+0D+0Ab<c>", {"HELO": "a??b?c?"}),
        ("LOGIN=j+C3+B6e", {"LOGIN": "jöe"}),
        ("DESTADDR=IPV6:::1 DESTPORT=25", {"DESTADDR": "::1", "DESTPORT": "25"}),
        ("HELO=" + "x" * 255, {"HELO": "x" * 255}),
    ],
)
def test_reading_xclient(argument: str, attributes: dict[str, str]) -> None:
    assert parse_xclient(argument) == attributes


@pytest.mark.parametrize(
    "argument",
    [
        "", "ADDR", "ADDR=", "=x", "WHAT=x", "IDENT=x", "SOURCE=LOCAL", "ADDR=x", "ADDR=192.0.2", "ADDR=192.0.2.01",
        "ADDR=IPV6:192.0.2.1",
        "ADDR=fe80::1%eth0", "ADDR=[192.0.2.1]", "ADDR=unknown", "ADDR=[TEMPUNAVAIL]", "NAME=a..b", "NAME=192.0.2.1",
        "NAME=a+20b",
        "NAME=-x", "PORT=x", "PORT=65536", "PORT=123456", "PORT=-1", "PORT=\u0661", "PROTO=LMTP", "PROTO=SMTPS",
        "LOGIN=a+00b",
        "LOGIN=a+0Db", "LOGIN=a+FF", "LOGIN=[TEMPUNAVAIL]", "HELO=[TEMPUNAVAIL]",
        "HELO=" + "x" * 256, "ADDR=192.0.2.1 ADDR=192.0.2.2",
    ],
)  # fmt: skip
def test_refused_xclient(argument: str) -> None:
    with pytest.raises(Refusal) as refusal:
        parse_xclient(argument)
    assert (refusal.value.reply.code, refusal.value.reply.enhanced) == (501, "5.5.4")


@pytest.mark.parametrize(
    ("argument", "attributes"),
    [
        (
            "NAME=spike.example.com ADDR=192.0.2.1 PROTO=ESMTP HELO=pc IDENT=4ABC SOURCE=remote",
            {
                "NAME": "spike.example.com",
                "ADDR": "192.0.2.1",
                "PROTO": "ESMTP",
                "HELO": "pc",
                "IDENT": "4ABC",
                "SOURCE": "REMOTE",
            },
        ),
        ("ADDR=[UNAVAILABLE] SOURCE=LOCAL", {"ADDR": UNAVAILABLE, "SOURCE": "LOCAL"}),
        ("PROTO=ESMTPSA IDENT=a+0Ab", {"PROTO": "ESMTPSA", "IDENT": "a?b"}),
    ],
)
def test_reading_xforward(argument: str, attributes: dict[str, str]) -> None:
    assert parse_xforward(argument) == attributes


@pytest.mark.parametrize(
    "argument", ["", "LOGIN=x", "NAME=[TEMPUNAVAIL]", "SOURCE=HERE", "PROTO=" + "x" * 65, "IDENT=", "ADDR=nowhere"]
)
def test_refused_xforward(argument: str) -> None:
    with pytest.raises(Refusal) as refusal:
        parse_xforward(argument)
    assert (refusal.value.reply.code, refusal.value.reply.enhanced) == (501, "5.5.4")


CLIENT = Identity("2001:db8::1", 4321, "spike.example.com", "pc.example.com", ident="4ABC")


@pytest.mark.parametrize(
    ("announced", "line"),
    [
        (POSTFIX, b"XCLIENT ADDR=IPV6:2001:db8::1 PORT=4321 NAME=spike.example.com PROTO=ESMTP HELO=pc.example.com"),
        (EXIM, b"XCLIENT ADDR=IPV6:2001:db8::1 PORT=4321 NAME=spike.example.com"),
        (HARAKA, b"XCLIENT ADDR=IPV6:2001:db8::1 NAME=spike.example.com PROTO=ESMTP HELO=pc.example.com"),
        (KUMOMTA, b"XCLIENT ADDR=2001:db8::1 PORT=4321"),
        ("addr", b"XCLIENT ADDR=IPV6:2001:db8::1"),
    ],
)
def test_dialects(announced: str, line: bytes) -> None:
    assert xclient_commands(CLIENT, announced) == [line + b"\r\n"]


def test_lmtp_takes_the_bare_form() -> None:
    assert xclient_commands(CLIENT, "ADDR NAME", lmtp=True) == [b"XCLIENT ADDR=2001:db8::1 NAME=spike.example.com\r\n"]


def test_nothing_is_sent_where_the_address_cannot_be_told() -> None:
    assert xclient_commands(CLIENT, "") == []
    assert xclient_commands(CLIENT, "NAME HELO") == []
    assert xforward_commands(CLIENT, "") == []


@pytest.mark.parametrize(("name", "value"), [(None, b"[UNAVAILABLE]"), ("", b"[TEMPUNAVAIL]"), ("bad name", b"[UNAVAILABLE]")])
def test_a_client_without_name(name: str | None, value: bytes) -> None:
    assert xclient_commands(Identity("192.0.2.1", 1, name), "NAME ADDR") == [b"XCLIENT ADDR=192.0.2.1 NAME=" + value + b"\r\n"]


def test_without_a_name_the_reverse_name_is_overwritten_too() -> None:
    (line,) = xclient_commands(Identity("192.0.2.1"), "ADDR NAME REVERSE_NAME")
    assert line == b"XCLIENT ADDR=192.0.2.1 NAME=[UNAVAILABLE] REVERSE_NAME=[UNAVAILABLE]\r\n"


def test_what_is_not_known_is_said_to_be_unavailable() -> None:
    (line,) = xclient_commands(Identity("", esmtp=False), POSTFIX.replace(" REVERSE_NAME", ""))
    assert line == b"XCLIENT ADDR=[UNAVAILABLE] PORT=[UNAVAILABLE] NAME=[UNAVAILABLE] PROTO=SMTP HELO=[UNAVAILABLE]\r\n"


def test_mapped_and_scoped_addresses_are_sent_plain() -> None:
    assert xclient_commands(Identity("::ffff:192.0.2.1"), "ADDR") == [b"XCLIENT ADDR=192.0.2.1\r\n"]
    assert xclient_commands(Identity("fe80::1%eth0"), "ADDR") == [b"XCLIENT ADDR=IPV6:fe80::1\r\n"]


def test_login_is_told_only_where_it_is_known_and_announced() -> None:
    user = Identity("192.0.2.1", login="joe@example.com")
    assert xclient_commands(user, "ADDR LOGIN") == [b"XCLIENT ADDR=192.0.2.1 LOGIN=joe@example.com\r\n"]
    assert xclient_commands(user, "ADDR") == [b"XCLIENT ADDR=192.0.2.1\r\n"]
    assert xclient_commands(Identity("192.0.2.1"), "ADDR LOGIN") == [b"XCLIENT ADDR=192.0.2.1\r\n"]
    assert xclient_commands(Identity("192.0.2.1", login="x" * 256), "ADDR LOGIN") == [b"XCLIENT ADDR=192.0.2.1\r\n"]


def test_destination_is_told_to_those_who_ask() -> None:
    client = Identity("192.0.2.1", 9, destination_address="2001:db8::25", destination_port=25)
    assert xclient_commands(client, KUMOMTA) == [b"XCLIENT ADDR=192.0.2.1 PORT=9 DESTADDR=2001:db8::25 DESTPORT=25\r\n"]


LONG_NAME = ".".join(["n" * 63] * 3) + ".example"


def test_too_long_for_512_octets_leaves_out_helo_then_the_name_never_the_login() -> None:
    def attributes(**facts: str) -> dict[str, str]:
        (line,) = xclient_commands(Identity("2001:db8::1", 4321, **facts), POSTFIX)  # type: ignore[arg-type]
        assert len(line) <= 512
        return parse_xclient(line.decode().removeprefix("XCLIENT ").rstrip())

    assert {"HELO", "NAME"} <= set(attributes(name=LONG_NAME, helo="h" * 200))
    crowded = attributes(name=LONG_NAME, helo="h" * 255, login="l" * 20)
    assert "HELO" not in crowded
    assert crowded["NAME"] == LONG_NAME
    crowded = attributes(name=LONG_NAME, helo="h" * 255, login="l" * 255)
    assert "HELO" not in crowded
    assert crowded["NAME"] == UNAVAILABLE
    assert crowded["LOGIN"] == "l" * 255
    assert crowded["ADDR"] == "2001:db8::1"


def test_xforward_gives_each_attribute_the_peer_knows() -> None:
    assert xforward_commands(CLIENT, XFORWARD) == [
        b"XFORWARD NAME=spike.example.com ADDR=IPV6:2001:db8::1 PORT=4321 PROTO=ESMTP HELO=pc.example.com"
        b" IDENT=4ABC SOURCE=REMOTE\r\n"
    ]
    assert xforward_commands(Identity("", name="", source="LOCAL"), "NAME ADDR HELO IDENT SOURCE PORT") == [
        b"XFORWARD NAME=[UNAVAILABLE] ADDR=[UNAVAILABLE] PORT=[UNAVAILABLE] HELO=[UNAVAILABLE]"
        b" IDENT=[UNAVAILABLE] SOURCE=LOCAL\r\n"
    ]


def test_xforward_is_split_at_512_octets() -> None:
    client = Identity("192.0.2.1", 1, LONG_NAME, "h" * 255, ident="i" * 200)
    commands = xforward_commands(client, XFORWARD)
    assert len(commands) == 2
    assert all(len(command) <= 512 and command.endswith(b"\r\n") for command in commands)
    merged: dict[str, str] = {}
    for command in commands:
        merged |= parse_xforward(command.decode().removeprefix("XFORWARD ").rstrip())
    assert set(merged) == set(XFORWARD.split())
    assert (merged["NAME"], merged["HELO"]) == (LONG_NAME, "h" * 255)


_identities = st.builds(
    Identity,
    address=st.one_of(st.ip_addresses(v=4), st.ip_addresses(v=6)).map(str),
    port=st.integers(1, 65535),
    name=st.sampled_from([None, "", "a.example", LONG_NAME]),
    helo=st.text(max_size=300).filter(lambda s: not any(0xD800 <= ord(c) < 0xE000 for c in s)),
    esmtp=st.booleans(),
    login=st.one_of(st.none(), st.text(st.characters(exclude_categories=["Cc", "Cs"]), min_size=1, max_size=80)),
    ident=st.text("ABC123", max_size=20),
)


@given(_identities, st.lists(st.sampled_from([*POSTFIX.split(), *XFORWARD.split()]), unique=True).map(" ".join))
def test_what_we_write_we_read(identity: Identity, announced: str) -> None:
    for verb, commands, reader in (
        ("XCLIENT", xclient_commands(identity, announced), parse_xclient),
        ("XFORWARD", xforward_commands(identity, announced), parse_xforward),
    ):
        for command in commands:
            assert len(command) <= 512
            attributes = reader(command.decode("ascii").removeprefix(f"{verb} ").removesuffix("\r\n"))
            assert set(attributes) <= set(announced.split())
            if verb == "XCLIENT" and identity.login is not None and "LOGIN" in attributes:
                assert attributes["LOGIN"] == identity.login
