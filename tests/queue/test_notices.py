"""What a sender is told, and what not (RFC 3461), from the commands of a client to the notice at its server."""

from __future__ import annotations

import email
import email.policy
from collections.abc import Callable, Iterator
from email.message import EmailMessage

import pytest

from smtpproxy.testing.instance import one_listener
from smtpproxy.testing.process import RunningServer
from smtpproxy.testing.upstream import KEYWORDS, FakeUpstream
from smtpproxy.testing.waiting import until

MESSAGE = b"Subject: hello\r\nMessage-ID: <1@client.example>\r\n\r\n.text\r\n"
ALL = "NOTIFY=SUCCESS,FAILURE,DELAY"


class Senders(FakeUpstream):
    """Where senders have their mailboxes; what comes are notices."""

    @property
    def notices(self) -> list[EmailMessage]:
        contents = [message.content.replace(b"\r\n", b"\n") for message in self.messages]
        return [email.message_from_bytes(content, policy=email.policy.default) for content in contents]  # type: ignore[misc]

    def one(self) -> EmailMessage:
        self.wait_for(lambda it: it.messages)
        (notice,) = self.notices
        return notice


class Post:
    """A server of ours whose mail goes to `upstream`, its notices to `senders`."""

    def __init__(self, start: Callable[..., RunningServer], upstream: FakeUpstream, senders: Senders) -> None:
        self._start = start
        self.upstream = upstream
        self.senders = senders

    def open(self, queue: str = 'retry = ["300ms"]', rules: dict[str, str] | None = None) -> None:
        routes = f'[route."client.example"]\nto = ["{self.senders.address}"]\n[route."*"]\nto = ["{self.upstream.address}"]\n'
        self.server = self._start(one_listener("queue", more=f"[queue]\n{queue}\n{routes}"), rules)

    def send(self, *rcpts: str, mail: str = "", message: bytes = MESSAGE, sender: str = "a@client.example") -> None:
        with self.server.client() as client:
            assert client.send(f"MAIL FROM:<{sender}> {mail}".strip()).code == 250
            for rcpt in rcpts:
                address, _, params = rcpt.partition(" ")
                assert client.send(f"RCPT TO:<{address}@example.com> {params}".strip()).code == 250
            assert client.message(message).code == 250

    def quiet(self, event: str) -> bool:
        """Nobody hears of what is in the log: the first notice is of a later mail."""
        until(lambda: f"event={event}" in self.server.log)
        self.send("nobody-later")
        return fields(self.senders.one())[1]["Final-Recipient"] == "rfc822; nobody-later@example.com"


@pytest.fixture
def senders() -> Iterator[Senders]:
    with Senders() as server:
        yield server


@pytest.fixture
def post(start: Callable[..., RunningServer], upstream: FakeUpstream, senders: Senders) -> Post:
    upstream.on("RCPT", "550 5.1.1 No such user", argument="nobody")
    upstream.on("RCPT", "451 4.2.1 Busy", argument="busy")
    return Post(start, upstream, senders)


def fields(notice: EmailMessage) -> list[dict[str, str]]:
    """Of the delivery status: the mail's, then each recipient's."""
    return [dict(part.items()) for part in notice.get_payload()[1].get_payload()]  # type: ignore[union-attr,index]


def test_dsn_is_offered(post: Post) -> None:
    post.open()
    with post.server.client() as client:
        assert "DSN" in str(client.send("EHLO client.example"))


def test_a_failure_with_all_that_the_sender_has_said_about_it(post: Post) -> None:
    post.open()
    post.send("nobody NOTIFY=FAILURE ORCPT=rfc822;No+2BBody@example.com", mail="RET=HDRS ENVID=QQ+2B1")
    notice = post.senders.one()
    mail, rcpt = fields(notice)
    assert mail["Original-Envelope-Id"] == "QQ+1"
    assert (rcpt["Original-Recipient"], rcpt["Action"]) == ("rfc822; No+Body@example.com", "failed")
    assert (rcpt["Remote-MTA"], rcpt["Diagnostic-Code"]) == ("dns; [127.0.0.1]", "smtp; 550 5.1.1 No such user")
    assert rcpt["Final-Log-ID"] in post.server.log
    assert (notice["Subject"], notice["References"]) == ("Mail could not be delivered", "<1@client.example>")
    assert "<nobody@example.com>\n    550 5.1.1 No such user" in notice.get_payload(0).get_content()  # type: ignore[union-attr]
    (sent,) = post.senders.messages
    assert (sent.sender, sent.recipients) == ("", ["a@client.example"])


@pytest.mark.parametrize("notify", ["NEVER", "SUCCESS", "SUCCESS,DELAY"])
def test_a_failure_that_nobody_wants_to_hear_of(post: Post, notify: str) -> None:
    post.open()
    post.send(f"nobody NOTIFY={notify}")
    assert post.quiet("failed")


def test_of_several_those_are_told_whose_sender_wants_it(post: Post) -> None:
    post.open()
    post.send("nobody1 NOTIFY=NEVER", "nobody2 NOTIFY=FAILURE", "nobody3", "b")
    told = [rcpt["Final-Recipient"] for rcpt in fields(post.senders.one())[1:]]
    assert sorted(told) == ["rfc822; nobody2@example.com", "rfc822; nobody3@example.com"]


def test_the_whole_mail_comes_back_where_that_is_wanted(post: Post) -> None:
    post.open()
    post.send("nobody", mail="RET=FULL")
    (returned,) = post.senders.one().get_payload(2).get_payload()  # type: ignore[union-attr]
    assert (returned["Subject"], returned.get_payload()) == ("hello", ".text\n")


def test_a_large_one_comes_back_as_its_header(post: Post) -> None:
    post.open('retry = ["300ms"]\n[queue.notice]\nfull = "1KB"')
    post.send("nobody", mail="RET=FULL", message=MESSAGE + b"x" * 70 + b"\r\n" * 600)
    returned = post.senders.one().get_payload(2)
    assert returned.get_content_type() == "text/rfc822-headers"  # type: ignore[union-attr]


def test_a_success_is_told_for_a_server_that_would_not(post: Post) -> None:
    post.open()
    post.send(f"b {ALL} ORCPT=rfc822;b@example.com", "c", mail="RET=FULL")
    notice = post.senders.one()
    (rcpt,) = fields(notice)[1:]
    assert (rcpt["Action"], rcpt["Status"][0], rcpt["Final-Recipient"]) == ("relayed", "2", "rfc822; b@example.com")
    assert notice.get_payload(2).get_content_type() == "text/rfc822-headers"  # type: ignore[union-attr]
    assert notice["Subject"] == "Mail was handed on"


def test_a_server_that_knows_dsn_tells_it_itself(post: Post) -> None:
    post.upstream.keywords = [*KEYWORDS, "DSN"]
    post.open()
    post.send(f"b {ALL} ORCPT=rfc822;b@example.com", mail="RET=HDRS ENVID=1")
    post.upstream.wait_for(lambda it: it.messages)
    assert post.quiet("delivered")
    assert f"RCPT TO:<b@example.com> {ALL} ORCPT=rfc822;b@example.com" in post.upstream.commands
    assert any(line.endswith(" RET=HDRS ENVID=1") for line in post.upstream.commands)


def test_behind_lmtp_it_is_delivered(start: Callable[..., RunningServer], senders: Senders) -> None:
    with FakeUpstream(lmtp=True) as store:
        post = Post(start, store, senders)
        post.open()
        post.send(f"b {ALL}")
        assert fields(senders.one())[1]["Action"] == "delivered"


def test_a_delay_is_told_once_and_the_failure_in_the_end(post: Post) -> None:
    post.open('retry = ["200ms"]\nwarn = "500ms"\nlifetime = "3s"')
    post.send("busy")
    post.senders.wait_for(lambda it: len(it.messages) == 2)
    warning, failure = post.senders.notices
    (delayed,) = fields(warning)[1:]
    assert (delayed["Action"], delayed["Status"], "Will-Retry-Until" in delayed) == ("delayed", "4.2.1", True)
    assert (warning["Subject"], failure["Subject"]) == ("Mail is delayed", "Mail could not be delivered")
    assert [rcpt["Action"] for rcpt in fields(failure)[1:]] == ["failed"]
    assert until(lambda: post.server.log.count("event=deferred")) > 3


def test_the_warning_does_not_wait_for_the_next_attempt(post: Post) -> None:
    post.open('retry = ["1h"]\nwarn = "500ms"')
    post.send("busy")
    assert fields(post.senders.one())[1]["Action"] == "delayed"


def test_a_delay_that_nobody_wants_to_hear_of(post: Post) -> None:
    post.open('retry = ["200ms"]\nwarn = "300ms"\nlifetime = "1s"')
    post.send("busy NOTIFY=FAILURE")
    assert fields(post.senders.one())[1]["Action"] == "failed"


def test_a_warning_can_be_off(post: Post) -> None:
    post.open('retry = ["200ms"]\nwarn = 0\nlifetime = "1s"')
    post.send("busy")
    assert fields(post.senders.one())[1]["Action"] == "failed"


@pytest.mark.parametrize(("rcpt", "event"), [("b", "delivered"), ("busy", "expired"), ("nobody", "failed")])
def test_the_null_sender_hears_of_nothing(post: Post, rcpt: str, event: str) -> None:
    post.open('retry = ["200ms"]\nwarn = "300ms"\nlifetime = "1s"')
    post.send(f"{rcpt} {ALL}", sender="")
    assert post.quiet(event)


def test_internationalized_mail_has_internationalized_notices(post: Post) -> None:
    post.open()
    post.send("nobody\u00fc ORCPT=utf-8;n\u00fc@example.com", mail="SMTPUTF8")
    notice = post.senders.one()
    assert notice.get_param("report-type") == "global-delivery-status"
    (sent,) = post.senders.messages
    assert "Final-Recipient: utf-8; nobody\u00fc@example.com".encode() in sent.content
    assert "Original-Recipient: utf-8; n\u00fc@example.com".encode() in sent.content
    assert any("SMTPUTF8" in line for line in post.senders.commands if line.startswith("MAIL"))


def test_texts_of_ones_own(post: Post) -> None:
    own = 'failed_subject = "Unzustellbar f\u00fcr Sie"\nfailed = """Leider:\n%(recipients)s\n%(sender)s %(hostname)s %(id)s"""'
    post.open(f'retry = ["300ms"]\n[queue.notice]\n{own}')
    post.send("nobody")
    notice = post.senders.one()
    assert notice["Subject"] == "Unzustellbar f\u00fcr Sie"
    words = notice.get_payload(0).get_content()  # type: ignore[union-attr]
    assert words.startswith("Leider:\n<nobody@example.com>\n    550 5.1.1 No such user\n")
    assert "a@client.example mx.example.com " in words


def test_a_text_with_an_unknown_place_stops_the_start(post: Post) -> None:
    with pytest.raises(AssertionError, match=r"%\(reason\)s is unknown here"):
        post.open('[queue.notice]\nfailed = "%(reason)s"')


TOLD = {
    "10-x.py": """
def on_bounced(delivery):
    if delivery.kind == "bad-mailbox":
        delivery.notice_subject = "Who is " + delivery.recipients[0].local_part + "?"
        delivery.notice = "Look into our address book.\\n" + str(delivery.reply)
""",
    "10-x.lua": """
function on_bounced(delivery)
  if delivery.kind == "bad-mailbox" then
    delivery.notice_subject = "Who is " .. delivery.recipients[1].local_part .. "?"
    delivery.notice = "Look into our address book.\\n" .. tostring(delivery.reply)
  end
end
""",
}


@pytest.mark.parametrize("name", TOLD)
def test_a_rule_writes_the_notice(post: Post, name: str) -> None:
    post.open(rules={name: TOLD[name]})
    post.send("nobody")
    notice = post.senders.one()
    assert notice["Subject"] == "Who is nobody?"
    assert notice.get_payload(0).get_content() == "Look into our address book.\n550 5.1.1 No such user\n"  # type: ignore[union-attr]
    assert fields(notice)[1]["Status"] == "5.1.1"


@pytest.mark.parametrize(
    ("hook", "words"),
    [
        ('def on_deferred(delivery):\n    delivery.notice = "x"', "can be said at on_bounced alone"),
        ("def on_bounced(delivery):\n    delivery.notice = 3", "is a text"),
        ('def on_bounced(delivery):\n    delivery.notice = "x" * 70000', "is a text of at most 65536 characters"),
    ],
)
def test_what_cannot_be_a_notice_fails_the_rule_and_the_sender_is_told_all_the_same(post: Post, hook: str, words: str) -> None:
    post.open(rules={"10-x.py": hook})
    post.send("busy", "nobody")
    until(lambda: words in post.server.log)
    assert post.senders.one()["Subject"] == "Mail could not be delivered"


def test_the_kind_of_a_refusal_stands_in_the_log(post: Post) -> None:
    post.open('retry = ["300ms"]\nclasses = ["partner: busy"]')
    post.send("nobody", "busy", "b")
    lines = until(lambda: [line for line in post.server.log.splitlines() if "event=failed" in line])
    assert "kind=bad-mailbox" in lines[0]
    assert "kind=partner" in until(lambda: [line for line in post.server.log.splitlines() if "event=deferred" in line])[0]
    assert "kind=" not in next(line for line in post.server.log.splitlines() if "event=delivered" in line)
