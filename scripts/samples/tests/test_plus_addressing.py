def test_the_tag_is_taken_off(rule):
    run = rule.send(to="ann+shop+1@example.com", message="Subject: hello\n\n")
    assert run.delivered["default"].recipients == ["ann@example.com"]
    assert run.mail.header["X-Original-To"] == "ann+shop+1@example.com"
    assert run.mail.recipients[0].notes.tag == "shop+1"


def test_several_recipients_do_not_learn_of_each_other(rule):
    run = rule.send(to=["ann+shop@example.com", "bob@example.com"], message="Subject: hello\n\n")
    assert run.delivered["default"].recipients == ["ann@example.com", "bob@example.com"]
    assert "X-Original-To" not in run.mail.header


def test_what_has_no_tag_stays(rule):
    for address in ("ann@example.com", "+ann@example.com", "ann+shop@elsewhere.example"):
        run = rule.send(to=address, message="Subject: hello\n\n", relay=True)
        assert run.delivered["default"].recipients == [address]
        assert "X-Original-To" not in run.mail.header


def test_a_name_that_needs_quotes(rule):
    run = rule.configure(separator="-").send(to='"ann lee-shop"@example.com')
    assert run.delivered["default"].recipients == ['"ann lee"@example.com']
