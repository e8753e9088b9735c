"""The parts of a message as edited: read through the ledger, changed through the ledger.

An edit is one splice over the place of a part, so what it does not touch stays as it came.  Nothing else is kept: what
an edit has made of a part is read out of its splice again, and a branch of the ledger has the edits of its trunk.
"""

from __future__ import annotations

import hashlib
import re
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Mapping
from itertools import chain
from operator import itemgetter

from smtpproxy.message.edits import Ledger
from smtpproxy.message.header import Field, format_field
from smtpproxy.message.mime import MimeHeader
from smtpproxy.message.parts import Node, Tree, mime_header, walk
from smtpproxy.message.rendering import Base, Splice, Spliced, between, region
from smtpproxy.message.transfer import decoded

Changes = Mapping[str, str | None]
"""Header fields by name: the new value, None to drop the field."""

_BARE_CR = re.compile(rb"\r(?!\n)")
_PLACE = itemgetter(0, 1)
_START = itemgetter(0)
_EMPTY: Changes = {"Content-Type": "text/plain"}


class PartError(ValueError):
    """An edit that cannot be made."""


class SignedPart(PartError):
    """An edit that would break a signature (RFC 1847)."""


class Entity:
    """A part: of the original, perhaps edited since (``node``), or one that was added (``splice``)."""

    __slots__ = ("_header", "_seen", "children", "embedded", "node", "owner", "signed", "splice", "tree")

    def __init__(self, owner: Entities, node: Node | None, splice: Splice | None = None) -> None:
        self.owner = owner
        self.tree = owner.tree
        self.node = node
        self.splice = splice
        self.children: list[Entity] = []
        self.embedded = False
        """It stands in an attached message."""
        self.signed = False
        """It is a multipart/signed, or stands in one."""
        self._header: MimeHeader | None = None
        self._seen: object = None

    @property
    def root(self) -> bool:
        """It is the message itself, whose header is the message's."""
        return self.node is self.tree.root

    @property
    def holds_parts(self) -> bool:
        """It is a multipart or an attached message that was taken apart, and nothing was put in its place."""
        return self.node is not None and bool(self.node.children) and (self.root or self._splice() is None)

    @property
    def header(self) -> MimeHeader:
        """The header as edited."""
        if self.root:
            seen: object = self.owner.ledger.fields
            if self._header is None or self._seen is not seen:
                self._seen, self._header = seen, MimeHeader(self.owner.ledger.fields)
            return self._header
        splice = self._splice()
        if splice is None:
            assert self.node is not None
            return self.node.header
        if self._header is None or self._seen is not splice:
            self._seen, self._header = splice, mime_header(self._split(splice)[0])
        return self._header

    @property
    def gone(self) -> bool:
        """The part was removed, or the body was replaced since."""
        if self.tree is not self.owner.tree:
            return True
        if self.node is not None:
            return self.owner.gone(self.node)
        return not any(splice is self.splice for splice in self.owner.ledger.splices)

    def raw(self) -> Iterator[bytes]:
        """The body of the part as edited, in its transfer encoding."""
        ledger = self.owner.ledger
        if self.root:
            return ledger.view().body() if ledger.splices else ledger.base.content()
        splice = self._splice()
        if splice is not None:
            return iter((self._split(splice)[1],))
        assert self.node is not None
        return region(ledger.base, ledger.splices, self.node.body, self.node.end)

    def content(self) -> Iterator[bytes]:
        """The body of the part as edited, decoded; of what holds parts, as it is."""
        return self.raw() if self.holds_parts else decoded(self.raw(), self.header.encoding)

    def check(self, force: bool) -> None:
        """Raises PartError for a part that is not there any more, SignedPart for a signed one unless forced."""
        if self.tree is not self.owner.tree:
            raise PartError("the message was put together anew since this part was read: read mail.parts again")
        if self.gone:
            raise PartError("this part was removed")
        if self.signed and not force:
            raise SignedPart("the part is signed (multipart/signed): an edit breaks the signature; force=True edits all the same")

    def put(self, changes: Changes, octets: bytes) -> None:
        """Give the part another body, in its transfer encoding, and other header fields."""
        ledger = self.owner.ledger
        if self.root:
            change_fields(ledger, changes)
            end = b"" if octets.endswith(b"\r\n") or not octets else b"\r\n"
            ledger.splice(0, ledger.base.size, octets + end, instead=ledger.splices)
            return
        data = _written(self.header.fields, changes) + b"\r\n" + octets
        if self.node is None:
            assert self.splice is not None
            at = self.splice.start
            self.splice = ledger.splice(at, at, self.owner.delimiter + data, instead=(self.splice,))
            return
        first, last = self.node.place
        if last < first or first == last == self.tree.root.closed:
            raise PartError("there is no room for another part in this place")
        ledger.splice(first, last, self.node.lead + data, instead=self.owner.inside(first, last))

    def remove(self) -> None:
        """Take the part out; where it is the last one, or the only one, an empty text stands for it."""
        ledger = self.owner.ledger
        node = self.node
        if node is None:
            assert self.splice is not None
            ledger.splice(self.splice.start, self.splice.start, b"", instead=(self.splice,))
        elif node.parent is None and self.holds_parts:
            raise PartError("a message cannot be removed from itself: remove its parts, or replace mail.body")
        elif node.parent is None or self.owner.alone(node):
            described = (field for field in self.header.fields if field.key.startswith("content-"))
            own: Changes = {field.name: None for field in described if field.key != "content-type"}
            self.put({**own, **_EMPTY}, b"")
        else:
            ledger.splice(node.delimiter, node.stop, b"", instead=self.owner.inside(node.delimiter, node.stop))

    def _splice(self) -> Splice | None:
        return self.owner.exact(self.node) if self.node is not None else self.splice

    def _split(self, splice: Splice) -> tuple[bytes, bytes]:
        lead = self.owner.delimiter if self.node is None else self.node.lead
        data = splice.data[len(lead) :]
        if data.startswith(b"\r\n"):
            return data[:2], data[2:]
        header, empty, body = data.partition(b"\r\n\r\n")
        return header + empty, body


class Entities:
    """All parts of one message, in walk order; looked up anew when the ledger has changed."""

    __slots__ = ("_added", "_base", "_fields", "_nodes", "_shape", "_view", "_viewed", "ledger", "tree")

    def __init__(self, ledger: Ledger) -> None:
        self.ledger = ledger
        self._base: object = None
        self._fields: object = None
        self._shape: tuple[object, ...] = ()
        self._viewed: object = None
        self._view: tuple[Entity, ...] = ()
        self._nodes: dict[int, Entity] = {}
        self._added: dict[int, Entity] = {}
        self.tree = Tree(Node(None, 0, 0))

    def view(self) -> tuple[Entity, ...]:
        """The parts that are there, the message itself first."""
        self._walk()
        splices = self.ledger.splices
        if self._viewed is not splices:
            found: list[Entity] = []
            self._look(self.tree.root, False, False, found)
            self._viewed, self._view = splices, tuple(found)
        return self._view

    @property
    def delimiter(self) -> bytes:
        """What stands before a part that was added."""
        return b"\r\n--" + self.tree.root.boundary + b"\r\n"

    def attach(self, part: bytes, salt: str) -> Entity:
        """One more part at the end: header, empty line, body.  A message that is no multipart/mixed becomes one.

        ``salt`` makes the boundary one that nobody could foresee.
        """
        self._walk()
        root = self.tree.root
        if root.boundary and root.children and root.header.content_type == "multipart/mixed":
            self.ledger.splice(root.closed, root.closed, self.delimiter + part)
        else:
            self._wrap(part, salt)
        return self.view()[0].children[-1]

    def exact(self, node: Node) -> Splice | None:
        """What stands in the place of a part."""
        splices, place = self.ledger.splices, node.place
        if place[0] == place[1] == self.tree.root.closed:
            return None  # the message ends with a delimiter: what stands here was added
        at = bisect_left(splices, place, key=_PLACE)
        found = at < len(splices) and splices[at][:2] == place and splices[at].data.startswith(node.lead)
        return splices[at] if found else None

    def gone(self, node: Node) -> bool:
        """A splice has taken the part out, or what holds it."""
        splices = self.ledger.splices
        at = bisect_right(splices, node.delimiter, key=_START) - 1
        if at < 0 or node.parent is None or splices[at].end < node.stop:
            return False
        return splices[at] is not self.exact(node)

    def inside(self, start: int, end: int) -> list[Splice]:
        """The splices that one of this place replaces; what is inserted before and behind it stays."""
        return [each for each in between(self.ledger.splices, start, end) if each.start < each.end or start < each.start < end]

    def alone(self, node: Node) -> bool:
        """No other part is left in the multipart that holds this one."""
        assert node.parent is not None
        if not node.parent.boundary:
            return True
        others = node.parent.children
        if next(self._added_to(node.parent), None):
            return False
        return all(other is node or self.gone(other) for other in chain((others[0], others[-1]), others))

    def _walk(self) -> None:
        base, fields = self.ledger.base, self.ledger.fields
        if base is self._base and fields is self._fields:
            return
        header = MimeHeader(fields)
        kind = header.content_type
        shape = (kind, header.boundary, header.encoding) if kind.startswith(("multipart/", "message/")) else ()
        if base is not self._base or shape != self._shape:
            self.tree = walk(base, header)
            self._nodes, self._added, self._viewed = {}, {}, None
        self._base, self._fields, self._shape = base, fields, shape

    def _look(self, node: Node, embedded: bool, signed: bool, found: list[Entity]) -> Entity:
        entity = self._nodes.get(id(node))
        if entity is None:
            entity = self._nodes[id(node)] = Entity(self, node)
        signed = signed or entity.header.content_type == "multipart/signed"
        entity.embedded, entity.signed = embedded, signed
        found.append(entity)
        entity.children = []
        if node.children and (node.parent is None or self.exact(node) is None):
            embedded = embedded or not node.boundary
            entity.children = [self._look(each, embedded, signed, found) for each in node.children if not self.gone(each)]
            for added in self._added_to(node):
                added.signed = signed
                entity.children.append(added)
                found.append(added)
        return entity

    def _added_to(self, node: Node) -> Iterator[Entity]:
        if node.parent is not None or not node.boundary:
            return
        for splice in between(self.ledger.splices, node.closed, node.closed):
            if splice.data.startswith(self.delimiter):
                entity = self._added.get(id(splice))
                if entity is None or entity.splice is not splice:
                    known = (each for each in self._added.values() if each.splice is splice)
                    entity = self._added[id(splice)] = next(known, None) or Entity(self, None, splice)
                yield entity

    def _wrap(self, part: bytes, salt: str) -> None:
        """The message as it is becomes the first part of a multipart/mixed (RFC 2046 5.1.3)."""
        ledger = self.ledger
        moved = [field for field in ledger.fields if field.key.startswith("content-")]
        header = b"".join(map(_finished, moved))
        marks = (salt.encode(), str(len(ledger.ops)).encode(), header, part[:4096])
        boundary = f"=_{hashlib.sha256(b'|'.join(marks)).hexdigest()[:32]}"
        line = f"\r\n--{boundary}".encode()
        base = Base(Spliced(ledger.base, ledger.splices), None) if ledger.splices else ledger.base
        first = Splice(0, 0, line[2:] + b"\r\n" + header + b"\r\n")
        last = Splice(base.size, base.size, line + b"\r\n" + part + line + b"--\r\n")
        ledger.replace_body(Spliced(base, (first, last)))
        others: Changes = {field.name: None for field in moved if field.key != "content-type"}
        change_fields(ledger, {**others, "Content-Type": f'multipart/mixed; boundary="{boundary}"'})


def change_fields(ledger: Ledger, changes: Changes) -> None:
    """Change MIME fields of the message's own header, those only that are not so already."""
    if not any(field.key == "mime-version" for field in ledger.fields):
        ledger.add_field("MIME-Version", "1.0")
    for name, value in changes.items():
        fields = [field for field in ledger.fields if field.key == name.lower()]
        if value is not None and not fields:
            ledger.add_field(name, value)
        elif value is not None and fields[0].unfolded != value.encode("utf-8", "surrogateescape"):
            ledger.replace_field(fields[0], value)
        for field in fields if value is None else fields[1:]:
            ledger.remove_field(field)


def _written(fields: tuple[Field, ...], changes: Changes) -> bytes:
    left = {name.lower(): (name, value) for name, value in changes.items()}
    lines: list[bytes] = []
    dropped: set[str] = set()
    for field in fields:
        if field.key in left:
            _, value = left.pop(field.key)
            dropped.add(field.key)
            lines += [] if value is None else [format_field(field.name, value)]
        elif field.key not in dropped:
            lines.append(_finished(field))
    lines += [format_field(name, value) for name, value in left.values() if value is not None]
    return b"".join(lines)


def _finished(field: Field) -> bytes:
    """The field with its line end; a bare CR, which would become one, is white space."""
    raw = _BARE_CR.sub(b" ", field.raw)
    return raw if raw.endswith(b"\n") else raw + b"\r\n"
