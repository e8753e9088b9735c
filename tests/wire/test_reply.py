"""Replies: written, read back, fed in any pieces."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smtpproxy.wire.reply import Refusal, Reply, ReplyError, ReplyParser


def read(*lines: bytes) -> Reply | None:
    parser = ReplyParser()
    reply = None
    for line in lines:
        assert reply is None
        reply = parser.feed(line)
    return reply


def reread(reply: Reply) -> Reply | None:
    return read(*bytes(reply).split(b"\r\n")[:-1])


@pytest.mark.parametrize(
    ("reply", "wire"),
    [
        (Reply(250, "2.0.0", "Ok"), b"250 2.0.0 Ok\r\n"),
        (Reply(354, "", "Go on"), b"354 Go on\r\n"),
        (Reply(250), b"250 \r\n"),
        (Reply(250, "2.1.0"), b"250 2.1.0 \r\n"),
        (Reply(550, "5.7.1", "No", "see web"), b"550-5.7.1 No\r\n550 5.7.1 see web\r\n"),
        (Reply(250, "", "mx", "SIZE 1"), b"250-mx\r\n250 SIZE 1\r\n"),
        (Reply(550, "5.1.1", "no smörgås"), "550 5.1.1 no smörgås\r\n".encode()),
        (Reply(550, "5.1.1", "a\udcffb"), b"550 5.1.1 a\xffb\r\n"),
        (Reply(550, "5.1.1", "tab\there"), b"550 5.1.1 tab\there\r\n"),
    ],
)
def test_wire_form(reply: Reply, wire: bytes) -> None:
    assert bytes(reply) == wire
    assert bytes(reply) is bytes(reply)


@pytest.mark.parametrize("text", ["a\r\n250 b", "a\nb", "a\0b", "a\x7fb", "a\x85b", "a\u2028b", "a\ud800b"])
def test_control_characters_never_reach_the_wire(text: str) -> None:
    wire = bytes(Reply(550, "5.7.1", text))
    assert wire.count(b"\r\n") == 1
    assert b"?" in wire and b"\0" not in wire


@pytest.mark.parametrize(
    ("code", "enhanced"),
    [
        (199, ""),
        (600, ""),
        (250, "5.0.0"),
        (550, "2.0.0"),
        (354, "3.0.0"),
        (550, "5.7"),
        (550, "5.07.1"),
        (550, "5.1.1234"),
    ],
)
def test_codes_that_do_not_fit_are_refused(code: int, enhanced: str) -> None:
    with pytest.raises(ValueError):
        Reply(code, enhanced, "x")


def test_a_reply_is_a_value() -> None:
    assert Reply(250, "2.0.0", "Ok") == Reply(250, "2.0.0", "Ok")
    assert hash(Reply(250, "2.0.0", "Ok")) == hash(Reply(250, "2.0.0", "Ok"))
    assert Reply(250, "2.0.0", "Ok") != Reply(250, "", "Ok")
    assert Reply(250) != "250"
    assert str(Reply(550, "5.1.1", "No such user", "sorry")) == "550 5.1.1 No such user"
    assert str(Reply(354)) == "354"
    assert Reply(550, "", "a", "b").text == "a\nb"
    assert repr(Reply(250, "2.0.0", "Ok")) == "Reply(250, '2.0.0', 'Ok')"


@pytest.mark.parametrize(
    ("code", "positive", "transient", "permanent"),
    [(220, True, False, False), (354, True, False, False), (421, False, True, False), (554, False, False, True)],
)
def test_classes(code: int, positive: bool, transient: bool, permanent: bool) -> None:
    reply = Reply(code)
    assert (reply.positive, reply.transient, reply.permanent) == (positive, transient, permanent)


def test_completed_adds_the_general_code_of_the_class() -> None:
    assert Reply(250, "", "a", "b").completed() == Reply(250, "2.0.0", "a", "b")
    assert Reply(421, "", "a").completed().enhanced == "4.0.0"
    assert Reply(550, "5.1.1", "a").completed().enhanced == "5.1.1"
    assert Reply(354, "", "a").completed() == Reply(354, "", "a")


def test_long_text_is_folded_into_lines_of_512_octets() -> None:
    reply = Reply(550, "5.7.1", "word " * 300, "x" * 1200, "é" * 700)
    lines = bytes(reply).split(b"\r\n")[:-1]
    assert all(len(line) + 2 <= 512 for line in lines)
    assert all(line.startswith(b"550-5.7.1 ") for line in lines[:-1])
    assert lines[-1].startswith(b"550 5.7.1 ")
    again = reread(reply)
    assert again is not None
    assert "".join(again.lines).replace(" ", "") == "".join(reply.lines).replace(" ", "")


@pytest.mark.parametrize(
    ("lines", "reply"),
    [
        ([b"250 2.1.0 Ok"], Reply(250, "2.1.0", "Ok")),
        ([b"250"], Reply(250)),
        ([b"250 "], Reply(250)),
        ([b"250 2.1.0"], Reply(250, "2.1.0")),
        ([b"550-5.1.1 a", b"550 5.1.1 b"], Reply(550, "5.1.1", "a", "b")),
        ([b"550-5.1.1 a", b"550 5.1.2 b"], Reply(550, "", "5.1.1 a", "5.1.2 b")),
        ([b"550-5.1.1 a", b"550 b"], Reply(550, "", "5.1.1 a", "b")),
        ([b"550 2.1.1 wrong class"], Reply(550, "", "2.1.1 wrong class")),
        ([b"550 5.1.1x"], Reply(550, "", "5.1.1x")),
        ([b"550 5.1.10 longer"], Reply(550, "5.1.10", "longer")),
        ([b"250-mx", b"250-SIZE 10", b"250 DSN"], Reply(250, "", "mx", "SIZE 10", "DSN")),
        ([b"550 \xff\xfe"], Reply(550, "", "\udcff\udcfe")),
    ],
)
def test_reading(lines: list[bytes], reply: Reply) -> None:
    assert read(*lines) == reply


@pytest.mark.parametrize(
    "line", [b"", b"25", b"2500", b"250x", b"hello", b"150 x", b"600 x", b" 250 x", b"250\tx", b"-250", b"25\xb2 x"]
)
def test_nonsense_is_an_error_of_the_peer(line: bytes) -> None:
    with pytest.raises(ReplyError):
        ReplyParser().feed(line)


def test_the_code_must_not_change_between_lines() -> None:
    with pytest.raises(ReplyError, match="changed from 250 to 550"):
        read(b"250-a", b"550 b")


def test_limits_of_a_reply() -> None:
    assert read(*[b"250-a"] * 99, b"250 z") is not None
    with pytest.raises(ReplyError, match="100 lines"):
        read(*[b"250-a"] * 101)
    assert read(b"250 " + b"x" * 2044) is not None
    with pytest.raises(ReplyError):
        read(b"250 " + b"x" * 2045)


def test_a_parser_reads_one_reply_after_the_other() -> None:
    parser = ReplyParser()
    replies = [parser.feed(line) for line in (b"220 hi", b"250-a", b"250 b", b"354 go")]
    assert replies == [Reply(220, "", "hi"), None, Reply(250, "", "a", "b"), Reply(354, "", "go")]


def test_a_refusal_carries_reply_and_cause() -> None:
    assert Refusal(Reply(550, "5.7.1", "No")).cause == "550 5.7.1 No"
    assert str(Refusal(Reply(550, "5.7.1", "No"), "listed")) == "listed"


_codes = st.sampled_from([220, 250, 354, 421, 451, 550, 554])
_texts = st.lists(
    st.text(st.characters(min_codepoint=32, exclude_categories=["Cs", "Cc", "Zl", "Zp"]), max_size=60),
    min_size=1,
    max_size=8,
)


@given(_codes, st.sampled_from(["", "0.0", "7.1", "1.10"]), _texts)
def test_what_is_written_is_read_back(code: int, detail: str, texts: list[str]) -> None:
    enhanced = f"{code // 100}.{detail}" if detail and code != 354 else ""
    reply = Reply(code, enhanced, *texts)
    again = reread(reply)
    assert again is not None
    assert bytes(again) == bytes(reply)


@given(st.binary(max_size=80))
def test_any_line_is_read_or_refused(line: bytes) -> None:
    parser = ReplyParser()
    try:
        reply = parser.feed(line)
    except ReplyError:
        return
    if reply is not None:
        assert bytes(reply).count(b"\r\n") == 1
