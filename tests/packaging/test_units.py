"""The units of systemd: what systemd says of them, and that the server lives with what they forbid."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from private_daemons import program

from smtpproxy.testing.front import ENVELOPE
from smtpproxy.testing.instance import one_listener
from smtpproxy.testing.process import RunningServer
from smtpproxy.testing.upstream import FakeUpstream

PACKAGING = Path(__file__).parents[2] / "packaging"
PYTHON_RULE = """
import mmap

def on_message(mail):
    try:
        mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
    except PermissionError:
        mail.header["X-Confined"] = "yes"
"""
LUA_RULE = 'function on_message(mail)\n  mail.header["X-Lua"] = string.rep("a", 3) .. mail.header["Subject"]\nend\n'
NO_NEW_CODE = "import ctypes, os, sys; assert not ctypes.CDLL(None).prctl(65, 1, 0, 0, 0); os.execv(sys.argv[1], sys.argv[1:])"


@pytest.fixture
def units(tmp_path: Path) -> list[Path]:
    """The units as installed, but with a program that there is."""
    text = (PACKAGING / "smtpproxy.service").read_text()
    (tmp_path / "smtpproxy.service").write_text(text.replace("/usr/bin/smtpproxy", "/bin/true"))
    (tmp_path / "smtpproxy.socket").write_text((PACKAGING / "smtpproxy.socket").read_text())
    return [tmp_path / "smtpproxy.service", tmp_path / "smtpproxy.socket"]


def analyze(*words: str) -> str:
    command = [program("systemd-analyze", "systemd"), "--no-pager", *words]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    assert done.returncode == 0, done.stdout
    return done.stdout


def test_systemd_finds_nothing_wrong(units: list[Path]) -> None:
    assert analyze("verify", *map(str, units)) == ""


def test_the_service_is_confined(units: list[Path]) -> None:
    said = analyze("security", "--offline=true", str(units[0]))
    found = re.search(r"Overall exposure level for smtpproxy.service: (\d+\.\d+)", said)
    assert found is not None and float(found[1]) <= 2.0


def test_it_runs_without_memory_that_is_both_written_and_executed(
    start: Callable[..., RunningServer], upstream: FakeUpstream, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """MemoryDenyWriteExecute: greenlets, Lua and what else is compiled get along (prctl(2), PR_SET_MDWE; Linux 6.3)."""
    python = tmp_path / "python"
    python.write_text(f'#!/bin/sh\nexec {sys.executable} -c "{NO_NEW_CODE}" {sys.executable} "$@"\n')
    python.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(python))
    server = start(one_listener("proxy", upstream.address), {"10-x.py": PYTHON_RULE, "20-x.lua": LUA_RULE})
    with server.client() as client:
        for line in ENVELOPE:
            assert client.send(line).code == 250
        assert client.message(b"Subject: x\r\n\r\nhello\r\n").code == 250
    assert "rule_failed" not in server.log
    assert b"X-Lua: aaax\r\n" in upstream.messages[0].header
    assert b"X-Confined: yes\r\n" in upstream.messages[0].header
