import pytest

from smtpproxy.script import HttpError

URL = "https://lists.example.com/blocked.json"


@pytest.fixture(autouse=True)
def lists(rule):
    rule.http[URL] = {"domains": ["bad.example", "worse.example"]}


def test_listed_senders_are_refused(rule):
    assert rule.mail(sender="a@bad.example").reply == "550 5.7.1 Mail from bad.example is not wanted here"
    assert rule.mail(sender="a@good.example").accepted
    assert rule.mail(sender="").accepted


def test_the_list_is_asked_for_every_five_minutes(rule):
    for _ in range(3):
        rule.mail(sender="a@bad.example")
    assert len(rule.http.asked) == 1
    rule.clock.advance("301s")
    rule.http[URL] = {"domains": ["other.example"]}
    assert rule.mail(sender="a@bad.example").accepted
    assert rule.mail(sender="a@other.example").refused
    assert len(rule.http.asked) == 2


@pytest.mark.parametrize("answer", [HttpError("too slow"), 500, "<html>", {"other": 1}], ids=str)
def test_while_it_cannot_be_had_the_last_one_counts(rule, answer):
    rule.mail(sender="a@bad.example")
    rule.http[URL] = answer
    rule.clock.advance("301s")
    run = rule.mail(sender="a@bad.example")
    assert run.refused
    assert [record.text for record in run.log] == ["the block list is not to be had"]


def test_without_any_list_mail_goes_on(rule):
    rule.http[URL] = HttpError("no route to host")
    assert rule.mail(sender="a@bad.example").accepted
