LIST = "news@lists.example.com"


def test_a_copy_has_a_sender_of_its_own(rule):
    run = rule.send(sender=LIST, to="ann@example.com")
    assert run.delivered["default"].sender == "news+ann=example.com@lists.example.com"


def test_the_second_recipient_comes_by_itself(rule):
    run = rule.send(sender=LIST, to=["ann@example.com", "bob@example.com"])
    assert run.replies["bob@example.com"] == "452 4.5.3 One recipient at a time"
    assert run.delivered["default"].sender == "news+ann=example.com@lists.example.com"


def test_after_a_refused_recipient_the_next_one_counts(rule):
    run = rule.send(sender=LIST, to=["ann@elsewhere.example", "bob@example.com"])
    assert run.replies["ann@elsewhere.example"].startswith("554 5.7.1")
    assert run.delivered["default"].sender == "news+bob=example.com@lists.example.com"


def test_other_mail_is_not_touched(rule):
    run = rule.send(sender="ann@example.com", to=["bob@example.com", "carol@example.com"])
    assert run.delivered["default"].sender == "ann@example.com"
    assert run.delivered["default"].recipients == ["bob@example.com", "carol@example.com"]


def test_a_bounce_names_the_reader(rule):
    run = rule.send(sender="", to="news+ann=example.org@lists.example.com", relay=True)
    assert run.mail.recipients[0].notes.bounced == "ann@example.org"
    assert run.log[0].fields == {"list": "news", "reader": "ann@example.org"}


def test_an_address_that_gets_too_long_goes_without(rule):
    reader = "a" * 60 + "@example.com"
    assert rule.send(sender=LIST, to=reader, fails=True).delivered["default"].sender == LIST
