"""routes: which recipient goes to which hand-off, and to which server."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from smtpproxy.cli.main import main
from smtpproxy.testing.front import Front
from smtpproxy.testing.handoffs import FakeOutlet
from smtpproxy.testing.process import RunningServer
from smtpproxy.testing.rules import Outcome, RuleBroken
from smtpproxy.testing.upstream import FakeUpstream
from smtpproxy.testing.waiting import until

Ask = Callable[..., Outcome]
MESSAGE = b"From: a@client.example\r\n\r\nHello\r\n"
ROUTES = {
    "vip@example.com": "vips",
    "abuse@": "abuse",
    "example.com": "inbound",
    ".example.com": "branches",
    "b.example.com": "smtp://10.0.0.1:25",
    "*": "rest",
}


@pytest.mark.parametrize(
    ("rcpt", "via"),
    [
        ("vip@example.com", "vips"),
        ("VIP+x@example.com", "vips"),
        ("abuse@example.com", "abuse"),
        ("abuse@elsewhere.example", "abuse"),
        ("ann@example.com", "inbound"),
        ("ann@a.example.com", "branches"),
        ("ann@b.example.com", "smtp://10.0.0.1:25"),
        ("ann@example.net", "rest"),
    ],
)
def test_the_most_specific_route_counts(front: Callable[..., Front], rcpt: str, via: str) -> None:
    client = front(rules={"98-deny.py": DENY}, routes={"routes": ROUTES}).client()
    client.send("MAIL FROM:<a@client.example>")
    assert client.send(f"RCPT TO:<{rcpt}>") == f"550 5.7.1 via {via}"


DENY = "from smtpproxy.script import deny\ndef on_rcpt(mail, rcpt): return deny(f'via {rcpt.via}')\n"


def test_what_another_rule_chose_stays_and_who_has_no_route_goes_where_the_mail_goes(front: Callable[..., Front]) -> None:
    outlets = [FakeOutlet(name, live=False) for name in ("out", "first", "second")]
    choose = {"05-choose.py": "def on_rcpt(mail, rcpt):\n    if rcpt.local_part == 'ann': rcpt.via = 'first'\n"}
    made = front(*outlets, rules=choose, routes={"routes": {"ann@example.com": "second", "bob@example.com": "second"}})
    client = made.client()
    client.send("MAIL FROM:<a@client.example>")
    for name in ("ann", "bob", "cid"):
        assert client.send(f"RCPT TO:<{name}@example.com>").code == 250
    assert client.message(MESSAGE).code == 250
    assert [outlet.delivered[0].recipients for outlet in outlets] == [
        ["cid@example.com"], ["ann@example.com"], ["bob@example.com"]
    ]  # fmt: skip


def test_recipients_that_aliases_add_are_routed(front: Callable[..., Front]) -> None:
    outlets = [FakeOutlet(name, live=False) for name in ("out", "archive")]
    aliases = {"team@example.com": ["team@example.com", "copy@archive.example"]}
    made = front(*outlets, aliases={"aliases": aliases}, routes={"routes": {"archive.example": "archive"}})
    client = made.begun(("MAIL FROM:<a@client.example>", "RCPT TO:<team@example.com>"))
    assert client.message(MESSAGE).code == 250
    assert [outlet.delivered[0].recipients for outlet in outlets] == [["team@example.com"], ["copy@archive.example"]]


def test_a_hand_off_that_is_not_there_is_told_in_the_log(front: Callable[..., Front]) -> None:
    made = front(routes={"routes": {"example.com": "inbuond"}})
    client = made.client()
    client.send("MAIL FROM:<a@client.example>")
    assert client.send("RCPT TO:<b@example.com>").startswith("451 4.3.5")
    (record,) = made.logged("refused")
    assert record["by"] == "a rule chose the hand-off 'inbuond', which is not configured"


@pytest.mark.parametrize("where", ["", "smtp://", "smtp://host:port", "10.0.0.1:0", "two words"])
def test_what_is_no_way_out_is_refused_at_the_start(ask: Ask, where: str) -> None:
    with pytest.raises(RuleBroken, match="ListError: entry 1: "):
        ask("routes", "on_rcpt", settings={"routes": {"example.com": where}})


def test_check_finds_a_route_to_no_hand_off(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["init", str(tmp_path / "mail")])
    (tmp_path / "mail" / "own.toml").write_text('[rule.routes]\nenabled = true\nroutes = { "example.com" = "inbuond" }\n')
    assert main(["check", str(tmp_path / "mail")]) == 1
    told = capsys.readouterr().err
    assert 'ListError: entry 1: there is no [handoff.inbuond]; did you mean "inbound"?' in told
    (tmp_path / "mail" / "own.toml").write_text('[rule.routes]\nenabled = true\nroutes = { "example.com" = "inbound" }\n')
    assert main(["check", str(tmp_path / "mail")]) == 0


def serve(start: Callable[..., RunningServer], inbound: str, routes: str) -> RunningServer:
    return start(
        '[listener.mx]\nbind = "127.0.0.1:0"\nhandoff = "inbound"\n[relaying]\ndomains = ["example.com", "other.example"]\n'
        f"[handoff.inbound]\n{inbound}\n[rule.routes]\nenabled = true\n{routes}\n"
    )


def sent(server: RunningServer, rcpt: str) -> str:
    client = server.client()
    client.send("MAIL FROM:<a@client.example>")
    answer = client.send(f"RCPT TO:<{rcpt}>")
    return str(client.message(MESSAGE)) if answer.code == 250 else str(answer)


def test_a_server_is_talked_to_as_the_hand_off_would_be(start: Callable[..., RunningServer], upstream: FakeUpstream) -> None:
    xclient = "XCLIENT NAME ADDR PORT PROTO HELO"
    with FakeUpstream(keywords=["PIPELINING", xclient]) as other, FakeUpstream() as deaf:
        server = serve(
            start,
            f'kind = "proxy"\nto = ["{upstream.address}"]\nidentity = "xclient"\nhelo = "front.example.com"',
            f'routes = {{ "other.example" = "smtp://{other.address}", "deaf@example.com" = "{deaf.address}" }}',
        )
        assert sent(server, "b@other.example").startswith("250")
        assert any("XCLIENT" in line and "ADDR=127.0.0.1" in line for line in other.commands)
        assert "EHLO front.example.com" in other.commands
        # it does not take our word for the client: a stranger's mail is never relayed as our own
        assert sent(server, "deaf@example.com").startswith("4")
        assert not any(line.startswith("DATA") for line in deaf.commands)


def test_beside_a_hand_off_without_upstreams_a_server_hears_nothing_of_the_client(
    start: Callable[..., RunningServer], tmp_path: Path
) -> None:
    with FakeUpstream(keywords=["XCLIENT NAME ADDR", "XFORWARD NAME ADDR"]) as other:
        (tmp_path / "server0").mkdir()
        table = tmp_path / "server0" / "routes"
        table.write_text(f"other.example  smtp://{other.address}\n")
        server = serve(start, 'kind = "discard"', 'files = ["routes"]')
        assert sent(server, "b@other.example").startswith("250")
        assert "RCPT TO:<b@other.example>" in other.commands
        assert not any(line.startswith(("XCLIENT", "XFORWARD")) for line in other.commands)
        table.write_text("example.com  inbound\n")
        until(lambda: "list_live" in server.log, what="the routes are live")
        before = len(other.commands)
        assert sent(server, "b@other.example").startswith("250")
        assert len(other.commands) == before


def test_two_servers_in_one_transaction_are_asked_one_after_the_other(
    start: Callable[..., RunningServer], upstream: FakeUpstream
) -> None:
    with FakeUpstream() as other:
        routes = f'routes = {{ "other.example" = "{other.address}" }}'
        server = serve(start, f'kind = "proxy"\nto = ["{upstream.address}"]', routes)
        client = server.client()
        client.send("MAIL FROM:<a@client.example>")
        assert client.send("RCPT TO:<b@example.com>").code == 250
        assert client.send("RCPT TO:<b@other.example>").startswith("452 4.5.3")


@pytest.mark.parametrize(
    "rule",
    [
        ("10-x.py", "def on_rcpt(mail, rcpt):\n    rcpt.via = 'smtp://{}'\n    rcpt.relay = True\n"),
        ("10-x.lua", "function on_rcpt(mail, rcpt)\n  rcpt.via = 'smtp://{}'\n  rcpt.relay = true\nend\n"),
    ],
)
def test_rules_of_ones_own_do_the_same(
    start: Callable[..., RunningServer], upstream: FakeUpstream, rule: tuple[str, str]
) -> None:
    name, source = rule
    toml = '[listener.mx]\nbind = "127.0.0.1:0"\nhandoff = "out"\n[handoff.out]\nkind = "discard"\n'
    server = start(toml, {name: source.format(upstream.address)})
    assert sent(server, "b@stranger.example").startswith("250")
    assert "RCPT TO:<b@stranger.example>" in upstream.commands
