import json

import pytest

from smtpproxy.script import HttpError

URL = "https://shop.example.com/mail-events"


def test_a_delivery_is_told(rule):
    rule.http[URL] = 204
    rule.configure(token="s3cret").delivered(sender="shop@example.com", to="ann@example.org", host="mx.example.org", attempts=2)
    (request,) = rule.http.asked
    assert (request.method, request.headers["Authorization"]) == ("POST", "Bearer s3cret")
    assert json.loads(request.body) == {
        "event": "delivered",
        "id": "test.1",
        "sender": "shop@example.com",
        "recipients": ["ann@example.org"],
        "host": "mx.example.org",
        "reply": "250 2.0.0 Ok",
        "attempts": 2,
    }


def test_so_is_a_bounce(rule):
    rule.http[URL] = 200
    rule.bounced(answer="")
    told = json.loads(rule.http.asked[0].body)
    assert (told["event"], told["reply"]) == ("bounced", "")
    assert "Authorization" not in rule.http.asked[0].headers


@pytest.mark.parametrize(("answer", "problem"), [(503, "status 503"), (HttpError("no answer in 1 s"), "no answer in 1 s")])
def test_three_times_is_enough(rule, answer, problem):
    rule.http[URL] = answer
    run = rule.delivered()
    assert len(rule.http.asked) == 3
    assert [(record.level, record.text) for record in run.log] == [("warning", "webhook not told")]
    assert problem in run.log[0].fields["problem"]
