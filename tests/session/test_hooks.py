"""Every moment of a session has its hooks, for those who decide and for those who look on, in both languages."""

from __future__ import annotations

from pathlib import Path

import pytest

from smtpproxy.scripting.hooks import HOOKS
from smtpproxy.testing.front import ENVELOPE, Front
from smtpproxy.testing.handoffs import FakeOutlet, live
from smtpproxy.testing.waiting import until

MESSAGE = b"Subject: x\r\n\r\nhello\r\n"


@pytest.fixture
def out() -> FakeOutlet:
    return live()

ELSEWHERE = ("starttls", "auth", "load", "unload", "deliver", "delivered", "deferred", "bounced")
SESSION_HOOKS = {name: hook for name, hook in HOOKS.items() if name.partition("_")[2] not in ELSEWHERE}


@pytest.mark.parametrize("language", ["py", "lua"])
def test_every_hook_is_called_in_a_session(tmp_path: Path, out: FakeOutlet, language: str) -> None:
    """But for those of TLS, of logins and of the queue."""
    rule = "from smtpproxy.script import log\n" if language == "py" else ""
    for name, hook in SESSION_HOOKS.items():
        arguments = ", ".join(hook.arguments)
        rule += (
            f"def {name}({arguments}): log.info('called', hook='{name}')\n"
            if language == "py"
            else f"function {name}({arguments}) log.info('called', {{hook = '{name}'}}) end\n"
        )
    refusing = "from smtpproxy.script import deny\ndef on_rcpt(mail, rcpt):\n    if rcpt.local_part == 'no': return deny()\n"
    with Front(out, folder=tmp_path, rules={f"10-all.{language}": rule, "20-no.py": refusing}) as it:
        client = it.begun([ENVELOPE[0]])
        for line, code in (("RCPT TO:<no@example.com>", 550), ("RCPT TO:<a@elsewhere.example>", 554), (ENVELOPE[1], 250)):
            assert client.send(line).code == code
        assert client.message(MESSAGE).code == 250
        client.send(ENVELOPE[0])
        client.send("RSET")
        client.send("QUIT")
        until(lambda: {fields["hook"] for fields in it.logged("rule")} == set(SESSION_HOOKS))
