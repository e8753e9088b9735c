import pytest

ROUTES = {"example.net": "exchange", ".example.org": "lists", ".sub.example.org": "sub"}


@pytest.mark.parametrize(
    ("address", "handoff"),
    [
        ("a@example.net", "exchange"),
        ("a@www.example.net", None),
        ("a@example.com", None),
        ("a@example.org", None),
        ("a@news.example.org", "lists"),
        ("a@deep.news.example.org", "lists"),
        ("a@x.sub.example.org", "sub"),
        ("postmaster", None),
    ],
)
def test_routes(rule, address, handoff):
    run = rule.configure(routes=ROUTES).send(to=address, relay=True)
    assert list(run.delivered) == [handoff or "default"]


def test_one_server_at_a_time(rule):
    run = rule.configure(routes=ROUTES).send(to=["a@example.net", "b@news.example.org"], relay=True)
    assert run.delivered["exchange"].recipients == ["a@example.net"]
    assert run.replies["b@news.example.org"].startswith("452 4.5.3 ")
