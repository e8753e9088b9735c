"""swaks -> us with ClamAV's clamd -> an upstream: a virus is refused, clean mail passes, without clamd nothing passes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from smtpproxy.config.values import ScannerTarget
from smtpproxy.facts.scan import ScanError
from smtpproxy.message.body import bytes_body
from smtpproxy.scanners.clamav import ClamAV
from smtpproxy.testing.instance import one_listener
from smtpproxy.testing.process import RunningServer
from smtpproxy.testing.upstream import FakeUpstream
from smtpproxy.testing.waiting import until

SAMPLES = Path(__file__).parents[2] / "scripts/samples"
EICAR = "X5O!P%@AP[4\\PZX54(P^)7CC)7}$" + "EICAR-STANDARD-ANTIVIRUS-TEST-FILE!$H+H*"
SCANNER = """
[scanner.clamav]
to = ["clamav+unix:{0.socket}", "127.0.0.1:{0.port}"]
"""
ENVELOPE = ("--from", "a@client.example", "--to", "b@example.com", "--header", "Subject: journey")


@pytest.mark.parametrize("rule", [SAMPLES / "virus-scan.py", SAMPLES / "lua/virus-scan.lua"], ids=lambda path: path.suffix)
def test_with_the_sample(
    rule: Path, clamd: Callable[..., Any], start: Callable[..., RunningServer], swaks: Any, upstream: FakeUpstream
) -> None:
    scanner = clamd()
    config = one_listener("proxy", upstream.address, more=SCANNER.format(scanner))
    server = start(config, {rule.name: rule.read_text()})

    sent = swaks(server.port, *ENVELOPE, "--attach", EICAR)
    assert "554 5.7.1 Virus found: Test.Eicar.UNOFFICIAL" in sent.stdout
    assert sent.returncode != 0

    clean = swaks(server.port, *ENVELOPE, "--attach", "harmless")
    assert clean.returncode == 0, clean.stdout
    assert len(upstream.messages) == 1

    scanner.stop()
    without = swaks(server.port, *ENVELOPE)
    assert "451 4.3.0" in without.stdout
    assert without.returncode != 0
    assert len(upstream.messages) == 1
    until(lambda: "ScanError" in server.log, what="the reason in the log")

    scanner.start()
    again = swaks(server.port, *ENVELOPE)
    assert again.returncode == 0, again.stdout
    assert len(upstream.messages) == 2


def test_what_clamd_itself_says(clamd: Callable[..., Any]) -> None:
    scanner = clamd(StreamMaxLength="100K")
    for target in (ScannerTarget("", 0, str(scanner.socket)), ScannerTarget("127.0.0.1", scanner.port)):
        client = ClamAV([target])

        def scan(content: bytes, client: ClamAV = client) -> Any:
            body = bytes_body(content)
            return client.scan(body.content, body.size)

        assert client.version().startswith("ClamAV ")
        assert scan(b"Subject: x\r\n\r\nhello\r\n").clean
        assert scan(b"").clean
        assert scan(EICAR.encode()).name == "Test.Eicar.UNOFFICIAL"
        assert scan(b"x" * 50_000).clean
        for size in (150_000, 20_000_000):
            with pytest.raises(ScanError, match="takes less"):
                scan(b"x" * size)
