def test_mail_from_outside_is_tagged(rule):
    assert rule.header(message="Subject: hello\n\n").mail.header["Subject"] == "[EXTERNAL] hello"
    assert rule.header(message="From: a@b.example\n\n").mail.header["Subject"].strip() == "[EXTERNAL]"


def test_an_answer_is_not_tagged_twice(rule):
    run = rule.header(message="Subject: Re: [EXTERNAL] hello\n\n")
    assert run.mail.header["Subject"] == "Re: [EXTERNAL] hello"


def test_our_own_mail_is_not_touched(rule):
    for client in ({"login": "ann"}, {"trusted": True}):
        assert rule.header(message="Subject: hello\n\n", **client).mail.header["Subject"] == "hello"


def test_the_body_passes_as_it_is(rule):
    run = rule.configure(tag="[ext]").send(message="Subject: hello\n\nHello.\n")
    assert run.message == b"Subject: [ext] hello\r\n\r\nHello.\r\n"
