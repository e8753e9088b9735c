"""Notes and results hold plain values, and not too many."""

from __future__ import annotations

import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smtpproxy.facts.missing import FactMissing
from smtpproxy.facts.notes import LIMIT, Notes, Results, as_dict
from smtpproxy.wire.address import Address

PLAIN = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-(2**63) + 1, 2**63 - 1), st.floats(allow_nan=False), st.text(), st.binary()),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(), inner, max_size=3)),
    max_leaves=8,
)


def test_a_note_is_read_as_it_was_set_and_a_missing_one_is_none() -> None:
    notes = Notes()
    notes.checked = True
    notes["score"] = 5
    assert notes.checked is True
    assert notes["checked"] is True
    assert notes.score == 5
    assert notes.nothing is None
    assert notes["nothing"] is None
    assert "score" in notes
    assert sorted(notes) == ["checked", "score"]


@pytest.mark.parametrize("name", ["get", "keys", "items", "class", "a b", "ü"])
def test_any_name_is_free(name: str) -> None:
    notes = Notes()
    notes[name] = 1
    assert getattr(notes, name) == 1


def test_setting_none_or_deleting_forgets_a_note() -> None:
    notes = Notes()
    notes.a = 1
    notes.b = 2
    notes.a = None
    del notes.b
    del notes.never
    assert len(notes) == 0


@given(PLAIN)
def test_plain_values_come_back_equal(value: Any) -> None:
    notes = Notes()
    notes.value = value
    assert notes.value == value
    assert as_dict(notes) == ({} if value is None else {"value": value})


def test_a_note_is_a_copy() -> None:
    notes = Notes()
    mine = [1, {"a": {2}}]
    notes.mine = mine
    mine.append(3)
    assert notes.mine == [1, {"a": {2}}]
    notes.mine.append(4)
    assert notes.mine == [1, {"a": {2}}, 4]
    as_dict(notes)["mine"].clear()
    assert len(notes.mine) == 3


def test_tuples_and_frozen_sets_become_plain() -> None:
    notes = Notes()
    notes.pair = (1, frozenset({2}))
    assert notes.pair == [1, {2}]


@pytest.mark.parametrize("value", [Address("a", "b", "a@b"), object(), len, 2**63, [sys], {"a": object()}, {(1, 2): 3}])
def test_what_is_not_plain_is_refused(value: Any) -> None:
    with pytest.raises(TypeError, match="plain"):
        Notes().value = value


def test_a_structure_that_holds_itself_is_refused() -> None:
    ring: list[Any] = []
    ring.append(ring)
    with pytest.raises(TypeError, match="deep"):
        Notes().ring = ring


def test_the_notes_together_are_capped() -> None:
    notes = Notes()
    notes.most = "x" * (LIMIT - 1000)
    with pytest.raises(ValueError, match="65536 octets"):
        notes.more = b"x" * 1000
    notes.most = "small"
    notes.more = b"x" * 1000
    assert "more" in notes


@pytest.mark.parametrize("value", [[0] * 10_000, {str(n): 0 for n in range(10_000)}])
def test_every_kind_of_value_counts(value: Any) -> None:
    with pytest.raises(ValueError, match="octets"):
        Notes().value = value


def test_results_in_their_order() -> None:
    results = Results()
    results.add("spf", "fail", domain="example.com")
    results.add("sender-mx")
    assert [str(result) for result in results] == ["spf=fail domain=example.com", "sender-mx=pass"]
    spf = results.get("spf")
    assert spf is not None
    assert (spf.name, spf.value, spf.keys) == ("spf", "fail", {"domain": "example.com"})
    assert results.get("dkim") is None
    assert "spf" in results and "dkim" not in results
    assert str(results) == "spf=fail domain=example.com, sender-mx=pass"


def test_a_check_that_reports_again_replaces_what_it_said() -> None:
    results = Results()
    for _ in range(1000):
        results.add("spf", "fail", text="x" * 1000)
    results.add("spf", "pass")
    assert [str(result) for result in results] == ["spf=pass"]


def test_results_are_plain_and_capped() -> None:
    results = Results()
    with pytest.raises(TypeError):
        results.add("spf", True)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="plain"):
        results.add("spf", "pass", who=object())
    with pytest.raises(ValueError, match="65536 octets"):
        results.add("spf", "pass", text="x" * LIMIT)
    assert len(results) == 0


def test_an_unknown_name_gets_a_suggestion() -> None:
    with pytest.raises(FactMissing, match="results has no 'ad'; did you mean 'add'"):
        _ = Results().ad  # type: ignore[attr-defined]
