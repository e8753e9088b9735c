"""The beginning of a session and the commands that move no mail (RFC 5321 3.1, 4.1.1.1, 4.1.1.6 to 10), XCLIENT, XFORWARD."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING

from smtpproxy.facts.capabilities import Capabilities
from smtpproxy.facts.client import Client
from smtpproxy.session import login
from smtpproxy.session.encryption import offered
from smtpproxy.session.ending import QUIT
from smtpproxy.session.hop import counted
from smtpproxy.session.offer import Offer, with_security
from smtpproxy.wire.address import is_helo_name
from smtpproxy.wire.command import Command
from smtpproxy.wire.extensions import Extensions, intersect
from smtpproxy.wire.order import State
from smtpproxy.wire.reply import Reply
from smtpproxy.wire.xclient import TEMPUNAVAIL, UNAVAILABLE, parse_xclient, parse_xforward

if TYPE_CHECKING:
    from smtpproxy.session.session import Session

BAD_HELO = Reply(501, "5.5.2", "That is no host name or address literal")
NOOP_OK = Reply(250, "2.0.0", "Ok")
BYE = Reply(221, "2.0.0", "Bye")
VRFY_SYNTAX = Reply(501, "5.5.4", "Syntax: VRFY address")
CANNOT_VERIFY = Reply(252, "2.5.2", "Cannot VRFY a user; send some mail, I will try my best")
NO_ARGUMENT = Reply(501, "5.5.4", "No argument is allowed here")
NOT_IMPLEMENTED = Reply(502, "5.5.1", "Command not implemented")
SAY_LHLO = Reply(500, "5.5.1", "LMTP is spoken here: say LHLO")  # RFC 2033 4.1
UNKNOWN = Reply(500, "5.5.2", "Command not recognized")
STOPPING = Reply(421, "4.3.2", "The server is going down, try again")
NOT_AUTHORIZED = Reply(550, "5.7.0", "Not authorized")
XCLIENT_ATTRIBUTES = "NAME ADDR PORT PROTO HELO DESTADDR DESTPORT"
XFORWARD_ATTRIBUTES = "NAME ADDR PORT PROTO HELO IDENT SOURCE"


def welcome(session: Session) -> Reply:
    """The greeting, or what a rule says instead: 4xx and 5xx stand for every later command too."""
    session.state = State.CONNECTED
    session.refresh()
    if session.chains.on_connect:
        session.refusal = session.decide(session.chains.on_connect, session.client)
        if session.refusal is not None:
            return session.refusal
        if session.services.stopping():
            return STOPPING  # it began to drain while rules were asked
    session.watch("watch_connect", session.client)
    entrance = session.entrance
    return Reply(220, "", f"{entrance.hostname} {entrance.banner}")


def helo(session: Session, command: Command) -> Reply:
    if session.entrance.lmtp:
        return SAY_LHLO
    return _hello(session, command, esmtp=False) or Reply(250, "", session.entrance.hostname)


def ehlo(session: Session, command: Command) -> Reply:
    return _extended(session, command) if not session.entrance.lmtp else SAY_LHLO


def lhlo(session: Session, command: Command) -> Reply:
    return _extended(session, command) if session.entrance.lmtp else NOT_IMPLEMENTED


def _extended(session: Session, command: Command) -> Reply:
    refused = _hello(session, command, esmtp=True)
    if refused is not None:
        return refused
    offer = session.offer
    assert offer is not None
    return offer.reply


def _hello(session: Session, command: Command, esmtp: bool) -> Reply | None:
    if not command.octets:
        return Reply(501, "5.5.4", f"Syntax: {command.verb} hostname")
    if not is_helo_name(command.octets):
        return BAD_HELO
    session.end_transaction()
    client = session.client
    name = command.argument
    if session.chains.on_ehlo and (refused := session.decide(session.chains.on_ehlo, client, name)) is not None:
        return refused
    if (refused := _make_offer(session)) is not None:
        return refused
    client.helo, client.esmtp = name, esmtp
    session.state = State.GREETED
    session.watch("watch_ehlo", client, name)
    if session.chains.observed:
        assert session.offer is not None
        session.watch("watch_capabilities", client, Capabilities(session.offer.extensions))
    return None


def _make_offer(session: Session) -> Reply | None:
    """Ours, intersected with what the listener's hand-off can carry; a rule may take away of it, or refuse."""
    entrance, services = session.entrance, session.services
    announced = services.outlets[entrance.handoff].announced()
    address = session.client.address
    offers = services.offers if session.client.tls is None else services.offers.encrypted
    ours = offers.ours
    if address in entrance.xclient_from or address in entrance.xforward_from:
        ours = _trusted(session, ours)
    elif not session.chains.on_capabilities:
        session.offer = offers.get(announced, entrance.hostname, offered(session), login.offer(session))
        return None
    extensions = intersect(with_security(ours, offered(session), login.offer(session)), announced)
    if session.chains.on_capabilities:
        editable = Capabilities(extensions)
        if (refused := session.decide(session.chains.on_capabilities, session.client, editable)) is not None:
            return refused
        extensions = Extensions(editable)
    session.offer = Offer(extensions, entrance.hostname)
    return None


def _trusted(session: Session, ours: Extensions) -> Extensions:
    entrance, address = session.entrance, session.client.address
    more = dict(ours)
    if address in entrance.xclient_from:
        more["XCLIENT"] = XCLIENT_ATTRIBUTES + (" LOGIN" if entrance.xclient_login else "")
    if address in entrance.xforward_from:
        more["XFORWARD"] = XFORWARD_ATTRIBUTES
    return Extensions(more)


# -- commands that move no mail --------------------------------------------------------------------------------------


def noop(session: Session, command: Command) -> Reply:
    return NOOP_OK


def help_(session: Session, command: Command) -> Reply:
    """What can be said here, by this client."""
    extensions = session.offer.extensions if session.offer is not None else Extensions()
    verbs = [
        *(("LHLO",) if session.entrance.lmtp else ("HELO", "EHLO")),
        *(("STARTTLS",) if offered(session) else ()),
        *(verb for verb in ("XCLIENT", "XFORWARD", "AUTH") if verb in extensions),
        *("MAIL", "RCPT", "DATA"),
        *(("BDAT",) if "CHUNKING" in extensions else ()),
        *("RSET", "NOOP", "VRFY", "HELP", "QUIT"),
    ]
    return Reply(214, "2.0.0", f"Commands: {' '.join(verbs)}", "See RFC 5321; what EHLO lists, in docs/rfcs.md of smtpproxy")


def vrfy(session: Session, command: Command) -> Reply:
    return CANNOT_VERIFY if command.octets else VRFY_SYNTAX


def quit_(session: Session, command: Command) -> Reply:
    if command.octets:
        return NO_ARGUMENT  # RFC 5321 4.1.1.10: no parameters
    session.closing = True
    session.ended = QUIT
    return BYE


def not_implemented(session: Session, command: Command) -> Reply:
    return NOT_IMPLEMENTED


def unknown(session: Session, command: Command) -> Reply:
    session.unknown += 1
    return UNKNOWN


# -- identity taken from a server in front of us -----------------------------------------------------------------------


def xclient(session: Session, command: Command) -> Reply | None:
    """The client is another one from here on: everything begins again at the greeting (XCLIENT_README)."""
    entrance, client = session.entrance, session.client
    if client.address not in entrance.xclient_from:
        return session.refused(NOT_AUTHORIZED, f"XCLIENT: {client.address} is not in [listener] xclient_from")
    said = parse_xclient(command.argument)
    if "LOGIN" in said and not entrance.xclient_login:
        return Reply(501, "5.5.4", "LOGIN is not taken here")
    for handoff in session.handoffs.values():
        handoff.close()
    session.handoffs.clear()
    session.offer = None
    session.refusal = None
    client.relay = False  # granted to whom it was before
    session.logins = None
    _take(client, said)
    client.trusted = bool(client.address) and client.address in session.services.relaying.networks
    return welcome(session) if counted(session, client.address) else None


def _take(client: Client, said: Mapping[str, str]) -> None:
    """HELO, PROTO and LOGIN are forgotten unless this command gives them (as in Postfix); the rest is kept."""
    known = {name: None if value.upper() in (UNAVAILABLE, TEMPUNAVAIL) else value for name, value in said.items()}
    client.take_identity(
        helo=known.get("HELO") or "",
        esmtp=known.get("PROTO") == "ESMTP",
        login=known.get("LOGIN"),
        address=(known["ADDR"] or "") if "ADDR" in said else None,
        port=int(known["PORT"] or 0) if "PORT" in said else None,
    )
    if "NAME" in said:
        client.take_identity(name="" if said["NAME"].upper() == TEMPUNAVAIL else known["NAME"])


def xforward(session: Session, command: Command) -> Reply:
    """Facts about the next mail for the log and for rules; permission stays with the client that is connected."""
    client = session.client
    if client.address not in session.entrance.xforward_from:
        return session.refused(NOT_AUTHORIZED, f"XFORWARD: {client.address} is not in [listener] xforward_from")
    client.forwarded = MappingProxyType({**client.forwarded, **parse_xforward(command.argument)})
    return NOOP_OK
