import json

import pytest

from smtpproxy.script import HttpError, deny, digest

URL = "https://shop.example.com/mail-events"


def told(rule):
    return [json.loads(request.body) for request in rule.http.asked]


def test_a_mail_that_was_taken_is_told_and_signed(rule):
    rule.http[URL] = 204
    run = rule.configure(secret="s3cret").send(sender="ann@example.com", to="bob@example.com")
    assert run.reply == "250 2.0.0 Ok"
    (event,) = told(rule)
    assert (event["event"], event["sender"], event["recipients"]) == ("taken", "ann@example.com", ["bob@example.com"])
    signature = digest.hmac_sha256("s3cret", f"{event['at']} {event['id']}")
    assert rule.http.asked[0].headers["X-Signature"] == signature


def test_so_is_what_the_core_refused(rule):
    rule.http[URL] = 200
    assert rule.send(to="bob@elsewhere.example").refused
    (event,) = told(rule)
    assert (event["event"], event["recipients"]) == ("refused", [])
    assert event["reply"].startswith("554 5.7.1")


def test_and_what_a_rule_refused(rule):
    rule.http[URL] = 200
    rule.hook("watch_deny", deny("No", code="550 5.7.1"))
    (event,) = told(rule)
    assert (event["event"], event["reply"]) == ("refused", "550 No")


@pytest.mark.parametrize(("answer", "problem"), [(503, "status 503"), (HttpError("no answer in 2 s"), "no answer in 2 s")])
def test_what_cannot_be_told_is_logged(rule, answer, problem):
    rule.http[URL] = answer
    run = rule.send()
    assert run.reply == "250 2.0.0 Ok"
    assert [(record.level, record.text) for record in run.log] == [("warning", "webhook not told")]
    assert problem in run.log[0].fields["problem"]
