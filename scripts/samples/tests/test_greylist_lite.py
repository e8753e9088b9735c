AGAIN = "451 4.7.1 We do not know you yet; please come back in a few minutes"


def test_who_comes_back_is_let_in(rule):
    assert rule.rcpt(to="ann@example.com").reply == AGAIN
    rule.clock.advance("4m")
    assert rule.rcpt(to="ann@example.com").reply == AGAIN
    rule.clock.advance("2m")
    assert rule.rcpt(to="ann@example.com").accepted


def test_and_is_known_for_a_month(rule):
    rule.rcpt()
    rule.clock.advance("6m")
    rule.rcpt()
    rule.clock.advance("34d")
    assert rule.rcpt().accepted
    rule.clock.advance("36d")
    assert rule.rcpt().refused


def test_who_waits_too_long_begins_again(rule):
    rule.rcpt()
    rule.clock.advance("25h")
    assert rule.rcpt().refused


def test_a_network_counts_as_one_client(rule):
    rule.rcpt(client="192.0.2.1")
    rule.rcpt(client="2001:db8::1")
    rule.clock.advance("6m")
    assert rule.rcpt(client="192.0.2.200").accepted
    assert rule.rcpt(client="192.0.3.1").refused
    assert rule.rcpt(client="2001:db8::ffff:1").accepted
    assert rule.rcpt(client="2001:db8:0:1::1").refused


def test_each_pair_of_addresses_is_known_by_itself(rule):
    rule.rcpt(to="ann@example.com")
    rule.clock.advance("6m")
    assert rule.rcpt(to="ann@example.com").accepted
    assert rule.rcpt(to="bob@example.com").refused
    assert rule.rcpt(to="ann@example.com", sender="").refused
