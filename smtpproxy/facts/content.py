"""A message as rules read and edit it: what a mail and a copy of it have in common."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from smtpproxy.facts.missing import FactMissing, missing, put
from smtpproxy.facts.notes import Noted
from smtpproxy.facts.parts import Part, Parts
from smtpproxy.facts.views import BodyView, HeaderView, joined
from smtpproxy.message.body import Body
from smtpproxy.message.edits import Ledger, Signer

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
    "repeats": "on_message",
}
"""From which hook on a fact is there."""


class Content(Noted):
    """Header and body over a ledger of edits."""

    __slots__ = ("_body", "_complete", "_header", "_parts", "id", "ledger")

    id: str
    """Of the mail: in the log, in our refusals and in its Received field."""
    ledger: Ledger | None
    """The edits; None before the header is in."""
    _complete: bool
    _header: HeaderView | None
    _body: BodyView | None
    _parts: Parts | None

    def __init__(self, id: str) -> None:
        put(self, "id", id)
        put(self, "ledger", None)
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
                raise self._too_early(name)
            raise missing(self, name)

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

    def arrived(self, ledger: Ledger, complete: bool) -> None:
        """The header is in, or with ``complete`` the whole message (the session says so)."""
        if ledger is not self.ledger:
            put(self, "_header", None)
            put(self, "_body", None)
        put(self, "ledger", ledger)
        put(self, "_complete", complete)

    def _mime(self, fact: str) -> Parts:
        if self._parts is None or self._parts.ledger is not self.ledger:
            put(self, "_parts", Parts(self._edits(fact)))
        return self._parts  # type: ignore[return-value]

    def _edits(self, fact: str) -> Ledger:
        if self.ledger is None or not (self._complete or _STAGES[fact] == "on_header"):
            raise self._too_early(fact)
        return self.ledger

    def _too_early(self, name: str) -> FactMissing:
        return FactMissing(f"{self._noun}.{name} is there from {_STAGES[name]} on")
