"""Paths and addresses: the grammar of RFC 5321 4.1.2 and RFC 6531 3.3."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smtpproxy.wire.address import (
    Address,
    AddressError,
    is_address_literal,
    is_helo_name,
    is_hostname,
    parse_address,
    parse_path,
)


@pytest.mark.parametrize(
    ("raw", "local_part", "domain", "text"),
    [
        (b"<a@b>", "a", "b", "a@b"),
        (b"<John.Doe+x@Mail.Example.COM>", "John.Doe+x", "mail.example.com", "John.Doe+x@mail.example.com"),
        (b"<!#$%&'*+-/=?^_`{|}~@x.org>", "!#$%&'*+-/=?^_`{|}~", "x.org", "!#$%&'*+-/=?^_`{|}~@x.org"),
        (b"<a@under_score.example>", "a", "under_score.example", "a@under_score.example"),
        (b"<a@_x_.example>", "a", "_x_.example", "a@_x_.example"),
        (b'<"a b"@x.org>', "a b", "x.org", '"a b"@x.org'),
        (b'<"ab"@x.org>', "ab", "x.org", "ab@x.org"),
        (b'<"a\\"b\\\\c"@x.org>', 'a"b\\c', "x.org", '"a\\"b\\\\c"@x.org'),
        (b'<"a\\b"@x.org>', "ab", "x.org", "ab@x.org"),
        (b'<"a>b@c"@x.org>', "a>b@c", "x.org", '"a>b@c"@x.org'),
        (b'<"a."@x.org>', "a.", "x.org", '"a."@x.org'),
        (b'<""@x.org>', "", "x.org", '""@x.org'),
        (b"<a@[192.0.2.1]>", "a", "[192.0.2.1]", "a@[192.0.2.1]"),
        (b"<a@[IPv6:2001:DB8::0:1]>", "a", "[IPv6:2001:db8::1]", "a@[IPv6:2001:db8::1]"),
        (b"<a@[ipv6:::1]>", "a", "[IPv6:::1]", "a@[IPv6:::1]"),
        (b"<a@[x-tag:some>thing]>", "a", "[x-tag:some>thing]", "a@[x-tag:some>thing]"),
    ],
)
def test_paths(raw: bytes, local_part: str, domain: str, text: str) -> None:
    address = parse_path(raw)
    assert (address.local_part, address.domain, str(address)) == (local_part, domain, text)
    assert address.path.encode() == raw[1:-1]
    assert address


def test_the_null_path() -> None:
    null = parse_path(b"<>")
    assert not null
    assert str(null) == null.path == null.domain == ""


@pytest.mark.parametrize("raw", [b"<postmaster>", b"<PostMaster>"])
def test_the_bare_postmaster(raw: bytes) -> None:
    address = parse_path(raw)
    assert (str(address), address.domain, address.path) == ("postmaster", "", raw[1:-1].decode())
    assert address
    assert address == parse_path(b"<postmaster>")


@pytest.mark.parametrize("raw", [b"<@a.example,@b.example:user@c.example>", b"<@a:user@c.example>"])
def test_a_source_route_is_dropped(raw: bytes) -> None:
    address = parse_path(raw)
    assert (str(address), address.path) == ("user@c.example", "user@c.example")


@pytest.mark.parametrize(
    "raw",
    [
        b"", b"<", b">", b"a@b", b"<a@b", b"a@b>", b"<<a@b>>", b"< a@b>", b"<a@b >", b"<a @b>", b"<a@ b>",
        b"<a>", b"<@b>", b"<a@>", b"<@>", b"<a@b@c>", b"<.a@b>", b"<a.@b>", b"<a..b@c>", b"<a@.b>", b"<a@b.>",
        b"<a@b..c>",
        b"<a@-b>", b"<a@b->", b"<a@b!c>", b"<a@b/c>", b"<a(x)@b>", b"<a,b@c>", b"<a;b@c>", b"<a:b@c>", b"<a\\@b@c>",
        b"<a[b@c>",
        b'<"a@b>', b'<"a"b@c>', b'<a"b"@c>', b'<"a".b@c>', b'<"a"."b"@c>', b'<"a\\"@c>', b'<"a\0"@c>', b'<"a\\\0"@c>',
        b'<"a\r\n"@c>', b"<a\x00@b>", b"<a\x7f@b>", b"<a\t@b>", b"<a@b\r>",
        b"<@a@b>", b"<@a:>", b"<@a,b:c@d>", b"<@a,:c@d>", b"<@a:@b>", b"<@a:postmaster>", b"<@[192.0.2.1]:a@b>",
        b"<a@[]>", b"<a@[192.0.2]>", b"<a@[192.0.2.256]>", b"<a@[192.0.2.01]>", b"<a@[IPv6:]>", b"<a@[IPv6:1::2::3]>",
        b"<a@[IPv6:fe80::1%eth0]>", b"<a@[2001:db8::1]>", b"<a@[x:]>", b"<a@[:x]>", b"<a@[x-:y]>", b"<a@[tag]>",
        b"<a@[x:y]z>",
        b"<a@[IPv6:12345::]>", b"<a@[IPv6:1:2:3:4:5:6:7::]>",
        b"<\xc3\xa9@b>", b"<a@\xc3\xa9.example>",
    ],
)  # fmt: skip
def test_refused_paths(raw: bytes) -> None:
    with pytest.raises(AddressError):
        parse_path(raw)


LOCAL = "l" * 64
LABEL = "d" * 63


@pytest.mark.parametrize(
    ("text", "good"),
    [
        (f"{LOCAL}@x.org", True),
        (f"{LOCAL}l@x.org", False),
        (f'"{"l" * 62}"@x.org', True),
        (f'"{"l" * 63}"@x.org', False),
        (f"a@{LABEL}.org", True),
        (f"a@{LABEL}d.org", False),
        (f"a@{'.'.join([LABEL] * 3)}.{'e' * 60}", True),
        (f"a@{'.'.join([LABEL] * 3)}.{'e' * 61}", False),
        ("é" * 32 + "@x.org", True),
        ("é" * 32 + "a@x.org", False),
        # The A-label of 50 times one letter is short, that of many different letters is not.
        ("a@" + "é" * 50 + ".org", True),
        ("a@" + "".join(chr(0x4E00 + 97 * i) for i in range(40)) + ".org", False),
    ],
)
def test_lengths(text: str, good: bool) -> None:
    for parse in (parse_address, lambda text: parse_path(f"<{text}>".encode(), True)):
        if good:
            assert parse(text)
        else:
            with pytest.raises(AddressError):
                parse(text)


def test_the_route_counts_into_the_length_of_the_path() -> None:
    route = ",".join(["@" + "r" * 60] * 4)
    assert parse_path(f"<{route}:a@b>".encode())
    with pytest.raises(AddressError, match="256"):
        parse_path(f"<{route},@rrrrr:abc@b>".encode())


@pytest.mark.parametrize(
    ("text", "local_part", "domain"),
    [
        ("jürgen@example.com", "jürgen", "example.com"),
        ("用户@例子.广告", "用户", "例子.广告"),
        ("a@BÜCHER.Example", "a", "bücher.example"),
        ('"ü ber"@x.org', "ü ber", "x.org"),
        ("क्‍ष@भारत.भारत", "क्‍ष", "भारत.भारत"),
        ("a@l·l.example", "a", "l·l.example"),
    ],
)
def test_international_addresses(text: str, local_part: str, domain: str) -> None:
    address = parse_path(f"<{text}>".encode(), True)
    assert (address.local_part, address.domain, address.path) == (local_part, domain, text)
    assert parse_address(text) == address
    with pytest.raises(AddressError, match="above 127"):
        parse_path(f"<{text}>".encode())


@pytest.mark.parametrize(
    "raw",
    [
        b"<\xc0\x80@x.org>",  # overlong NUL
        b"<\xc1\xa1@x.org>",  # overlong letter
        b"<\xed\xa0\x80@x.org>",  # surrogate
        b"<\xf4\x90\x80\x80@x.org>",  # above U+10FFFF
        b"<\xff@x.org>",
        b"<\xc3@x.org>",  # cut off
        b"<\xc2\x80@x.org>",  # U+0080
        b"<\xc2\x9fa@x.org>",  # U+009F
        b'<"\\\xc3\xa9"@x.org>',  # quoted pairs are ASCII: RFC 6531 3.3
        "<a@x。org>".encode(),  # ideographic full stop
        "<a@x\uff0eorg>".encode(),  # full-width full stop
        "<a@\uff58.org>".encode(),  # full-width letter
        "<a@\u212aelvin.org>".encode(),  # Kelvin sign: lower case is an ASCII k
        "<a@x\u2024org>".encode(),  # one dot leader
        "<a@x\u00a0y.org>".encode(),  # no-break space
        "<a@x\u202ey.org>".encode(),  # right-to-left override
        "<a@x\u2215y.org>".encode(),  # division slash
        "<a@-é.org>".encode(),
        "<a@é..org>".encode(),
    ],
)
def test_octets_that_parsers_read_differently(raw: bytes) -> None:
    with pytest.raises(AddressError):
        parse_path(raw, True)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "no domain"),
        ("joe", "no domain"),
        ("@x.org", "local part is missing"),
        ("joe@", "domain is missing"),
        ("j..oe@x.org", "local part is malformed"),
        ("joe@x..org", "domain is malformed"),
        ("joe@[1.2.3]", "address literal is malformed"),
        ("joe@[IPv6:x]", "IPv6 address literal is malformed"),
        ("joe@[2001:db8::1]", "begins with IPv6:"),
        ("joe@x.org\n", "control character"),
        ("jo\ud800e@x.org", "UTF-8"),
    ],
)
def test_errors_say_what_is_wrong(text: str, words: str) -> None:
    with pytest.raises(AddressError, match=words):
        parse_address(text)


def test_equal_by_local_part_and_domain() -> None:
    assert parse_path(b"<a@X.org>") == parse_path(b'<"a"@x.ORG>') == parse_address("a@x.org")
    assert len({parse_path(b"<a@X.org>"), parse_address("a@x.org")}) == 1
    assert parse_path(b"<A@x.org>") != parse_path(b"<a@x.org>")
    assert parse_path(b"<a@x.org>") != "a@x.org"
    assert repr(parse_path(b"<a@x.org>")) == "<Address a@x.org>"


@pytest.mark.parametrize(
    ("text", "hostname", "helo"),
    [
        ("mx.example.com", True, True),
        ("localhost", True, True),
        ("my_pc.local", True, True),
        ("3com.com", True, True),
        ("1.2.3.4", False, True),
        ("mx.example.com.", False, True),
        ("[192.0.2.1]", False, True),
        ("[IPv6:2001:db8::1]", False, True),
        ("[192.0.2]", False, False),
        ("2001:db8::1", False, False),
        ("", False, False),
        (".", False, False),
        ("a b", False, False),
        ("a..b", False, False),
        ("-a", False, False),
        ("a" * 64, False, False),
        (".".join(["a" * 63] * 4), True, True),
        (".".join(["a" * 63] * 4) + ".b", False, False),
        ("é.example", False, False),
        ("a\n", False, False),
        ("<script>", False, False),
    ],
)
def test_host_names(text: str, hostname: bool, helo: bool) -> None:
    assert is_hostname(text) is hostname
    assert is_helo_name(text.encode()) is helo


@pytest.mark.parametrize(
    ("text", "literal"),
    [
        ("[192.0.2.1]", True),
        ("[IPv6:::1]", True),
        ("[tag:x]", True),
        ("[tag]", False),
        ("x", False),
        ("", False),
        ("[", False),
    ],
)
def test_address_literals(text: str, literal: bool) -> None:
    assert is_address_literal(text) is literal


_atoms = st.text("abcXYZ019!#$%&'*+-/=?^_`{|}~", min_size=1, max_size=8)
_labels = st.from_regex(r"[a-z0-9]([a-z0-9-]{0,8}[a-z0-9])?", fullmatch=True)


@given(st.lists(_atoms, min_size=1, max_size=4).map(".".join), st.lists(_labels, min_size=1, max_size=4).map(".".join))
def test_plain_addresses_come_back(local_part: str, domain: str) -> None:
    address = parse_path(f"<{local_part}@{domain}>".encode())
    assert str(address) == address.path == f"{local_part}@{domain}"


@given(st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=30))
def test_any_printable_local_part_can_be_quoted(local_part: str) -> None:
    text = str(Address(local_part, "x.org", ""))
    assert parse_path(f"<{text}>".encode()) == Address(local_part, "x.org", text)


@given(st.one_of(st.binary(max_size=60), st.text('<>@.:,"\\[]ab1-é ', max_size=30).map(str.encode)), st.booleans())
def test_any_octets_parse_or_are_refused_and_the_parsed_come_back(raw: bytes, utf8: bool) -> None:
    try:
        address = parse_path(b"<" + raw + b">", utf8)
    except AddressError as error:
        assert str(error).isascii()
        return
    assert parse_path(f"<{address.path}>".encode(), utf8) == address
    assert parse_path(f"<{address}>".encode(), utf8) == address
