import pytest

OURS = "ann@example.com"
ALTERNATIVE = """\
Content-Type: multipart/alternative; boundary=b

--b
Content-Type: text/plain

Hello
--b
Content-Type: text/html

<html><body>Hello</body></html>
--b--
"""
SIGNED = """\
Content-Type: multipart/signed; boundary=s

--s
Content-Type: text/plain

Hello
--s
Content-Type: application/pgp-signature

sig
--s--
"""


def test_a_line_under_text_and_html(rule):
    mail = rule.message(sender=OURS, message=ALTERNATIVE).mail
    assert mail.text == "Hello\r\n\r\n-- \r\nExample Ltd, 1 Example Street, London"
    assert mail.html == "<html><body>Hello<hr><p>Example Ltd, 1 Example Street, London</p></body></html>"


@pytest.mark.parametrize(("sender", "message"), [("joe@other.example", ALTERNATIVE), (OURS, SIGNED), ("", ALTERNATIVE)])
def test_no_line_under_what_is_not_ours_to_change(rule, sender, message):
    assert rule.message(sender=sender, message=message).diff == ""
