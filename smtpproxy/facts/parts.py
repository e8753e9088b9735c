"""The parts of a mail as rules handle them: read in the stored message, changed through the ledger."""

from __future__ import annotations

import hashlib
import html
from collections.abc import Iterator, Mapping, Sequence

from smtpproxy.facts.missing import Fact, put
from smtpproxy.facts.views import FieldsView, Octets, Text, octets_of
from smtpproxy.message import part_edit
from smtpproxy.message.edits import Ledger
from smtpproxy.message.entities import Entities, Entity, PartError, SignedPart
from smtpproxy.message.header import Field
from smtpproxy.message.mime import decode_text

__all__ = ["Part", "PartError", "PartHeader", "Parts", "SignedPart"]


class PartHeader(FieldsView):
    """The header of a part; to be read only."""

    __slots__ = ("_entity",)
    _noun = "part.header"
    _entity: Entity

    def __init__(self, entity: Entity) -> None:
        put(self, "_entity", entity)

    def _fields(self) -> Sequence[Field]:
        return self._entity.header.fields


class Part(Fact):
    """One MIME part, edits included: the message itself, a multipart, a text, a file, an attached message."""

    __slots__ = ("_entity", "_parts", "_size")
    _noun = "part"
    _entity: Entity
    _parts: Parts
    _size: tuple[object, int] | None

    def __init__(self, parts: Parts, entity: Entity) -> None:
        put(self, "_parts", parts)
        put(self, "_entity", entity)
        put(self, "_size", None)

    @property
    def header(self) -> PartHeader:
        """The header fields of the part, by name."""
        return PartHeader(self._entity)

    @property
    def content_type(self) -> str:
        """The type in lower case, without parameters: "text/plain", "application/pdf"."""
        return self._entity.header.content_type

    @property
    def parameters(self) -> Mapping[str, str]:
        """The parameters of the type, by name in lower case."""
        return self._entity.header.parameters

    @property
    def charset(self) -> str:
        """The charset that the part names, in lower case; "" when it names none."""
        return self._entity.header.charset

    @property
    def disposition(self) -> str:
        """"attachment" or "inline", in lower case; "" when the part does not say."""
        return self._entity.header.disposition

    @property
    def filename(self) -> str:
        """The file name, decoded; "" when there is none.  A stranger chose it: it may hold slashes."""
        return self._entity.header.filename

    @property
    def encoding(self) -> str:
        """The transfer encoding, in lower case; "" when there is none."""
        return self._entity.header.encoding

    @property
    def parts(self) -> tuple[Part, ...]:
        """The parts that stand in this one directly: of a multipart, or of an attached message."""
        self._parts.every()
        return tuple(map(self._parts.part, self._entity.children))

    @property
    def is_attachment(self) -> bool:
        """The part is a file: it says so, it has a name, or it is no text; an attached message is one, too."""
        header = self._entity.header
        if header.content_type.startswith("multipart/"):
            return False
        return header.disposition == "attachment" or bool(header.filename) or not header.content_type.startswith("text/")

    @property
    def embedded(self) -> bool:
        """The part belongs to an attached message."""
        return self._entity.embedded

    @property
    def signed(self) -> bool:
        """The part is a multipart/signed or stands in one: edits are refused unless forced."""
        return self._entity.signed

    @property
    def size(self) -> int:
        """Octets of the content, decoded."""
        now = self._entity.owner.ledger.splices
        if self._size is None or self._size[0] is not now:
            put(self, "_size", (now, sum(map(len, self._entity.content()))))
        assert self._size is not None
        return self._size[1]

    @property
    def text(self) -> str | None:
        """The text of a text part, by its charset; None for all other parts.  Raises ValueError above 10 MB."""
        header = self._entity.header
        if not header.content_type.startswith("text/"):
            return None
        return decode_text(self.read(), header.charset)

    def content(self) -> Iterator[Octets]:
        """The content, decoded, in chunks of 64 KB at most."""
        return self._entity.content()

    def read(self, limit: int | None = None) -> Octets:
        """The content, decoded, in one piece: its first ``limit`` octets, else all.  Raises ValueError above 10 MB."""
        if limit is None:
            return part_edit.read(self._entity.content())
        return part_edit.read(self._entity.content(), max(0, min(int(limit), part_edit.LIMIT)), whole=False)

    def sha256(self) -> str:
        """The SHA-256 of the content, decoded, in hexadecimal digits."""
        digest = hashlib.sha256()
        for chunk in self._entity.content():
            digest.update(chunk)
        return digest.hexdigest()

    def replace_text(self, text: str, *, force: bool = False) -> None:
        """Another text for a text part; charset and encoding stay where they can carry it.  ValueError for other parts."""
        part_edit.replace_text(self._entity, text, force)

    def replace(
        self, content: Text, *, filename: str | None = None, content_type: str | None = None, force: bool = False
    ) -> None:
        """Another content; text goes as UTF-8.  Name and type stay as they are unless they are given."""
        part_edit.replace(self._entity, octets_of(content), filename, content_type, force)

    def remove(self, *, force: bool = False) -> None:
        """Take the part out of the message, and all that stands in it; the last one leaves an empty text."""
        self._entity.check(force)
        self._entity.remove()


class Parts:
    """The parts of one mail: `mail.parts` and what is found among them."""

    __slots__ = ("_entities", "_parts", "ledger")

    def __init__(self, ledger: Ledger) -> None:
        self.ledger = ledger
        self._entities = Entities(ledger)
        self._parts: dict[int, Part] = {}

    def every(self) -> tuple[Part, ...]:
        """All parts in walk order, the message itself first."""
        return tuple(map(self.part, self._entities.view()))

    def part(self, entity: Entity) -> Part:
        """What a rule gets for an entity: the same each time."""
        part = self._parts.get(id(entity))
        if part is None or part._entity is not entity:
            part = self._parts[id(entity)] = Part(self, entity)
        return part

    @property
    def defects(self) -> tuple[str, ...]:
        """What is wrong with the structure, see ``Tree.defects``."""
        self._entities.view()
        return tuple(self._entities.tree.defects)

    def shown(self, content_type: str) -> Part | None:
        """The first part of that type that is no file and belongs to the message itself."""
        for part in self.every():
            if part.content_type == content_type and not part.is_attachment and not part.embedded:
                return part
        return None

    def append_text(self, text: str, markup: str | None, force: bool) -> int:
        """See ``Mail.append_text``."""
        plain, rich = self.shown("text/plain"), self.shown("text/html")
        for part in (plain, rich):
            if part is not None:
                part._entity.check(force)
        if plain is not None:
            part_edit.append_text(plain._entity, text, force)
        if rich is not None:
            lines = html.escape(text).strip("\r\n").splitlines()
            part_edit.append_html(rich._entity, f"<p>{'<br>'.join(lines)}</p>\n" if markup is None else markup, force)
        return (plain is not None) + (rich is not None)

    def attach(self, content: Text, filename: str, content_type: str | None, salt: str) -> Part:
        """See ``Mail.attach``."""
        kind = content_type or "application/octet-stream"
        return self.part(self._entities.attach(part_edit.new_part(octets_of(content), filename, kind), salt))
