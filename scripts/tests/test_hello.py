def test_nobody_is_refused(rule):
    assert rule.rcpt(to="nobody@example.com").reply == "550 5.1.1 Nobody is not here"


def test_everybody_else_is_none_of_its_business(rule):
    assert rule.rcpt(to="you@example.com").accepted


def test_the_other_recipients_of_a_mail_get_it(rule):
    run = rule.send(to=["nobody@example.com", "you@example.com"])
    assert run.replies == {"nobody@example.com": "550 5.1.1 Nobody is not here", "you@example.com": "250 2.1.5 Ok"}
    assert run.delivered["default"].recipients == ["you@example.com"]
