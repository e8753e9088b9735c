"""Where the parts of a message begin and end: as RFC 2046 says, and as broken and hostile mail has it."""

from __future__ import annotations

import email
import email.policy
import time
from collections.abc import Callable
from email.message import EmailMessage

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from smtpproxy.message.body import BodyWriter, StoredBody, bytes_body
from smtpproxy.message.header import HeaderBlock, end_of_header
from smtpproxy.message.mime import MimeHeader
from smtpproxy.message.parts import MAX_DEPTH, MAX_HEADER, MAX_PARTS, Tree, walk
from smtpproxy.message.rendering import Base
from smtpproxy.wire.dots import stuff


def parsed(message: bytes, body: StoredBody | None = None) -> tuple[Tree, bytes]:
    header = HeaderBlock.parse(message[: end_of_header(message)])
    tree = walk(Base(body or bytes_body(message), header), MimeHeader(header.fields))
    return tree, message[len(header.raw) :]


def structure(message: bytes) -> list[tuple[int, str, bytes]]:
    tree, body = parsed(message)
    return [(node.depth, node.header.content_type, body[node.body : node.end]) for node in tree.nodes if not node.children]


def multipart(boundary: str, *parts: bytes, subtype: str = "mixed", close: bool = True) -> bytes:
    lines = b"".join(b"--%s\r\n%s\r\n" % (boundary.encode(), part) for part in parts)
    head = f'Content-Type: multipart/{subtype}; boundary="{boundary}"\r\n\r\n'.encode()
    return head + lines + (b"--%s--\r\n" % boundary.encode() if close else b"")


def text(content: bytes) -> bytes:
    return b"Content-Type: text/plain\r\n\r\n" + content


NASTY = {
    "plain": (b"Subject: x\r\n\r\nhello\r\n", [(0, "text/plain", b"hello\r\n")]),
    "two parts": (multipart("b", text(b"one"), text(b"two")), [(1, "text/plain", b"one"), (1, "text/plain", b"two")]),
    "preamble and epilogue": (
        multipart("b", text(b"one")).replace(b"\r\n\r\n--b", b"\r\n\r\npreamble --b\r\n--b", 1) + b"--b\r\nepilogue",
        [(1, "text/plain", b"one")],
    ),
    "no header": (multipart("b", b"\r\nbare"), [(1, "text/plain", b"bare")]),
    "empty body": (multipart("b", text(b"")), [(1, "text/plain", b"")]),
    "nothing at all": (
        b"Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n--b--\r\n",
        [(1, "text/plain", b"")],
    ),
    "header without empty line": (
        multipart("b", b"Content-Type: text/html"),
        [(1, "text/html", b"")],
    ),
    "forgotten empty line": (
        multipart("b", b"Content-Type: text/html\r\n<p>here"),
        [(1, "text/html", b"<p>here")],
    ),
    "last delimiter missing": (multipart("b", text(b"one"), close=False), [(1, "text/plain", b"one\r\n")]),
    "a boundary begins with another": (
        multipart("b", multipart("bb", text(b"one"), text(b"two")), text(b"three")),
        [(2, "text/plain", b"one"), (2, "text/plain", b"two"), (1, "text/plain", b"three")],
    ),
    "the inner boundary is a prefix": (
        multipart("bb", multipart("b", text(b"one"), text(b"--bbb")), text(b"three")),
        [(2, "text/plain", b"one"), (2, "text/plain", b"--bbb"), (1, "text/plain", b"three")],
    ),
    "the same boundary twice": (
        multipart("b", multipart("b", text(b"one")), text(b"two")),
        [(2, "text/plain", b"one"), (1, "text/plain", b"two")],
    ),
    "inner last delimiter missing": (
        multipart("o", multipart("i", text(b"one"), close=False), text(b"two")),
        [(2, "text/plain", b"one\r\n"), (1, "text/plain", b"two")],
    ),
    "white space behind a delimiter": (
        multipart("b", text(b"one"), text(b"two")).replace(b"--b\r\n", b"--b \t\r\n"),
        [(1, "text/plain", b"one"), (1, "text/plain", b"two")],
    ),
    "bare newlines": (
        b"Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\n\none\n--b\nContent-Type: text/html\n\ntwo\n--b--\n",
        [(1, "text/plain", b"one"), (1, "text/html", b"two")],
    ),
    "attached message": (
        multipart("b", b"Content-Type: message/rfc822\r\n\r\nSubject: in\r\n\r\ninner"),
        [(2, "text/plain", b"inner")],
    ),
    "message in message in message": (
        b"Content-Type: message/rfc822\r\n\r\nContent-Type: message/rfc822\r\n\r\nSubject: x\r\n\r\ntext\r\n",
        [(2, "text/plain", b"text\r\n")],
    ),
    "attached message with parts": (
        multipart("b", b"Content-Type: message/rfc822\r\n\r\n" + multipart("i", text(b"one"))),
        [(3, "text/plain", b"one")],
    ),
    "attached message in base64": (
        multipart("b", b"Content-Type: message/rfc822\r\nContent-Transfer-Encoding: base64\r\n\r\nU3ViamVjdA=="),
        [(1, "message/rfc822", b"U3ViamVjdA==")],
    ),
    "digest": (
        multipart("b", b"\r\nSubject: in\r\n\r\ninner", subtype="digest"),
        [(2, "text/plain", b"inner")],
    ),
    "no boundary": (
        b"Content-Type: multipart/mixed\r\n\r\n--b\r\n\r\none\r\n",
        [(0, "multipart/mixed", b"--b\r\n\r\none\r\n")],
    ),
    "a multipart that says base64": (
        multipart("b", text(b"one")).replace(b"\r\n\r\n--b", b"\r\nContent-Transfer-Encoding: base64\r\n\r\n--b", 1),
        [(1, "text/plain", b"one")],
    ),
    "a boundary with blanks and quotes": (
        multipart("a b'(c)+_,-./:=?", text(b"one")),
        [(1, "text/plain", b"one")],
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", NASTY)
def test_nasty_structures(case: str) -> None:
    message, expected = NASTY[case]
    assert structure(message) == expected


@pytest.mark.parametrize("case", NASTY)
@pytest.mark.parametrize("size", [1, 2, 7, 64])
def test_it_does_not_matter_how_the_chunks_are_cut(case: str, size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    message, _ = NASTY[case]
    whole, _ = parsed(message)
    body = StoredBody(
        [message[at : at + size] for at in range(0, len(message), size)],
        None, dotted=False, stuffed=False, size=len(message), tail=message[-2:],
    )  # fmt: skip
    cut, _ = parsed(message, body)
    shape = [(node.delimiter, node.start, node.body, node.stop) for node in whole.nodes]
    assert [(node.delimiter, node.start, node.body, node.stop) for node in cut.nodes] == shape
    assert cut.defects == whole.defects


DEFECTS = {
    "unclosed": (multipart("b", text(b"x"), close=False), ["unclosed"]),
    "boundary": (b"Content-Type: multipart/mixed\r\n\r\nx\r\n", ["boundary"]),
    "none": (multipart("b", text(b"x")), []),
    "header": (multipart("b", b"X: " + b"y" * (MAX_HEADER + 1) + b"\r\n\r\nz"), ["header"]),
}


@pytest.mark.parametrize("case", DEFECTS)
def test_defects_are_marked(case: str) -> None:
    message, expected = DEFECTS[case]
    assert list(parsed(message)[0].defects) == expected


def test_no_more_parts_than_the_limit() -> None:
    tree, _ = parsed(multipart("b", *[b"\r\nx"] * (MAX_PARTS + 100)))
    assert len(tree.nodes) == MAX_PARTS
    assert "parts" in tree.defects


def test_no_deeper_than_the_limit() -> None:
    message = b"the core"
    for level in range(1000, 0, -1):
        message = multipart(f"b{level}", message)
    tree, _ = parsed(message)
    assert max(node.depth for node in tree.nodes) == MAX_DEPTH
    assert "depth" in tree.defects


def nested_messages() -> bytes:
    return b"Content-Type: message/rfc822\r\n\r\n" * 1000 + b"x"


def test_attached_messages_no_deeper_either() -> None:
    tree, _ = parsed(nested_messages())
    assert max(node.depth for node in tree.nodes) == MAX_DEPTH
    assert "depth" in tree.defects


HOSTILE: dict[str, Callable[[int], bytes]] = {
    "delimiters": lambda size: multipart("b") + b"--b\r\n" * (size // 5),
    "almost delimiters": lambda size: multipart("b", close=False) + b"--bb\r\n" * (size // 6),
    "two boundaries, almost": lambda size: multipart("b", multipart("c", close=False), close=False) + b"--\r\n" * (size // 4),
    "one line of dashes": lambda size: multipart("b", close=False) + b"-" * size,
    "delimiters without line ends": lambda size: multipart("b", close=False) + b"--b" * (size // 3),
    "blank behind a delimiter": lambda size: multipart("b", close=False) + b"--b" + b" " * size,
    "headers that never end": lambda size: multipart("b", close=False) + b"--b\r\n" + b"X: y\r\n" * (size // 6),
    "folds that never end": lambda size: multipart("b", close=False) + b"--b\r\nX: y\r\n" + b" y\r\n" * (size // 4),
    "many headers": lambda size: multipart("b", *[b"X: " + b"y" * 1000 + b"\r\n\r\n"] * (size // 1100)),
    "multiparts side by side": lambda size: multipart("b", *[multipart("c", text(b"x"))] * (size // 120)),
    "quotes": lambda size: multipart("b", *[b'Content-Type: multipart/x; boundary="' + b'\\"' * 30_000] * (size // 60_000)),
    "parameters": lambda size: multipart("b", *[b"Content-Type: multipart/x" + b";a*1=b" * 9_000] * (size // 54_000)),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_time_grows_with_the_size_and_no_faster(kind: str) -> None:
    small, large = HOSTILE[kind](1 << 20), HOSTILE[kind](10 << 20)
    parsed(small)
    start = time.process_time()
    parsed(small)
    between = time.process_time()
    parsed(large)
    took = time.process_time() - between
    assert took < max(0.3, 30 * (between - start))
    assert took < 5


@pytest.mark.parametrize("dotted", [False, True], ids=["plain", "dotted"])
def test_a_spilled_body_is_walked_and_read_at_any_place(dotted: bool) -> None:
    parts = [text(b".dot at the start\r\n.\r\n..\r\n" * 3000 if dotted else b"line\r\n" * 5000) for _ in range(20)]
    message = multipart("b", *parts)
    writer = BodyWriter(memory=1000)
    wire = stuff(message)
    for at in range(0, len(wire), 50_001):
        writer.write(wire[at : at + 50_001])
    body = writer.finish(dotted)
    assert body.in_file
    tree, content = parsed(message, body)
    assert len(tree.nodes) == 21
    for node in tree.nodes:
        at = node.body + len(message) - len(content)
        assert next(body.content_from(at)).startswith(message[at : at + 40])
    for at in range(0, len(message), 9973):
        assert b"".join(body.content_from(at)) == message[at:]


leaves = st.builds(lambda content: ("leaf", content), st.text("ab \n-=é", max_size=60))
trees = st.recursive(leaves, lambda inner: st.one_of(
    st.builds(lambda parts: ("multi", parts), st.lists(inner, min_size=1, max_size=4)),
    st.builds(lambda part: ("message", part), inner),
), max_leaves=12)  # fmt: skip


def written(tree: tuple[str, object]) -> EmailMessage:
    message = EmailMessage(policy=email.policy.SMTP)
    kind, what = tree
    if kind == "leaf":
        message.set_content(what)
    elif kind == "message":
        message.set_content(written(what))  # type: ignore[arg-type]
    else:
        message.make_mixed()
        for part in what:  # type: ignore[attr-defined]
            message.attach(written(part))
    return message


@settings(max_examples=60, deadline=None)
@given(trees)
def test_the_same_structure_as_the_standard_library_finds(tree: tuple[str, object]) -> None:
    message = written(tree).as_bytes()
    mine, body = parsed(message)
    theirs = list(email.message_from_bytes(message).walk())
    assert [node.header.content_type for node in mine.nodes] == [part.get_content_type() for part in theirs]
    for node, part in zip(mine.nodes, theirs, strict=True):
        if not part.is_multipart():
            content = part.get_payload()
            assert isinstance(content, str)
            assert body[node.body : node.end] == content.encode("utf-8", "surrogateescape")


@settings(max_examples=200, deadline=None)
@given(st.lists(st.sampled_from([
    b"--b", b"--b--", b"--bb", b"--", b"\r\n", b"\n", b"\r", b"x", b": ", b" ", b"--c", b"--c--",
    b"Content-Type: multipart/mixed; boundary=c\r\n", b"Content-Type: message/rfc822\r\n", b"\r\n\r\n", b"\r\n--b\r\n",
]), max_size=40))  # fmt: skip
@example([b"\r\n--b\r\n", b"Content-Type: message/rfc822\r\n", b"\r\n--b\r\n"])
def test_places_are_in_order_whatever_comes(pieces: list[bytes]) -> None:
    message = b"Content-Type: multipart/mixed; boundary=b\r\n\r\n" + b"".join(pieces)
    tree, body = parsed(message)
    for node in tree.nodes:
        assert 0 <= node.delimiter <= node.start <= node.body <= node.end <= len(body)
        places = [place for child in node.children for place in (child.delimiter, child.stop)]
        assert places == sorted(places)
        assert all(node.body <= place <= node.end for place in places)
