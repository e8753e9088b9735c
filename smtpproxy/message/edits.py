"""The edits of a message: an ordered, append-only ledger over the original, which nobody touches.

Header operations speak of a field by identity, body operations of offsets in the base: the original body, or the one
that replaced it as a whole.  Reading through the ledger gives the edited state, so a later rule sees what an earlier
one did; what goes out is ``render()``.  A seal is a promise to sign: evaluated when the message is rendered, once per
state of the edits, each signer seeing what those before it added.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Collection
from dataclasses import dataclass
from operator import itemgetter
from typing import Protocol

from smtpproxy.message.body import Body, bytes_body
from smtpproxy.message.budget import Budget, Share
from smtpproxy.message.header import Field, HeaderBlock, format_field, verbatim_field
from smtpproxy.message.rendering import Base, Rendering, Splice, Untouched, with_crlf

_SHOWN = 80
"""Characters of a value in ``str(op)``."""
_PLACE = itemgetter(0, 1)


class LedgerClosed(Exception):
    """An edit came after the message began to go out."""


class NoRoom(Exception):
    """There is no memory for this edit; nothing has changed."""


class Signer(Protocol):
    """Who adds fields over a finished message: results (0), DKIM (1), ARC (2), in the order of ``order``."""

    order: int

    def sign(self, rendering: Rendering) -> list[tuple[str, str]]:
        """Fields to stand above all others, topmost first; values are written as they are, folds included."""


@dataclass(frozen=True, slots=True)
class Op:
    """One line of the ledger: what was done, and to what."""

    kind: str
    """append, prepend, remove, replace, splice, body or seal."""
    field: Field | None = None
    """The field that came or went."""
    was: Field | None = None
    """The field that a replacement took away."""
    splice: Splice | None = None
    body: Body | None = None
    signer: Signer | None = None

    @property
    def octets(self) -> int:
        """What it holds in memory beside the message."""
        field = self.field if self.kind != "remove" else None
        splice = len(self.splice.data) if self.splice is not None else 0
        return splice + (len(field.raw) if field is not None else 0) + (self.body.size if self.body is not None else 0)

    def __str__(self) -> str:
        if self.field is not None:
            text = f"{self.kind} {self.field.name}: {self.field.value}"
            return text if len(text) <= _SHOWN else text[: _SHOWN - 3] + "..."
        if self.splice is not None:
            start, end, data = self.splice
            return f"splice {start}-{end} of the body with {len(data)} octets"
        if self.body is not None:
            return f"replace the body with {self.body.size} octets"
        return f"seal by {type(self.signer).__name__}"


class _Seals:
    """What the signers made of one state of the edits; shared by branches until one of them is edited."""

    __slots__ = ("fields",)

    def __init__(self) -> None:
        self.fields: tuple[Field, ...] | None = None


class Ledger:
    """The edits of one message, or of one branch of it."""

    __slots__ = (
        "_base", "_budget", "_fields", "_header", "_ops", "_seals", "_shares", "_signers", "_splices", "closed", "original",
    )  # fmt: skip

    def __init__(self, original: Body, header: HeaderBlock, budget: Budget | None = None) -> None:
        self._budget = budget
        self._shares: tuple[Share, ...] = ()
        """What the edits hold of the budget; a branch has those of before in common."""
        self.original = original
        self.closed = False
        self._header = header
        self._fields: tuple[Field, ...] | None = None
        self._base = Base(original, header)
        self._splices: tuple[Splice, ...] = ()
        self._signers: tuple[Signer, ...] = ()
        self._seals = _Seals()
        self._ops: list[Op] = []

    @property
    def fields(self) -> tuple[Field, ...]:
        """The header as edited, lines that are no field (with an empty name) among it."""
        return self._header.fields if self._fields is None else self._fields

    @property
    def base(self) -> Base:
        """The body that splices count from."""
        return self._base

    @property
    def edited(self) -> bool:
        """Something was done; without it the original goes out byte for byte."""
        return bool(self._ops)

    @property
    def ops(self) -> tuple[Op, ...]:
        """All edits in the order they were made."""
        return tuple(self._ops)

    def add_field(self, name: str, value: str, *, first: bool = False) -> Field:
        """Add a field at the end of the header, or ``first``: above all others."""
        field = Field(format_field(name, value))
        self._record(Op("prepend" if first else "append", field))
        self._fields = (field, *self.fields) if first else (*self.fields, field)
        return field

    def remove_field(self, field: Field) -> None:
        """Take a field out; ValueError when it is not in the header (any more)."""
        at = self._place(field)
        self._record(Op("remove", field))
        self._fields = self.fields[:at] + self.fields[at + 1 :]

    def replace_field(self, field: Field, value: str) -> Field:
        """Put a new field of the same name where this one stands; ValueError when it is not there."""
        at = self._place(field)
        new = Field(format_field(field.name, value))
        self._record(Op("replace", new, was=field))
        self._fields = (*self.fields[:at], new, *self.fields[at + 1 :])
        return new

    @property
    def splices(self) -> tuple[Splice, ...]:
        """The splices that hold now, in the order of their places."""
        return self._splices

    def splice(self, start: int, end: int, data: bytes, *, instead: Collection[Splice] = ()) -> Splice:
        """Put ``data`` in the place of octets ``start`` to ``end`` of the base, as it was before any splice.

        0 is the first octet behind the empty line.  Splices must not overlap (ValueError); at one place they stand in
        the order they came.  Line ends become CRLF, and a CRLF that the splice cuts in two is completed again.
        ``instead``: earlier splices that this one replaces.
        """
        size = self._base.size
        if not 0 <= start <= end or 0 <= size < end:
            raise ValueError(f"there is no range {start}-{end} in a body of {size} octets")
        new = Splice(start, end, with_crlf(data))
        splices = list(self._splices)
        if instead:
            replaced = set(map(id, instead))
            splices = [old for old in splices if id(old) not in replaced]
        at = bisect_right(splices, (start, end), key=_PLACE)
        for old in splices[max(at - 1, 0) : at + 1]:
            if start < old.end and old.start < end:
                raise ValueError(f"{start}-{end} overlaps an earlier splice of {old.start}-{old.end}")
        self._record(Op("splice", splice=new))
        splices.insert(at, new)
        self._splices = tuple(splices)
        return new

    def replace_body(self, data: bytes | Body) -> None:
        """Begin a new base: what the old one held, and its splices, are gone."""
        body = bytes_body(with_crlf(data)) if isinstance(data, bytes) else data
        self._record(Op("body", body=body))
        self._base = Base(body, None)
        self._splices = ()

    def seal(self, signer: Signer) -> None:
        """Have the message signed when it goes out; signers of one order sign in the order they came."""
        self._record(Op("seal", signer=signer))
        self._signers = tuple(sorted((*self._signers, signer), key=lambda other: other.order))

    def branch(self) -> Ledger:
        """A copy with a life of its own: what either does from now on does not reach the other."""
        other = Ledger(self.original, self._header, self._budget)
        other._shares = self._shares
        other.closed = self.closed
        other._fields = self._fields
        other._base = self._base
        other._splices = self._splices
        other._signers = self._signers
        other._seals = self._seals
        other._ops = self._ops.copy()
        return other

    def close(self) -> None:
        """The message begins to go out: edits raise LedgerClosed from now on."""
        self.closed = True

    def view(self) -> Rendering:
        """The edited state without our lines on top and without seals: what a rule reads."""
        return self._rendering(self.fields, b"")

    def render(self, top: bytes = b"") -> Body:
        """The message as it goes out, ``top`` (our Received) above everything; again as often as it is asked for."""
        if not self._ops:
            return Untouched(self.original, top)
        return self._rendering(self._sealed() + self.fields, top)

    def _sealed(self) -> tuple[Field, ...]:
        if self._seals.fields is None:
            above: tuple[Field, ...] = ()
            for signer in self._signers:
                signed = signer.sign(self._rendering(above + self.fields, b""))
                above = tuple(Field(verbatim_field(name, value)) for name, value in signed) + above
            self._seals.fields = above
        return self._seals.fields

    def _rendering(self, fields: tuple[Field, ...], top: bytes) -> Rendering:
        return Rendering(fields, self._header, self._base, self._splices, top)

    def _hold(self, octets: int, budget: Budget) -> None:
        share = Share(budget)
        if not share.grow(octets):
            raise NoRoom(f"no memory is left for an edit of {octets} octets ([limits] memory)")
        if octets:
            self._shares += (share,)

    def _place(self, field: Field) -> int:
        try:
            return self.fields.index(field)
        except ValueError:
            raise ValueError(f"the header no longer holds this {field.name or 'line'}") from None

    def _record(self, op: Op) -> None:
        if self.closed:
            raise LedgerClosed(f"too late: the message is going out ({op})")
        if self._budget is not None:
            self._hold(op.octets, self._budget)
        self._ops.append(op)
        self._seals = _Seals()
