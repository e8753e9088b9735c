"""The order of commands, as RFC 5321 4.1.4 and the extensions' RFCs have it."""

from __future__ import annotations

import pytest

from smtpproxy.wire.order import State, refuse

ALL = set(State)
OUTSIDE = {State.CONNECTED, State.GREETED}

ALLOWED = {
    "HELO": ALL,
    "EHLO": ALL,
    "LHLO": ALL,
    "MAIL": {State.GREETED},
    "RCPT": {State.MAIL, State.RCPT},
    "DATA": {State.RCPT},
    "BDAT": {State.RCPT, State.CHUNKS},
    "RSET": ALL,
    "NOOP": ALL,
    "VRFY": ALL,
    "EXPN": ALL,
    "HELP": ALL,
    "QUIT": ALL,
    "STARTTLS": {State.GREETED},
    "AUTH": {State.GREETED},
    "XCLIENT": OUTSIDE,
    "XFORWARD": OUTSIDE,
    "ETRN": {State.GREETED},
    "WHAT": ALL,
}


@pytest.mark.parametrize("verb", ALLOWED)
@pytest.mark.parametrize("state", State)
def test_every_verb_in_every_state(verb: str, state: State) -> None:
    reply = refuse(verb, state)
    if state in ALLOWED[verb]:
        assert reply is None
    else:
        assert reply is not None
        assert (reply.code, reply.enhanced) == (503, "5.5.1")


@pytest.mark.parametrize(
    ("verb", "state", "words"),
    [
        ("MAIL", State.CONNECTED, "HELO"),
        ("RCPT", State.GREETED, "MAIL"),
        ("DATA", State.MAIL, "RCPT"),
        ("DATA", State.CHUNKS, "BDAT"),
        ("BDAT", State.FAILED, "RSET"),
        ("MAIL", State.RCPT, "Nested"),
        ("AUTH", State.MAIL, "inside a mail transaction"),
    ],
)
def test_the_reply_says_what_is_missing(verb: str, state: State, words: str) -> None:
    reply = refuse(verb, state)
    assert reply is not None
    assert words in reply.text
