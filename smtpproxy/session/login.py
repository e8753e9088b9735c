"""AUTH (RFC 4954): who offers what, the exchange, who decides, and what becomes of those who fail.

Rules with on_auth are asked first: accept() lets in, deny() does not, and where they say nothing the accounts decide. The
name stays, in `client.login`; what proved it is shown to on_auth alone and kept nowhere.
"""

from __future__ import annotations

import secrets
from contextlib import suppress
from typing import TYPE_CHECKING

from smtpproxy.accounts.base import Account, AccountsError, may_send
from smtpproxy.facts.login import Login
from smtpproxy.net.tls import end_point
from smtpproxy.scripting.runner import decide
from smtpproxy.scripting.verdict import Verdict
from smtpproxy.session.blame import of_core
from smtpproxy.session.verdicts import of_command
from smtpproxy.stores.base import Store, StoreError
from smtpproxy.wire import sasl
from smtpproxy.wire.command import Command
from smtpproxy.wire.lines import LineTooLong
from smtpproxy.wire.order import is_verb
from smtpproxy.wire.reply import Refusal, Reply
from smtpproxy.wire.saslprep import saslprep
from smtpproxy.wire.scram import PLUS, SHA256, NotProved, ScramKeys

if TYPE_CHECKING:
    from smtpproxy.session.session import Session

WELCOME = Reply(235, "2.7.0", "Authentication successful")
NOT_OFFERED = Reply(502, "5.5.1", "Logins are not offered here")
SYNTAX = Reply(501, "5.5.4", "Syntax: AUTH mechanism [initial-response]")
ALREADY = Reply(503, "5.5.1", "You have logged in already")
UNKNOWN = Reply(504, "5.5.4", "Authentication mechanism is not supported")
IN_THE_CLEAR = Reply(538, "5.7.11", "Encryption required for requested authentication mechanism")
CANCELLED = Reply(501, "5.7.0", "Authentication cancelled")
MALFORMED = Reply(501, "5.5.2", "Cannot decode the response")
TOO_LONG = Reply(500, "5.5.6", "Authentication exchange line is too long")
COMMAND_TOO_LONG = Reply(500, "5.5.2", "Line too long")
WRONG = Reply(535, "5.7.8", "Authentication credentials invalid")
NOT_NOW = Reply(454, "4.7.0", "Temporary authentication failure")
LOG_IN = Reply(530, "5.7.0", "Authentication required")
TOO_MANY = Reply(421, "4.7.0", "Too many failed logins")

WINDOW = 600.0
"""Seconds in which failures of an address, and of a name, are counted."""
SLOWEST = 16
"""Times [limits] auth_delay."""
HIDDEN = b"..."

_DEFAULTS = {(550, "5.7.1"): ("535", "5.7.8"), (451, "4.7.1"): ("454", "4.7.0")}
"""What deny() and defer() say without a code, and what that is after AUTH (RFC 4954 6)."""


class Logins:
    """What a session knows of its logins; there from the moment that AUTH is offered or tried."""

    __slots__ = ("blind", "failures", "senders")

    def __init__(self) -> None:
        self.blind = False
        """AUTH was said: what comes next may be a password, of a client that has not waited for the answer."""
        self.failures = 0
        self.senders: tuple[str, ...] | None = None
        """From where the account may send; None: from anywhere."""


# -- what may be told --------------------------------------------------------------------------------------------------


def told(session: Session, command: Command) -> bytes:
    """What the trace may know of a command. Raises ``Refusal`` for one that only AUTH may be as long as."""
    logins = session.logins = session.logins or Logins()
    if command.verb == "AUTH":
        logins.blind = True
        return b"AUTH " + _mechanism(command).encode()
    if 0 < session.services.limits.line_length < len(command.raw):
        raise Refusal(COMMAND_TOO_LONG)
    return HIDDEN if _hidden(session, command) else command.raw


def show(session: Session, command: Command) -> Reply | None:
    """Rules that look at commands see this one, without what may be a password; what they say to it in our place."""
    if _hidden(session, command):
        return None
    argument = _mechanism(command) if command.verb == "AUTH" else command.argument
    session.watch("watch_command", session.client, command.verb, argument)
    if not session.chains.on_command:
        return None
    return of_command(session, command.verb, argument)


def _hidden(session: Session, command: Command) -> bool:
    return session.logins is not None and session.logins.blind and not is_verb(command.verb)


def _mechanism(command: Command) -> str:
    word = command.argument.partition(" ")[0].upper()
    return word if word in sasl.MECHANISMS else ""


def too_long(session: Session, beginning: bytes) -> Reply:
    """The answer to a line that was dropped (RFC 4954 4 has one of its own for AUTH); behind BDAT the session ends."""
    if beginning.lstrip()[:4].upper() == b"BDAT":
        session.closing = True  # octets follow that nobody can count
    login = beginning.partition(b" ")[0].upper() == b"AUTH" and unreadable(session, beginning)
    return TOO_LONG if login else COMMAND_TOO_LONG


def unreadable(session: Session, line: bytes) -> bool:
    """Whether a line that is no command may hold a password."""
    if line.lstrip()[:4].upper() == b"AUTH":
        session.logins = session.logins or Logins()
        session.logins.blind = True
    return session.logins is not None and session.logins.blind


# -- what is offered -------------------------------------------------------------------------------------------------


def offer(session: Session) -> str:
    """What stands behind AUTH in the answer to EHLO, "" when nothing does."""
    if session.entrance.accounts is None and not session.chains.on_auth:
        return ""
    words = " ".join(_mechanisms(session))
    if words:
        session.logins = session.logins or Logins()
        lines = session.connection.lines
        lines.limit = max(lines.limit, sasl.LINE_LIMIT)
    return words


def _mechanisms(session: Session) -> tuple[str, ...]:
    """Those of the listener that could succeed here and now."""
    entrance, tls = session.entrance, session.client.tls
    if tls is None and not entrance.auth_in_clear:
        return ()
    accounts, ruled = entrance.accounts, bool(session.chains.on_auth)
    keyed = accounts is not None and accounts.keyed
    passwords = ruled or (accounts is not None and accounts.passwords)
    tokens = ruled or (accounts is not None and accounts.tokens)
    possible = {
        "PLAIN": passwords,
        "LOGIN": passwords,
        SHA256: keyed,
        PLUS: keyed and bool(_end_point(session)),
        "XOAUTH2": tokens,
        "OAUTHBEARER": tokens,
        "EXTERNAL": tls is not None and tls.certificate is not None,
    }
    return tuple(word for word in entrance.mechanisms if possible[word])


def _end_point(session: Session) -> bytes:
    """Of our certificate; nothing where somebody else does the TLS."""
    return end_point(session.connection.tls) if session.connection.tls is not None else b""


# -- the command -----------------------------------------------------------------------------------------------------


def auth(session: Session, command: Command) -> Reply | None:
    entrance, client = session.entrance, session.client
    if entrance.accounts is None and not session.chains.on_auth:
        return NOT_OFFERED
    if client.login is not None:
        return ALREADY
    word, *rest = command.octets.split() or [b""]
    if not word or len(rest) > 1:
        return SYNTAX
    if client.tls is None and not entrance.auth_in_clear:
        return session.refused(IN_THE_CLEAR)
    mechanism = word.decode("ascii", "replace").upper()
    if mechanism not in _mechanisms(session):
        return UNKNOWN
    try:
        claim = _exchange(session, mechanism, rest[0] if rest else b"")
        return _decided(session, Login(saslprep(claim.name), claim.secret, mechanism), claim.proved)
    except sasl.Cancelled:
        return CANCELLED
    except sasl.Malformed as error:
        return session.refused(MALFORMED, f"{mechanism}: {error}")
    except LineTooLong:
        return TOO_LONG
    except (NotProved, ValueError) as error:
        return _failed(session, "", mechanism, str(error))
    except AccountsError as error:
        return _not_now(session, mechanism, str(error))


def _exchange(session: Session, mechanism: str, argument: bytes) -> sasl.Claim:
    accounts, tls = session.entrance.accounts, session.client.tls
    certificate = tls.certificate if tls is not None else None
    certified = (*certificate.names, certificate.subject) if certificate is not None else ()
    exchange = sasl.begin(
        mechanism,
        sasl.Channel(
            keys=accounts.keys if accounts is not None else _nobody,
            nonce=secrets.token_urlsafe(24),
            end_point=_end_point(session) if PLUS in session.entrance.mechanisms else b"",
            certified=certified,
        ),
    )
    first = sasl.initial(argument)
    challenge = next(exchange)
    response = first if first is not None else _ask(session, challenge)
    while True:
        try:
            challenge = exchange.send(response)
        except StopIteration as end:
            claim: sasl.Claim = end.value
            return claim
        response = _ask(session, challenge)


def _ask(session: Session, challenge: bytes) -> bytes:
    """The response to a challenge; neither is traced."""
    session.connection.write(b"334 " + sasl.encode(challenge) + b"\r\n")
    return sasl.decode(session.connection.read_line())


# -- who decides -----------------------------------------------------------------------------------------------------


def _decided(session: Session, login: Login, proved: bool) -> Reply:
    if session.chains.on_auth:
        verdict = decide(session.chains, session.chains.on_auth, session.call, session.client, login)
        if verdict is not None and verdict.refusal:
            return _refused_by_rule(session, login, verdict)
        if verdict is not None:
            return _let_in(session, Account(login.name), login.mechanism, f"rule {verdict.rule}")
    account = _known(session, login, proved)
    if account is None:
        return _failed(session, login.name, login.mechanism, "unknown name or wrong password")
    return _let_in(session, account, login.mechanism, f"[users.{session.entrance.accounts.name}]")  # type: ignore[union-attr]


def _known(session: Session, login: Login, proved: bool) -> Account | None:
    accounts = session.entrance.accounts
    if accounts is None:
        return None
    if login.mechanism in sasl.TOKENS:
        return accounts.token(login.name, login.password)
    return accounts.find(login.name) if proved else accounts.check(login.name, login.password)


def _let_in(session: Session, account: Account, mechanism: str, by: str) -> Reply:
    client, logins = session.client, session.logins
    assert logins is not None
    client.login = account.name
    logins.senders = account.senders if session.entrance.own_senders else None
    session.trace.note(f"logged in as {account.name} by {mechanism}: {by}")
    session.services.log("login", id=client.id, client=client.address, login=account.name, mechanism=mechanism, by=by)
    session.watch("watch_auth", client, Login(account.name, "", mechanism))
    return WELCOME


def _refused_by_rule(session: Session, login: Login, verdict: Verdict) -> Reply:
    reply = verdict.reply()
    code = _DEFAULTS.get((reply.code, reply.enhanced))
    if code is not None:
        reply = Reply(int(code[0]), code[1], *reply.lines)
    session.note_verdict(verdict, reply)
    return _counted(session, login.name, login.mechanism, f"rule {verdict.rule}", reply)


# -- those who fail ----------------------------------------------------------------------------------------------------


def _failed(session: Session, name: str, mechanism: str, why: str) -> Reply:
    session.trace_refusal(of_core(WRONG, f"login{f' of {name}' if name else ''} by {mechanism}: {why}", ""))
    session.watch("watch_refused", session.client, None, WRONG)
    return _counted(session, name, mechanism, why, WRONG)


def _not_now(session: Session, mechanism: str, why: str) -> Reply:
    session.services.log("login_deferred", level="error", id=session.client.id, client=session.client.address, error=why)
    session.trace_refusal(of_core(NOT_NOW, f"login by {mechanism}: {why}", ""))
    return NOT_NOW


def _counted(session: Session, name: str, mechanism: str, why: str, reply: Reply) -> Reply:
    """Log it, count it, answer late; guessing passwords is slow, and ends with the session."""
    client, services, logins = session.client, session.services, session.logins
    assert logins is not None
    services.log(
        "login_failed", id=client.id, client=client.address, login=name, mechanism=mechanism, reply=str(reply), by=why
    )  # fmt: skip
    if (last := sasl.refusal(mechanism)) and reply.permanent:
        _say_why(session, last)
    if reply.transient:
        return reply
    services.doors["sleep"](services.limits.auth_delay * min(2 ** (_seen(session, name) - 1), SLOWEST))
    logins.failures += 1
    if 0 < services.limits.auth_failures <= logins.failures:
        session.answer(reply)
        return TOO_MANY
    return reply


def _seen(session: Session, name: str) -> int:
    """How often logins failed lately, this one included: from this address, or under this name."""
    store: Store = session.services.doors["store"]
    keys = [f"core/login/address/{session.client.address}"] + ([f"core/login/name/{name.casefold()[:200]}"] if name else [])
    try:
        return max(store.hit(key, WINDOW) for key in keys)
    except StoreError as error:
        session.services.log("not_kept", level="error", error=str(error))
        return 1


def _say_why(session: Session, last: bytes) -> None:
    with suppress(sasl.Malformed, sasl.Cancelled, LineTooLong):  # whatever it answers, it has failed
        _ask(session, last)


def misused(session: Session, sender: str) -> Reply | None:
    """The refusal of a sender that is not the login's own, where that is asked for."""
    logins = session.logins
    if not sender or logins is None or logins.senders is None or may_send(logins.senders, sender):
        return None
    reply = Reply(553, "5.7.1", f"<{sender}>: Sender address is not one of {session.client.login}")
    return session.refused(reply, "[listener] senders")


def _nobody(name: str) -> ScramKeys:
    raise AccountsError("there are no accounts")
