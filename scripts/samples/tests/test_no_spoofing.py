def test_strangers_do_not_send_as_one_of_us(rule):
    run = rule.mail(sender="ceo@example.com")
    assert run.reply == "550 5.7.1 Mail from example.com is not taken from your host; log in"


def test_we_do(rule):
    assert rule.mail(sender="ceo@example.com", login="ceo").accepted
    assert rule.mail(sender="ceo@example.com", trusted=True).accepted


def test_so_do_those_who_send_in_our_name(rule):
    rule.configure(hosts=["mta1.newsletters.example.net"])
    assert rule.mail(sender="news@example.com", name="mta1.newsletters.example.net").accepted
    assert rule.mail(sender="news@example.com", name="mta2.example.net").refused


def test_other_senders_are_none_of_its_business(rule):
    assert rule.mail(sender="a@elsewhere.example").accepted
    assert rule.mail(sender="").accepted
