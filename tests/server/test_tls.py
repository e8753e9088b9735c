"""TLS at a listener and to an upstream: what is offered, what is required, whose certificate, and renewal."""

from __future__ import annotations

import hashlib
import os
import ssl
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
import trustme
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, PrivateFormat, load_pem_private_key

from smtpproxy.net.tls import server_context
from smtpproxy.testing.client import FakeClient
from smtpproxy.testing.front import ENVELOPE
from smtpproxy.testing.process import RunningServer, running_server
from smtpproxy.testing.upstream import KEYWORDS, FakeUpstream
from smtpproxy.testing.waiting import until

Start = Callable[..., RunningServer]

MESSAGE = b"Subject: x\r\n\r\nhello\r\n"


def issue(authority: trustme.CA, path: Path, *names: str, **more: datetime) -> Path:
    """A certificate with its key in one file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_suffix(".new")
    authority.issue_cert(*names, **more).private_key_and_cert_chain_pem.write_to_path(str(fresh))
    fresh.replace(path)
    return path


def toml(tls: str, more: str = "", handoff: str = 'kind = "discard"') -> str:
    return (
        f'hostname = "mx.example.com"\n[listener.mx]\nbind = ["127.0.0.1:0"]\nhandoff = "out"\ntls = {{ {tls} }}\n'
        f'[handoff.out]\n{handoff}\n[relaying]\ndomains = ["example.com"]\n{more}'
    )


def encrypted(server: RunningServer, context: ssl.SSLContext, name: str = "mx.example.com") -> FakeClient:
    client = server.client()
    assert client.send("STARTTLS").startswith("220 2.0.0")
    client.start_tls(context, name)
    return client


def deliver(client: FakeClient) -> str:
    for line in ("EHLO client.example", *ENVELOPE):
        assert client.send(line).code == 250
    return client.message(MESSAGE)


def fails(server: RunningServer, context: ssl.SSLContext, name: str = "mx.example.com") -> ssl.SSLError:
    client = server.client()
    assert client.send("STARTTLS").startswith("220")
    with pytest.raises(ssl.SSLError) as caught:
        client.start_tls(context, name)
        client.send("EHLO client.example")
    return caught.value


# -- the listener --------------------------------------------------------------------------------------------------------


def test_starttls_is_offered_until_it_is_active(
    start: Start, authority: trustme.CA, trusting: ssl.SSLContext, tmp_path: Path
) -> None:
    server = start(toml(f'cert = "{issue(authority, tmp_path / "mx.pem", "mx.example.com")}"'))
    client = server.client()
    assert "STARTTLS" in client.send("EHLO client.example")
    assert client.send("STARTTLS now").startswith("501 5.5.4")
    assert client.send("STARTTLS").startswith("220 2.0.0")
    client.start_tls(trusting, "mx.example.com")
    assert client.send(ENVELOPE[0]).startswith("503 5.5.1"), "everything begins anew (RFC 3207 4.2)"
    assert "STARTTLS" not in client.send("EHLO client.example")
    assert client.send("STARTTLS").startswith("503 5.5.1")
    assert deliver(client).startswith("250 2.0.0")
    until(lambda: "tls=TLSv1.3" in server.log)


def test_without_a_certificate_nothing_is_offered(start: Start) -> None:
    server = start(toml(""))
    client = server.client()
    assert "STARTTLS" not in client.send("EHLO client.example")
    assert client.send("STARTTLS").startswith("502 5.5.1")


def test_what_was_said_before_the_handshake_does_not_survive_it(
    start: Start, authority: trustme.CA, trusting: ssl.SSLContext, tmp_path: Path
) -> None:
    server = start(toml(f'cert = "{issue(authority, tmp_path / "mx.pem", "mx.example.com")}"'))
    client = server.client()
    client.raw(b"STARTTLS\r\nMAIL FROM:<injected@example.com>\r\nRSET\r\n")
    assert client.reply().startswith("220")
    client.start_tls(trusting, "mx.example.com")
    assert client.send("NOOP").startswith("250")
    assert client.quiet()


def test_mail_waits_for_tls_where_it_is_required(
    start: Start, authority: trustme.CA, trusting: ssl.SSLContext, tmp_path: Path
) -> None:
    cert = issue(authority, tmp_path / "mx.pem", "mx.example.com")
    server = start(toml(f'cert = "{cert}", mode = "required", exempt = ["127.0.0.9"]'))
    client = server.client()
    for command in (ENVELOPE[0], "VRFY x", "DATA"):
        assert client.send(command).startswith("530 5.7.0 Must issue a STARTTLS command first")
    assert client.send("NOOP").code == 250
    assert deliver(encrypted(server, trusting)).startswith("250")
    assert deliver(server.client(source="127.0.0.9")).startswith("250")


def test_tls_from_the_first_octet(start: Start, authority: trustme.CA, trusting: ssl.SSLContext, tmp_path: Path) -> None:
    server = start(toml(f'cert = "{issue(authority, tmp_path / "mx.pem", "mx.example.com")}", mode = "implicit"'))
    client = FakeClient(server.port)
    client.start_tls(trusting, "mx.example.com")
    assert client.reply().startswith("220 mx.example.com")
    assert "STARTTLS" not in client.send("EHLO client.example")
    assert deliver(client).startswith("250")
    plain = FakeClient(server.port)
    plain.raw(b"EHLO client.example\r\n")
    assert b"220" not in plain.socket.recv(100)
    until(lambda: "event=tls_failed" in server.log)


def test_a_client_gets_the_certificate_for_the_name_it_asks_for(
    start: Start, authority: trustme.CA, trusting: ssl.SSLContext, tmp_path: Path
) -> None:
    folder = tmp_path / "certs"
    issue(authority, folder / "one.pem", "mx.example.com")
    issue(authority, folder / "two.pem", "mail.example.net", "*.example.org")
    pair = authority.issue_cert("mx.example.edu")
    (folder / "acme").mkdir()
    pair.private_key_pem.write_to_path(str(folder / "acme" / "privkey.pem"))
    for part in pair.cert_chain_pems:
        part.write_to_path(str(folder / "acme" / "fullchain.pem"), append=True)
    server = start(toml(f'folder = "{folder}"'))
    for name in ("mx.example.com", "mail.example.net", "any.example.org", "mx.example.edu", "MX.EXAMPLE.EDU"):
        assert deliver(encrypted(server, trusting, name)).startswith("250")
    unknown = ssl.create_default_context()
    authority.configure_trust(unknown)
    unknown.check_hostname = False
    client = encrypted(server, unknown, "elsewhere.example")
    assert ("DNS", "mx.example.com") in client.socket.getpeercert()["subjectAltName"]


def test_old_versions_are_refused(start: Start, authority: trustme.CA, trusting: ssl.SSLContext, tmp_path: Path) -> None:
    server = start(toml(f'cert = "{issue(authority, tmp_path / "mx.pem", "mx.example.com")}", minimum = "1.3"'))
    trusting.maximum_version = ssl.TLSVersion.TLSv1_2
    assert fails(server, trusting).reason == "TLSV1_ALERT_PROTOCOL_VERSION"
    until(lambda: "event=tls_failed" in server.log)


def test_a_certificate_of_the_clients_is_a_fact_for_rules(
    start: Start, authority: trustme.CA, trusting: ssl.SSLContext, tmp_path: Path
) -> None:
    ca = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(str(ca))
    rule = """
function on_mail(mail, sender)
  local shown = mail.client.tls and mail.client.tls.certificate
  if shown and shown.names:has("relay.example.net") then mail.client.relay = true end
end
"""
    cert = issue(authority, tmp_path / "mx.pem", "mx.example.com")
    server = start(toml(f'cert = "{cert}", clients = "request", ca = "{ca}"'), {"10-relay.lua": rule})
    stranger = encrypted(server, trusting)
    stranger.send("EHLO client.example")
    stranger.send(ENVELOPE[0])
    assert stranger.send("RCPT TO:<x@elsewhere.example>").code == 554
    authority.issue_cert("relay.example.net").configure_cert(trusting)
    friend = encrypted(server, trusting)
    friend.send("EHLO client.example")
    friend.send(ENVELOPE[0])
    assert friend.send("RCPT TO:<x@elsewhere.example>").code == 250
    impostor = ssl.create_default_context()
    authority.configure_trust(impostor)
    trustme.CA().issue_cert("relay.example.net").configure_cert(impostor)
    assert "UNKNOWN_CA" in str(fails(server, impostor).reason)


def test_a_session_is_resumed_by_whichever_worker(
    start: Start, authority: trustme.CA, trusting: ssl.SSLContext, tmp_path: Path
) -> None:
    cert = issue(authority, tmp_path / "mx.pem", "mx.example.com")
    server = start("workers = 3\n" + toml(f'cert = "{cert}"'))
    first = encrypted(server, trusting)
    first.send("EHLO client.example")
    ticket = first.socket.session
    resumed = []
    for _ in range(6):
        client = server.client()
        client.send("STARTTLS")
        client.start_tls(trusting, "mx.example.com", ticket)
        client.send("EHLO client.example")
        resumed.append(client.socket.session_reused)
        ticket = client.socket.session
    assert all(resumed)


def test_a_full_handshake_gives_one_ticket() -> None:
    assert server_context("1.2", "none", None).num_tickets == 1


def test_a_rule_may_forbid_starttls(start: Start, authority: trustme.CA, tmp_path: Path) -> None:
    rule = "from smtpproxy.script import defer\ndef on_starttls(client): return defer('Not now', code='454 4.7.0')\n"
    server = start(toml(f'cert = "{issue(authority, tmp_path / "mx.pem", "mx.example.com")}"'), {"10-no.py": rule})
    client = server.client()
    assert client.send("STARTTLS").startswith("454 4.7.0 Not now")
    assert client.send("NOOP").code == 250


# -- files ---------------------------------------------------------------------------------------------------------------


def test_a_renewed_certificate_is_taken_up_and_a_broken_one_is_not(
    start: Start, authority: trustme.CA, trusting: ssl.SSLContext, tmp_path: Path
) -> None:
    cert = issue(authority, tmp_path / "mx.pem", "mx.example.com")
    server = start(toml(f'cert = "{cert}"'))
    before = encrypted(server, trusting)
    first = before.socket.getpeercert()["serialNumber"]
    cert.write_text("broken\n")
    until(lambda: "event=certificates_refused" in server.log, 10)
    assert encrypted(server, trusting).socket.getpeercert()["serialNumber"] == first
    issue(authority, cert, "mx.example.com")
    until(lambda: "event=reloaded" in server.log, 10)
    assert encrypted(server, trusting).socket.getpeercert()["serialNumber"] != first
    assert deliver(before).startswith("250"), "who was connected goes on"


BROKEN = {
    "not there": ('cert = "absent.pem"', "absent.pem: No such file or directory"),
    "a folder": ('cert = "empty"', "empty: Is a directory"),
    "no certificate": ('cert = "text.pem"', "text.pem: holds no certificate in PEM form"),
    "another one's key": ('cert = "one.pem", key = "two.pem"', "two.pem: is not the key of"),
    "a key with a passphrase": (
        'cert = "one.pem", key = "locked.pem"',
        "locked.pem: holds no private key in PEM form, or one with",
    ),
    "cut off": ('cert = "cut.pem", key = "two.pem"', "cut.pem: holds no certificate in PEM form"),
    "an empty folder": ('folder = "empty"', "empty: there is no certificate with its key in it"),
}


@pytest.mark.parametrize(("tls", "words"), BROKEN.values(), ids=BROKEN)
def test_a_certificate_that_cannot_be_used_is_named(
    start: Start, authority: trustme.CA, tmp_path: Path, tls: str, words: str
) -> None:
    folder = tmp_path / "server0"
    issue(authority, folder / "one.pem", "mx.example.com")
    issue(authority, folder / "two.pem", "mx.example.com")
    (folder / "text.pem").write_text("hello\n")
    (folder / "cut.pem").write_text((folder / "two.pem").read_text().replace("-----END CERTIFICATE-----", ""))
    locked = load_pem_private_key((folder / "one.pem").read_bytes(), None).private_bytes(
        Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"secret")
    )
    (folder / "locked.pem").write_bytes(locked)
    (folder / "empty").mkdir()
    with pytest.raises(AssertionError, match="the server ended with 1") as caught:
        start(toml(tls))
    assert "listener.mx.tls: " in str(caught.value) and words in str(caught.value)


@pytest.mark.parametrize(
    ("valid", "words"),
    [
        ({"not_after": datetime(2020, 1, 1, tzinfo=UTC)}, "expired on 2020-01-01"),
        (
            {"not_before": datetime(2099, 1, 1, tzinfo=UTC), "not_after": datetime(2100, 1, 1, tzinfo=UTC)},
            "not valid before 2099-01-01",
        ),
    ],
    ids=["too late", "too early"],
)
def test_a_certificate_out_of_its_time_is_complained_about(
    start: Start, authority: trustme.CA, tmp_path: Path, valid: dict[str, datetime], words: str
) -> None:
    server = start(toml(f'cert = "{issue(authority, tmp_path / "mx.pem", "mx.example.com", **valid)}"'))
    assert until(lambda: f"mx.pem: {words}" in server.log)


# -- upstreams -----------------------------------------------------------------------------------------------------------


def upstream_context(authority: trustme.CA, *names: str) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(*names).configure_cert(context)
    return context


def through(start: Start, upstream: FakeUpstream, settings: str) -> str:
    server = start(toml("", handoff=f'kind = "proxy"\nto = ["{upstream.address}"]\n{settings}'))
    client = server.client()
    client.send(ENVELOPE[0])
    reply = client.send(ENVELOPE[1])
    return client.message(MESSAGE) if reply.code == 250 else reply


def test_an_upstream_is_spoken_to_in_tls_where_that_is_demanded(start: Start, authority: trustme.CA) -> None:
    with FakeUpstream(tls=upstream_context(authority, "elsewhere.example")) as upstream:
        assert through(start, upstream, 'tls = "must"').startswith("250")
        assert {conversation.tls for conversation in upstream.conversations if conversation.messages} == {"TLSv1.3"}
    with FakeUpstream() as upstream:
        assert through(start, upstream, 'tls = "must"').startswith("451 4.4.1")
        assert not upstream.messages


def test_on_the_loopback_nothing_is_encrypted_unless_demanded(start: Start, authority: trustme.CA) -> None:
    with FakeUpstream(tls=upstream_context(authority, "elsewhere.example")) as upstream:
        assert through(start, upstream, "").startswith("250")
        assert "STARTTLS" not in upstream.commands


def test_an_upstreams_certificate_is_verified_where_asked(start: Start, authority: trustme.CA, tmp_path: Path) -> None:
    ca = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(str(ca))
    for name, code in (("127.0.0.1", "250"), ("elsewhere.example", "451")):
        with FakeUpstream(tls=upstream_context(authority, name)) as upstream:
            assert through(start, upstream, f'tls = "verify"\ntls_ca = "{ca}"').startswith(code)
    with FakeUpstream(tls=upstream_context(authority, "up.example.com")) as upstream:
        assert through(start, upstream, f'tls = "verify"\ntls_ca = "{ca}"\ntls_name = "up.example.com"').startswith("250")
    with FakeUpstream(tls=upstream_context(trustme.CA(), "127.0.0.1")) as upstream:
        assert through(start, upstream, f'tls = "verify"\ntls_ca = "{ca}"').startswith("451")
        assert not upstream.messages


def test_an_upstream_is_known_by_its_fingerprint(start: Start) -> None:
    own = trustme.CA().issue_cert("self.example")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    own.configure_cert(context)
    der = ssl.PEM_cert_to_DER_cert(own.cert_chain_pems[0].bytes().decode())
    digest = hashlib.sha256(der).hexdigest().upper()
    printed = ":".join(digest[place : place + 2] for place in range(0, 64, 2))
    with FakeUpstream(tls=context) as upstream:
        assert through(start, upstream, f'tls = "verify"\ntls_fingerprints = ["{printed}"]').startswith("250")
        assert through(start, upstream, f'tls = "must"\ntls_fingerprints = ["{"00" * 32}"]').startswith("451")


def test_many_messages_use_an_encrypted_connection_again(start: Start, authority: trustme.CA) -> None:
    with FakeUpstream(tls=upstream_context(authority, "elsewhere.example")) as upstream:
        server = start(toml("", handoff=f'kind = "proxy"\nto = ["{upstream.address}"]\ntls = "must"'))
        client = server.client()
        for _ in range(5):
            client.send(ENVELOPE[0])
            client.send(ENVELOPE[1])
            assert client.message(MESSAGE).code == 250
        assert len(upstream.messages) == 5
        assert len([one for one in upstream.conversations if one.messages]) == 1


def test_a_key_only_root_can_read_serves_workers_that_are_not_root(
    folder: Path, authority: trustme.CA, trusting: ssl.SSLContext
) -> None:
    cert = issue(authority, folder / "mx.pem", "mx.example.com")
    cert.chmod(0o600)
    assert os.geteuid() == 0, "this test needs root, as the checks have it"
    with running_server(folder / "server", 'user = "nobody"\n' + toml(f'cert = "{cert}"')) as server:
        assert deliver(encrypted(server, trusting)).startswith("250")


# -- REQUIRETLS (RFC 8689) ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["proxy", "relay"])
def test_requiretls_is_offered_where_both_hops_are_secured_and_goes_with_the_mail(
    start: Start, authority: trustme.CA, trusting: ssl.SSLContext, tmp_path: Path, kind: str
) -> None:
    cert, ca = issue(authority, tmp_path / "mx.pem", "mx.example.com"), tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(str(ca))
    with FakeUpstream(keywords=[*KEYWORDS, "REQUIRETLS"], tls=upstream_context(authority, "127.0.0.1")) as upstream:
        to = f'kind = "{kind}"\nto = ["{upstream.address}"]\ntls = "verify"\ntls_ca = "{ca}"'
        server = start(toml(f'cert = "{cert}"', handoff=to))
        with server.client() as plain:
            assert "REQUIRETLS" not in plain.send("EHLO client.example").texts
            assert plain.send(f"{ENVELOPE[0]} REQUIRETLS").startswith("555 5.5.4")
        client = encrypted(server, trusting)
        assert "REQUIRETLS" in client.send("EHLO client.example").texts
        assert client.send(f"{ENVELOPE[0]} REQUIRETLS=1").startswith("501 5.5.4")
        assert client.send(f"{ENVELOPE[0]} REQUIRETLS").code == 250
        assert client.send(ENVELOPE[1]).code == 250
        assert client.message(MESSAGE).code == 250
        assert f"{ENVELOPE[0]} REQUIRETLS" in upstream.commands
        assert upstream.messages[0].conversation.tls


@pytest.mark.parametrize("tls", ["may", "must"])
def test_requiretls_is_not_offered_before_a_server_that_need_not_prove_its_name(
    start: Start, authority: trustme.CA, trusting: ssl.SSLContext, tmp_path: Path, tls: str
) -> None:
    cert = issue(authority, tmp_path / "mx.pem", "mx.example.com")
    with FakeUpstream(keywords=[*KEYWORDS, "REQUIRETLS"], tls=upstream_context(authority, "127.0.0.1")) as upstream:
        server = start(toml(f'cert = "{cert}"', handoff=f'kind = "proxy"\nto = ["{upstream.address}"]\ntls = "{tls}"'))
        assert "REQUIRETLS" not in encrypted(server, trusting).send("EHLO client.example").texts


def test_a_mail_that_requires_tls_goes_no_other_way(
    start: Start, authority: trustme.CA, trusting: ssl.SSLContext, tmp_path: Path
) -> None:
    cert, ca = issue(authority, tmp_path / "mx.pem", "mx.example.com"), tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(str(ca))
    rule = "def on_rcpt(mail, rcpt): rcpt.via = rcpt.local_part\n"
    with (
        FakeUpstream(keywords=[*KEYWORDS, "REQUIRETLS"], tls=upstream_context(authority, "127.0.0.1")) as upstream,
        FakeUpstream(keywords=[*KEYWORDS, "REQUIRETLS"]) as other,
    ):
        more = f'[handoff.other]\nkind = "proxy"\nto = ["{other.address}"]\n[handoff.kept]\nkind = "quarantine"\n'
        to = f'kind = "proxy"\nto = ["{upstream.address}"]\ntls = "verify"\ntls_ca = "{ca}"'
        server = start(toml(f'cert = "{cert}"', more, handoff=to), {"10-route.py": rule})
        client = encrypted(server, trusting)
        client.send("EHLO client.example")
        assert client.send(f"{ENVELOPE[0]} REQUIRETLS").code == 250
        assert client.send("RCPT TO:<other@example.com>").startswith("550 5.7.30")
        assert client.send("RCPT TO:<kept@example.com>").startswith("550 5.7.30")
        assert client.send("RCPT TO:<out@example.com>").code == 250
        assert not any(line.startswith("MAIL") for line in other.commands)


def test_what_an_upstream_says_before_the_handshake_does_not_survive_it(start: Start, authority: trustme.CA) -> None:
    with FakeUpstream(tls=upstream_context(authority, "elsewhere.example")) as upstream:
        upstream.on("STARTTLS", "220 2.0.0 Ready\n250 injected.example\n250 2.1.0 Injected\n250 2.1.5 Injected")
        assert through(start, upstream, 'tls = "must"') == "250 2.0.0 Ok: taken"
        assert len(upstream.messages) == 1
