"""Who the client is, said to the upstream: XCLIENT and PROXY (it then acts as if the client had come itself), XFORWARD (for
its log).

Fail closed: where identity was asked for and is not taken, the mail is deferred.  To go on without would relay a
stranger's mail as our own, from an address that the upstream trusts.
"""

from __future__ import annotations

from ipaddress import ip_address

from smtpproxy.delivery.smtp import SmtpClient
from smtpproxy.delivery.upstream import Preface
from smtpproxy.facts.client import Client
from smtpproxy.facts.mail import Mail
from smtpproxy.wire.extensions import Extensions
from smtpproxy.wire.proxyheader import UNIQUE_ID, ProxyTls, Tlv, format_v1, format_v2, ssl_tlv
from smtpproxy.wire.reply import Refusal, Reply
from smtpproxy.wire.xclient import UNAVAILABLE, Identity, xclient_commands, xforward_commands

IDENTITY_REFUSED = Reply(451, "4.7.1", "The next server cannot be told who you are; try again later")

ABOUT_THE_CLIENT = frozenset({421, 554})
"""Codes of a greeting that turns the client away (RFC 5321 3.1): after XCLIENT they are meant for it, not for us."""


def own_connection(client: Client) -> tuple[object, ...]:
    """What a connection with XCLIENT or a PROXY header stands for: it serves this identity and no other."""
    return (client.address, client.port, client.helo, client.esmtp, client.login)


def preface(client: Client, version: str) -> Preface:
    """A connection that is this client's from its first octet on: a PROXY header. Raises ``Refusal``.

    Every octet behind the header passes for the client's, so the name in EHLO is the client's too.
    """
    listener = client.listener
    destination = listener.address if _is_address(listener.address) else "::" if ":" in client.address else "0.0.0.0"
    ends = (client.address, client.port), (destination, listener.port)
    try:
        header = format_v1(*ends) if version == "v1" else format_v2(*ends, _additions(client))
    except ValueError:
        raise Refusal(IDENTITY_REFUSED, "the client has no IP address that a PROXY header could name") from None
    return Preface(header, client.helo)


def _is_address(text: str) -> bool:
    try:
        ip_address(text)
    except ValueError:
        return False
    return True


def _additions(client: Client) -> list[Tlv]:
    """Our id of the session, and how the client's connection is encrypted."""
    found: list[Tlv] = [(UNIQUE_ID, client.id.encode())]
    if (tls := client.tls) is not None:
        name = tls.certificate.subject if tls.certificate is not None else ""
        found.append(ssl_tlv(ProxyTls(tls.version, tls.cipher, tls.certificate is not None, name)))
    return found


def introduce(client: Client, smtp: SmtpClient, upstream: str) -> None:
    """XCLIENT, then the client's own HELO or EHLO; raises ``Refusal``, ``UpstreamLost``."""
    announced = smtp.extensions.get("XCLIENT")
    if announced is None:
        raise Refusal(IDENTITY_REFUSED, f"{upstream} does not offer XCLIENT to us")
    commands = xclient_commands(_identity(client, announced), announced, lmtp=smtp.lmtp)
    if not commands:
        raise Refusal(IDENTITY_REFUSED, f"{upstream} takes no ADDR in XCLIENT")
    for command in commands:
        reply = smtp.command(command.removesuffix(b"\r\n"), "XCLIENT")
        if reply.code in ABOUT_THE_CLIENT:
            raise Refusal(reply.completed(), f"{upstream} turned the client away: {reply}")
        if not reply.positive:
            raise Refusal(IDENTITY_REFUSED, f"{upstream} refused XCLIENT: {reply}")
    reply = smtp.hello(client.helo)
    if not reply.positive:
        raise Refusal(reply.completed(), f"{upstream} refused the client's greeting: {reply}")


def forward_commands(client: Client, mail: Mail, extensions: Extensions) -> list[bytes]:
    """The XFORWARD commands in front of each MAIL; raises ``Refusal`` where the upstream does not offer them to us."""
    announced = extensions.get("XFORWARD")
    if announced is None:
        raise Refusal(IDENTITY_REFUSED, "the upstream does not offer XFORWARD to us")
    identity = _forwarded(client, mail.id) if client.forwarded else _identity(client, announced, mail.id)
    commands = xforward_commands(identity, announced)
    return [command.removesuffix(b"\r\n") for command in commands]


def _forwarded(client: Client, ident: str) -> Identity:
    """What the server in front of us said of its client goes on as it came; what it left out is unknown."""
    said = {name: value for name, value in client.forwarded.items() if value.upper() != UNAVAILABLE}
    return Identity(
        address=said.get("ADDR", ""),
        port=int(said.get("PORT", 0)),
        name=said.get("NAME"),
        helo=said.get("HELO", ""),
        esmtp=said.get("PROTO") == "ESMTP",
        login=None,
        ident=said.get("IDENT", ident),
        source="LOCAL" if said.get("SOURCE") == "LOCAL" else "REMOTE",
    )


def _identity(client: Client, announced: str, ident: str = "") -> Identity:
    """``client`` as the protocol words it; its name is looked up only if the upstream wants to know."""
    name: str | None = None
    if "NAME" in announced.upper().split():
        name = client.name if client.name is not None else "" if client.name_temporary else None
    return Identity(
        address=client.address,
        port=client.port,
        name=name,
        helo=client.helo,
        esmtp=client.esmtp,
        login=client.login,
        ident=ident,
        source="REMOTE",
    )
