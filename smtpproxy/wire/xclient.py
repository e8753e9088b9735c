"""XCLIENT and XFORWARD, read and written: a client's identity between servers that trust each other.

Postfix defined both (XCLIENT_README, XFORWARD_README); where its source differs from them, the source is followed.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Literal

from smtpproxy.wire.address import is_hostname
from smtpproxy.wire.reply import Refusal, Reply

UNAVAILABLE = "[UNAVAILABLE]"
"""Nothing is known, and asking again will not help."""
TEMPUNAVAIL = "[TEMPUNAVAIL]"
"""Nothing is known now; of NAME and REVERSE_NAME only."""

MAX_VALUE = 255
MAX_COMMAND = 512

_HEX_PAIR = re.compile(rb"\+([0-9A-Fa-f]{2})")
_CONTROLS = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
# The set that Postfix censors in names which only logs and header comments show.
_SPECIALS = re.compile('[\x00-\x20\x7f-\x9f<>()\\\\";@\ud800-\udfff]')
_PORT = re.compile(r"[0-9]{1,5}").fullmatch
_PLAIN = frozenset(range(33, 127)) - frozenset(b"+=")


def xtext_encode(text: str) -> str:
    """RFC 3461 4: "+", "=" and everything outside 33 to 126 as +HH, of the UTF-8 octets."""
    octets = text.encode("utf-8", "surrogateescape")
    return "".join([chr(octet) if octet in _PLAIN else f"+{octet:02X}" for octet in octets])


def xtext_decode(text: str) -> str:
    """Liberal: "+" without two hex digits stands for itself, as old senders wrote values raw. Not UTF-8: escaped."""
    if "+" not in text:
        return text
    octets = _HEX_PAIR.sub(lambda match: bytes([int(match[1], 16)]), text.encode("utf-8", "surrogateescape"))
    return octets.decode("utf-8", "surrogateescape")


class Identity:
    """Who the client is, as an upstream shall see it.

    address: IPv4 or IPv6 without brackets, "" unknown (local submission). port: 0 unknown. name: the verified host
    name, None when there is none, "" when the lookup failed for now. helo: "" when none came. login: None when not
    authenticated or not to be told. ident: our id of the mail, for XFORWARD. destination_*: where the client
    connected, told to those who ask for it; "" and 0 unknown.
    """

    __slots__ = (
        "address",
        "destination_address",
        "destination_port",
        "esmtp",
        "helo",
        "ident",
        "login",
        "name",
        "port",
        "source",
    )

    def __init__(
        self,
        address: str,
        port: int = 0,
        name: str | None = None,
        helo: str = "",
        esmtp: bool = True,
        login: str | None = None,
        ident: str = "",
        source: Literal["REMOTE", "LOCAL"] = "REMOTE",
        destination_address: str = "",
        destination_port: int = 0,
    ) -> None:
        self.address = address
        self.port = port
        self.name = name
        self.helo = helo
        self.esmtp = esmtp
        self.login = login
        self.ident = ident
        self.source = source
        self.destination_address = destination_address
        self.destination_port = destination_port


# --- reading: what a front end sends us


def _address(value: str) -> str | None:
    """Without the IPV6: prefix (Haraka and Dovecot's LMTP leave it out), mapped IPv4 as IPv4, shortest form."""
    tagged = value[:5].upper() == "IPV6:"
    bare = value[5:] if tagged else value
    if "%" in bare or (tagged and ":" not in bare):
        return None
    try:
        return _plain_address(bare)
    except ValueError:
        return None


def _plain_address(text: str) -> str:
    address: IPv4Address | IPv6Address | None = ip_address(text)
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    return str(address)


def _port(value: str) -> str | None:
    return value if _PORT(value) and int(value) < 65536 else None


def _name(value: str) -> str | None:
    return value if is_hostname(value) else None


def _protocol(value: str) -> str | None:
    return value.upper() if value.upper() in ("SMTP", "ESMTP") else None


def _censored(value: str) -> str | None:
    return _SPECIALS.sub("?", value)


def _printable(value: str) -> str | None:
    return None if _CONTROLS.search(value) else value


def _source(value: str) -> str | None:
    return value.upper() if value.upper() in ("LOCAL", "REMOTE") else None


def _forwarded_protocol(value: str) -> str | None:
    return _SPECIALS.sub("?", value) if len(value) <= 64 else None


# Attribute to reader: the clean value, None when it is bad.
_Readers = Mapping[str, Callable[[str], str | None]]
_XCLIENT: _Readers = {
    "NAME": _name, "REVERSE_NAME": _name, "ADDR": _address, "PORT": _port, "PROTO": _protocol, "HELO": _censored,
    "LOGIN": _printable, "DESTADDR": _address, "DESTPORT": _port,
}  # fmt: skip
_XFORWARD: _Readers = {
    "NAME": _name, "ADDR": _address, "PORT": _port, "PROTO": _forwarded_protocol, "HELO": _censored,
    "IDENT": _censored, "SOURCE": _source,
}  # fmt: skip
_TEMPORARY = frozenset(["NAME", "REVERSE_NAME"])


def parse_xclient(argument: str) -> dict[str, str]:
    """Attributes by upper-case name, decoded and checked; UNAVAILABLE and TEMPUNAVAIL stand as they are.

    ADDR and DESTADDR are plain addresses in their shortest form. Raises Refusal 501 5.5.4.
    """
    return _parse("XCLIENT", argument, _XCLIENT, _TEMPORARY)


def parse_xforward(argument: str) -> dict[str, str]:
    """As parse_xclient. What the first XFORWARD of a transaction does not name is unavailable: the caller's part."""
    return _parse("XFORWARD", argument, _XFORWARD, frozenset())


def _parse(verb: str, argument: str, readers: _Readers, temporary: frozenset[str]) -> dict[str, str]:
    attributes: dict[str, str] = {}
    for word in filter(None, argument.split(" ")):
        name, _, encoded = word.partition("=")
        name = name.upper()
        if name not in readers:
            raise _refusal(f"Bad {verb} attribute name: {xtext_encode(name[:40])}")
        # Postfix lets the last one win; who the client is should not depend on the reader.
        if name in attributes:
            raise _refusal(f"{verb} attribute {name} is given twice")
        if len(encoded) > MAX_VALUE:
            raise _refusal(f"{verb} attribute {name} is longer than {MAX_VALUE} octets")
        value = _read(xtext_decode(encoded), readers[name], name in temporary)
        if not value:
            raise _refusal(f"Bad {verb} {name} syntax")
        attributes[name] = value
    if not attributes:
        raise _refusal(f"Syntax: {verb} attribute=value...")
    return attributes


def _read(value: str, reader: Callable[[str], str | None], temporary: bool) -> str | None:
    special = value.upper()
    if special == UNAVAILABLE or (special == TEMPUNAVAIL and temporary):
        return special
    # A login or a HELO of that text would be taken for the special value by the next server.
    return None if special == TEMPUNAVAIL else reader(value)


def _refusal(text: str) -> Refusal:
    return Refusal(Reply(501, "5.5.4", text))


# --- writing: what we send to an upstream

# KumoMTA refuses the prefix with 501 and can be told by its attribute list. Everybody else who takes XCLIENT over SMTP
# wants it (Postfix and Haraka refuse the bare form) or takes both; Dovecot's LMTP writes and reads the bare form.
_KUMOMTA = frozenset(["ADDR", "PORT", "DESTADDR", "DESTPORT"])


def xclient_commands(identity: Identity, announced: str, lmtp: bool = False) -> list[bytes]:
    """The XCLIENT lines, with CRLF, for an upstream that announced these attributes (EHLO's parameter text).

    Empty when the upstream does not take ADDR: identity cannot be told then. It is always one command: Postfix resets
    HELO, PROTO and LOGIN when a later one omits them, and ADDR may take the right to send another. Where 512 octets
    do not suffice, HELO is left to the EHLO that follows, then the name becomes unavailable: left out, Postfix
    would go on with the name of our own host.
    """
    known = frozenset(announced.upper().split())
    if "ADDR" not in known:
        return []
    prefix = "" if lmtp or known == _KUMOMTA else "IPV6:"
    values = {
        "ADDR": _written_address(identity.address, prefix),
        "PORT": _written_port(identity.port),
        "NAME": _written_name(identity.name),
        # A real NAME sets the reverse name too; without one the reverse name of our own host would stay.
        "REVERSE_NAME": "" if identity.name else _written_name(identity.name),
        "PROTO": "ESMTP" if identity.esmtp else "SMTP",
        "HELO": _written(identity.helo),
        "LOGIN": _written_login(identity.login),
        "DESTADDR": _written_address(identity.destination_address, prefix) if identity.destination_address else "",
        "DESTPORT": str(identity.destination_port) if identity.destination_port else "",
    }
    words = {name: value for name, value in values.items() if value and name in known}
    if _octets("XCLIENT", words) > MAX_COMMAND:
        words.pop("HELO", None)
    if _octets("XCLIENT", words) > MAX_COMMAND and "NAME" in words:
        words["NAME"] = UNAVAILABLE
    return [_command("XCLIENT", words)]


def xforward_commands(identity: Identity, announced: str) -> list[bytes]:
    """The XFORWARD lines, with CRLF, in as few commands of 512 octets as do. Empty when nothing of it is announced.

    Each attribute that the upstream knows is given, as Postfix does: a later command overlays an earlier one.
    """
    known = frozenset(announced.upper().split())
    values = {
        "NAME": _written_name(identity.name or None),
        "ADDR": _written_address(identity.address, "IPV6:"),
        "PORT": _written_port(identity.port),
        "PROTO": "ESMTP" if identity.esmtp else "SMTP",
        "HELO": _written(identity.helo),
        "IDENT": _written(identity.ident),
        "SOURCE": identity.source,
    }
    commands: list[dict[str, str]] = []
    for name, value in values.items():
        if name not in known:
            continue
        if not commands or _octets("XFORWARD", {**commands[-1], name: value}) > MAX_COMMAND:
            commands.append({})
        commands[-1][name] = value
    return [_command("XFORWARD", words) for words in commands]


def _written(text: str) -> str:
    encoded = xtext_encode(text)
    return encoded if 0 < len(encoded) <= MAX_VALUE else UNAVAILABLE


def _written_address(address: str, prefix: str) -> str:
    if not address:
        return UNAVAILABLE
    plain = _plain_address(address.partition("%")[0])
    return prefix + plain if ":" in plain else plain


def _written_port(port: int) -> str:
    return str(port) if port else UNAVAILABLE


def _written_name(name: str | None) -> str:
    if name:
        return _written(name) if is_hostname(name) else UNAVAILABLE
    return UNAVAILABLE if name is None else TEMPUNAVAIL


def _written_login(login: str | None) -> str:
    """Omitted rather than unavailable: some servers take any LOGIN at all for an authenticated client. So is a login
    too long to be told, which grants nothing."""
    encoded = xtext_encode(login or "")
    return encoded if len(encoded) <= MAX_VALUE else ""


def _octets(verb: str, words: Mapping[str, str]) -> int:
    return len(_command(verb, words))


def _command(verb: str, words: Mapping[str, str]) -> bytes:
    return " ".join([verb, *[f"{name}={value}" for name, value in words.items()]]).encode("ascii") + b"\r\n"
