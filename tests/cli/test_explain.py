"""`smtpproxy explain`: the first line says why, for whatever reason a mail was refused; the server runs or does not."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from smtpproxy.testing.client import FakeClient
from smtpproxy.testing.instance import one_listener
from smtpproxy.testing.process import RunningServer
from smtpproxy.testing.upstream import FakeUpstream
from smtpproxy.testing.waiting import until

RULES = """\
from smtpproxy.script import Secret, close, defer, deny, log, settings
import time

class Settings:
    api: Secret = "hunter2-hunter2"

def on_connect(client):
    client.notes.count = 1

def on_ehlo(client, name):
    if name == "evil.example":
        return deny("Not you", code="554 5.7.1")

def on_mail(mail, sender):
    if sender.local_part == "keep":
        mail.keep_trace()

def on_rcpt(mail, rcpt):
    what = rcpt.local_part
    if what == "nobody":
        return deny(
            "No such user",
            code="550 5.1.1",
        )
    if what == "later":
        return defer("Not yet")
    if what == "broken":
        return 1 / 0
    if what == "slow":
        import gevent
        gevent.sleep(20)
    if what == "secret":
        log.info("asked with " + settings.api)
        return deny("No key " + settings.api)

def on_message(mail):
    if mail.header["Subject"] == "no":
        return deny("Not such a subject")
"""


def explain(server: RunningServer, *arguments: str, status: int = 0) -> str:
    """What it prints, as soon as there is something to tell: a refusal is on disk within a second."""
    command = [sys.executable, "-m", "smtpproxy", "explain", *arguments, "--config", str(server.folder)]

    def told() -> subprocess.CompletedProcess[str] | None:
        done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
        return done if done.returncode == status else None

    done = until(told, 20.0, " ".join(arguments))
    return done.stdout if status == 0 else done.stderr  # type: ignore[union-attr]


def why(server: RunningServer, *arguments: str) -> str:
    """The first line, without its time."""
    return re.sub(r" at \d{4}-\d\d-\d\d \d\d:\d\d:\d\d", "", explain(server, *arguments).split("\n", 1)[0])


@pytest.fixture
def server(start: Callable[..., RunningServer], upstream: FakeUpstream) -> RunningServer:
    upstream.on("RCPT", "550 5.1.1 Unknown user", argument="unknown@")
    more = '[trace]\nsample = 0.0\n[rule.10-why]\nwall = "1s"\n'
    return start(one_listener("proxy", upstream.address, more=more), {"10-why.py": RULES})


def refused(server: RunningServer, recipient: str, sender: str = "a@client.example") -> Any:
    """A client whose recipient was refused, and that is still there."""
    client = server.client()
    assert client.send(f"MAIL FROM:<{sender}>").code == 250
    assert client.send(f"RCPT TO:<{recipient}>").code >= 400
    return client


def test_a_rule_with_the_line_of_its_deny(server: RunningServer) -> None:
    refused(server, "nobody@example.com")
    line = RULES[: RULES.index("return deny(\n")].count("\n") + 1
    assert why(server, "nobody@example.com") == (
        f"<nobody@example.com> was refused by rule 10-why, 10-why.py:{line} in on_rcpt: 550 5.1.1 No such user"
    )
    story = explain(server, "last")
    assert re.search(r"rule      on_rcpt 10-why \[[0-9a-f]{12}\]: deny 550 5\.1\.1 No .* at line \d+  \([\d.]+ ms CPU\)", story)


def test_relaying(server: RunningServer) -> None:
    refused(server, "who@example.org")
    assert why(server, "who@example.org").startswith(
        "<who@example.org> was refused by the core, relaying: example.org is not in [relaying] domains, "
        "127.0.0.1 not in [relaying] networks"
    )


def test_the_upstreams_own_words(server: RunningServer, upstream: FakeUpstream) -> None:
    refused(server, "unknown@example.com")
    address = upstream.address
    assert why(server, "unknown@example.com") == (
        f"<unknown@example.com> was refused by the upstream: {address} said 550 5.1.1 Unknown user"
    )


def test_the_upstreams_last_word(server: RunningServer, upstream: FakeUpstream) -> None:
    upstream.on("dot", "554 5.6.0 No such content")
    with FakeClient.greeted(server.port) as client:
        client.send("MAIL FROM:<a@client.example>")
        client.send("RCPT TO:<b@example.com>")
        assert client.message(b"Subject: x\r\n\r\n").code == 554
    assert why(server, "b@example.com").startswith(f"the message was refused by the upstream: {upstream.address} said 554 5.6.0")


def test_an_upstream_that_is_gone(server: RunningServer, upstream: FakeUpstream) -> None:
    address = upstream.address
    upstream.stop()
    refused(server, "b@example.com")
    assert why(server, "b@example.com").startswith("<b@example.com> was deferred because of the upstream, ")
    assert address in why(server, "b@example.com") or "refused" in why(server, "b@example.com")


def test_a_rule_that_failed(server: RunningServer) -> None:
    refused(server, "broken@example.com")
    line = RULES[: RULES.index("1 / 0")].count("\n") + 1
    assert why(server, "broken@example.com").startswith(
        f"<broken@example.com> was deferred because rule 10-why failed, 10-why.py:{line} in on_rcpt: "
        "ZeroDivisionError: division by zero: 451 4.3.0 "
    )


def test_a_rule_that_took_too_long(server: RunningServer) -> None:
    refused(server, "slow@example.com")
    assert re.match(
        r"<slow@example\.com> was deferred because rule 10-why failed, 10-why\.py:\d+ in on_rcpt: Timeout: .*: 451 4\.3\.0 ",
        why(server, "slow@example.com"),
    )


def test_the_message_refused_by_a_rule(server: RunningServer) -> None:
    with FakeClient.greeted(server.port) as client:
        client.send("MAIL FROM:<a@client.example>")
        client.send("RCPT TO:<b@example.com>")
        assert client.message(b"Subject: no\r\n\r\n").code == 550
    assert why(server, "b@example.com").startswith("the message was refused by rule 10-why, 10-why.py:")


def test_a_session_without_a_mail(server: RunningServer) -> None:
    with FakeClient(server.port) as client:
        client.reply()
        assert client.send("EHLO evil.example").code == 554
        assert why(server, "last").startswith("client 127.0.0.1 was refused by rule 10-why, 10-why.py:")


def test_the_id_of_reply_log_and_received_finds_it(server: RunningServer, upstream: FakeUpstream) -> None:
    client = refused(server, "broken@example.com", "keep@client.example")
    client.send("RSET")
    client.send("MAIL FROM:<keep@client.example>")
    client.send("RCPT TO:<b@example.com>")
    assert client.message(b"Subject: x\r\n\r\n").code == 250
    received = re.search(rb" id (\S+?);?\s", upstream.messages[-1].header)
    assert received is not None
    assert why(server, received[1].decode()) == f"the message: accepted by {upstream.address}: 250 2.0.0 Ok: taken"
    logged = re.search(r"event=refused id=(\S+) .*broken@", server.log)
    assert logged is not None
    assert why(server, logged[1]).startswith("<broken@example.com> was deferred because")


def test_of_several_recipients_the_one_that_was_asked_for(server: RunningServer) -> None:
    client = refused(server, "nobody@example.com")
    client.send("RCPT TO:<later@example.com>")
    client.send("QUIT")
    assert why(server, "later@example.com").startswith("<later@example.com> was deferred by rule 10-why")
    assert why(server, "NOBODY@example.com").startswith("<nobody@example.com> was refused")


def test_addresses_newest_first_and_all_of_them(server: RunningServer) -> None:
    for recipient in ("nobody@example.com", "who@example.org"):
        refused(server, recipient, "same@client.example").send("QUIT")
        until(lambda it=recipient: it in why(server, "same@client.example"))  # type: ignore[misc]
    listed = explain(server, "same@client.example", "--all").splitlines()
    assert ["who@example.org" in listed[0], "nobody@example.com" in listed[1], len(listed)] == [True, True, 2]
    assert "--all lists them" in explain(server, "same@client.example")


def test_unknown_and_ambiguous_ids(server: RunningServer) -> None:
    assert "no trace of nonsense is kept" in explain(server, "nonsense", status=1)
    client = refused(server, "nobody@example.com")
    client.send("RSET")
    client.send("MAIL FROM:<a@client.example>")
    client.send("RCPT TO:<nobody@example.com>")
    session = until(lambda: re.search(r"event=refused id=(\S+)\.2 ", server.log))[1]  # type: ignore[index]
    assert f"{session}.1" in explain(server, session, status=1)
    assert '" is ambiguous: ' in explain(server, session, status=1)
    assert why(server, f"{session}.2").startswith("<nobody@example.com> was refused")


def test_only_what_is_remarkable_or_asked_for_is_kept(server: RunningServer) -> None:
    with FakeClient.greeted(server.port) as client:
        for sender in ("plain", "keep", "plain"):
            client.send(f"MAIL FROM:<{sender}@client.example>")
            client.send("RCPT TO:<b@example.com>")
            assert client.message(b"Subject: x\r\n\r\n").code == 250
    assert server.stop() == 0
    assert len(explain(server, "b@example.com", "--all").splitlines()) == 1
    assert "kept because: asked" in explain(server, "keep@client.example")
    assert "no trace of" in explain(server, "plain@client.example", status=1)


def test_samples(start: Callable[..., RunningServer], upstream: FakeUpstream) -> None:
    server = start(one_listener("proxy", upstream.address, more="[trace]\nsample = 1.0"))
    with FakeClient.greeted(server.port) as client:
        client.send("MAIL FROM:<a@client.example>")
        client.send("RCPT TO:<b@example.com>")
        client.message(b"Subject: x\r\n\r\n")
    assert "kept because: sampled" in explain(server, "last")


def test_secrets_are_never_written(server: RunningServer) -> None:
    client = refused(server, "secret@example.com")
    client.send("AUTH PLAIN AGEAc2VjcmV0LXBhc3N3b3Jk")
    client.send("auth\tplain c2VjcmV0LXBhc3N3b3Jk")
    client.send("QUIT")
    assert why(server, "secret@example.com").endswith(": 550 5.7.1 No key ***")
    server.stop()
    assert "asked with ***" in explain(server, "secret@example.com")
    written = b"".join(path.read_bytes() for path in (server.folder / "data" / "traces").iterdir())
    assert b"hunter2" not in written and b"c2VjcmV0" not in written
    assert b"AUTH PLAIN ..." in written


def test_json_for_programs_of_a_server_that_is_down(server: RunningServer) -> None:
    refused(server, "nobody@example.com").send("QUIT")
    server.stop()
    record = json.loads(explain(server, "nobody@example.com", "--json"))
    (refusal,) = record["refusals"]
    assert (refusal["by"], refusal["rule"], refusal["to"]) == ("rule", "10-why", "nobody@example.com")
    assert refusal["place"].startswith("10-why.py:")
    assert [event["kind"] for event in record["events"]].count("rule") == 4


def test_nothing_is_lost_by_kill(server: RunningServer, tmp_path: Path) -> None:
    refused(server, "nobody@example.com")
    assert why(server, "last").startswith("<nobody@example.com>")
    server.process.kill()
    server.process.wait()
    assert why(server, "last").startswith("<nobody@example.com>")
