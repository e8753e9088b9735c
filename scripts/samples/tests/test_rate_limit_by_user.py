import pytest


@pytest.fixture(autouse=True)
def three_an_hour(rule):
    rule.configure(recipients=3)


def test_above_the_limit_is_deferred(rule):
    assert [rule.rcpt(login="alice").reply for _ in range(3)] == ["", "", ""]
    run = rule.rcpt(login="alice")
    assert run.reply == "450 4.7.1 Too many recipients for now, try again later"
    assert run.log[0].fields == {"user": "alice", "recipients": 4}


def test_each_user_has_a_limit_of_their_own(rule):
    for _ in range(4):
        rule.rcpt(login="alice")
    assert rule.rcpt(login="bob").accepted


def test_an_hour_later_it_goes_on(rule):
    for _ in range(4):
        rule.rcpt(login="alice")
    rule.clock.advance("62m")
    assert rule.rcpt(login="alice").accepted


def test_who_has_not_logged_in_is_not_counted(rule):
    assert all(rule.rcpt().accepted for _ in range(5))
    assert len(rule.store) == 0
