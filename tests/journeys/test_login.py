"""swaks, curl and Python's smtplib log in at us over TLS, send outside, and are refused with a wrong password."""

from __future__ import annotations

import re
import smtplib
import ssl
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import trustme

from smtpproxy.accounts import passwords
from smtpproxy.accounts.base import Account
from smtpproxy.accounts.file import line
from smtpproxy.testing.process import RunningServer
from smtpproxy.testing.upstream import FakeUpstream
from smtpproxy.testing.waiting import until
from smtpproxy.wire.scram import ScramKeys

ANN, PASSWORD, WRONG = "ann@example.com", "correct horse: battery, staple=", "wrong horse"
ENVELOPE = ("--from", ANN, "--to", "x@elsewhere.example")


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def submission(
    start: Callable[..., RunningServer], upstream: FakeUpstream, authority: trustme.CA, tmp_path: Path
) -> RunningServer:
    """Port 587: STARTTLS, then a login, and nobody sends as somebody else."""
    pem, users = tmp_path / "mx.pem", tmp_path / "users"
    authority.issue_cert("localhost").private_key_and_cert_chain_pem.write_to_path(str(pem))
    users.write_text(line(Account(ANN, (), passwords.make(PASSWORD), ScramKeys.derive(PASSWORD, b"salt" * 4))))
    return start(
        'hostname = "mx.example.com"\n[listener.submission]\nbind = ["127.0.0.1:0"]\nhandoff = "out"\nauth = "staff"\n'
        f'senders = "login"\ntls = {{ cert = "{pem}", mode = "required" }}\n'
        f'[users.staff]\nkind = "file"\npath = "{users}"\n'
        f'[handoff.out]\nkind = "proxy"\nto = ["{upstream.address}"]\n[limits]\nauth_delay = "0s"\n'
    )


def unseen(server: RunningServer) -> None:
    """No password is in the log, nor in anything else that was written."""
    written = [server.log, *(file.read_text("utf-8", "replace") for file in (server.folder / "data").rglob("*.jsonl"))]
    for secret in (PASSWORD, WRONG):
        assert secret not in "".join(written)


@pytest.mark.parametrize("mechanism", ["PLAIN", "LOGIN"])
def test_swaks(submission: RunningServer, upstream: FakeUpstream, swaks: Any, mechanism: str) -> None:
    options = (*ENVELOPE, "--tls", "--auth", mechanism, "--auth-user", ANN)
    sent = swaks(submission.port, *options, "--auth-password", PASSWORD)
    assert sent.returncode == 0, sent.stdout
    assert "235 2.7.0 Authentication successful" in sent.stdout
    assert b" with ESMTPSA (TLSv1." in upstream.messages[0].header
    until(lambda: re.search(rf"event=message .*login={ANN}", submission.log) is not None, what="the message in the log")
    refused = swaks(submission.port, *options, "--auth-password", WRONG)
    assert refused.returncode != 0 and "535 5.7.8 Authentication credentials invalid" in refused.stdout
    unseen(submission)


def test_swaks_without_a_login_or_as_somebody_else(submission: RunningServer, upstream: FakeUpstream, swaks: Any) -> None:
    assert "554 5.7.1 <x@elsewhere.example>: Relay access denied" in swaks(submission.port, *ENVELOPE, "--tls").stdout
    login = ("--tls", "--auth", "PLAIN", "--auth-user", ANN, "--auth-password", PASSWORD)
    other = swaks(submission.port, "--from", "bob@example.com", "--to", "x@elsewhere.example", *login)
    assert f"553 5.7.1 <bob@example.com>: Sender address is not one of {ANN}" in other.stdout
    assert upstream.messages == []


def test_curl(submission: RunningServer, upstream: FakeUpstream, authority: trustme.CA, tmp_path: Path) -> None:
    (tmp_path / "mail").write_bytes(b"Subject: x\r\n\r\nhello\r\n")
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))

    def send(password: str) -> subprocess.CompletedProcess[str]:
        (tmp_path / "curlrc").write_text(f'user = "{ANN}:{password}"\n')
        command = [
            "curl", "--silent", "--show-error", "--ssl-reqd", "--cacert", str(tmp_path / "ca.pem"), "--config",
            str(tmp_path / "curlrc"), "--mail-from", ANN, "--mail-rcpt", "x@elsewhere.example", "--upload-file",
            str(tmp_path / "mail"), f"smtp://localhost:{submission.port}/client.example",
        ]  # fmt: skip
        return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)

    sent = send(PASSWORD)
    assert sent.returncode == 0, sent.stderr
    assert [message.recipients for message in upstream.messages] == [["x@elsewhere.example"]]
    assert send(WRONG).returncode == 67  # CURLE_LOGIN_DENIED
    unseen(submission)


def test_smtplib(submission: RunningServer, upstream: FakeUpstream, authority: trustme.CA) -> None:
    context = ssl.create_default_context()
    authority.configure_trust(context)
    with smtplib.SMTP("127.0.0.1", submission.port, timeout=20) as client:
        client._host = "localhost"  # type: ignore[attr-defined]
        client.starttls(context=context)
        with pytest.raises(smtplib.SMTPAuthenticationError) as wrong:
            client.login(ANN, WRONG)
        assert wrong.value.smtp_code == 535
        assert client.login(ANN, PASSWORD)[0] == 235
        client.sendmail(ANN, ["x@elsewhere.example"], b"Subject: x\r\n\r\nhello\r\n")
    assert upstream.messages[0].sender == ANN
    unseen(submission)


def test_our_own_client_proves_the_password_without_showing_it(submission: RunningServer, upstream: FakeUpstream) -> None:
    command = [
        "smtpproxy", "send", "--server", f"127.0.0.1:{submission.port}", "--from", ANN, "--to", "x@elsewhere.example", "--tls",
        "--auth", ANN, "--password", PASSWORD,
    ]  # fmt: skip


    sent = subprocess.run([sys.executable, "-m", *command], capture_output=True, text=True, timeout=60, check=False)
    assert sent.returncode == 0, sent.stdout + sent.stderr
    assert "-> AUTH SCRAM-SHA-256 ..." in sent.stdout
