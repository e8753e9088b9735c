"""AUTH in the session: what is offered, who gets in, what becomes of those who do not, and that nobody reads passwords."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import gevent
import pytest
import scramp

from smtpproxy.accounts.base import Account, Accounts, AccountsError
from smtpproxy.accounts.hashing import Hashing
from smtpproxy.config.limits import Limits
from smtpproxy.config.values import Duration, Networks, Size
from smtpproxy.scripting.trace import story
from smtpproxy.stores.memory import MemoryStore
from smtpproxy.testing.client import FakeClient, Reply
from smtpproxy.testing.front import Front
from smtpproxy.testing.handoffs import FakeOutlet, live
from smtpproxy.wire.sasl import MECHANISMS
from smtpproxy.wire.scram import ScramKeys

ANN, PASSWORD = "ann@example.com", "correct horse"
OFFERED = ("SCRAM-SHA-256", "PLAIN", "LOGIN", "XOAUTH2", "OAUTHBEARER", "EXTERNAL")
TOKEN_RULE = """
from smtpproxy.script import accept, deny, log

def on_auth(client, login):
    log.info(f"{login} by {login.mechanism}")
    if login.password == "t0ken":
        return accept()
    if login.name == "locked":
        return deny("Locked")
    if login.name == "later":
        return defer("Later")
""".replace("accept, deny", "accept, defer, deny")


class Known(Accounts):
    """Ann, whose password is known; what is called "down" cannot be looked up."""

    keyed = True

    def __init__(self) -> None:
        super().__init__("staff", Hashing())
        self.ann = Account(ANN, ("sales@example.com",), "", ScramKeys.derive(PASSWORD, b"salt" * 4, 4096))

    def find(self, name: str) -> Account | None:
        if name == "down":
            raise AccountsError("the database is down")
        return self.ann if name.lower() == ANN else None

    def exists(self, address: str) -> bool:
        return address == ANN

    def check(self, name: str, password: str) -> Account | None:
        account = self.find(name)
        return account if password == PASSWORD else None


class Sleeps(list[float]):
    """How long somebody was to wait; nobody does."""

    def __call__(self, seconds: float) -> None:
        self.append(seconds)
        gevent.sleep(0)


Begin = Callable[..., Front]


@pytest.fixture
def out() -> FakeOutlet:
    return live()


@pytest.fixture
def sleeps() -> Sleeps:
    return Sleeps()


@pytest.fixture
def front(tmp_path: Path, out: FakeOutlet, sleeps: Sleeps) -> Iterator[Begin]:
    """Sessions that offer logins in the clear, with these rules."""
    fronts = []

    def make(rule: str = "", /, **options: Any) -> Front:
        given: dict[str, Any] = {"accounts": Known(), "mechanisms": OFFERED, "auth_in_clear": True, **options}
        rules = {"10-rule.py": rule} if rule else {}
        doors: Mapping[str, Any] = {"sleep": sleeps, "store": MemoryStore()}
        fronts.append(Front(out, folder=tmp_path, rules=rules, doors=doors, **given))
        return fronts[-1]

    yield make
    for it in fronts:
        it.close()


def b64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def plain(name: str = ANN, password: str = PASSWORD) -> str:
    return f"AUTH PLAIN {b64(f'{chr(0)}{name}{chr(0)}{password}')}"


# -- what is offered -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "rule", "offered"),
    [
        ({}, "", "AUTH SCRAM-SHA-256 PLAIN LOGIN"),
        ({}, TOKEN_RULE, "AUTH SCRAM-SHA-256 PLAIN LOGIN XOAUTH2 OAUTHBEARER"),
        ({"accounts": None}, TOKEN_RULE, "AUTH PLAIN LOGIN XOAUTH2 OAUTHBEARER"),
        ({"mechanisms": ("PLAIN",)}, TOKEN_RULE, "AUTH PLAIN"),
        ({"mechanisms": MECHANISMS}, "", "AUTH SCRAM-SHA-256 PLAIN LOGIN"),
        ({"auth_in_clear": False}, TOKEN_RULE, ""),
        ({"accounts": None}, "", ""),
    ],
)
def test_only_what_could_succeed_is_offered(front: Begin, options: dict[str, Any], rule: str, offered: str) -> None:
    client = FakeClient.greeted(front(rule, **options).port, "NOOP")
    found = [line for line in client.send("EHLO client.example").texts if line.startswith("AUTH")]
    assert found == ([offered] if offered else [])


# -- who gets in ---------------------------------------------------------------------------------------------------------


def test_plain_with_and_without_an_initial_response(front: Begin) -> None:
    begun = front()
    assert begun.client().send(plain()) == "235 2.7.0 Authentication successful"
    client = begun.client()
    assert client.send("auth plain") == "334 "
    assert client.send(plain().split()[2]) == "235 2.7.0 Authentication successful"


def test_login_asks_for_name_and_password(front: Begin) -> None:
    begun = front()
    client = begun.client()
    assert client.send("AUTH LOGIN") == f"334 {b64('Username:')}"
    assert client.send(b64(ANN)) == f"334 {b64('Password:')}"
    assert client.send(b64(PASSWORD)).code == 235
    client = begun.client()
    assert client.send(f"AUTH LOGIN {b64(ANN)}") == f"334 {b64('Password:')}"
    assert client.send(b64(PASSWORD)).code == 235


def scram(client: FakeClient, name: str, password: str) -> Reply:
    peer = scramp.ScramClient(["SCRAM-SHA-256"], name, password)
    reply = client.send(f"AUTH SCRAM-SHA-256 {b64(peer.get_client_first())}")
    peer.set_server_first(base64.b64decode(reply[4:]).decode())
    reply = client.send(b64(peer.get_client_final()))
    if reply.code == 334:
        peer.set_server_final(base64.b64decode(reply[4:]).decode())
        reply = client.send("")
    return reply


def test_scram_needs_no_password_on_the_wire(front: Begin) -> None:
    begun = front()
    assert scram(begun.client(), ANN, PASSWORD) == "235 2.7.0 Authentication successful"
    for name, password in ((ANN, "wrong"), ("bob", PASSWORD)):
        assert scram(begun.client(), name, password) == "535 5.7.8 Authentication credentials invalid"


def test_who_has_logged_in_may_relay_and_the_log_says_who_it_was(front: Begin, out: FakeOutlet) -> None:
    begun = front()
    client = begun.client()
    assert client.send("MAIL FROM:<a@client.example>").code == 250
    assert client.send("RCPT TO:<b@elsewhere.example>").code == 554
    client.send("RSET")
    client.send(plain())
    for line in ("MAIL FROM:<a@client.example> AUTH=<>", "RCPT TO:<b@elsewhere.example>"):
        assert client.send(line).code == 250
    assert client.message(b"Subject: x\r\n\r\nhello\r\n").code == 250
    (message,) = begun.logged("message")
    assert message["login"] == ANN
    assert b" with ESMTPA " in out.delivered[0].content.partition(b"\r\n\r\n")[0]
    (login,) = begun.logged("login")
    assert login == {"id": "1", "client": "127.0.0.1", "login": ANN, "mechanism": "PLAIN", "by": "[users.staff]"}


def test_a_line_of_12288_octets_is_taken_and_no_other_command_grows(front: Begin) -> None:
    begun = front(limits=Limits(line_length=Size(100), auth_delay=Duration(0)))
    client = begun.client()
    room = 12288 - len("AUTH PLAIN ")
    response = base64.b64encode(b"\0" + ANN.encode() + b"\0" + b"x" * (room // 4 * 3 - len(ANN) - 2)).decode()
    assert len(response) == room // 4 * 4
    assert client.send(f"AUTH PLAIN {response}").code == 535
    assert client.send("AUTH PLAIN") == "334 "
    assert client.send("x" * 12289) == "500 5.5.6 Authentication exchange line is too long"
    assert client.send(f"NOOP {'x' * 100}") == "500 5.5.2 Line too long"
    assert client.send("NOOP").code == 250
    assert client.send(plain()).code == 235


# -- the rules of the command ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("lines", "reply"),
    [
        (["AUTH"], "501 5.5.4 Syntax: AUTH mechanism [initial-response]"),
        (["AUTH PLAIN a b"], "501 5.5.4 Syntax: AUTH mechanism [initial-response]"),
        (["AUTH CRAM-MD5"], "504 5.5.4 Authentication mechanism is not supported"),
        (["AUTH XOAUTH2 abcd"], "504 5.5.4 Authentication mechanism is not supported"),
        (["AUTH SCRAM-SHA-256-PLUS"], "504 5.5.4 Authentication mechanism is not supported"),
        (["AUTH EXTERNAL ="], "504 5.5.4 Authentication mechanism is not supported"),
        (["AUTH PLAIN", "*"], "501 5.7.0 Authentication cancelled"),
        (["AUTH LOGIN", b64(ANN), "*"], "501 5.7.0 Authentication cancelled"),
        (["AUTH PLAIN", "no base64"], "501 5.5.2 Cannot decode the response"),
        (["AUTH PLAIN ="], "501 5.5.2 Cannot decode the response"),
        (["AUTH PLAIN AAA"], "501 5.5.2 Cannot decode the response"),
        (["MAIL FROM:<a@client.example>", plain()], "503 5.5.1 Not allowed inside a mail transaction"),
        ([plain(), plain()], "503 5.5.1 You have logged in already"),
        ([plain("down")], "454 4.7.0 Temporary authentication failure"),
        ([plain(ANN, "wrong")], "535 5.7.8 Authentication credentials invalid"),
        ([plain("bob\u0007")], "535 5.7.8 Authentication credentials invalid"),
    ],
)
def test_each_refusal_has_its_code_and_the_session_goes_on(front: Begin, lines: list[str], reply: str) -> None:
    client = front().client()
    assert [client.send(line) for line in lines][-1] == reply
    assert client.send("RSET").code == 250
    assert client.send("NOOP").code == 250


def test_auth_comes_after_the_greeting_and_where_it_is_offered(front: Begin, tmp_path: Path) -> None:
    client = FakeClient(front().port)
    client.expect("220")
    assert client.send(plain()) == "503 5.5.1 Send HELO or EHLO first"
    assert front(accounts=None).client().send(plain()) == "502 5.5.1 Logins are not offered here"
    assert front(auth_in_clear=False).client().send(plain()) == (
        "538 5.7.11 Encryption required for requested authentication mechanism"
    )


def test_mail_from_the_logins_own_addresses_only(front: Begin) -> None:
    begun = front(own_senders=True)
    client = begun.client()
    assert client.send("MAIL FROM:<bob@example.com>").code == 250  # nobody has logged in: the relay check decides
    client.send("RSET")
    client.send(plain())
    for sender, code in (("Ann@example.com", 250), ("sales@EXAMPLE.com", 250), ("", 250), ("bob@example.com", 553)):
        reply = client.send(f"MAIL FROM:<{sender}>")
        assert reply.code == code
        client.send("RSET")
    assert reply == f"553 5.7.1 <bob@example.com>: Sender address is not one of {ANN}"


def test_xclient_forgets_the_login(front: Begin) -> None:
    client = front(xclient_from=Networks(["127.0.0.1/32"])).client()
    client.send(plain())
    assert client.send("XCLIENT ADDR=192.0.2.7").code == 220
    client.send("EHLO client.example")
    client.send("MAIL FROM:<a@client.example>")
    assert client.send("RCPT TO:<b@elsewhere.example>").code == 554
    client.send("RSET")
    assert client.send(plain()).code == 235


# -- rules -----------------------------------------------------------------------------------------------------------------


def test_a_rule_is_asked_first_and_where_it_says_nothing_the_accounts_decide(front: Begin) -> None:
    begun = front(TOKEN_RULE)
    for line, reply in (
        (plain("robot", "t0ken"), "235 2.7.0 Authentication successful"),
        (plain(), "235 2.7.0 Authentication successful"),
        (plain("locked", PASSWORD), "535 5.7.8 Locked"),
        (plain("later", PASSWORD), "454 4.7.0 Later"),
        (plain("robot", "t0k"), "535 5.7.8 Authentication credentials invalid"),
    ):
        assert begun.client().send(line) == reply
    assert [record["by"] for record in begun.logged("login")] == ["rule 10-rule", "[users.staff]"]


def test_a_rule_that_fails_lets_nobody_in(front: Begin) -> None:
    begun = front("def on_auth(client, login): 1 / 0\n")
    reply = begun.client().send(plain())
    assert reply.code == 451 and PASSWORD not in reply


def test_a_rule_may_refuse_who_has_proved_itself_by_scram(front: Begin) -> None:
    rule = "from smtpproxy.script import deny\ndef on_auth(client, login): return deny(f'{login.mechanism} {login.password!r}')\n"
    begun = front(rule)
    assert scram(begun.client(), ANN, PASSWORD) == "535 5.7.8 SCRAM-SHA-256 ''"
    assert scram(begun.client(), ANN, "wrong") == "535 5.7.8 Authentication credentials invalid"


def test_tokens_are_for_rules(front: Begin) -> None:
    begun = front(TOKEN_RULE)
    token = b64("user=robot\x01auth=Bearer t0ken\x01\x01")
    assert begun.client().send(f"AUTH XOAUTH2 {token}").code == 235
    assert begun.client().send(f"AUTH OAUTHBEARER {b64(f'n,a=robot,{chr(1)}auth=Bearer t0ken{chr(1)}{chr(1)}')}").code == 235
    client = begun.client()
    wrong = b64(f"user={ANN}\x01auth=Bearer {PASSWORD.split()[0]}\x01\x01")
    assert base64.b64decode(client.send(f"AUTH XOAUTH2 {wrong}")[4:]) == b'{"status":"invalid_token"}'
    assert client.send("AQ==") == "535 5.7.8 Authentication credentials invalid"


def test_observers_learn_who_has_logged_in_and_no_password(front: Begin) -> None:
    begun = front(
        "from smtpproxy.script import log\n"
        "def watch_auth(client, login): log.info(f'{client.login} {login} {login.mechanism} {login.password!r}')\n"
    )
    assert begun.client().send(plain()).code == 235
    with gevent.Timeout(5):
        while not (lines := begun.logged("rule_log") or begun.logged("rule")):
            gevent.sleep(0.01)
    assert f"{ANN} {ANN} PLAIN ''" in str(lines)


# -- those who fail ------------------------------------------------------------------------------------------------------


def test_the_third_failure_ends_the_session(front: Begin) -> None:
    client = front().client()
    for _ in range(3):
        assert client.send(plain(ANN, "wrong")) == "535 5.7.8 Authentication credentials invalid"
    assert client.reply() == "421 4.7.0 Too many failed logins"
    assert client.closed()


def test_failures_are_answered_later_and_later_by_address_and_by_name(front: Begin, sleeps: Sleeps) -> None:
    begun = front(limits=Limits(auth_failures=0, errors=0), xclient_from=Networks(["127.0.0.1/32"]))
    client = begun.client()
    for _ in range(7):
        client.send(plain(ANN, "wrong"))
    assert sleeps == [1, 2, 4, 8, 16, 16, 16]
    sleeps.clear()
    client.send("XCLIENT ADDR=192.0.2.7")
    client.send("EHLO client.example")
    client.send(plain(ANN, "wrong"))  # another address, the same name
    client.send(plain("bob", "wrong"))
    assert sleeps == [16, 2]
    sleeps.clear()
    assert client.send(plain()).code == 235
    assert sleeps == []


def test_what_may_pass_later_is_not_counted(front: Begin, sleeps: Sleeps) -> None:
    client = front(limits=Limits(auth_failures=1)).client()
    for _ in range(3):
        assert client.send(plain("down")).code == 454
    assert sleeps == []


def test_a_failure_is_logged_with_its_address_and_name(front: Begin) -> None:
    begun = front()
    begun.client().send(plain(ANN, "wrong"))
    (failed,) = begun.logged("login_failed")
    assert (failed["client"], failed["login"], failed["mechanism"]) == ("127.0.0.1", ANN, "PLAIN")


# -- nobody reads passwords --------------------------------------------------------------------------------------------

SECRET = "hunter2secret"
LOOKS = """
from smtpproxy.script import log

def on_command(client, verb, argument):
    log.info(f"{verb} {argument}")

def watch_command(client, verb, argument):
    log.info(f"{verb} {argument}")
"""
BLIND = ["AUTH LOGIN", b64(ANN), b64(SECRET), SECRET, "MAIL FROM:<a@client.example>"]


@pytest.mark.parametrize(
    "refused",
    ["never offered", "in the clear", "no such mechanism", "cancelled", "wrong", "too long", "at the door"],
)
def test_credentials_are_in_no_log_no_trace_and_no_rule(front: Begin, refused: str) -> None:
    told: list[str] = []
    options: dict[str, Any] = {
        "never offered": {"accounts": None},
        "in the clear": {"auth_in_clear": False},
        "no such mechanism": {"mechanisms": ("PLAIN",)},
    }.get(refused, {})
    rule = LOOKS + ("from smtpproxy.script import deny\ndef on_connect(client): return deny('no')\n" if "door" in refused else "")
    begun = front(rule, story=lambda trace, mail: told.extend(story(trace, mail)), **options)
    client = FakeClient(begun.port)
    client.reply()
    client.send("EHLO client.example")
    (session,) = begun.sessions
    lines = {
        "cancelled": ["AUTH LOGIN", "*", b64(SECRET), SECRET],
        "too long": [f"AUTH PLAIN {'x' * 12288}", b64(SECRET), SECRET],
        "wrong": [f"AUTH PLAIN {b64(f'{chr(0)}{ANN}{chr(0)}{SECRET}')}", f"AUTH {b64(SECRET)}", f"AUTH PLAIN {SECRET} {SECRET}"],
    }.get(refused, BLIND)
    client.raw("".join(f"{line}\r\n" for line in lines).encode())
    client.send("NOOP")
    events = [*session.trace.prelude, *session.trace.events]
    client.close()
    with gevent.Timeout(5):
        while begun.sessions:
            gevent.sleep(0.01)
    everything = f"{events} {begun.records} {told} {story(session.trace)}".lower()
    assert "auth" in everything
    for hidden in (SECRET, b64(SECRET), b64(ANN)):
        assert hidden.lower() not in everything


def test_the_trace_says_who_came_in_by_what(front: Begin) -> None:
    begun = front()
    client = begun.client()
    (session,) = begun.sessions
    client.send(plain())
    lines = "\n".join(story(session.trace))
    assert "AUTH PLAIN ..." in lines and f"logged in as {ANN} by PLAIN: [users.staff]" in lines
