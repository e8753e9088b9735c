"""Whatever goes wrong with the copies of a mail: nothing is lost in silence, nothing is delivered twice, no 250 is false."""

from __future__ import annotations

import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from smtpproxy.testing.front import Front
from smtpproxy.testing.handoffs import durable, live
from smtpproxy.wire.reply import Reply

NAMES = "abcde"
MESSAGE = b"Subject: x\r\n\r\nhello\r\n"
RULE = """
def on_message(mail):
    for group in {groups!r}:
        copy = mail.copy_for([name + "@example.com" for name in group])
        copy.header["X-Copy"] = group
    if {archived}:
        mail.add_copy("archive")
"""
ACTS = st.sampled_from([None, None, None, Reply(451, "4.3.0", "Later"), Reply(554, "5.7.1", "Spam"), ZeroDivisionError()])

AGAIN = st.sampled_from([None] * 10 + [0, 2, 4])


@st.composite
def groups(draw: st.DrawFn) -> list[str]:
    """Recipients by the copy that they get; those that are in none get the mail."""
    copies = draw(st.lists(st.integers(0, 3), min_size=len(NAMES), max_size=len(NAMES)))
    found = ["".join(name for name, copy in zip(NAMES, copies, strict=True) if copy == number) for number in (1, 2, 3)]
    return [group for group in found if group]


@settings(max_examples=150, deadline=None)
@given(groups=groups(), finishes=st.tuples(ACTS, ACTS, ACTS, ACTS), again=AGAIN, kept=ACTS, archived=st.booleans())
def test_one_answer_is_true_for_all(
    groups: list[str], finishes: tuple[Any, ...], again: int | None, kept: Any, archived: bool
) -> None:
    out, archive = live(), durable("archive")
    out.on("finish", *finishes)
    archive.on("finish", kept)
    with tempfile.TemporaryDirectory() as folder:
        rule = RULE.format(groups=groups, archived=archived)
        with Front(out, archive, folder=Path(folder), rules={"10-rule.py": rule}) as front:
            client = front.begun(["MAIL FROM:<a@client.example>", *(f"RCPT TO:<{name}@example.com>" for name in NAMES)])
            if again is not None:  # one of those that are offered again is refused
                out.on("recipient", *[None] * again, Reply(550, "5.1.1", "No such user"), None)
            reply = client.message(MESSAGE)
            assert client.send("NOOP").code == 250
    got = Counter(rcpt for letter in out.delivered for rcpt in letter.recipients)
    everybody = {f"{name}@example.com" for name in NAMES}
    assert set(got.values()) <= {1}, "delivered twice"
    for letter in out.delivered:
        group = next((group for group in groups if f"{group[0]}@example.com" in letter.recipients), "")
        assert set(letter.recipients) == ({f"{name}@example.com" for name in group} if group else everybody - copied(groups))
        assert (b"X-Copy: " + group.encode() + b"\r\n" in letter.content) if group else b"X-Copy" not in letter.content
    assert archive.held == []
    assert len(archive.delivered) == (archived and bool(got))
    if reply.code == 250:
        assert set(got) == everybody
    elif got:  # some have it: the client must not send it again, and is told who has not
        assert reply.startswith("554 5.3.0 Delivered to ")
        (record,) = front.logged("partly_delivered")
        assert (set(record["delivered"]), set(record["refused"])) == (set(got), everybody - set(got))
    else:
        assert reply.code in (451, 550, 554)


def copied(groups: list[str]) -> set[str]:
    return {f"{name}@example.com" for group in groups for name in group}
