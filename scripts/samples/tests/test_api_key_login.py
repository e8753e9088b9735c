import pytest

KEY = "correct horse battery staple"
SHA256 = "c4bbcb1fbec99d65bf59d85c8cb62ee2db963f0fe106f483d9afa73bd4e39a8a"


@pytest.fixture(autouse=True)
def keys(rule):
    rule.configure(keys={"shop": SHA256})


def test_the_key_lets_in(rule):
    assert rule.auth("shop", KEY).verdict.kind == "accept"


def test_another_one_does_not(rule):
    for wrong in ("", KEY + "!", SHA256):
        assert rule.auth("shop", wrong).reply == "535 5.7.8 Wrong key"


def test_other_names_are_for_others(rule):
    assert rule.auth("ann", KEY).verdict is None
