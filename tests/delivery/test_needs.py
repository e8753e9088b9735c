"""What a mail needs of the next server, and what is said to it."""

from __future__ import annotations

import pytest

from smtpproxy.delivery.needs import rcpt_command, unkept
from smtpproxy.facts.recipient import Recipient
from smtpproxy.wire.address import parse_address
from smtpproxy.wire.extensions import Extensions

WITH, WITHOUT = Extensions({"DSN": ""}), Extensions({"PIPELINING": ""})


def rcpt(**params: str) -> Recipient:
    return Recipient(parse_address("b@example.com"), dict(params))


@pytest.mark.parametrize("notify", ["NEVER", "never", "SUCCESS", "failure,success", "SUCCESS,DELAY"])
def test_notices_that_would_not_be_as_asked_are_refused(notify: str) -> None:
    reply = unkept(rcpt(NOTIFY=notify), WITHOUT)
    assert reply is not None
    assert (reply.code, reply.enhanced) == (555, "5.5.4")
    assert unkept(rcpt(NOTIFY=notify), WITH) is None


@pytest.mark.parametrize("params", [{}, {"NOTIFY": "FAILURE"}, {"NOTIFY": "delay,failure"}, {"ORCPT": "rfc822;c@example.com"}])
def test_what_asks_for_the_usual_goes_without(params: dict[str, str]) -> None:
    assert unkept(rcpt(**params), WITHOUT) is None
    assert rcpt_command(rcpt(**params), WITHOUT) == b"RCPT TO:<b@example.com>"


def test_what_was_asked_is_said_as_it_came() -> None:
    said = rcpt_command(rcpt(NOTIFY="Never", ORCPT="rfc822;C+2B@example.com"), WITH)
    assert said == b"RCPT TO:<b@example.com> NOTIFY=Never ORCPT=rfc822;C+2B@example.com"
