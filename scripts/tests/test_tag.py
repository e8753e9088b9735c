def test_what_is_urgent_is_tagged(rule):
    run = rule.message(message="Subject: Urgent: lunch\n\nSoup?\n")
    assert run.mail.header["Subject"] == "[!] Urgent: lunch"


def test_a_tag_is_not_put_twice(rule):
    run = rule.message(message="Subject: [!] urgent: lunch\n\nSoup?\n")
    assert run.mail.header["Subject"] == "[!] urgent: lunch"


def test_other_mail_is_marked_as_seen_only(rule):
    run = rule.send(message="Subject: lunch\n\nSoup?\n")
    assert run.message == b"Subject: lunch\r\nX-Seen-By: mx.example.com\r\n\r\nSoup?\r\n"


def test_the_word_is_a_setting(rule):
    rule.configure(word="hungry", tag="[food] ")
    run = rule.message(message="Subject: I am hungry\n\n")
    assert run.mail.header["Subject"] == "[food] I am hungry"
