"""The mail: one transaction, as rules and hand-offs see it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from smtpproxy.facts.client import Client
from smtpproxy.facts.missing import FactMissing, missing, put
from smtpproxy.facts.notes import Noted
from smtpproxy.facts.parts import Part, Parts
from smtpproxy.facts.recipient import Recipient, Sender
from smtpproxy.facts.views import BodyView, HeaderView, joined
from smtpproxy.message.body import Body
from smtpproxy.message.edits import Ledger, Signer
from smtpproxy.wire.address import Address, parse_address

_STAGES: Mapping[str, str] = {
    "header": "on_header",
    "seal": "on_header",
    "body": "on_message",
    "parts": "on_message",
    "attachments": "on_message",
    "text": "on_message",
    "html": "on_message",
    "mime_defects": "on_message",
    "append_text": "on_message",
    "attach": "on_message",
    "original": "on_message",
    "raw": "on_message",
}
"""From which hook on a fact is there."""


class Mail(Noted):
    """One mail, from MAIL to the answer after the dot.

    A change of sender, recipients or route after the hand-off began counts up ``revision``: the session begins again.
    """

    __slots__ = (
        "_body",
        "_changes",
        "_complete",
        "_header",
        "_parts",
        "_sender",
        "_via",
        "begun",
        "body8bit",
        "client",
        "held",
        "id",
        "ledger",
        "params",
        "recipients",
        "size_declared",
        "skipped",
        "smtputf8",
        "traced",
    )
    _noun = "mail"

    id: str
    client: Client
    recipients: list[Recipient]
    """Those that were accepted.  Rules change it by ``add_recipient`` and ``remove_recipient``."""
    params: Mapping[str, str | None]
    """ESMTP parameters of MAIL by upper-case name, values as sent."""
    smtputf8: bool
    """The client asked for internationalised mail (RFC 6531)."""
    body8bit: bool
    """The client announced 8-bit content (RFC 6152)."""
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
    ledger: Ledger | None
    """The edits; None before the header is in."""
    _sender: Sender
    _via: str | None
    _changes: int
    _complete: bool
    _header: HeaderView | None
    _body: BodyView | None
    _parts: Parts | None

    def __init__(self, id: str, client: Client, sender: Address, params: Mapping[str, str | None] | None = None) -> None:
        params = {} if params is None else params
        size = params.get("SIZE")
        put(self, "id", id)
        put(self, "client", client)
        put(self, "recipients", [])
        put(self, "params", params)
        put(self, "smtputf8", "SMTPUTF8" in params)
        put(self, "body8bit", (params.get("BODY") or "").upper() == "8BITMIME")
        put(self, "size_declared", int(size) if size else None)
        put(self, "begun", False)
        put(self, "held", None)
        put(self, "skipped", set())
        put(self, "traced", False)
        put(self, "ledger", None)
        put(self, "_sender", sender if isinstance(sender, Sender) else Sender(sender, params))
        put(self, "_via", None)
        put(self, "_changes", 0)
        put(self, "_complete", False)
        put(self, "_header", None)
        put(self, "_body", None)
        put(self, "_parts", None)
        put(self, "_notes", None)
        put(self, "_results", None)

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any:
            # A property that raises AttributeError ends here.
            if name in _STAGES:
                raise _too_early(name)
            raise missing(self, name)

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
    def header(self) -> HeaderView:
        """The header as edited; from on_header on."""
        if self._header is None:
            put(self, "_header", HeaderView(self._edits("header")))
        return self._header  # type: ignore[return-value]

    @property
    def body(self) -> BodyView:
        """What stands behind the header, as edited; from on_message on."""
        if self._body is None:
            put(self, "_body", BodyView(self._edits("body")))
        return self._body  # type: ignore[return-value]

    @property
    def parts(self) -> tuple[Part, ...]:
        """All MIME parts as edited, in the order in which they begin; the first is the message itself.  From on_message on."""
        return self._mime("parts").every()

    @property
    def attachments(self) -> tuple[Part, ...]:
        """The parts that are files, those of attached messages too; from on_message on."""
        return tuple(part for part in self._mime("attachments").every() if part.is_attachment)

    @property
    def text(self) -> str | None:
        """The plain text that readers see, None when there is none; from on_message on.  Raises ValueError above 10 MB."""
        part = self._mime("text").shown("text/plain")
        return None if part is None else part.text

    @property
    def html(self) -> str | None:
        """The HTML that readers see, None when there is none; from on_message on.  Raises ValueError above 10 MB."""
        part = self._mime("html").shown("text/html")
        return None if part is None else part.text

    @property
    def mime_defects(self) -> tuple[str, ...]:
        """What is wrong with the structure: "boundary" (a multipart without one), "unclosed" (without a last delimiter),
        "depth", "parts", "header" (more than 100 levels, 10,000 parts, 64 KB: the rest is not taken apart)."""
        return self._mime("mime_defects").defects

    @property
    def original(self) -> Body:
        """The message as it came; from on_message on."""
        return self._edits("original").original

    @property
    def revision(self) -> int:
        """Counts the changes of the envelope since ``begun``."""
        changes = self._changes
        for rcpt in self.recipients:
            changes += rcpt.changes
        return changes

    def raw(self) -> bytes:
        """The edited message in content form, without our Received.  Raises ValueError above 10 MB."""
        return joined(self._edits("raw").view().content())

    def append_text(self, text: str, *, html: str | None = None, force: bool = False) -> int:
        """Add to the text and the HTML that readers see, if they are there; the number of parts that were changed.

        ``html`` is markup, made of ``text`` unless given; it goes before ``</body>``.  Raises ValueError (SignedPart) for a
        signed message unless forced.
        """
        return self._mime("append_text").append_text(text, html, force)

    def attach(self, content: str | bytes, *, filename: str = "", content_type: str | None = None) -> Part:
        """Add a file at the end, the message becoming a multipart/mixed if it is none; text goes as UTF-8."""
        return self._mime("attach").attach(content, filename, content_type, self.id)

    def seal(self, signer: Signer) -> None:
        """Have the message signed when it goes out, after all edits."""
        self._edits("seal").seal(signer)

    def add_recipient(self, address: Address | str) -> Recipient:
        """One more recipient, at the end of the list.  Raises AddressError for what is no address."""
        rcpt = address if isinstance(address, Recipient) else Recipient(_address(address))
        put(rcpt, "settled", self.begun)
        self.recipients.append(rcpt)
        self._changed()
        return rcpt

    def remove_recipient(self, rcpt: Address | str) -> None:
        """Take a recipient out; ValueError when it is not in the list."""
        address = _address(rcpt)
        try:
            removed = self.recipients.pop(self.recipients.index(address))  # type: ignore[arg-type]
        except ValueError:
            raise ValueError(f"{address} is no recipient of this mail") from None
        put(self, "_changes", self._changes + removed.changes)
        self._changed()

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

    def accepted(self, rcpt: Recipient) -> None:
        """The hand-off has taken this recipient (the session says so): no change of the envelope."""
        put(rcpt, "settled", True)
        self.recipients.append(rcpt)

    def arrived(self, ledger: Ledger, complete: bool) -> None:
        """The header is in, or with ``complete`` the whole message (the session says so)."""
        if ledger is not self.ledger:
            put(self, "_header", None)
            put(self, "_body", None)
        put(self, "ledger", ledger)
        put(self, "_complete", complete)

    def _changed(self) -> None:
        if self.begun:
            put(self, "_changes", self._changes + 1)

    def _mime(self, fact: str) -> Parts:
        if self._parts is None or self._parts.ledger is not self.ledger:
            put(self, "_parts", Parts(self._edits(fact)))
        return self._parts  # type: ignore[return-value]

    def _edits(self, fact: str) -> Ledger:
        if self.ledger is None or not (self._complete or _STAGES[fact] == "on_header"):
            raise _too_early(fact)
        return self.ledger


def _too_early(name: str) -> FactMissing:
    return FactMissing(f"mail.{name} is there from {_STAGES[name]} on")


def _address(address: Address | str) -> Address:
    if isinstance(address, Address):
        return address
    return parse_address(address) if address else Address("", "", "")
