"""Header and body of a mail as rules handle them: every change is an entry of the ledger."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from smtpproxy.facts.missing import Fact, put
from smtpproxy.message.edits import Ledger
from smtpproxy.message.header import Field
from smtpproxy.message.mailboxes import Mailbox, mailboxes

Octets = bytes
Text = str | bytes

RAW_LIMIT = 10 << 20
"""Octets that a rule may have in one piece; larger messages are read in chunks."""


class FieldsView(Fact):
    """``header[name]`` is the first field of that name, decoded, None when there is none; names in any case."""

    __slots__ = ()

    def _fields(self) -> Sequence[Field]:
        """The fields, from the top; one that is no field has no name."""
        raise NotImplementedError

    def __getitem__(self, name: str) -> str | None:
        wanted = name.lower()
        for field in self._fields():
            if field.key == wanted and wanted:
                return field.value
        return None

    def get(self, name: str, default: str | None = None) -> str | None:
        """``header[name]`` with a value of one's own for a field that is not there."""
        value = self[name]
        return default if value is None else value

    def get_all(self, name: str) -> list[str]:
        """The values of all fields of that name, from the top."""
        return [field.value for field in self._named(name)]

    def addresses(self, name: str) -> list[Mailbox]:
        """The addresses in all fields of that name, such as "From" or "To", each with the ``phrase`` before it."""
        return [box for field in self._named(name) for box in mailboxes(field.unfolded)]

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and bool(self._named(name))

    def __iter__(self) -> Iterator[tuple[str, str]]:
        return iter([(field.name, field.value) for field in self._fields() if field.name])

    def __len__(self) -> int:
        return sum(1 for field in self._fields() if field.name)

    def _named(self, name: str) -> list[Field]:
        wanted = name.lower()
        return [field for field in self._fields() if field.key == wanted and wanted]


class HeaderView(FieldsView):
    """The header of the mail: what is read, and what is changed."""

    __slots__ = ("_ledger",)
    _noun = "header"
    _ledger: Ledger

    def __init__(self, ledger: Ledger) -> None:
        put(self, "_ledger", ledger)

    def _fields(self) -> Sequence[Field]:
        return self._ledger.fields

    def __setitem__(self, name: str, value: str | float | None) -> None:
        """Replace the first field of that name where it stands and drop the others; None drops all.

        A name that is not there is added at the end.  ValueError for CR, LF or NUL in the value.
        """
        fields = self._named(name)
        if value is None:
            dropped = fields
        elif fields:
            self._ledger.replace_field(fields[0], _text(value))
            dropped = fields[1:]
        else:
            self._ledger.add_field(name, _text(value))
            dropped = []
        for field in dropped:
            self._ledger.remove_field(field)

    def __delitem__(self, name: str) -> None:
        self.remove(name)

    def add(self, name: str, value: str | float) -> None:
        """One more field, at the end of the header."""
        self._ledger.add_field(name, _text(value))

    def prepend(self, name: str, value: str | float) -> None:
        """One more field, above all others."""
        self._ledger.add_field(name, _text(value), first=True)

    def remove(self, name: str) -> int:
        """Drop all fields of that name; how many there were."""
        fields = self._named(name)
        for field in fields:
            self._ledger.remove_field(field)
        return len(fields)


class BodyView(Fact):
    """Everything behind the empty line, in content form, MIME parts and all."""

    __slots__ = ("_ledger",)
    _noun = "body"
    _ledger: Ledger

    def __init__(self, ledger: Ledger) -> None:
        put(self, "_ledger", ledger)

    @property
    def size(self) -> int:
        """Octets of the body as edited."""
        return self._ledger.view().body_size

    def bytes(self) -> Octets:
        """The body as edited, in one piece.  Raises ValueError above 10 MB."""
        return joined(self._ledger.view().body())

    def chunks(self) -> Iterator[Octets]:
        """The body as edited, 64 KB at a time."""
        return self._ledger.view().body()

    def replace(self, text: Text) -> None:
        """Put another body in its place; text goes as UTF-8, line ends become CRLF."""
        self._ledger.replace_body(octets_of(text))

    def append(self, text: Text) -> None:
        """Add to the end; text goes as UTF-8, line ends become CRLF."""
        end = self._ledger.base.size
        self._ledger.splice(end, end, octets_of(text))

    def splice(self, start: int, end: int, text: Text) -> None:
        """Put text in the place of octets ``start`` to ``end`` of the body as it was before any splice (ValueError
        when they overlap an earlier one)."""
        self._ledger.splice(start, end, octets_of(text))


def joined(chunks: Iterator[bytes]) -> bytes:
    """The chunks in one piece.  Raises ValueError above ``RAW_LIMIT``, before more than that is in memory."""
    pieces: list[bytes] = []
    size = 0
    for chunk in chunks:
        size += len(chunk)
        if size > RAW_LIMIT:
            raise ValueError(f"more than {RAW_LIMIT >> 20} MB: read it in chunks")
        pieces.append(chunk)
    return b"".join(pieces)


def _text(value: object) -> str:
    if value is None or isinstance(value, (bytes, bytearray)):
        raise TypeError(f"the value of a header field is text, no {type(value).__name__}")
    return str(value)


def octets_of(text: Text) -> bytes:
    """What a rule gives for octets: text goes as UTF-8, with stray octets as they were."""
    if isinstance(text, str):
        return text.encode("utf-8", "surrogateescape")
    if isinstance(text, bytes):
        return text
    raise TypeError(f"a body is text or bytes, no {type(text).__name__}")
