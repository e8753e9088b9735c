"""Messages as they arrive and as they leave, for tests of what becomes of them in between."""

from __future__ import annotations

from smtpproxy.message.body import BodyWriter, missing_line_end
from smtpproxy.message.edits import Ledger
from smtpproxy.message.header import HeaderBlock, end_of_header
from smtpproxy.wire.dots import stuff, unstuff


def ledger_of(message: bytes, *, memory: int = 1 << 20, chunk: int = 1000) -> Ledger:
    """As the session makes it: the message arrives stuffed, in pieces of `chunk` octets; past `memory` it is in a file."""
    sent = stuff(message)
    writer = BodyWriter(memory)
    for at in range(0, len(sent), chunk):
        writer.write(sent[at : at + chunk])
    end = end_of_header(message)
    return Ledger(writer.finish(sent != message), HeaderBlock.parse(message if end < 0 else message[:end]))


def rendered(ledger: Ledger, top: bytes = b"") -> bytes:
    """The rendering, with `top` above it. Raises AssertionError when its two forms and its size are not of one message."""
    body = ledger.render(top)
    meant, sent = b"".join(body.content()), b"".join(body.wire())
    assert unstuff(sent) == meant + missing_line_end(meant[-2:])
    assert body.size == len(meant)
    return meant
