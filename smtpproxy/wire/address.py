"""Mail addresses as the envelope has them (RFC 5321 4.1.2, 4.1.3; RFC 6531 3.3), with the limits of 4.5.3.1.

Only what the SMTP grammar has: no comments, no folding, no obsolete forms of RFC 5322. Where Postfix is more lenient
and real mail depends on it, so are we: underscores in domains.
"""

from __future__ import annotations

import re
from ipaddress import AddressValueError, IPv4Address, IPv6Address
from unicodedata import category, normalize

MAX_LOCAL_PART = 64
MAX_DOMAIN = 255
MAX_PATH = 256

_ATEXT = r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]"
_DOT_STRING = rf"{_ATEXT}++(?:\.{_ATEXT}++)*+"
_LABEL = r"[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?"
_DOMAIN = rf"{_LABEL}(?:\.{_LABEL})*+"
_QUOTED = r'"(?:[ !#-\[\]-~]|\\[ -~])*+"'
# RFC 5321 4.1.2 dcontent, used by address literals.
_LITERAL = r"\[[!-Z^-~]++\]"
_PATH = rf"(?:(@{_DOMAIN}(?:,@{_DOMAIN})*+):)?({_DOT_STRING}|{_QUOTED})@({_DOMAIN}|{_LITERAL})"


def _with_utf8(grammar: str) -> str:
    """The grammar of RFC 6531 3.3: non-ASCII in atext, qtextSMTP and sub-domain, but not in quoted pairs."""
    return grammar.replace("[A-Za-z0-9", "[A-Za-z0-9\xa0-\U0010ffff").replace("[ !#", "[\xa0-\U0010ffff !#")


PLAIN_PATH = rf"<(({_DOT_STRING})@({_DOMAIN}))>".encode()
"""The path of an ordinary address; its match is for ``plain_address``."""
_FAST = re.compile(PLAIN_PATH).fullmatch
_ASCII_PATH = re.compile(_PATH).fullmatch
_UTF8_PATH = re.compile(_with_utf8(_PATH)).fullmatch
_LOCAL_PART = re.compile(_with_utf8(rf"{_DOT_STRING}|{_QUOTED}")).fullmatch
_UNQUOTED = re.compile(_with_utf8(_DOT_STRING)).fullmatch
_HOSTNAME = re.compile(_DOMAIN).fullmatch
_ROUTE = re.compile("[@%!]").search
_BRACKETED = re.compile(_LITERAL).fullmatch
_CONTROLS = re.compile("[\x00-\x1f\x7f-\x9f]").search
_QUOTED_PAIR = re.compile(r"\\(.)")
_NEEDS_QUOTING = re.compile(r'(["\\])')
_IPV6_GROUP = re.compile(r"[0-9A-Fa-f]{1,4}").fullmatch
_GENERAL_LITERAL = re.compile(r"([A-Za-z0-9-]*[A-Za-z0-9]):([!-Z^-~]+)").fullmatch

# IDNA wants these between letters of a label although they are punctuation or format characters (RFC 5892 A.1 to A.7).
_LABEL_EXCEPTIONS = frozenset("\u00b7\u0375\u05f3\u05f4\u30fb\u200c\u200d")


class AddressError(ValueError):
    """Not an address; the text can be shown to the peer."""


class Address:
    """A mailbox, the null path, or the bare <postmaster>. Equal and hashed by local part and domain."""

    __slots__ = ("domain", "local_part", "path")

    local_part: str
    """Without quoting and escapes."""
    domain: str
    """In lower case; "[192.0.2.1]" or "[IPv6:2001:db8::1]" (shortest form) for a literal, "" where there is none."""
    path: str
    """What stands between < and > on the wire, as the peer wrote it, without a source route."""

    def __init__(self, local_part: str, domain: str, path: str) -> None:
        self.local_part = local_part
        self.domain = domain
        self.path = path

    def __str__(self) -> str:
        local_part = self.local_part
        if not self.domain:
            return local_part
        if not _UNQUOTED(local_part):
            local_part = '"' + _NEEDS_QUOTING.sub(r"\\\1", local_part) + '"'
        return f"{local_part}@{self.domain}"

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self}>"

    def __bool__(self) -> bool:
        return self.path != ""

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Address):
            return NotImplemented
        return self.local_part == other.local_part and self.domain == other.domain

    def __hash__(self) -> int:
        return hash((self.local_part, self.domain))


def plain_address(match: re.Match[bytes]) -> Address | None:
    """The address that a match of ``PLAIN_PATH`` holds; None where it is longer than addresses are."""
    path, local_part, domain = match.groups()
    if len(local_part) > MAX_LOCAL_PART or len(path) > MAX_PATH - 2:
        return None
    return Address(local_part.decode(), domain.lower().decode(), path.decode())


def parse_path(raw: bytes, utf8: bool = False) -> Address:
    """The address in `raw`, which is b"<...>" whole. Raises AddressError.

    Source routes are parsed and dropped, b"<>" is the null path, <postmaster> stands without domain. With `utf8` the
    grammar is that of RFC 6531; octets above 127 are refused otherwise.
    """
    match = _FAST(raw)
    if match is not None and (plain := plain_address(match)) is not None:
        return plain
    if raw == b"<>":
        return Address("", "", "")
    if raw[:1] != b"<" or raw[-1:] != b">":
        raise AddressError("address is not enclosed in angle brackets")
    if len(raw) > MAX_PATH:
        raise AddressError(f"path is longer than {MAX_PATH} octets")
    return _parse(_decode(raw[1:-1], utf8))


def parse_address(text: str) -> Address:
    """The address in `text`, without brackets; non-ASCII allowed. For configuration and rules. Raises AddressError."""
    try:
        octets = text.encode()
    except UnicodeEncodeError:
        raise AddressError("address is not valid UTF-8") from None
    if len(octets) > MAX_PATH - 2:
        raise AddressError(f"address is longer than {MAX_PATH - 2} octets")
    return _parse(_decode(octets, True))


def _decode(raw: bytes, utf8: bool) -> str:
    try:
        text = raw.decode("utf-8" if utf8 else "ascii")
    except UnicodeDecodeError:
        raise AddressError("address is not valid UTF-8" if utf8 else "address holds octets above 127") from None
    # RFC 6532 3.1 and RFC 5198 2: neither C0 nor C1 controls in internationalised addresses.
    if _CONTROLS(text):
        raise AddressError("address holds a control character")
    return text


def _parse(text: str) -> Address:
    match = _ASCII_PATH(text) if text.isascii() else _UTF8_PATH(text)
    if match is None:
        # RFC 5321 4.1.1.3, 4.5.1: the one mailbox without a domain, in any letter case.
        if text.lower() == "postmaster":
            return Address("postmaster", "", text)
        raise AddressError(_diagnosis(text))
    route, local_part, domain = match.groups()
    # RFC 5321 4.5.3.1.1: the quotes count, as they are part of the local part.
    if len(local_part.encode()) > MAX_LOCAL_PART:
        raise AddressError(f"local part is longer than {MAX_LOCAL_PART} octets")
    if route is not None:
        _check_route(route)
    path = text if route is None else f"{local_part}@{domain}"
    return Address(_unquote(local_part), _canonical_domain(domain), path)


def _diagnosis(text: str) -> str:
    """Why the grammar refused `text`."""
    local_part, at, domain = text.rpartition("@")
    if not at:
        return "address has no domain"
    if not local_part:
        return "local part is missing"
    if not domain:
        return "domain is missing"
    return "domain is malformed" if _LOCAL_PART(local_part) else "local part is malformed"


def _unquote(local_part: str) -> str:
    return _QUOTED_PAIR.sub(r"\1", local_part[1:-1]) if local_part[0] == '"' else local_part


def _check_route(route: str) -> None:
    for hop in route.split(","):
        _canonical_domain(hop[1:])


def _canonical_domain(domain: str) -> str:
    if domain[0] == "[":
        return _canonical_literal(domain)
    if not domain.isascii():
        _check_international_domain(domain)
    if len(domain.encode()) > MAX_DOMAIN:
        raise AddressError(f"domain is longer than {MAX_DOMAIN} octets")
    return domain.lower()


def _check_international_domain(domain: str) -> None:
    """Refuse what another parser would read as a different domain (R32).

    U-labels are stable under NFKC (RFC 5892 2.2): full-width dots and letters, the Kelvin sign and the like are not,
    and turn into ASCII in a later step of somebody else's.
    """
    if normalize("NFKC", domain) != domain:
        raise AddressError("domain is not in its normal form")
    for character in domain:
        # Letters, marks and digits (RFC 5892 2.1); symbols such as emoji are registered in places (UTS 46).
        if character.isascii() or category(character)[0] in "LM" or category(character) in ("Nd", "So"):
            continue
        if character not in _LABEL_EXCEPTIONS:
            raise AddressError("domain holds a character that no domain can have")
    for label in domain.split("."):
        # RFC 5890 2.3.2.1: a U-label is as long as its A-label.
        if not label.isascii() and len(b"xn--" + label.encode("punycode")) > 63:
            raise AddressError("domain has a label of more than 63 octets")


def _canonical_literal(literal: str) -> str:
    """RFC 5321 4.1.3; IPv6 in its shortest form so that equal addresses compare equal. Raises AddressError."""
    content = literal[1:-1]
    if content[:5].lower() == "ipv6:":
        return f"[IPv6:{_ipv6(content[5:])}]"
    if _GENERAL_LITERAL(content):
        # [1111:2222:...] is a General-address-literal by its letters, but only an IPv6 address that lacks its tag.
        if content.count(":") > 1 and all(_IPV6_GROUP(group) or not group for group in content.split(":")):
            raise AddressError("an IPv6 address literal begins with IPv6:")
        return literal
    try:
        # Leading zeros are refused: some read 010 as eight.
        return f"[{IPv4Address(content)}]"
    except AddressValueError:
        raise AddressError("address literal is malformed") from None


def _ipv6(text: str) -> IPv6Address:
    if "%" not in text:
        try:
            address = IPv6Address(text)
        except AddressValueError:
            pass
        else:
            if "::" not in text or _groups(text) <= 6:
                return address
    raise AddressError("IPv6 address literal is malformed")


def _groups(text: str) -> int:
    """Groups written out: RFC 5321 4.1.3 lets "::" stand for at least two, so no more than six beside it."""
    return sum(2 if "." in group else 1 for group in text.split(":") if group)


def has_route(local_part: str) -> bool:
    """Some servers read these as "user at another host": user%host, host!user, "user@host" (RFC 5321 3.6.1, appendix C)."""
    return _ROUTE(local_part) is not None


def is_hostname(text: str) -> bool:
    """A domain in ASCII that can stand in the DNS: not a dotted quad, at most 255 octets. Underscores are allowed."""
    return _HOSTNAME(text) is not None and len(text) <= MAX_DOMAIN and not text.replace(".", "").isdigit()


def is_address_literal(text: str) -> bool:
    """[192.0.2.1], [IPv6:2001:db8::1] or a general literal [tag:content]."""
    if not _BRACKETED(text):
        return False
    try:
        _canonical_literal(text)
    except AddressError:
        return False
    return True


def is_helo_name(raw: bytes) -> bool:
    """What HELO and EHLO may be followed by: a domain or an address literal (RFC 5321 4.1.1.1).

    Lenient as Postfix: underscores, a dotted quad without brackets and one trailing dot pass.
    """
    try:
        text = raw.decode("ascii")
    except UnicodeDecodeError:
        return False
    name = text[:-1] if text[-1:] == "." else text
    return (_HOSTNAME(name) is not None and len(name) <= MAX_DOMAIN) or is_address_literal(text)
