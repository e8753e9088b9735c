import pytest

ALSO = {"ann@example.com": ["office@example.com", "@lists.example.com"]}


@pytest.mark.parametrize("sender", ["ann@example.com", "office@example.com", "news@lists.example.com", ""])
def test_own_addresses(rule, sender):
    assert rule.configure(also=ALSO).mail(login="ann@example.com", sender=sender).accepted


@pytest.mark.parametrize("sender", ["bob@example.com", "ann@lists.example.org", "ann@sub.lists.example.com"])
def test_nobody_elses(rule, sender):
    run = rule.configure(also=ALSO).mail(login="ann@example.com", sender=sender)
    assert run.reply == f"553 5.7.1 {sender} is not an address of ann@example.com"


def test_what_ann_may_bob_may_not(rule):
    assert rule.configure(also=ALSO).mail(login="bob@example.com", sender="office@example.com").refused


def test_who_has_not_logged_in_is_not_asked(rule):
    assert rule.mail(sender="bob@example.com").accepted
