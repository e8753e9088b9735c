"""Random edits: the ledger gives what the plainest model gives, lists of octets."""

from __future__ import annotations

import re

from hypothesis import given
from hypothesis import strategies as st

from smtpproxy.message.edits import Ledger
from smtpproxy.message.header import format_field
from smtpproxy.testing.messages import ledger_of, rendered

TOP = b"Received: here\r\n"

LINE = st.sampled_from([b"", b".", b"..", b"text", b".x", b"two words", b"-" * 40])
TEXTS = st.lists(LINE, max_size=12).map(lambda lines: b"".join(line + b"\r\n" for line in lines))
DATA = st.lists(st.sampled_from([b"x", b".", b"\r\n", b"\r", b"\n", b"new"]), max_size=5).map(b"".join)
PLACE = st.integers(0, 60)
OPERATION = st.one_of(
    st.tuples(st.just("add"), st.booleans(), PLACE),
    st.tuples(st.just("remove"), PLACE, PLACE),
    st.tuples(st.just("replace"), PLACE, PLACE),
    st.tuples(st.just("splice"), st.tuples(PLACE, PLACE), DATA),
    st.tuples(st.just("body"), st.just(0), TEXTS),
)


class Model:
    """The message as a list of fields and a list of cuts."""

    def __init__(self, fields: list[bytes], text: bytes) -> None:
        self.fields = fields
        self.text = text
        self.cuts: list[tuple[int, int, int, bytes]] = []

    def splice(self, start: int, end: int, data: bytes) -> None:
        self.cuts.append((start, end, len(self.cuts), re.sub(rb"\r\n|\r|\n", b"\r\n", data)))

    def content(self) -> bytes:
        result, at = b"", 0
        for start, end, _, data in sorted(self.cuts):
            for piece in (self.text[at:start], data):
                result = join(result, piece)
            at = end
        result = join(result, self.text[at:])
        return b"".join(self.fields) + b"\r\n" + result + (b"\n" if result.endswith(b"\r") else b"")


def join(left: bytes, right: bytes) -> bytes:
    if left and right and left.endswith(b"\r") != right.startswith(b"\n"):
        left += b"\n" if left.endswith(b"\r") else b"\r"
    return left + right


def apply(ledger: Ledger, model: Model, kind: str, where: object, what: object) -> None:
    fields = ledger.fields
    if kind == "add":
        ledger.add_field("X-New", str(what), first=bool(where))
        model.fields.insert(0 if where else len(model.fields), format_field("X-New", str(what)))
    elif kind in ("remove", "replace") and fields:
        at = int(str(where)) % len(fields)
        if kind == "remove":
            ledger.remove_field(fields[at])
            del model.fields[at]
        else:
            name = fields[at].name
            ledger.replace_field(fields[at], str(what))
            model.fields[at] = format_field(name, str(what))
    elif kind == "splice":
        start, end = sorted(where)  # type: ignore[call-overload]
        try:
            ledger.splice(start, end, what)  # type: ignore[arg-type]
        except ValueError:
            return
        model.splice(start, end, what)  # type: ignore[arg-type]
    elif kind == "body":
        ledger.replace_body(what)  # type: ignore[arg-type]
        model.text, model.cuts = what, []  # type: ignore[assignment]


@given(
    st.lists(st.sampled_from([b"A: 1\r\n", b"B: x\r\n y\r\n", b"C:\r\n"]), max_size=4),
    TEXTS,
    st.lists(OPERATION, max_size=12),
    st.integers(1, 50),
    st.sampled_from([0, 1 << 20]),
)
def test_the_ledger_gives_what_the_model_gives(
    fields: list[bytes], text: bytes, operations: list[tuple[str, object, object]], chunk: int, memory: int
) -> None:
    message = b"".join(fields) + b"\r\n" + text
    ledger = ledger_of(message, chunk=chunk, memory=memory)
    model = Model(list(fields), text)
    for operation in operations:
        apply(ledger, model, *operation)
    assert rendered(ledger, TOP) == TOP + model.content()
    assert b"".join(ledger.original.content()) == message


@given(st.binary(max_size=300), st.integers(1, 50))
def test_whatever_came_goes_out_again(message: bytes, chunk: int) -> None:
    ledger = ledger_of(message, chunk=chunk)
    assert rendered(ledger, TOP) == TOP + message
    ledger.add_field("X-B", "2")
    ledger.remove_field(ledger.fields[-1])
    assert rendered(ledger) == message


@given(TEXTS, st.lists(OPERATION, max_size=6), st.lists(OPERATION, max_size=6))
def test_a_branch_never_hears_of_its_parent(
    text: bytes, ours: list[tuple[str, object, object]], theirs: list[tuple[str, object, object]]
) -> None:
    message = b"A: 1\r\n\r\n" + text
    parent, alone = ledger_of(message), ledger_of(message)
    branch = parent.branch()
    for operation in ours:
        apply(parent, Model([b""] * 50, b""), *operation)
    for operation in theirs:
        apply(branch, Model([b""] * 50, b""), *operation)
        apply(alone, Model([b""] * 50, b""), *operation)
    assert rendered(branch) == rendered(alone)
