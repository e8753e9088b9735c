"""What the dialogues in tests/conversations cannot show: limits to the octet, memory, time, rules that change meanwhile."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from textwrap import dedent

import gevent
import pytest

from smtpproxy.config.limits import Limits, LimitTimeouts
from smtpproxy.config.schema import Relaying
from smtpproxy.config.values import Domains, Duration, Networks, Size
from smtpproxy.session.session import Session
from smtpproxy.testing.client import FakeClient, Reply
from smtpproxy.testing.front import ENVELOPE, Front
from smtpproxy.testing.handoffs import FakeOutlet, durable
from smtpproxy.testing.process import RunningServer
from smtpproxy.testing.waiting import until

MESSAGE = b"Subject: x\r\n\r\nhello\r\n"

Begin = Callable[..., Front]


def replies(client: FakeClient, stage: str = "") -> Reply:
    """Go through a transaction until something is refused, and return that or the final reply."""
    for line in ENVELOPE:
        if (reply := client.send(line)).code >= 400:
            return reply
    return client.message(MESSAGE)


# -- limits ------------------------------------------------------------------------------------------------------------


def sized(octets: int) -> bytes:
    """A message of exactly so many octets."""
    head = b"Subject: x\r\n\r\n"
    lines, rest = divmod(octets - len(head), 50)
    return head + (b"." + b"x" * 47 + b"\r\n") * (lines - 1) + b"x" * (48 + rest) + b"\r\n"


@pytest.mark.parametrize("rule", ["", "def on_message(mail): pass\n"], ids=["streamed", "stored"])
def test_a_message_of_just_the_limit_is_taken_and_one_octet_more_is_not(front: Begin, out: FakeOutlet, rule: str) -> None:
    client = front(rule, limits=Limits(message_size=Size(1000))).client()
    for octets, code in ((1000, 250), (1001, 552)):
        assert len(sized(octets)) == octets
        for line in ENVELOPE:
            client.send(line)
        assert client.message(sized(octets)).code == code
    assert len(out.delivered) == 1


def test_stuffed_dots_do_not_count(front: Begin) -> None:
    body = b"\r\n" + b".\r\n" * 300
    client = front(limits=Limits(message_size=Size(len(body)))).begun()
    assert client.message(body).code == 250


@pytest.mark.parametrize(("size", "code"), [(1000, 250), (1001, 552)])
def test_a_declared_size_is_refused_at_once(front: Begin, size: int, code: int) -> None:
    client = front(limits=Limits(message_size=Size(1000))).client()
    assert client.send(f"MAIL FROM:<a@client.example> SIZE={size}").code == code


@pytest.mark.parametrize(("extra", "code"), [(0, 250), (1, 554)])
@pytest.mark.parametrize("body", [b"body\r\n", b"x\r\n" * 1000])
def test_a_header_of_just_the_limit(front: Begin, extra: int, code: int, body: bytes) -> None:
    header = b"X-Pad: " + b"x" * (200 - 11 + extra) + b"\r\n\r\n"
    client = front(limits=Limits(header_size=Size(200))).begun()
    assert client.message(header + body).code == code
    assert client.send("NOOP").code == 250


@pytest.mark.parametrize(
    ("header", "code"),
    [
        (b"X: y\r\n" * 10, 250),
        (b"X: y\r\n" * 11, 554),
        (b"X: y\r\n folded\r\n" * 10, 250),
        (b"X: " + b"y" * 95 + b"\r\n", 250),
        (b"X: " + b"y" * 96 + b"\r\n", 554),
        (b"X: " + b"y" * 50 + b"\r\n " + b"y" * 50 + b"\r\n", 554),
    ],
)
def test_fields_of_just_the_limit(front: Begin, header: bytes, code: int) -> None:
    it = front(limits=Limits(header_fields=10, header_field_size=Size(100)))
    client = it.begun()
    assert client.message(header + b"\r\nbody\r\n" * 20).code == code
    assert client.send("NOOP").code == 250
    assert len(it.logged("refused")) == (code == 554)


@pytest.mark.parametrize("header", [b"", b"Subject: in pieces\r\nFrom: a@client.example\r\n"])
def test_a_header_that_comes_in_pieces_ends_at_its_empty_line(front: Begin, out: FakeOutlet, header: bytes) -> None:
    client = front(limits=Limits(header_size=Size(200))).begun()
    client.send("DATA")
    message = header + b"\r\n" + b"body\r\n" * 100
    for piece in (message[at : at + 1] for at in range(60)):
        client.raw(piece)
        gevent.sleep(0)
    client.raw(message[60:] + b".\r\n")
    assert client.reply().code == 250
    assert out.delivered[-1].content.endswith(message)


@pytest.mark.parametrize(("hops", "code"), [(3, 250), (4, 554)])
def test_the_loop_guard_counts_received_fields(front: Begin, hops: int, code: int) -> None:
    client = front(limits=Limits(received=3)).begun()
    body = b"Received: from body by x\r\n" * 10
    assert client.message(b"Received: from a by b\r\n" * hops + b"\r\n" + body).code == code


@pytest.mark.parametrize("place", [0, 1, 2000], ids=["first", "second", "far behind"])
@pytest.mark.parametrize(("length", "code"), [(998, 250), (999, 554)])
def test_a_line_of_just_the_limit(front: Begin, length: int, code: int, place: int) -> None:
    client = front(limits=Limits(text_line_length=Size(998), errors=0)).begun()
    content = b"short line\r\n" * place + b"y" * length + b"\r\nshort\r\n"
    assert client.message(b"Subject: x\r\n\r\n" + content).code == code


def test_recipients_count_when_they_are_accepted(front: Begin, out: FakeOutlet) -> None:
    out.on("recipient", None)
    it = front(limits=Limits(recipients=2))
    client = it.client()
    client.send(ENVELOPE[0])
    names = ("a@elsewhere.example", "b@example.com", "c@example.com", "d@example.com")
    codes = [client.send(f"RCPT TO:<{name}>").code for name in names]
    assert codes == [554, 250, 250, 452]


def test_a_message_taken_forgives_earlier_errors(front: Begin) -> None:
    client = front(limits=Limits(errors=3)).client()
    for _ in range(3):
        assert [client.send("RCPT TO:<b@example.com>").code for _ in range(3)] == [503] * 3
        assert replies(client).code == 250


def test_no_limit_is_no_limit(front: Begin) -> None:
    limits = Limits(
        errors=0, unknown_commands=0, junk_commands=0, recipients=0, message_size=Size(0), header_size=Size(0),
        text_line_length=Size(0), received=0, timeouts=LimitTimeouts(command=Duration(0), data=Duration(0)),
    )  # fmt: skip
    client = front(limits=limits).client()
    assert {reply.code for reply in client.pipeline(["FOO"] * 50)} == {500}
    assert {reply.code for reply in client.pipeline(["NOOP"] * 300)} == {250}
    client.send(ENVELOPE[0])
    client.pipeline([ENVELOPE[1]] * 1100)
    assert client.message(b"Received: a\r\n" * 200 + b"\r\n" + b"x" * 100_000).code == 250


def test_floods_leave_the_memory_as_it_was(start: Callable[..., RunningServer]) -> None:
    server = start(
        'hostname = "mx.example.com"\n[listener.mx]\nbind = ["127.0.0.1:0"]\nhandoff = "out"\n'
        '[handoff.out]\nkind = "discard"\n[relaying]\ndomains = ["example.com"]\n'
    )

    def flood(client: FakeClient, octets: int) -> None:
        chunk = b"x" * (1 << 20)
        try:
            for _ in range(octets >> 20):
                client.raw(chunk)
        except ConnectionError:
            pass

    def all_of_them(octets: int) -> None:
        with server.client() as line:
            flood(line, octets)
        with server.client() as message:
            for command in (*ENVELOPE, "DATA"):
                message.send(command)
            flood(message, octets)
        with server.client() as large:
            for command in (*ENVELOPE, "DATA"):
                large.send(command)
            large.raw(b"\r\n")
            for _ in range(octets // 70 // 1000):
                large.raw((b"y" * 68 + b"\r\n") * 1000)
            large.raw(b".\r\n")
            assert large.reply().code == (552 if octets > 50 << 20 else 250)

    all_of_them(2 << 20)
    before = server.resident
    all_of_them(64 << 20)
    assert server.resident - before < 8 << 20


# -- time --------------------------------------------------------------------------------------------------------------

HURRY = LimitTimeouts(command=Duration(0.4), data=Duration(0.4))


@pytest.mark.parametrize("said", ["", "EHLO client.example", ENVELOPE[0], ENVELOPE[1], "DATA"])
def test_a_client_that_falls_silent_hears_why_it_is_let_go(front: Begin, out: FakeOutlet, said: str) -> None:
    it = front(limits=Limits(timeouts=HURRY))
    client = FakeClient(it.port)
    client.expect("220")
    steps = ["EHLO client.example", *ENVELOPE, "DATA"]
    for line in steps[: steps.index(said) + 1 if said else 0]:
        client.send(line)
    assert client.reply().startswith("421 4.4.2")
    assert client.closed()
    until(lambda: not it.sessions)
    assert "out: begin a@client.example" not in out.journal or "out: abandon" in out.journal


def test_each_block_of_a_message_has_its_own_time(front: Begin) -> None:
    client = front(limits=Limits(timeouts=LimitTimeouts(data=Duration(1.0)))).begun()
    client.send("DATA")
    began = time.monotonic()
    for blocks in range(1, 5):
        client.raw(b"X-Slow: yes\r\n")
        until(lambda blocks=blocks: time.monotonic() > began + blocks * 0.3)  # type: ignore[misc]
    assert client.data(b"\r\n.\r\n").code == 250


def test_a_client_that_does_not_read_its_replies_is_let_go(front: Begin) -> None:
    it = front(limits=Limits(timeouts=HURRY, junk_commands=0))
    client = it.client()
    client.socket.settimeout(3)
    with pytest.raises(OSError):
        while True:
            client.raw(b"HELP\r\n" * 5000)
    until(lambda: not it.sessions)


# -- rules -------------------------------------------------------------------------------------------------------------

HOOKS = {
    "on_connect": "client",
    "on_ehlo": "client, name",
    "on_mail": "mail, sender",
    "on_rcpt": "mail, rcpt",
    "on_data": "mail",
    "on_header": "mail",
    "on_message": "mail",
    "on_route": "mail",
}
VERDICTS = {"deny": "550 5.7.1 no", "defer": "451 4.7.1 no", "close": "421 4.7.0 no"}


def answer_of(it: Front, hook: str) -> tuple[FakeClient, Reply]:
    client = FakeClient(it.port)
    reply = client.reply()
    if hook != "on_connect":
        reply = client.send("EHLO client.example")
        if hook != "on_ehlo":
            reply = replies(client)
    return client, reply


@pytest.mark.parametrize("verdict", VERDICTS)
@pytest.mark.parametrize("hook", HOOKS)
def test_a_verdict_at_every_hook(front: Begin, out: FakeOutlet, hook: str, verdict: str) -> None:
    it = front(f"from smtpproxy.script import {verdict}\ndef {hook}({HOOKS[hook]}):\n    return {verdict}('no')\n")
    client, reply = answer_of(it, hook)
    assert reply == VERDICTS[verdict]
    if verdict == "close":
        assert client.closed()
    else:
        assert client.send("QUIT").code == 221
    assert out.delivered == []
    assert it.logged("refused")[0]["by"].startswith("rule 10-rule:")


@pytest.mark.parametrize("hook", HOOKS)
def test_a_rule_that_raises_defers_with_an_id_that_the_log_knows(front: Begin, out: FakeOutlet, hook: str) -> None:
    it = front(f"def {hook}({HOOKS[hook]}):\n    return 1 / 0\n")
    _, reply = answer_of(it, hook)
    assert reply.code == 451
    assert "division" not in reply
    assert any("ZeroDivisionError" in str(fields) and fields["id"] in reply for _, fields in it.records if "id" in fields)
    assert out.delivered == []


def test_a_rule_that_takes_too_long_is_a_rule_that_fails(front: Begin, out: FakeOutlet) -> None:
    rule = "import gevent\ndef on_rcpt(mail, rcpt):\n    gevent.sleep(30)\n"
    client = front(rule, settings={"10-rule": {"wall": "100ms"}}).client()
    client.send(ENVELOPE[0])
    reply = client.send(ENVELOPE[1])
    assert reply.startswith("451 4.")
    assert client.send("NOOP").code == 250
    assert out.journal == []


def test_a_client_refused_on_connect_hears_it_until_it_quits(front: Begin) -> None:
    it = front("from smtpproxy.script import deny\ndef on_connect(client):\n    return deny('no', code='554 5.7.1')\n")
    client = FakeClient(it.port)
    client.expect("554 5.7.1 no")
    for line in ("EHLO client.example", ENVELOPE[0], "NOOP", "RSET", "FOO"):
        assert client.send(line) == "554 5.7.1 no"
    assert client.send("QUIT").code == 221
    assert client.closed()


def test_a_command_may_be_refused_before_anything_is_made_of_it(front: Begin) -> None:
    it = front(
        "from smtpproxy.script import deny\n"
        "def on_command(client, verb, argument):\n    if verb == 'VRFY': return deny('no', code='502 5.5.1')\n"
    )
    client = it.client()
    assert client.send("VRFY b") == "502 5.5.1 no"
    assert client.send("NOOP").code == 250


def test_a_transaction_given_up_is_told_and_one_that_went_through_is_not(front: Begin) -> None:
    it = front("from smtpproxy.script import log\ndef on_reset(mail):\n    log.info(f'given up {mail.id}')\n")
    client = it.client()
    assert replies(client).code == 250
    client.send(ENVELOPE[0])
    client.send("RSET")
    told = [str(fields) for _, fields in it.records if "given up" in str(fields)]
    assert len(told) == 1
    assert "given up 1.2" in told[0]


# -- rules that are saved meanwhile --------------------------------------------------------------------------------------

SAYS = "from smtpproxy.script import deny\ndef on_data(mail):\n    return deny('{}')\ndef on_mail(mail, sender):\n    pass\n"


@pytest.mark.parametrize(
    ("pin", "at_once", "next_mail", "next_session"),
    [("hook", "new", "new", "new"), ("transaction", "old", "new", "new"), ("session", "old", "old", "new")],
)
def test_when_a_saved_rule_takes_effect(
    front: Begin, tmp_path: Path, pin: str, at_once: str, next_mail: str, next_session: str
) -> None:
    it = front(SAYS.format("old"), pin=pin)
    client = it.begun()
    (tmp_path / "10-rule.py").write_text(SAYS.format("new"))
    it.reload()
    assert client.send("DATA") == f"550 5.7.1 {at_once}"
    client.send("RSET")
    assert replies(client) == f"550 5.7.1 {next_mail}"
    assert replies(it.client()) == f"550 5.7.1 {next_session}"


# -- who may relay -------------------------------------------------------------------------------------------------------

OURS = {"relaying": Relaying(domains=Domains(["example.com"])), "xclient_from": Networks(["127.0.0.0/8"])}


def elsewhere(client: FakeClient) -> int:
    client.send(ENVELOPE[0])
    return client.send("RCPT TO:<b@elsewhere.example>").code


def test_nobody_relays_by_default(front: Begin, out: FakeOutlet) -> None:
    assert elsewhere(front().client()) == 554
    assert out.journal == []


@pytest.mark.parametrize("hook", ["on_connect", "on_ehlo", "on_mail", "on_rcpt", "on_command"])
def test_accept_alone_grants_nothing(front: Begin, hook: str) -> None:
    arguments = {**HOOKS, "on_command": "client, verb, argument"}[hook]
    it = front(f"from smtpproxy.script import accept\ndef {hook}({arguments}):\n    return accept()\n")
    assert elsewhere(it.client()) == 554


def test_accept_with_relay_grants_this_recipient_only(front: Begin) -> None:
    test = "if rcpt.local_part == 'b': return accept(relay=True)"
    rule = f"from smtpproxy.script import accept\ndef on_rcpt(mail, rcpt):\n    {test}\n"
    client = front(rule).client()
    assert elsewhere(client) == 250
    assert client.send("RCPT TO:<c@elsewhere.example>").code == 554


def test_a_grant_does_not_outlive_the_identity_it_was_given_to(front: Begin) -> None:
    rule = "def on_connect(client):\n    if client.address == '127.0.0.1': client.relay = True\n"
    client = front(rule, **OURS).client()
    assert client.send("XCLIENT ADDR=192.0.2.1").code == 220
    client.send("EHLO client.example")
    assert elsewhere(client) == 554


def test_neither_does_the_trust_in_an_address(front: Begin) -> None:
    client = front(**{**OURS, "relaying": Relaying(networks=Networks(["127.0.0.0/8"]))}).client()
    assert elsewhere(client) == 250
    client.send("RSET")
    client.send("XCLIENT ADDR=192.0.2.1")
    client.send("EHLO client.example")
    assert elsewhere(client) == 554


# -- the end -----------------------------------------------------------------------------------------------------------


def test_a_hand_off_that_refused_all_is_at_rest_when_another_took_the_mail(front: Begin, out: FakeOutlet) -> None:
    from smtpproxy.wire.reply import Reply as Wire

    out.on("recipient", Wire(550, "5.1.1", "No"), argument="b@")
    store = durable()
    client = front("def on_rcpt(mail, rcpt):\n    if rcpt.local_part == 'keep': rcpt.via = 'store'\n", store).client()
    client.send(ENVELOPE[0])
    assert client.send(ENVELOPE[1]).code == 550
    assert client.send("RCPT TO:<keep@example.com>").code == 250
    assert client.message(MESSAGE).code == 250
    assert out.journal[-1] == "out: abandon"
    assert len(store.delivered) == 1


def test_a_recipient_with_another_address_goes_there(front: Begin, out: FakeOutlet) -> None:
    client = front("def on_rcpt(mail, rcpt):\n    rcpt.address = f'{rcpt.local_part}@elsewhere.example'\n").client()
    client.send(ENVELOPE[0])
    assert client.send("RCPT TO:<ann@example.com>").startswith("554 5.7.1 <ann@elsewhere.example>: Relay access denied")
    rule = "def on_rcpt(mail, rcpt):\n    if rcpt.local_part == 'ann': rcpt.address = 'bob@example.com'\n"
    client = front(rule).client()
    client.send(ENVELOPE[0])
    assert client.send("RCPT TO:<ann@example.com>").code == 250
    assert client.message(MESSAGE).code == 250
    assert "out: recipient bob@example.com" in out.journal


def test_an_address_that_changes_at_the_end_is_asked_about_again(front: Begin, out: FakeOutlet) -> None:
    client = front("def on_message(mail):\n    mail.recipients[0].address = 'bob@example.com'\n").client()
    client.send(ENVELOPE[0])
    client.send(ENVELOPE[1])
    assert client.message(MESSAGE).code == 250
    told = [line for line in out.journal if "recipient" in line]
    assert told == ["out: recipient b@example.com", "out: recipient bob@example.com"]


TAKING_AWAY = {
    "10-a.py": """
def on_capabilities(client, offer):
    offer["smtputf8"] = None
    offer["SIZE"] = int(offer["SIZE"]) // 2
    try:
        offer["DSN"] = ""
    except ValueError as error:
        client.notes.error = str(error)
""",
    "20-b.lua": """
function on_capabilities(client, offer)
  offer["8BITMIME"] = nil
  if offer.PIPELINING == "" and not offer.SMTPUTF8 then client.notes.seen = true end
end
function watch_capabilities(client, offer)
  for keyword in pairs(offer) do log.info(keyword, { seen = client.notes.seen, error = client.notes.error }) end
end
""",
}


def test_rules_take_away_of_the_offer(tmp_path: Path, out: FakeOutlet) -> None:
    with Front(out, folder=tmp_path, rules=TAKING_AWAY, limits=Limits(message_size=Size(5000))) as it:
        client = it.client("NOOP")
        offered = client.send("EHLO client.example").texts[1:]
        assert offered == ["PIPELINING", "SIZE 2500", "CHUNKING", "ENHANCEDSTATUSCODES", "LIMITS RCPTMAX=1000"]
        assert client.send("MAIL FROM:<a@client.example> SIZE=2501").code == 552
        assert client.send("MAIL FROM:<a@client.example> BODY=8BITMIME").code == 555
        until(lambda: len([1 for event, _ in it.records if event == "rule"]) == 5)
        told = [fields for event, fields in it.records if event == "rule"]
    assert [fields["text"] for fields in told] == ["PIPELINING", "SIZE", "CHUNKING", "ENHANCEDSTATUSCODES", "LIMITS"]
    assert told[0]["seen"] is True
    assert told[0]["error"] == "DSN is not offered: a rule can take away of the offer, not add to it"


def test_every_mail_has_its_story(front: Begin) -> None:
    told = []
    client = front(story=lambda trace, mail: told.append(mail.id)).client()
    replies(client)
    client.send(ENVELOPE[0])
    client.send("RSET")
    client.send(ENVELOPE[0])
    client.close()
    assert until(lambda: told == ["1.1", "1.2", "1.3"])


def test_a_draining_server_begins_nothing_new(front: Begin, out: FakeOutlet) -> None:
    it = front()
    client = it.begun()
    it.stopping = True
    assert client.message(MESSAGE).code == 250
    assert client.send(ENVELOPE[0]).startswith("421 4.3.2")
    assert client.closed()


def test_an_idle_client_is_told_at_once_that_the_server_stops(front: Begin) -> None:
    it = front()
    client = it.client()
    (session,) = it.sessions
    assert isinstance(session, Session)
    session.stop()
    assert client.reply().startswith("421 4.3.2")
    assert client.closed()


def test_a_client_that_a_rule_holds_back_is_told_that_the_server_stops(front: Begin) -> None:
    service = front("from smtpproxy.script import sleep\ndef on_connect(client): sleep('300ms')\n")
    client = FakeClient(service.port, timeout=3)
    until(lambda: service.sessions)
    service.stopping = True
    for session in service.sessions:
        session.stop()
    assert client.reply().startswith("421 4.3.2 ")
    assert client.closed()


# -- what rules know of the session --------------------------------------------------------------------------------------

COUNTERS = """
from smtpproxy.script import log

def on_disconnect(client):
    log.info("counted", errors=client.errors, refused=client.recipients_refused, mails=client.mails, octets=client.octets)
"""


def test_a_client_is_counted(front: Begin) -> None:
    service = front(COUNTERS)
    with service.begun() as client:
        client.send("RCPT TO:<a@elsewhere.example>")
        client.message(MESSAGE)
        client.send("RCPT TO:<b@example.com>")
        client.send("QUIT")
    (record,) = until(lambda: service.logged("rule"))
    assert {name: record[name] for name in ("errors", "refused", "mails", "octets")} == {
        "errors": 2, "refused": 1, "mails": 1, "octets": len(MESSAGE)
    }  # fmt: skip


@pytest.mark.parametrize("said", [b"EHLO client.example\r\n", b""])
def test_who_speaks_before_the_greeting_is_known(front: Begin, said: bytes) -> None:
    rule = """
        from smtpproxy.script import deny, sleep
        def on_connect(client):
            sleep("200ms")
            if client.spoke_early:
                return deny("too soon", code=554)
    """
    client = FakeClient(front(dedent(rule)).port)
    client.raw(said)
    assert client.reply().code == (554 if said else 220)


@pytest.mark.parametrize(("said", "early"), [(["DATA", "NOOP"], True), (["DATA"], False)])
def test_who_does_not_wait_for_the_go_ahead_is_known(front: Begin, said: list[str], early: bool) -> None:
    rule = "from smtpproxy.script import log\ndef on_data(mail): log.info('data', early=mail.client.spoke_early)\n"
    service = front(rule)
    client = service.client()
    client.pipeline([*ENVELOPE])
    client.raw("".join(f"{line}\r\n" for line in said).encode())
    client.expect("354")
    assert service.logged("rule")[0]["early"] is early


REFUSES_HEADERS = {
    "py": "from smtpproxy.script import deny\ndef on_header(mail): return deny('Not this', code='554 5.7.1')\n",
    "lua": "function on_header(mail) return deny('Not this', {code = '554 5.7.1'}) end\n",
}
LANGUAGES = pytest.mark.parametrize("language", REFUSES_HEADERS)


@LANGUAGES
def test_what_is_left_of_a_refused_message_is_read(front: Begin, out: FakeOutlet, language: str) -> None:
    client = front(REFUSES_HEADERS[language], language=language).begun()
    client.send("DATA")
    client.raw(b"Subject: x\r\n\r\nthe body begins\r\n")
    assert client.data(b"and ends\r\n.\r\n") == "554 5.7.1 Not this"
    assert client.send("NOOP").code == 250
    assert out.delivered == []


@LANGUAGES
def test_or_the_connection_is_closed_behind_the_refusal(front: Begin, language: str) -> None:
    client = front(REFUSES_HEADERS[language], drains=False, language=language).begun()
    client.send("DATA")
    assert client.data(b"Subject: x\r\n\r\nthe body begins\r\n") == "554 5.7.1 Not this"
    assert client.closed()


CHECKS = {
    "10-checks.py": """
from smtpproxy.script import deny

def on_connect(client):
    client.results.add("dnsbl", "fail", zone="bl.example")

def on_mail(mail, sender):
    mail.results.add("spf", "pass")

def on_rcpt(mail, rcpt):
    if rcpt.local_part == "nobody":
        mail.results.add("a name", "so=called\\n\\ud800")
        return deny("Nobody")
""",
    "20-checks.lua": """
function on_message(mail)
  if mail.results:get("spf").value == "pass" then mail.results:add("spf", "seen") end
  mail.results:add("size", string.rep("9", mail.body.size))
end
""",
}


def test_what_checks_found_is_in_the_log(tmp_path: Path, out: FakeOutlet) -> None:
    with Front(out, folder=tmp_path, rules=CHECKS) as it:
        it.begun().message(MESSAGE)
        client = it.begun()
        client.send("RCPT TO:<nobody@example.com>")
        client.message(b"Subject: long\r\n\r\n" + b"x\r\n" * 200)
        until(lambda: len(it.logged("message")) == 2)
        short, long = (fields["results"] for fields in it.logged("message"))
        (refused,) = it.logged("refused")
    assert short == "dnsbl=fail spf=seen size=9999999"
    assert refused["results"] == "dnsbl=fail spf=pass a_name=so_called__"
    assert long.startswith("dnsbl=fail spf=seen a_name=so_called__ size=999")
    assert (len(long), long[-3:]) == (503, "...")


def test_where_nothing_was_checked_the_log_says_nothing_of_it(front: Begin) -> None:
    it = front()
    it.begun().message(MESSAGE)
    until(lambda: bool(it.logged("message")))
    assert "results" not in it.logged("message")[0]
