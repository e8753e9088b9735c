"""From `init` to `serve` in front of another server, and `sink`."""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from smtpproxy.cli.main import main
from smtpproxy.testing.client import FakeClient
from smtpproxy.testing.upstream import KEYWORDS, FakeUpstream

XCLIENT = "XCLIENT NAME ADDR PORT PROTO HELO"


def edit(file: Path, *changes: tuple[str, str]) -> None:
    text = file.read_text()
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    file.write_text(text)


def test_init_check_serve(tmp_path: Path, run: Callable[..., Any], capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "mail"
    with FakeUpstream(keywords=[*KEYWORDS, XCLIENT]) as upstream:
        assert main(["init", str(folder)]) == 0
        edit(folder / "listeners.toml", ("127.0.0.1:2525", "127.0.0.1:0"))
        edit(folder / "handoffs.toml", ("127.0.0.1:10025", upstream.address), ('identity = "none"', 'identity = "xclient"'))
        assert main(["check", str(folder)]) == 0
        assert f"(proxy to 127.0.0.1:{upstream.port}, xclient)" in capsys.readouterr().out
        serving = run("serve", "--config", str(folder))
        assert serving.send("--to", "you@example.com", "--helo", "me.example").returncode == 0
        assert serving.send("--to", "nobody@example.com").returncode == 1
        (message,) = upstream.messages
        assert message.recipients == ["you@example.com"]
        assert message.xclient["ADDR"] == "127.0.0.1" and message.xclient["HELO"] == "me.example"
        assert serving.end() == 0
    printed = serving.printed
    assert "event=message" in printed and "event=refused" in printed and "sessions=0" in printed
    assert printed.splitlines()[-1].endswith("event=stopped")


def test_serve_says_what_is_wrong_with_the_configuration(tmp_path: Path, run: Callable[..., Any]) -> None:
    main(["init", str(tmp_path / "mail")])
    edit(tmp_path / "mail" / "listeners.toml", ('handoff = "inbound"', 'handoff = "inbond"'))
    serving = run("serve", str(tmp_path / "mail"))
    assert serving.process.wait(20) == 1
    assert 'there is no [handoff.inbond]; did you mean "inbound"?' in serving.printed


def test_a_reload_that_is_refused_leaves_the_old_configuration(tmp_path: Path, run: Callable[..., Any]) -> None:
    folder = tmp_path / "mail"
    main(["init", str(folder)])
    edit(folder / "listeners.toml", ("127.0.0.1:2525", "127.0.0.1:0"))
    edit(folder / "handoffs.toml", ("127.0.0.1:10025", "127.0.0.1:1"))
    serving = run("serve", "--config", str(folder))
    port = serving.port
    edit(folder / "relaying.toml", ("domains = ", "domain = "))
    serving.process.send_signal(signal.SIGHUP)
    assert "reload refused, the old configuration stays:" in serving.says('domain: unknown key; did you mean "domains"?')
    with FakeClient.greeted(port) as client:
        assert client.send("MAIL FROM:<a@client.example>").code == 250
        assert client.send("RCPT TO:<you@example.net>").startswith("554 5.7.1 ")
        assert client.send("RCPT TO:<you@example.com>").startswith("451 4.4.1 "), "ours as before, with nobody behind us here"


def test_sink_keeps_the_last_messages_only(run: Callable[..., Any]) -> None:
    sink = run("sink", "--keep", "kept", "--last", "2")
    with FakeClient.greeted(sink.port) as client:
        for number in range(4):
            client.send("MAIL FROM:<a@client.example>")
            client.send("RCPT TO:<b@anywhere.example>")
            assert client.message(b"Subject: %d\r\n\r\n.\r\n" % number).startswith("250 2.0.0 Ok: kept as ")
    kept = sorted((sink.folder / "kept").glob("*.eml"))
    assert [b"Subject: 2\r\n" in kept[0].read_bytes(), b"Subject: 3\r\n" in kept[1].read_bytes()] == [True, True]
    assert len(kept) == 2 and kept[1].read_bytes().endswith(b"\r\n\r\n.\r\n")


def test_sink_keeps_nothing_of_a_message_that_was_not_finished(run: Callable[..., Any]) -> None:
    sink = run("sink", "--keep", "kept")
    with FakeClient.greeted(sink.port) as client:
        client.send("MAIL FROM:<a@client.example>")
        client.send("RCPT TO:<b@anywhere.example>")
        client.send("DATA")
        client.raw(b"Subject: half\r\n\r\n" + b"x" * 100000)
    assert sink.end() == 0
    assert [file.name for file in (sink.folder / "kept").glob("*.*") if file.name != "sink.log"] == []


def test_sink_ends_with_its_input_where_it_was_told_to(run: Callable[..., Any]) -> None:
    sink = run("sink", "--keep", "kept", "--until-eof")
    assert sink.port
    sink.process.stdin.close()
    assert sink.process.wait(20) == 0
