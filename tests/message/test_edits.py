"""The ledger: what is edited changes, what is not stays octet for octet, and nobody touches the original."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from smtpproxy.message.body import Body, BodyWriter, bytes_body
from smtpproxy.message.edits import Ledger, LedgerClosed
from smtpproxy.message.header import HeaderBlock
from smtpproxy.message.rendering import Rendering
from smtpproxy.testing.messages import ledger_of, rendered
from smtpproxy.wire.dots import stuff

HEADER = b"Received: there\r\nSubject: one\r\n two\r\nX-A: 1\r\nSubject: again\r\n"
TEXT = b"first line\r\n.dotted\r\nlast line\r\n"
MESSAGE = HEADER + b"\r\n" + TEXT
TOP = b"Received: here\r\n"


def text_of(ledger: Ledger) -> bytes:
    return rendered(ledger).partition(b"\r\n\r\n")[2]


def test_nothing_edited_goes_out_as_it_came() -> None:
    ledger = ledger_of(MESSAGE)
    assert rendered(ledger) == MESSAGE
    assert rendered(ledger, TOP) == TOP + MESSAGE
    assert b"".join(ledger.render(TOP).wire()) == TOP + stuff(MESSAGE)
    assert not ledger.edited


def test_a_dot_that_the_client_forgot_to_stuff_goes_out_as_it_came() -> None:
    writer = BodyWriter()
    writer.write(b"A: 1\r\n.odd\r\n..even\r\n\r\n.text\r\n")
    ledger = Ledger(writer.finish(True), HeaderBlock.parse(b"A: 1\r\nodd\r\n.even\r\n\r\n"))
    ledger.add_field("B", "2")
    assert b"".join(ledger.render().wire()) == b"A: 1\r\nodd\r\n..even\r\nB: 2\r\n\r\n.text\r\n"


EDITS: dict[str, tuple[Callable[[Ledger], object], bytes]] = {
    "append": (lambda ledger: ledger.add_field("X-B", "2"), HEADER + b"X-B: 2\r\n\r\n" + TEXT),
    "prepend": (lambda ledger: ledger.add_field("X-B", "2", first=True), b"X-B: 2\r\n" + MESSAGE),
    "remove": (lambda ledger: ledger.remove_field(ledger.fields[2]), MESSAGE.replace(b"X-A: 1\r\n", b"")),
    "replace": (
        lambda ledger: ledger.replace_field(ledger.fields[1], "new"),
        MESSAGE.replace(b"Subject: one\r\n two", b"Subject: new"),
    ),
    "the second of a name": (
        lambda ledger: ledger.remove_field(ledger.fields[3]),
        MESSAGE.replace(b"Subject: again\r\n", b""),
    ),
    "splice": (lambda ledger: ledger.splice(0, 5, b"1st"), MESSAGE.replace(b"first line", b"1st line")),
    "insert": (lambda ledger: ledger.splice(12, 12, b".new\r\n"), MESSAGE.replace(b".dotted", b".new\r\n.dotted")),
    "delete": (lambda ledger: ledger.splice(12, 13, b""), MESSAGE.replace(b".dotted", b"dotted")),
    "text at the end": (lambda ledger: ledger.splice(len(TEXT), len(TEXT), b"bye\n"), MESSAGE + b"bye\r\n"),
    "another body": (lambda ledger: ledger.replace_body(b".\nall new"), HEADER + b"\r\n.\r\nall new"),
    "no body": (lambda ledger: ledger.replace_body(b""), HEADER + b"\r\n"),
    "a stored body": (lambda ledger: ledger.replace_body(bytes_body(b"kept\n")), HEADER + b"\r\nkept\n"),
}


@pytest.mark.parametrize("edit", EDITS)
def test_each_edit_changes_what_it_names(edit: str) -> None:
    act, expected = EDITS[edit]
    ledger = ledger_of(MESSAGE)
    act(ledger)
    assert rendered(ledger, TOP) == TOP + expected
    assert b"".join(ledger.original.content()) == MESSAGE


def test_the_stored_chunks_of_the_body_are_not_copied_for_a_change_of_the_header() -> None:
    chunks = [HEADER + b"\r\n", b"x" * 50_000, b"y" * 50_000 + b"\r\n"]
    writer = BodyWriter()
    for chunk in chunks:
        writer.write(chunk)
    ledger = Ledger(writer.finish(False), HeaderBlock.parse(chunks[0]))
    ledger.add_field("X-B", "2", first=True)
    assert list(ledger.render().wire())[-1] is chunks[2]


def test_later_edits_see_the_edited_header() -> None:
    ledger = ledger_of(MESSAGE)
    new = ledger.add_field("X-B", "2")
    changed = ledger.replace_field(new, "3")
    assert ledger.fields[-1] is changed
    ledger.remove_field(changed)
    assert rendered(ledger) == MESSAGE


def test_a_field_that_is_gone_cannot_be_edited() -> None:
    ledger = ledger_of(MESSAGE)
    subject = ledger.fields[1]
    ledger.replace_field(subject, "new")
    with pytest.raises(ValueError, match="no longer holds this Subject"):
        ledger.remove_field(subject)
    with pytest.raises(ValueError, match="no longer holds"):
        ledger.replace_field(subject, "x")
    assert len(ledger.ops) == 1


@pytest.mark.parametrize(("start", "end"), [(0, 5), (4, 6), (5, 5), (9, 20), (3, 12), (4, 10)])
def test_splices_must_not_overlap(start: int, end: int) -> None:
    ledger = ledger_of(MESSAGE)
    ledger.splice(4, 10, b"x")
    with pytest.raises(ValueError, match="overlaps an earlier splice of 4-10"):
        ledger.splice(start, end, b"y")


def test_splices_may_touch_and_inserts_at_one_place_stand_in_their_order() -> None:
    ledger = ledger_of(b"A: 1\r\n\r\n0123456789\r\n")
    ledger.splice(4, 6, b"-")
    ledger.splice(6, 8, b"+")
    ledger.splice(4, 4, b"a")
    ledger.splice(4, 4, b"b")
    ledger.splice(8, 8, b"c")
    assert text_of(ledger) == b"0123ab-+c89\r\n"


@pytest.mark.parametrize(("start", "end"), [(-1, 0), (5, 4), (0, len(TEXT) + 1), (len(TEXT) + 1, len(TEXT) + 1)])
def test_a_splice_lies_within_the_body(start: int, end: int) -> None:
    with pytest.raises(ValueError, match="no range"):
        ledger_of(MESSAGE).splice(start, end, b"")


def test_a_new_body_begins_its_own_offsets() -> None:
    ledger = ledger_of(MESSAGE)
    ledger.splice(0, 5, b"gone")
    ledger.replace_body(b"0123456789\r\n")
    ledger.splice(2, 4, b"__")
    assert text_of(ledger) == b"01__456789\r\n"


@pytest.mark.parametrize(
    ("start", "end", "data", "expected"),
    [
        (3, 3, b"x", b"a\r\nxb\r\n"),
        (2, 2, b"x", b"a\r\nx\r\nb\r\n"),
        (2, 3, b"", b"a\r\nb\r\n"),
        (1, 2, b"", b"a\r\nb\r\n"),
        (5, 6, b"", b"a\r\nb\r\n"),
        (1, 3, b"\n", b"a\r\nb\r\n"),
        (3, 3, b"x\ry\nz\r\n", b"a\r\nx\r\ny\r\nz\r\nb\r\n"),
    ],
)
def test_no_splice_leaves_a_bare_cr_or_lf(start: int, end: int, data: bytes, expected: bytes) -> None:
    ledger = ledger_of(b"A: 1\r\n\r\na\r\nb\r\n")
    ledger.splice(start, end, data)
    assert text_of(ledger) == expected


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        (b"", b"B: 2\r\n"),
        (b"\r\n", b"B: 2\r\n\r\n"),
        (b"\r\ntext\r\n", b"B: 2\r\n\r\ntext\r\n"),
        (b"A: 1\r\n", b"A: 1\r\nB: 2\r\n"),
        (b"A: 1", b"A: 1\r\nB: 2\r\n"),
        (b"no header\r\n", b"no header\r\nB: 2\r\n"),
        (b".\r\n\r\n.\r\n", b".\r\nB: 2\r\n\r\n.\r\n"),
    ],
)
def test_messages_without_the_usual_parts(message: bytes, expected: bytes) -> None:
    ledger = ledger_of(message)
    ledger.add_field("B", "2")
    assert rendered(ledger) == expected


def test_a_message_that_was_all_header_gets_an_empty_line_before_its_new_body() -> None:
    ledger = ledger_of(b"A: 1\r\n")
    ledger.replace_body(b"text\r\n")
    assert rendered(ledger) == b"A: 1\r\n\r\ntext\r\n"
    ledger = ledger_of(b"A: 1")
    ledger.splice(0, 0, b"text\r\n")
    assert rendered(ledger) == b"A: 1\r\n\r\ntext\r\n"


class Stamp:
    """Signs with what it sees."""

    def __init__(self, name: str, order: int) -> None:
        self.name = name
        self.order = order
        self.seen: list[tuple[list[str], bytes]] = []

    def sign(self, rendering: Rendering) -> list[tuple[str, str]]:
        self.seen.append(([field.name for field in rendering.fields], b"".join(rendering.body())))
        return [(f"{self.name}-Seal", "a;\r\n b"), (f"{self.name}-More", "c")]


def test_seals_stand_below_our_trace_in_their_order() -> None:
    ledger = ledger_of(b"A: 1\r\n\r\ntext\r\n")
    for stamp in (Stamp("Arc", 2), Stamp("Results", 0), Stamp("Dkim", 1)):
        ledger.seal(stamp)
    assert [line.split(b":")[0] for line in rendered(ledger, TOP).split(b"\r\n") if b":" in line] == [
        b"Received", b"Arc-Seal", b"Arc-More", b"Dkim-Seal", b"Dkim-More", b"Results-Seal", b"Results-More", b"A",
    ]  # fmt: skip
    assert b"Dkim-Seal: a;\r\n b\r\n" in rendered(ledger)


def test_a_seal_sees_the_final_text_and_what_was_sealed_before_it_but_not_our_trace() -> None:
    ledger = ledger_of(b"A: 1\r\n\r\ntext\r\n")
    results, dkim = Stamp("Results", 0), Stamp("Dkim", 1)
    ledger.seal(dkim)
    ledger.seal(results)
    ledger.add_field("B", "2", first=True)
    ledger.replace_body(b"final\r\n")
    ledger.render(TOP)
    assert results.seen == [(["B", "A"], b"final\r\n")]
    assert dkim.seen == [(["Results-Seal", "Results-More", "B", "A"], b"final\r\n")]


def test_a_seal_is_evaluated_once_for_each_state_of_the_edits() -> None:
    ledger = ledger_of(MESSAGE)
    stamp = Stamp("Dkim", 1)
    ledger.seal(stamp)
    ledger.close()
    assert rendered(ledger, b"Received: one\r\n")[15:] == rendered(ledger, b"Received: two\r\n")[15:]
    rendered(ledger.branch())
    assert len(stamp.seen) == 1


def test_a_branch_that_differs_is_sealed_for_itself() -> None:
    ledger = ledger_of(MESSAGE)
    stamp = Stamp("Dkim", 1)
    ledger.seal(stamp)
    other = ledger.branch()
    other.add_field("X-B", "2")
    rendered(ledger)
    rendered(other)
    rendered(other)
    assert [("X-B" in names) for names, _ in stamp.seen] == [False, True]


def test_branches_go_their_own_ways() -> None:
    ledger = ledger_of(MESSAGE)
    ledger.add_field("Common", "1")
    other = ledger.branch()
    ledger.add_field("Ours", "1")
    other.splice(0, 5, b"1st")
    assert b"Ours" in rendered(ledger) and b"1st" not in rendered(ledger)
    assert b"Ours" not in rendered(other) and b"1st" in rendered(other)
    assert [str(op) for op in other.ops] == ["append Common: 1", "splice 0-5 of the body with 3 octets"]


def test_a_closed_ledger_takes_no_edits() -> None:
    ledger = ledger_of(MESSAGE)
    ledger.close()
    late: list[Callable[[], object]] = [
        lambda: ledger.add_field("A", "1"),
        lambda: ledger.remove_field(ledger.fields[0]),
        lambda: ledger.replace_field(ledger.fields[0], "1"),
        lambda: ledger.splice(0, 0, b"x"),
        lambda: ledger.replace_body(b""),
        lambda: ledger.seal(Stamp("Dkim", 1)),
    ]
    for edit in late:
        with pytest.raises(LedgerClosed):
            edit()
    assert rendered(ledger) == MESSAGE


def test_a_refused_edit_leaves_no_trace() -> None:
    ledger = ledger_of(MESSAGE)
    with pytest.raises(ValueError, match="CR, LF or NUL"):
        ledger.add_field("X", "a\r\nb")
    with pytest.raises(ValueError, match="no range"):
        ledger.splice(0, 10_000, b"")
    assert not ledger.edited
    assert rendered(ledger) == MESSAGE


def test_the_ledger_reads_as_a_story() -> None:
    ledger = ledger_of(MESSAGE)
    ledger.add_field("X-B", "ü" * 100)
    ledger.add_field("X-C", "3", first=True)
    ledger.replace_field(ledger.fields[2], "new")
    ledger.remove_field(ledger.fields[3])
    ledger.splice(0, 5, b"1st")
    ledger.replace_body(b"text\r\n")
    ledger.seal(Stamp("Dkim", 1))
    assert [str(op) for op in ledger.ops] == [
        f"append X-B: {'ü' * 65}...",
        "prepend X-C: 3",
        "replace Subject: new",
        "remove X-A: 1",
        "splice 0-5 of the body with 3 octets",
        "replace the body with 6 octets",
        "seal by Stamp",
    ]


def test_a_large_spilled_message_is_edited_without_being_read_into_memory() -> None:
    ledger = ledger_of(HEADER + b"\r\n" + b"0123456\r\n" * 100_000, memory=1000, chunk=60_000)
    ledger.add_field("X-B", "2")
    ledger.splice(9 * 50_000, 9 * 50_000, b".here\r\n")
    chunks = list(ledger.render().wire())
    assert max(map(len, chunks)) <= 70_000
    assert b"".join(chunks).count(b"\r\n..here\r\n") == 1
    assert sum(map(len, chunks)) == len(HEADER) + 2 + 900_000 + len(b"X-B: 2\r\n") + 8


class Coming(Body):
    """A message that is pulled from the client: once, and nobody knows how long it is."""

    __slots__ = ("_chunks",)

    def __init__(self, *chunks: bytes) -> None:
        self.dotted = True
        self._chunks = iter(chunks)

    def wire(self) -> Iterator[bytes]:
        return self._chunks


def test_the_header_of_a_message_that_is_still_coming_is_edited() -> None:
    rest = b"..text\r\n"
    ledger = Ledger(Coming(b"A: 1\r\n..odd\r\n", b"\r\n", rest), HeaderBlock.parse(b"A: 1\r\n.odd\r\n\r\n"))
    ledger.add_field("B", "2")
    body = ledger.render(TOP)
    assert body.size == -1
    chunks = list(body.wire())
    assert b"".join(chunks) == TOP + b"A: 1\r\n..odd\r\nB: 2\r\n\r\n" + rest


def test_one_that_turns_out_to_be_all_header() -> None:
    ledger = Ledger(Coming(b"A: 1\r\n"), HeaderBlock.parse(b"A: 1\r\n"))
    ledger.add_field("B", "2")
    assert b"".join(ledger.render().wire()) == b"A: 1\r\nB: 2\r\n"


def test_one_that_nobody_edits_is_passed_on_as_it_comes() -> None:
    chunks = [b"A: 1\r\n\r\n", b"x" * 65_536, b"\r\n"]
    body = Ledger(Coming(*chunks), HeaderBlock(b"", b"")).render(TOP)
    assert list(body.wire()) == [TOP + chunks[0], *chunks[1:]]
