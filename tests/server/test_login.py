"""Logins with TLS below, several processes, rules, and servers of ours that log in at each other."""

from __future__ import annotations

import base64
import hashlib
import re
import ssl
from collections.abc import Callable
from pathlib import Path

import pytest
import scramp
import trustme

from smtpproxy.accounts import passwords
from smtpproxy.accounts.base import Account
from smtpproxy.accounts.file import line
from smtpproxy.testing.client import FakeClient, Reply
from smtpproxy.testing.front import ENVELOPE
from smtpproxy.testing.process import RunningServer
from smtpproxy.testing.upstream import FakeUpstream
from smtpproxy.testing.waiting import until
from smtpproxy.wire.scram import ScramKeys

Start = Callable[..., RunningServer]

ANN, PASSWORD = "ann@example.com", "correct horse"
OUTSIDE = ("MAIL FROM:<ann@example.com>", "RCPT TO:<x@elsewhere.example>")
SAMPLE = Path(__file__).parents[2] / "scripts/samples/api-key-login.py"


@pytest.fixture
def users(tmp_path: Path) -> Path:
    file = tmp_path / "accounts"
    file.write_text(line(Account(ANN, (), passwords.make(PASSWORD), ScramKeys.derive(PASSWORD, b"salt" * 4))) + "\n")
    return file


@pytest.fixture
def pem(authority: trustme.CA, tmp_path: Path) -> Path:
    file = tmp_path / "mx.pem"
    authority.issue_cert("mx.example.com").private_key_and_cert_chain_pem.write_to_path(str(file))
    return file


def toml(listener: str, users: Path | None = None, handoff: str = 'kind = "discard"', top: str = "") -> str:
    accounts = f'auth = "staff"\n{listener}\n[users.staff]\nkind = "file"\npath = "{users}"' if users else listener
    return (
        f'{top}\nhostname = "mx.example.com"\n[listener.mx]\nbind = ["127.0.0.1:0"]\nhandoff = "out"\n{accounts}\n'
        f'[handoff.out]\n{handoff}\n[relaying]\ndomains = ["example.com"]\n[limits]\nauth_delay = "0s"\n'
    )


def encrypted(server: RunningServer, context: ssl.SSLContext) -> FakeClient:
    client = server.client()
    assert client.send("STARTTLS").code == 220
    client.start_tls(context, "mx.example.com")
    client.send("EHLO client.example")
    return client


def b64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def logged(server: RunningServer, pattern: str) -> None:
    """Wait for a line in the log."""
    until(lambda: re.search(pattern, server.log) is not None, what=pattern)


def plain(name: str = ANN, password: str = PASSWORD) -> str:
    return f"AUTH PLAIN {b64(f'{chr(0)}{name}{chr(0)}{password}')}"


def scram(client: FakeClient, peer: scramp.ScramClient, mechanism: str) -> Reply:
    challenge = client.send(f"AUTH {mechanism} {b64(peer.get_client_first())}")
    peer.set_server_first(base64.b64decode(challenge[4:]).decode())
    reply = client.send(b64(peer.get_client_final()))
    if reply.code == 334:
        peer.set_server_final(base64.b64decode(reply[4:]).decode())
        return client.send("")
    return reply


# -- in front ------------------------------------------------------------------------------------------------------------


def test_logins_are_offered_once_the_connection_is_encrypted(
    start: Start, users: Path, pem: Path, trusting: ssl.SSLContext
) -> None:
    server = start(toml(f'tls = {{ cert = "{pem}" }}', users))
    client = server.client()
    assert "AUTH" not in client.send("EHLO client.example")
    assert client.send(plain()).code == 538
    assert client.send("STARTTLS").code == 220
    client.start_tls(trusting, "mx.example.com")
    assert "AUTH SCRAM-SHA-256 PLAIN LOGIN" in client.send("EHLO client.example").texts
    assert client.send(plain()).code == 235
    assert [client.send(command).code for command in OUTSIDE] == [250, 250]


def test_a_login_in_the_clear_does_not_survive_the_handshake(
    start: Start, users: Path, pem: Path, trusting: ssl.SSLContext
) -> None:
    server = start(toml(f'tls = {{ cert = "{pem}" }}\nauth_without_tls = true', users))
    client = server.client()
    assert client.send(plain()).code == 235
    assert client.send("STARTTLS").code == 220
    client.start_tls(trusting, "mx.example.com")
    client.send("EHLO client.example")
    assert [client.send(command).code for command in OUTSIDE] == [250, 554]


def logged_in(client: FakeClient, name: str, password: str) -> str:
    """The mechanism by which a client got in that takes SCRAM where it is offered, as a good one does; "" when it did not."""
    offered = next(line for line in client.send("EHLO client.example").texts if line.startswith("AUTH ")).split()[1:]
    try:
        peer = scramp.ScramClient([word for word in offered if word.startswith("SCRAM-")], name, password)
        mechanism, reply = "SCRAM-SHA-256", scram(client, peer, "SCRAM-SHA-256")
    except scramp.ScramException:
        mechanism, reply = "PLAIN", client.send(plain(name, password))
    return mechanism if reply.code == 235 else ""


def test_who_has_no_keys_for_scram_can_log_in(start: Start, users: Path) -> None:
    server = start(toml("auth_without_tls = true", users))
    assert logged_in(server.client(), ANN, PASSWORD) == "SCRAM-SHA-256"
    with users.open("a") as file:
        file.write(line(Account("bob", (), passwords.make("hidden"))) + "\n")
    for name, password in (("bob", "hidden"), (ANN, PASSWORD)):
        assert logged_in(server.client(), name, password) == "PLAIN"


def test_a_listener_may_take_mail_from_those_who_have_logged_in_only(start: Start, users: Path) -> None:
    config = toml("auth_without_tls = true\nauth_required = true", users)
    client = start(config.replace("[relaying]", '[relaying]\nnetworks = ["127.0.0.0/8"]')).client()
    assert client.send(ENVELOPE[0]) == "530 5.7.0 Authentication required"
    assert client.send(plain()).code == 235
    assert [client.send(command).code for command in ENVELOPE] == [250, 250]


def test_scram_plus_is_bound_to_our_certificate(start: Start, users: Path, pem: Path, trusting: ssl.SSLContext) -> None:
    server = start(toml(f'tls = {{ cert = "{pem}" }}\nauth_mechanisms = ["SCRAM-SHA-256-PLUS", "PLAIN"]', users))
    client = encrypted(server, trusting)
    end_point = hashlib.sha256(client.socket.getpeercert(binary_form=True)).digest()
    for binding, code in ((hashlib.sha256(b"of somebody in the middle").digest(), 535), (end_point, 235)):
        peer = scramp.ScramClient(
            ["SCRAM-SHA-256-PLUS"], ANN, PASSWORD, channel_binding=("tls-server-end-point", binding)
        )
        assert scram(client, peer, "SCRAM-SHA-256-PLUS").code == code


def test_a_certificate_lets_in_whom_it_names(
    start: Start, users: Path, pem: Path, authority: trustme.CA, trusting: ssl.SSLContext, tmp_path: Path
) -> None:
    ca = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(str(ca))
    server = start(toml(f'tls = {{ cert = "{pem}", clients = "request", ca = "{ca}" }}', users))
    assert "EXTERNAL" not in encrypted(server, trusting).send("EHLO client.example")
    authority.issue_cert(ANN).configure_cert(trusting)
    client = encrypted(server, trusting)
    assert "EXTERNAL" in client.send("EHLO client.example")
    assert client.send(f"AUTH EXTERNAL {b64('bob@example.com')}").code == 535
    assert client.send("AUTH EXTERNAL =").code == 235
    assert [client.send(command).code for command in OUTSIDE] == [250, 250]


def test_who_is_not_there_looks_the_same_to_every_process(start: Start, users: Path) -> None:
    server = start(toml("auth_without_tls = true", users, top="workers = 2"))
    challenges = set()
    for _ in range(6):
        challenge = base64.b64decode(server.client().send(f"AUTH SCRAM-SHA-256 {b64('n,,n=nobody,r=x')}")[4:]).decode()
        challenges.add(challenge.partition(",")[2])
    (made_up,) = challenges
    assert made_up.endswith(",i=100000")


def test_programs_log_in_with_their_keys_by_a_rule_alone(start: Start) -> None:
    """The sample, over a socket: a listener without accounts."""
    key = hashlib.sha256(b"k3y").hexdigest()
    rule = {"10-api-key-login.py": SAMPLE.read_text()}
    server = start(toml("auth_without_tls = true") + f'[rule.10-api-key-login]\nkeys = {{ shop = "{key}" }}\n', rule)
    client = server.client()
    assert "AUTH PLAIN LOGIN XOAUTH2 OAUTHBEARER" in client.send("EHLO shop.example").texts
    assert client.send(plain("shop", "wrong")) == "535 5.7.8 Wrong key"
    assert client.send(plain("shop", "k3y")).code == 235
    assert [client.send(command).code for command in OUTSIDE] == [250, 250]
    assert client.message(b"Subject: order\r\n\r\n1\r\n").code == 250
    logged(server, r"event=message .*login=shop")


def test_a_rule_asks_who_has_an_account(start: Start, users: Path) -> None:
    lua = """
function on_rcpt(mail, rcpt)
  if not users.staff.exists(rcpt) then return deny("No such user", {code = "550 5.1.1"}) end
end
"""
    client = start(toml("auth_without_tls = true", users), {"10-people.lua": lua}).client()
    client.send(ENVELOPE[0])
    assert client.send("RCPT TO:<ann@example.com>").code == 250
    assert client.send("RCPT TO:<bob@example.com>") == "550 5.1.1 No such user"


# -- behind --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mechanism", ["SCRAM-SHA-256", "PLAIN", "LOGIN"])
def test_we_log_in_at_an_upstream(start: Start, users: Path, tmp_path: Path, mechanism: str) -> None:
    behind = start(toml(f'auth_without_tls = true\nauth_mechanisms = ["{mechanism}"]', users))
    (tmp_path / "password").write_text(f"{PASSWORD}\n")
    way = f'kind = "relay"\nto = ["127.0.0.1:{behind.port}"]\nlogin = "{ANN}"\npassword_file = "{tmp_path / "password"}"'
    front = start(toml("", handoff=way), {"10-out.py": "def on_connect(client): client.relay = True\n"})
    client = front.client()
    for _ in range(2):
        assert [client.send(command).code for command in OUTSIDE] == [250, 250]
        assert client.message(b"Subject: x\r\n\r\nhello\r\n").code == 250
    logged(behind, rf"event=login .*login={ANN} mechanism={mechanism}")
    assert PASSWORD not in front.log and b64(PASSWORD) not in front.log


def test_an_upstream_that_does_not_know_us_defers_the_mail(start: Start, users: Path, tmp_path: Path) -> None:
    behind = start(toml("auth_without_tls = true", users))
    (tmp_path / "password").write_text("wrong\n")
    way = f'kind = "proxy"\nto = ["127.0.0.1:{behind.port}"]\nlogin = "{ANN}"\npassword_file = "{tmp_path / "password"}"'
    front = start(toml("", handoff=way))
    client = front.client()
    assert client.send(ENVELOPE[0]).code == 250
    assert client.send(ENVELOPE[1]).startswith("451 4.4.1 ")
    logged(front, "event=handoff_failed .*535 5.7.8")


def test_a_password_that_cannot_be_read_is_named(start: Start, tmp_path: Path) -> None:
    way = f'kind = "proxy"\nto = ["127.0.0.1:25"]\nlogin = "{ANN}"\npassword_file = "{tmp_path / "none"}"'
    with pytest.raises(AssertionError, match=r"handoff\.out: .*none: No such file or directory"):
        start(toml("", handoff=way))


def test_a_server_that_a_rule_names_is_told_no_password_and_is_trusted_alike(
    start: Start, authority: trustme.CA, users: Path, tmp_path: Path
) -> None:
    (tmp_path / "password").write_text(PASSWORD)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("other.example").configure_cert(context)
    with FakeUpstream(tls=context, keywords=["AUTH PLAIN"]) as other:
        rule = {"10-way.py": f"def on_rcpt(mail, rcpt): mail.via = 'smtp://127.0.0.1:{other.port}'\n"}
        way = f'kind = "relay"\nto = ["127.0.0.1:9"]\ntls = "must"\nlogin = "{ANN}"\npassword_file = "{tmp_path / "password"}"'
        client = start(toml("", handoff=way), rule).client()
        assert [client.send(command).code for command in ENVELOPE] == [250, 250]
        assert client.message(b"Subject: x\r\n\r\nhello\r\n").code == 250
        verbs = [command.split()[0] for command in other.commands]
    assert "STARTTLS" in verbs and "AUTH" not in verbs
