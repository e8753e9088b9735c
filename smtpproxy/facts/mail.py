"""The mail: one transaction, as rules and hand-offs see it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType, NoneType
from typing import ClassVar

from smtpproxy.facts.client import Client
from smtpproxy.facts.content import Content
from smtpproxy.facts.copies import Copy
from smtpproxy.facts.missing import put
from smtpproxy.facts.recipient import Recipient, Sender
from smtpproxy.message.edits import Ledger
from smtpproxy.wire.address import Address, parse_address
from smtpproxy.wire.reply import Reply


class Mail(Content):
    """One mail, from MAIL to the answer after the dot.

    A change of sender, recipients or route after the hand-off began counts up ``revision``: the session begins again.
    """

    __slots__ = (
        "_changes",
        "_copies",
        "_earlier",
        "_recipients",
        "_repeats",
        "_sender",
        "_via",
        "begun",
        "binary",
        "body8bit",
        "client",
        "copied_to",
        "held",
        "params",
        "size_declared",
        "skipped",
        "smtputf8",
        "traced",
    )
    _noun = "mail"
    _assignable: ClassVar[Mapping[str, tuple[type, ...]]] = {"sender": (), "via": (str, NoneType)}

    client: Client
    """Who sends it to us."""
    params: Mapping[str, str | None]
    """ESMTP parameters of MAIL by upper-case name, values as sent."""
    smtputf8: bool
    """The client asked for internationalised mail (RFC 6531)."""
    body8bit: bool
    """The client announced 8-bit content (RFC 6152)."""
    binary: bool
    """The client announced octets that are no text, which mean themselves whatever line ends they look like (RFC 3030)."""
    size_declared: int | None
    """Octets, as the client announced them (RFC 1870)."""
    begun: bool
    """Set by the session: a hand-off has the envelope as it is now."""
    held: str | None
    """The quarantine that a failed rule has sent the mail to: no route of any rule takes it back."""
    skipped: set[str]
    """Rules that have nothing more to say to this mail, by name."""
    traced: bool
    """A rule wants the trace kept."""
    copied_to: tuple[str, ...]
    """The hand-offs that get a copy of the whole mail, whoever else takes it."""
    _recipients: list[Recipient]
    _sender: Sender
    _via: str | None
    _changes: int
    _copies: tuple[Copy, ...]
    _earlier: Callable[[], str | None] | None
    _repeats: str | None

    def __init__(self, id: str, client: Client, sender: Address, params: Mapping[str, str | None] | None = None) -> None:
        params = {} if params is None else params
        size = params.get("SIZE")
        super().__init__(id)
        put(self, "client", client)
        put(self, "_recipients", [])
        put(self, "params", MappingProxyType(params))
        put(self, "smtputf8", "SMTPUTF8" in params)
        body = (params.get("BODY") or "").upper()
        put(self, "body8bit", body == "8BITMIME")
        put(self, "binary", body == "BINARYMIME")
        put(self, "size_declared", int(size) if size else None)
        put(self, "begun", False)
        put(self, "held", None)
        put(self, "skipped", set())
        put(self, "traced", False)
        put(self, "copied_to", ())
        put(self, "_sender", sender if isinstance(sender, Sender) else Sender(sender, params))
        put(self, "_via", None)
        put(self, "_changes", 0)
        put(self, "_copies", ())
        put(self, "_earlier", None)
        put(self, "_repeats", None)

    @property
    def recipients(self) -> tuple[Recipient, ...]:
        """Those that were accepted.  Rules change it by ``add_recipient`` and ``remove_recipient``."""
        return tuple(self._recipients)

    @property
    def repeats(self) -> str | None:
        """The id of a mail with this very envelope, Message-ID and size whose client was gone, within the last hour, before it
        said anything to our 250: this may be the same again. None where there is none. Looked up once."""
        if not self._complete:
            raise AttributeError  # it says when
        if self._earlier is not None:
            put(self, "_repeats", self._earlier())
            put(self, "_earlier", None)
        return self._repeats

    @property
    def repeats_known(self) -> bool:
        """Asking for it costs no lookup."""
        return self._earlier is None

    @property
    def sender(self) -> Sender:
        """Who sends; a rule may assign an address, "" for the null sender.  Raises AddressError for what is none."""
        return self._sender

    @sender.setter
    def sender(self, address: Address | str) -> None:
        if not isinstance(address, Sender):
            address = Sender(_address(address), self._sender.params)
        put(self, "_sender", address)
        self._changed()

    @property
    def via(self) -> str | None:
        """The hand-off the mail goes to, or a server ("smtp://10.0.0.1:25"); None: the listener's.  A rule may set it."""
        return self._via

    @via.setter
    def via(self, name: str | None) -> None:
        if name != self._via:
            put(self, "_via", name)
            self._changed()

    @property
    def revision(self) -> int:
        """Counts the changes of the envelope since ``begun``."""
        changes = self._changes
        for rcpt in self._recipients:
            changes += rcpt.changes
        return changes

    def add_recipient(self, address: Address | str) -> Recipient:
        """One more recipient, at the end of the list.  Raises AddressError for what is no address."""
        rcpt = address if isinstance(address, Recipient) else Recipient(_address(address))
        put(rcpt, "settled", self.begun)
        self._recipients.append(rcpt)
        self._changed()
        return rcpt

    def remove_recipient(self, rcpt: Address | str) -> None:
        """Take a recipient out; ValueError when it is not in the list."""
        address = _address(rcpt)
        try:
            self.leave_out(self._recipients[self._recipients.index(address)])  # type: ignore[arg-type]
        except ValueError:
            raise ValueError(f"{address} is no recipient of this mail") from None

    def leave_out(self, rcpt: Recipient) -> None:
        """Take this very recipient out, not one of the same address."""
        self._recipients[:] = [each for each in self._recipients if each is not rcpt]
        put(self, "_changes", self._changes + rcpt.changes)
        self._changed()

    @property
    def copied(self) -> bool:
        """Somebody gets something else than the mail, or gets it besides its recipients."""
        return bool(self._copies or self.copied_to)

    @property
    def copies(self) -> tuple[Copy, ...]:
        """What ``copy_for`` has made."""
        return self._copies

    def copy_for(self, recipients: Address | str | Iterable[Address | str], name: str = "") -> Copy:
        """What these recipients get instead of the mail: its edits are their own, from those of the mail by now on.

        Called again for the same recipients, or with its ``name``, it gives the same copy, and further recipients join.
        Raises ValueError for one that is no recipient of this mail or has another copy.
        """
        several = (recipients,) if isinstance(recipients, str | Address) else recipients
        chosen = [rcpt for one in several for rcpt in self._meant(one)]
        if not chosen:
            raise ValueError("a copy needs a recipient")
        copy = self._copy(chosen, name)
        for rcpt in chosen:
            if rcpt.copy not in (None, copy):
                raise ValueError(f"{rcpt} gets another copy already")
        for rcpt in chosen:
            put(rcpt, "copy", copy)
        if copy not in self._copies:
            put(self, "_copies", (*self._copies, copy))
        copy.branched()
        return copy

    def _copy(self, chosen: list[Recipient], name: str) -> Copy:
        if name:
            return next((copy for copy in self._copies if copy.name == name), None) or Copy(self, name)
        first = chosen[0].copy
        return first if first is not None and set(first.recipients) <= set(chosen) else Copy(self, "")

    def add_copy(self, where: Address | str) -> None:
        """A copy goes there, too: to an address, or to a hand-off that keeps mail by its name, for all recipients.

        What a hand-off gets is the mail as it goes to those who have no copy of their own.  If one cannot be made, the mail
        is refused for now.  An address that is a recipient already gets no second one.
        """
        if isinstance(where, str) and where and "@" not in where:
            if where not in self.copied_to:
                put(self, "copied_to", (*self.copied_to, where))
        elif not (address := _address(where)):
            raise ValueError("a copy goes to an address or to a hand-off")
        elif address not in self.recipients:
            self.add_recipient(address)

    def skip_rule(self, name: str) -> None:
        """The rule of that name is not asked about this mail from now on; its observers still look on."""
        self.skipped.add(str(name))

    def keep_trace(self) -> None:
        """Keep the trace of this mail for `smtpproxy explain`, whatever becomes of it."""
        put(self, "traced", True)

    def hold(self, quarantine: str) -> None:
        """A rule has failed and declared this (the runner says so): the whole mail goes there, wherever rules send it."""
        put(self, "held", quarantine)
        put(self, "_via", quarantine)
        self._changed()

    def accepted(self, rcpt: Recipient, reply: Reply | None = None) -> None:
        """The hand-off has taken this recipient with this reply (the session says so): no change of the envelope."""
        put(rcpt, "reply", reply)
        put(rcpt, "settled", True)
        self._recipients.append(rcpt)

    def arrived(self, ledger: Ledger, complete: bool) -> None:
        """See ``Content``."""
        super().arrived(ledger, complete)
        for copy in self._copies:
            if copy.ledger is not None:
                copy.arrived(copy.ledger, complete)

    @property
    def complete(self) -> bool:
        """The whole message is in."""
        return self._complete

    def _meant(self, wanted: Address | str) -> list[Recipient]:
        """Those of the mail with this address, and the one that rules are being asked about. Raises ValueError."""
        address = _address(wanted)
        found = [rcpt for rcpt in self.recipients if rcpt == address]
        if isinstance(wanted, Recipient) and not wanted.settled and not any(rcpt is wanted for rcpt in found):
            found.append(wanted)
        if not found:
            raise ValueError(f"{address} is no recipient of this mail")
        return found

    def _changed(self) -> None:
        if self.begun:
            put(self, "_changes", self._changes + 1)


def _address(address: Address | str) -> Address:
    if isinstance(address, Address):
        return address
    if type(address) is not str:
        raise TypeError(f"an address is text, no {type(address).__name__}")
    return parse_address(address) if address else Address("", "", "")
