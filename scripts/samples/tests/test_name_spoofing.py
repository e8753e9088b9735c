import pytest


@pytest.fixture(autouse=True)
def jane(rule):
    rule.configure(names=["Jane Doe"], also=["jane@doe.example"])


@pytest.mark.parametrize(
    "field",
    [
        "From: Jane Doe <jd4711@mail.example.net>",
        'From: "JANE  doe" <jd4711@mail.example.net>',
        "From: jd4711@mail.example.net (Jane Doe)",
        "From: =?utf-8?q?Jane_Doe?= <jd4711@mail.example.net>",
        "From: a@b.example\nReply-To: Jane Doe <jd4711@mail.example.net>",
    ],
)
def test_strangers_do_not_write_under_her_name(rule, field):
    assert rule.header(message=f"{field}\n\n").reply.startswith("550 5.7.1 jd4711@mail.example.net is not the address of")


@pytest.mark.parametrize("field", ["Jane Doe <jane@example.com>", "Jane Doe <jane@doe.example>", "Jane Roe <j@roe.example>", ""])
def test_she_does_and_others_under_theirs(rule, field):
    assert rule.header(message=f"From: {field}\n\n").accepted


def test_who_has_logged_in_is_not_asked(rule):
    assert rule.header(message="From: Jane Doe <jd@mail.example.net>\n\n", login="jane").accepted
