"""What the recipes of the cookbook, and the plugins translated for those who come from Haraka, are said to do, they do."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from smtpproxy.scripting.verdict import deny
from smtpproxy.testing.author import RuleUnderTest, World

DOCS = Path(__file__).parents[2] / "docs"
BLOCK = re.compile(r"^```(?:python|lua)\n((?:#|--) scripts/(\S+)\n.*?)^```$", re.MULTILINE | re.DOTALL)
HIDDEN = """\
Subject: hi
Content-Type: multipart/mixed; boundary=b

--b
Content-Type: text/plain

From: Joe <joe@spam.example>
--b
Content-Type: application/octet-stream
Content-Disposition: attachment; filename=Setup.EXE

MZ
--b--
"""

Recipe = RuleUnderTest
"""recipe("NAME") is the rule of that name."""


@pytest.fixture
def recipe(tmp_path: Path) -> Iterator[Recipe]:
    """All rules that stand in the cookbook and in haraka.md."""
    tmp_path.chmod(0o755)
    for page in ("cookbook.md", "haraka.md"):
        for text, file in BLOCK.findall((DOCS / page).read_text("utf-8")):
            (tmp_path / file).write_text(text)
    world = World(tmp_path)
    yield RuleUnderTest(world, [])
    world.close()


def both(name: str) -> Any:
    return pytest.mark.parametrize("name", [name, f"{name}-in-lua"])


@both("no-programs")
def test_programs(recipe: Recipe, name: str) -> None:
    assert recipe(name).message(message=HIDDEN).reply == "550 5.7.1 Programs are not accepted: Setup.EXE"
    assert recipe(name).message(message=HIDDEN.replace(".EXE", ".pdf")).accepted


def test_one_domain_goes_to_another_server(recipe: Recipe) -> None:
    rule = recipe("to-exchange")
    assert rule.send(to="b@example.net", relay=True).delivered["exchange"].recipients == ["b@example.net"]
    assert rule.send(to="a@example.com").delivered["default"].recipients == ["a@example.com"]


@both("mark-outside")
def test_mail_from_outside(recipe: Recipe, name: str) -> None:
    rule, message = recipe(name), "X-Origin: inside\nSubject: hello\n\n"
    assert rule.header(message=message).mail.header.get_all("X-Origin") == ["outside"]
    assert rule.header(message=message, login="ann").mail.header.get_all("X-Origin") == ["inside"]


def test_a_partner_relays(recipe: Recipe) -> None:
    for address, accepted in [("192.0.2.9", True), ("2001:db8:7::1", True), ("198.51.100.1", False)]:
        assert recipe("partner-relays").send(client=address, to="a@elsewhere.example").accepted is accepted


def test_a_partner_is_known_by_its_certificate(recipe: Recipe) -> None:
    rule = recipe("partner-certificate").configure(fingerprints=["c0ffee"])
    assert rule.send(certificate="c0ffee", to="a@elsewhere.example").accepted
    assert rule.send(certificate="decaf", to="a@elsewhere.example").refused
    assert rule.send(tls=True, to="a@elsewhere.example").refused
    assert rule.send(to="a@elsewhere.example").refused


@both("hourly")
def test_mails_are_counted(recipe: Recipe, name: str) -> None:
    rule = recipe(name)
    assert all(rule.mail().accepted for _ in range(100))
    over = rule.mail()
    assert over.reply == "451 4.7.1 Too many mails from you for now"
    assert [record.text for record in over.log] == ["a hundred mails in an hour"]
    assert rule.mail().log == []
    assert rule.mail(client="192.0.2.200").accepted
    rule.clock.advance("2h")
    assert rule.mail().accepted


@both("reputation")
def test_an_api_is_asked(recipe: Recipe, name: str) -> None:
    rule = recipe(name)
    rule.http["https://reputation.example/bad.example"] = {"score": 91}
    rule.http["https://reputation.example/good.example"] = {"score": 90}
    assert rule.mail(sender="").accepted
    assert rule.http.asked == []
    assert [rule.mail(sender=f"{user}@bad.example").reply for user in "ab"] == ["550 5.7.1 Your domain has a bad name"] * 2
    assert rule.mail(sender="a@good.example").accepted
    assert len(rule.http.asked) == 2
    assert rule.mail(sender="a@other.example", fails=True).accepted


def test_footers(recipe: Recipe) -> None:
    rule = recipe("footers")
    assert rule.message(sender="a@example.com").message.endswith(b"-- \r\nExample Ltd, London\r\n")
    assert rule.message(sender="a@example.org").message.endswith(b"-- \r\nExample Foundation, Bern\r\n")
    assert rule.message(sender="a@b.example").diff == ""


@pytest.mark.parametrize(("name", "other"), [("05-partner", "reputation"), ("06-partner-in-lua", "reputation-in-lua")])
def test_a_rule_is_skipped(recipe: Recipe, name: str, other: str) -> None:
    together = recipe(name, other)
    together.http["https://reputation.example/partner.example"] = {"score": 100}
    assert together.mail(sender="a@partner.example", name="mx.partner.example").accepted
    assert together.mail(sender="a@partner.example", name=None).refused


def test_notes_about_each_recipient(recipe: Recipe) -> None:
    message = "Subject: hello\n\n"
    assert recipe("vip").send(to=["ceo@example.com", "ann@example.com"], message=message).mail.header["X-Priority"] == "1"
    assert recipe("vip").send(to="ann@example.com", message=message).diff == ""


@both("no-robots")
def test_robots(recipe: Recipe, name: str) -> None:
    rule, team = recipe(name), ["ann@example.com", "team@lists.example.com"]
    for field, refused in [("Auto-Submitted: auto-replied", True), ("Auto-Submitted: No", False), ("Subject: hello", False)]:
        assert rule.header(message=f"{field}\n\n", to=team).refused is refused
    assert rule.header(message="Auto-Submitted: auto-replied\n\n", to="ann@example.com").accepted


def test_who_stands_in_from(recipe: Recipe) -> None:
    rule = recipe("from-is-one")
    assert rule.header(message="From: Ann <a@b.example>\n\n").accepted
    assert rule.header(message="From: a@b.example, c@d.example\n\n").reply.startswith("550 5.7.1 ")
    assert rule.header(message="Subject: x\n\n").reply.startswith("550 5.7.1 ")
    assert rule.header(message="Subject: x\n\n", sender="").accepted


@both("log-subject")
def test_one_thing_more_is_logged(recipe: Recipe, name: str) -> None:
    (record,) = recipe(name).hook("watch_message", message=HIDDEN).log
    assert record.fields == {"subject": "hi", "attachments": 1}


def test_a_web_server_is_told(recipe: Recipe) -> None:
    rule = recipe("tell-refused")
    rule.http["https://ops.example/refused"] = 204
    rule.hook("watch_refused", "550 5.1.1 No")
    assert rule.http.asked[0].body == b'{"client":"192.0.2.1","reply":"550 5.1.1 No"}'


def test_postmaster_is_never_refused(recipe: Recipe) -> None:
    verdict = recipe("postmaster").deny(deny("No"), to="postmaster@example.com").verdict
    assert verdict is not None
    assert verdict.kind == "accept"
    assert recipe("postmaster").deny(deny("No"), to="ann@example.com").verdict is None


@both("bounces")
def test_a_bounce_has_one_recipient(recipe: Recipe, name: str) -> None:
    rule, two = recipe(name), ["a@example.com", "b@example.com"]
    assert rule.rcpt(sender="", to=two).reply == "550 5.7.1 A bounce has one recipient"
    assert rule.rcpt(sender="", to=two[:1]).accepted
    assert rule.rcpt(to=two).accepted


@both("blocked")
def test_a_list(recipe: Recipe, name: str) -> None:
    for sender, refused in [("spammer@example.net", True), ("x@mail.bad.example", True), ("ann@example.net", False)]:
        assert recipe(name).mail(sender=sender).refused is refused


def test_who_guesses_is_slowed_down(recipe: Recipe) -> None:
    strangers = [f"{number}@elsewhere.example" for number in range(13)]
    rule = recipe("guessing")
    began = rule.clock()
    run = rule.send(to=strangers)
    assert run.replies["10@elsewhere.example"].startswith("554 5.7.1 ")
    assert run.reply == "421 4.7.0 Too many unknown recipients"
    assert rule.clock() - began == 14


@pytest.mark.parametrize(("hour", "reader"), [(3, "oncall"), (12, "support"), (18, "oncall")])
def test_out_of_office_hours(recipe: Recipe, hour: int, reader: str) -> None:
    rule = recipe("night")
    rule.clock.advance((hour - time.localtime(rule.clock()).tm_hour) % 24 * 3600)
    assert rule.send(to="support@example.com").delivered["default"].recipients == [f"{reader}@example.com"]


def test_what_is_nobodys_business(recipe: Recipe) -> None:
    message = "X-Mailer: x\nX-Originating-IP: 10.0.0.1\nSubject: hi\n\n"
    assert list(recipe("hide-inside").header(message=message, login="ann").mail.header) == [("Subject", "hi")]
    assert recipe("hide-inside").header(message=message).diff == ""


def test_a_trace_is_kept(recipe: Recipe) -> None:
    assert recipe("trace-ann").mail(sender="ann@example.com").mail.traced
    assert not recipe("trace-ann").mail().mail.traced


@both("no-utf8")
def test_less_is_offered(recipe: Recipe, name: str) -> None:
    assert "SMTPUTF8" not in recipe(name).capabilities(client="192.0.2.25").offer
    assert "SMTPUTF8" in recipe(name).capabilities().offer


def test_a_heart_beats(recipe: Recipe) -> None:
    rule = recipe("heartbeat")
    rule.http["https://ops.example/alive"] = 200
    rule.hook("watch_message")
    rule.clock.advance("11m")
    assert len(rule.http.asked) == 2


def test_what_could_not_be_judged_is_held(recipe: Recipe) -> None:
    run = recipe("careful").send(message="X-Amount: much\n\n", fails=True)
    assert list(run.delivered) == ["quarantine"]
    assert recipe("careful").send(message="X-Amount: 12.5\n\n").mail.notes.amount == 12.5


# -- docs/haraka.md ----------------------------------------------------------------------------------------------------


@both("record-envelope")
def test_the_envelope_is_recorded(recipe: Recipe, name: str) -> None:
    run = recipe(name).send(sender="s@b.example", to=["a@example.com", "b@example.com"], message="\nHello\n")
    recorded = b"X-Envelope-From: s@b.example\r\nX-Envelope-To: a@example.com\r\nX-Envelope-To: b@example.com\r\n"
    assert run.message == recorded + b"\r\nHello\r\n"


def test_signatures(recipe: Recipe) -> None:
    known = recipe("signatures").configure(signatures=["joe@spam.example"])
    assert known.message(message=HIDDEN).reply == "550 5.7.1 Mail matches a known spam signature"
    assert recipe("signatures").message(message=HIDDEN).accepted


def test_block_me(recipe: Recipe) -> None:
    rule, block_me = recipe("block-me"), {"to": "block-me@example.com", "message": HIDDEN}
    assert rule.message(sender="ann@example.com", **block_me).mail.via is None
    assert rule.mail(sender="joe@spam.example").accepted
    refused = rule.message(sender="bob@example.com", login="bob", **block_me)
    assert refused.reply == "550 5.7.1 You are not allowed to block mail, bob@example.com"
    assert list(rule.send(sender="ann@example.com", login="ann", **block_me).delivered) == ["trash"]
    assert rule.mail(sender="joe@spam.example").reply == "550 5.7.1 You are blocked"


@both("disposable")
def test_disposable_addresses(recipe: Recipe, name: str) -> None:
    rule = recipe(name)  # the clock stands at 2023-11-14
    assert rule.rcpt(to="ann-20231113@example.com").reply == "550 5.7.1 Expired email address"
    assert rule.send(to="ann-20991231@example.com").delivered["default"].recipients == ["ann@example.com"]
    assert rule.send(to="ann@example.com").delivered["default"].recipients == ["ann@example.com"]
