def test_mail_to_the_domains_is_copied(rule):
    run = rule.message(to=["a@elsewhere.example", "b@example.com", "c@example.com"])
    assert run.mail.copied_to == ("archive",)


def test_other_mail_is_not(rule):
    assert rule.configure(domains=["example.org"]).message(to="b@example.com").mail.copied_to == ()


def test_the_copy_is_what_was_delivered(rule):
    rule.handoffs["archive"] = "quarantine"
    run = rule.send(message="Subject: x\n\nhello\n", to=["b@example.com", "c@example.com"])
    assert run.accepted
    copy, mail = run.delivered["archive"], run.delivered["default"]
    assert copy.content == mail.content
    assert copy.recipients == mail.recipients == ["b@example.com", "c@example.com"]
    assert run.mail.notes.quarantine_reason == "a copy for the archive"
