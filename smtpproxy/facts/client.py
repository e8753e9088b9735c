"""The client: the peer of one session, as rules see it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import EllipsisType, MappingProxyType
from typing import ClassVar

from smtpproxy.facts.missing import Fact, put
from smtpproxy.facts.notes import Noted
from smtpproxy.facts.tls import Tls

NOTHING: Mapping[str, str] = MappingProxyType({})

Lookup = Callable[[str], tuple[str | None, bool]]
"""From an address to its confirmed host name, None when it has none; true: the answer may be another one later."""


class ListenerFacts(Fact):
    """Where the client came in."""

    __slots__ = ("address", "hostname", "name", "port", "protocol")
    _noun = "listener"

    def __init__(self, name: str, address: str = "", port: int = 0, hostname: str = "", protocol: str = "smtp") -> None:
        self.name = name
        """Of the table [listener.NAME]."""
        self.address = address
        """Where it came in: of the socket."""
        self.port = port
        """Of the socket."""
        self.hostname = hostname
        """What we call ourselves here."""
        self.protocol = protocol
        """smtp or lmtp."""


class Client(Noted):
    """Who is at the other end, as far as we know by now."""

    __slots__ = (
        "_ahead",
        "_lookup",
        "_name",
        "_name_temporary",
        "address",
        "connected_address",
        "connected_port",
        "errors",
        "esmtp",
        "forwarded",
        "helo",
        "id",
        "listener",
        "login",
        "mails",
        "octets",
        "port",
        "recipients_refused",
        "relay",
        "tls",
        "trusted",
    )
    _noun = "client"
    _assignable: ClassVar[Mapping[str, tuple[type, ...]]] = {"relay": (bool,)}

    id: str
    """Of the session."""
    address: str
    """The effective one: what XCLIENT or PROXY said, else that of the socket."""
    port: int
    """The effective one, 0 when it is not known."""
    connected_address: str
    """Of the socket."""
    connected_port: int
    listener: ListenerFacts
    """Where it came in."""
    helo: str
    """Its name in HELO, EHLO or LHLO; empty before."""
    esmtp: bool
    """It said EHLO or LHLO."""
    login: str | None
    """The name it logged in with."""
    tls: Tls | None
    """How the connection is encrypted; None while it is not."""
    relay: bool
    """It may relay: a rule may set this."""
    trusted: bool
    """Its address is one of ours, [relaying] networks."""
    forwarded: Mapping[str, str]
    """What XFORWARD said, by attribute."""
    errors: int
    """Replies of 4xx and 5xx that it was given so far."""
    recipients_refused: int
    """Recipients of its that were refused so far, by whomever."""
    mails: int
    """Messages that were taken from it in this session."""
    octets: int
    """Their size together, as they came in."""
    _ahead: Callable[[], bool] | None
    _lookup: Lookup | None
    _name: str | EllipsisType | None
    _name_temporary: bool

    def __init__(
        self,
        id: str,
        address: str,
        port: int,
        listener: ListenerFacts,
        lookup: Lookup | None = None,
        ahead: Callable[[], bool] | None = None,
    ) -> None:
        """``lookup`` is called when somebody asks for the name first; it may block, and must not raise.

        ``ahead`` says whether there is input that nobody has read yet; it must not block.
        """
        put(self, "id", id)
        put(self, "address", address)
        put(self, "port", port)
        put(self, "connected_address", address)
        put(self, "connected_port", port)
        put(self, "listener", listener)
        put(self, "helo", "")
        put(self, "esmtp", False)
        put(self, "login", None)
        put(self, "tls", None)
        put(self, "relay", False)
        put(self, "trusted", False)
        put(self, "forwarded", NOTHING)
        put(self, "errors", 0)
        put(self, "recipients_refused", 0)
        put(self, "mails", 0)
        put(self, "octets", 0)
        put(self, "_ahead", ahead)
        put(self, "_lookup", lookup)
        put(self, "_name", ...)
        put(self, "_name_temporary", False)
        put(self, "_notes", None)
        put(self, "_results", None)

    @property
    def name(self) -> str | None:
        """The confirmed host name; None when there is none or it could not be found out.  Looked up once."""
        if isinstance(self._name, EllipsisType):
            name, temporary = self._lookup(self.address) if self._lookup else (None, False)
            put(self, "_name", name)
            put(self, "_name_temporary", temporary)
            return name
        return self._name

    @property
    def name_known(self) -> bool:
        """Asking for the name costs no lookup."""
        return self._name is not ...

    @property
    def name_temporary(self) -> bool:
        """There is no name only because the lookup failed for now; false where nobody has asked."""
        return self._name_temporary

    @property
    def spoke_early(self) -> bool:
        """It has said something that is not its turn: there is input that nobody has read yet.

        True at on_connect, on_ehlo and on_data is a client that does not wait for our answer (RFC 5321 4.3.1, RFC 2920
        3.1); between MAIL and DATA it may be pipelining.
        """
        return self._ahead is not None and self._ahead()

    def take_identity(
        self,
        *,
        address: str | None = None,
        port: int | None = None,
        name: str | EllipsisType | None = ...,
        helo: str | None = None,
        login: str | EllipsisType | None = ...,
        esmtp: bool | None = None,
    ) -> None:
        """Be the client that XCLIENT or PROXY speaks of; what is left out stays as it is.

        ``name``: None says that there is none, "" that its lookup failed for now.  A new address without a name has its
        name looked up again.  What rules noted about the one before is forgotten, and its errors.
        """
        put(self, "_notes", None)
        put(self, "_results", None)
        put(self, "errors", 0)
        put(self, "recipients_refused", 0)
        if address is not None:
            self.address = address
            self._name, self._name_temporary = ..., False
        if port is not None:
            self.port = port
        if not isinstance(name, EllipsisType):
            self._name, self._name_temporary = name or None, name == ""
        if helo is not None:
            self.helo = helo
        if not isinstance(login, EllipsisType):
            self.login = login
        if esmtp is not None:
            self.esmtp = esmtp
