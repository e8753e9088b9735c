"""Verdicts as rules make them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from smtpproxy.script import accept, close, defer, deny


@pytest.mark.parametrize(
    ("verdict", "wire"),
    [
        (deny("No such user", code="550 5.1.1"), "550 5.1.1 No such user"),
        (deny("No"), "550 5.7.1 No"),
        (deny("Too much", code=552), "552 5.7.1 Too much"),
        (deny("Too much", code="552"), "552 5.7.1 Too much"),
        (defer("Later"), "451 4.7.1 Later"),
        (defer("Full", code="452 4.2.2"), "452 4.2.2 Full"),
        (close("Bye"), "421 4.7.0 Bye"),
        (close("Go away", code="554 5.7.1"), "554 5.7.1 Go away"),
        (accept("Fine"), "250 2.0.0 Fine"),
    ],
)
def test_replies(verdict: Any, wire: str) -> None:
    assert str(verdict.reply()) == wire


@pytest.mark.parametrize(
    "make",
    [
        lambda: deny(code="450 4.1.1"),
        lambda: deny(code="250"),
        lambda: defer(code="550"),
        lambda: close(code="250 2.0.0"),
        lambda: deny(code="550 4.1.1"),
        lambda: deny(code="5501"),
        lambda: deny(code="550 5.1"),
        lambda: deny(code="550 5.1.1\r\n250 fine"),
    ],
)
def test_codes_that_do_not_fit_are_refused(make: Callable[[], Any]) -> None:
    with pytest.raises(ValueError, match="code"):
        make()


def test_text_cannot_break_the_reply() -> None:
    assert deny("a\r\n250 b\x00c\x1b[2J").text == "a 250 b c [2J"
    assert len(bytes(deny("x" * 5000).reply())) <= 512


def test_only_close_hangs_up_and_only_relay_grants_relaying() -> None:
    assert [v.hang_up for v in (accept(), deny(), defer(), close())] == [False, False, False, True]
    assert (accept().relay, accept(relay=True).relay) == (False, True)


def test_a_verdict_knows_its_line() -> None:
    first = deny("x")
    second = deny("x")
    assert second.line == first.line + 1
