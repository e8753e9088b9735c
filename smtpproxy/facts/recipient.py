"""The addresses of an envelope, as rules see them."""

from __future__ import annotations

from collections.abc import Mapping
from types import NoneType
from typing import TYPE_CHECKING, Any, ClassVar, Self

from smtpproxy.facts.missing import Fact, missing, put
from smtpproxy.facts.notes import Notes
from smtpproxy.wire.address import Address, parse_address
from smtpproxy.wire.reply import Reply

if TYPE_CHECKING:
    from smtpproxy.facts.copies import Copy


class _Party(Fact, Address):
    """An address with the parameters it came with and the notes about it."""

    __slots__ = ("_notes", "params")

    params: Mapping[str, str | None]
    """ESMTP parameters by upper-case name, values as sent."""
    _notes: Notes | None

    def __init__(self, address: Address, params: Mapping[str, str | None] | None = None) -> None:
        put(self, "local_part", address.local_part)
        put(self, "domain", address.domain)
        put(self, "path", address.path)
        put(self, "params", {} if params is None else params)
        put(self, "_notes", None)

    if not TYPE_CHECKING:

        def __setattr__(self, name: str, value: Any) -> None:
            if name in ("local_part", "domain", "path"):
                raise missing(self, name, "assigned")
            super().__setattr__(name, value)

    def __copy__(self) -> Self:
        twin = object.__new__(type(self))
        for kind in type(self).__mro__:
            for name in getattr(kind, "__slots__", ()):
                put(twin, name, getattr(self, name))
        return twin

    @property
    def notes(self) -> Notes:
        """What rules keep about this address for the rest of the transaction."""
        if self._notes is None:
            put(self, "_notes", Notes())
        return self._notes  # type: ignore[return-value]


class Sender(_Party):
    """The address of MAIL FROM; the null sender is falsy and prints as ''."""

    __slots__ = ()
    _noun = "sender"


class Recipient(_Party):
    """The address of one RCPT TO."""

    __slots__ = ("_original", "_verdict", "_via", "changes", "copy", "relay", "reply", "settled")
    _noun = "rcpt"
    _assignable: ClassVar[Mapping[str, tuple[type, ...]]] = {
        "local_part": (), "domain": (), "address": (), "relay": (bool,), "via": (str, NoneType), "verdict": (),
    }  # fmt: skip

    reply: Reply | None
    """What the hand-off answered: to RCPT, and at an LMTP listener what became of it in the end."""
    settled: bool
    """The hand-off has it: another ``address`` or ``via`` from now on is a change of the envelope."""
    changes: int
    """How often it was changed since it was settled."""
    relay: bool
    """It may be relayed to, wherever it is: a rule may set this."""
    copy: Copy | None
    """What it gets instead of the mail, see ``mail.copy_for``; None: the mail."""
    _original: Address | None
    _verdict: Any
    _via: str | None

    def __init__(self, address: Address, params: Mapping[str, str | None] | None = None) -> None:
        super().__init__(address, params)
        put(self, "relay", False)
        put(self, "reply", None)
        put(self, "settled", False)
        put(self, "changes", 0)
        put(self, "copy", None)
        put(self, "_original", None)
        put(self, "_verdict", None)
        put(self, "_via", None)

    def assign(self, name: str, value: Any) -> None:
        if name not in ("local_part", "domain"):
            super().assign(name, value)
            return
        if type(value) is not str:
            raise TypeError(f"rcpt.{name} is text, no {type(value).__name__}")
        local_part, domain = (value, self.domain) if name == "local_part" else (self.local_part, value)
        self.address = str(Address(local_part, domain, ""))

    if not TYPE_CHECKING:

        def __setattr__(self, name: str, value: Any) -> None:
            if name in ("local_part", "domain"):
                self.assign(name, value)
            elif name == "copy":
                raise missing(self, name, "assigned")
            else:
                super().__setattr__(name, value)

    @property
    def address(self) -> str:
        """As text; a rule may assign another one: the mail goes there instead.  Raises AddressError for what is none."""
        return str(self)

    @address.setter
    def address(self, address: Address | str) -> None:
        new = address if isinstance(address, Address) else parse_address(address)
        if self._original is None:
            put(self, "_original", self.original)
        put(self, "local_part", new.local_part)
        put(self, "domain", new.domain)
        put(self, "path", new.path)
        self._changed()

    @property
    def original(self) -> Address:
        """The address as the client gave it, whatever rules made of it."""
        return self._original or Address(self.local_part, self.domain, self.path)

    @property
    def via(self) -> str | None:
        """The hand-off it goes to, or a server ("smtp://10.0.0.1:25"); None: where the mail goes.  A rule may set it."""
        return self._via

    @via.setter
    def via(self, name: str | None) -> None:
        if name != self._via:
            put(self, "_via", name)
            self._changed()

    @property
    def verdict(self) -> Any:
        """What rules have decided against it; None: nothing.  A rule may assign ``deny(...)`` or ``defer(...)``, later than
        at on_rcpt, too: it is refused then, or with it the mail where there is one answer for all."""
        return self._verdict

    @verdict.setter
    def verdict(self, verdict: Any) -> None:
        if isinstance(verdict, Exception):
            raise TypeError(str(verdict))
        if verdict is not None and getattr(verdict, "kind", "") not in ("deny", "defer"):
            raise TypeError("rcpt.verdict is deny(...), defer(...) or nothing")
        put(self, "_verdict", verdict)
        self._changed()

    def _changed(self) -> None:
        if self.settled:
            put(self, "changes", self.changes + 1)
