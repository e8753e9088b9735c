"""The table of what rules can reach says what is there, and nothing else."""

from __future__ import annotations

import keyword
import re

import pytest

from smtpproxy.facts.client import Client, ListenerFacts
from smtpproxy.facts.missing import Fact
from smtpproxy.facts.recipient import Recipient
from smtpproxy.facts.surface import SURFACE, FactMissing, help_text, names

LUA_KEYWORDS = re.compile(
    "and|break|do|else|elseif|end|false|for|function|goto|if|in|local|nil|not|or|repeat|return|then|true|until|while"
)


@pytest.mark.parametrize("kind", SURFACE, ids=lambda kind: kind.__name__)
def test_every_name_is_there_and_a_keyword_of_neither_language(kind: type) -> None:
    surface = SURFACE[kind]
    assert set(surface) == {"read", "write", "call"}
    for name in names(kind):
        assert hasattr(kind, name), name
        assert not keyword.iskeyword(name)
        assert not LUA_KEYWORDS.fullmatch(name)
    assert surface["write"] <= surface["read"]
    assert not surface["read"] & surface["call"]


@pytest.mark.parametrize("kind", SURFACE, ids=lambda kind: kind.__name__)
def test_what_is_called_is_callable_and_what_is_read_is_not(kind: type) -> None:
    for name in SURFACE[kind]["call"]:
        assert callable(getattr(kind, name)), name
    for name in SURFACE[kind]["read"]:
        assert not callable(getattr(kind, name)), name


def test_a_missing_fact_is_an_attribute_error() -> None:
    assert issubclass(FactMissing, AttributeError)


@pytest.mark.parametrize("kind", SURFACE, ids=lambda kind: kind.__name__)
def test_every_name_has_words_for_the_manual(kind: type) -> None:
    assert [name for name in names(kind) if not help_text(kind, name)] == []


def test_words_come_from_docstrings_and_from_below_attributes() -> None:
    assert help_text(Client, "esmtp") == "It said EHLO or LHLO."
    assert help_text(Client, "name").startswith("The confirmed host name;")
    assert help_text(ListenerFacts, "hostname") == "What we call ourselves here."
    assert help_text(Recipient, "domain").startswith("In lower case;")


@pytest.mark.parametrize("kind", [kind for kind in SURFACE if issubclass(kind, Fact)])
def test_rules_of_both_languages_may_assign_the_same(kind: type[Fact]) -> None:
    assert kind._assignable.keys() == SURFACE[kind]["write"]
