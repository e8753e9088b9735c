"""What was refused before the recipient was known is said when it is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from smtpproxy.scripting import bundled
from smtpproxy.scripting.verdict import Verdict
from smtpproxy.testing.client import FakeClient
from smtpproxy.testing.front import ENVELOPE, Front
from smtpproxy.testing.handoffs import live
from smtpproxy.testing.rules import run_rule

RULE = bundled.FOLDER / "delay_deny.py"
Fronted = Callable[..., Front]

NETWORK = "from smtpproxy.script import deny\ndef on_connect(client): return deny('Listed', code='554 5.7.1')\n"
HELO = "from smtpproxy.script import defer\ndef on_ehlo(client, name):\n    if name == 'bad.example': return defer('Bad name')\n"
SENDER = "from smtpproxy.script import deny\ndef on_mail(mail, sender): return deny('Bad sender', code='550 5.1.8')\n"
LISTED = "554 5.7.1 Listed"


def refusal(hook: str, kind: str = "deny", rule: str = "10-network") -> Verdict:
    verdict = Verdict(kind, 554, "5.7.1", "Listed", hang_up=kind == "close")
    verdict.given_by(rule, hook)
    return verdict


@pytest.mark.parametrize(
    ("verdict", "settings", "kept"),
    [
        (refusal("on_connect"), {}, True),
        (refusal("on_ehlo"), {}, True),
        (refusal("on_mail"), {}, True),
        (refusal("on_rcpt"), {}, False),
        (refusal("on_message"), {}, False),
        (refusal("on_connect", "close"), {}, False),
        (refusal("on_mail", rule="limits"), {}, False),
        (refusal("on_mail"), {"rules": ["*", "!10-network:on_mail"]}, False),
        (refusal("on_ehlo"), {"rules": ["*", "!10-network:on_mail"]}, True),
        (refusal("on_ehlo"), {"rules": ["10-network"]}, True),
        (refusal("on_ehlo"), {"rules": ["20-other"]}, False),
    ],
)
def test_which_refusals_are_kept(verdict: Verdict, settings: dict[str, Any], kept: bool) -> None:
    done = run_rule(RULE, "on_deny", settings=settings, verdict=verdict)
    assert (done.verdict is not None) is kept
    assert (done.verdict is None) or done.verdict.kind == "accept"


class TestOverASocket:
    def test_the_recipient_hears_it_and_stands_in_the_log(self, front: Fronted) -> None:
        here = front(delay_deny={}, rules={"10-network.py": NETWORK})
        client = here.client()
        assert client.send(ENVELOPE[0]).code == 250
        assert [client.send(f"RCPT TO:<{name}@example.com>") for name in "bc"] == [LISTED, LISTED]
        assert client.send("DATA").code in (503, 554)
        assert [(it["to"], it["reply"]) for it in here.logged("refused")] == [
            ("b@example.com", LISTED), ("c@example.com", LISTED)
        ]  # fmt: skip
        given = [it for it in here.logged("rule") if it["text"].endswith("is told now")]
        assert [(it["to"], it["by"], it["hook"]) for it in given] == [
            (f"{name}@example.com", "10-network", "on_connect") for name in "bc"
        ]

    @pytest.mark.parametrize("postmaster", ["postmaster", "Postmaster@example.com", "abuse@example.com"])
    def test_the_postmaster_gets_his_mail(self, front: Fronted, postmaster: str) -> None:
        out = live()
        exempt = ["postmaster@", "abuse@example.com"]
        client = front(out, delay_deny={"exempt": exempt}, rules={"10-network.py": NETWORK}).client()
        assert [client.send(line).code for line in (ENVELOPE[0], f"RCPT TO:<{postmaster}>", ENVELOPE[1])] == [250, 250, 554]
        assert client.message(b"Subject: help\r\n\r\n").code == 250
        assert len(out.delivered) == 1

    def test_a_whole_domain_may_be_exempt(self, front: Fronted) -> None:
        client = front(delay_deny={"exempt": ["example.com"]}, rules={"10-network.py": NETWORK}).begun()
        assert client.message(b"Subject: x\r\n\r\n").code == 250

    def test_the_rules_behind_are_asked_as_if_nothing_had_been_refused(self, front: Fronted) -> None:
        behind = "from smtpproxy.script import log\ndef on_connect(client): log.info('asked')\n"
        here = front(delay_deny={}, rules={"10-network.py": NETWORK, "20-behind.py": behind})
        here.client()
        assert [record["text"] for record in here.logged("rule")] == ["asked"]

    def test_for_good_comes_before_for_now(self, front: Fronted) -> None:
        here = front(delay_deny={}, rules={"10-helo.py": HELO, "20-sender.py": SENDER})
        client = here.client("EHLO bad.example")
        assert [client.send(line) for line in ENVELOPE] == ["250 2.1.0 Ok", "550 5.1.8 Bad sender"]

    def test_a_sender_is_refused_for_this_mail_only(self, front: Fronted) -> None:
        once = SENDER.replace("sender): return", "sender):\n    if sender.local_part == 'a': return")
        client = front(delay_deny={}, rules={"20-sender.py": once}).client()
        assert [client.send(line).code for line in ENVELOPE] == [250, 550]
        client.send("RSET")
        assert [client.send(line).code for line in ("MAIL FROM:<b@client.example>", ENVELOPE[1])] == [250, 250]

    def test_a_better_name_in_another_ehlo_is_taken(self, front: Fronted) -> None:
        client = front(delay_deny={}, rules={"10-helo.py": HELO}).client("EHLO bad.example")
        assert [client.send(line).code for line in ENVELOPE] == [250, 451]
        client.send("EHLO good.example")
        assert [client.send(line).code for line in ENVELOPE] == [250, 250]

    @pytest.mark.parametrize(("drop", "code"), [(True, 250), (False, 451)])
    def test_who_logs_in_leaves_it_behind(self, front: Fronted, drop: bool, code: int) -> None:
        # a login that comes after the refusal, as AUTH does; the facts of the session are the same
        here = front(delay_deny={"drop_at_login": drop}, rules={"10-helo.py": HELO})
        client = here.client("EHLO bad.example")
        (session,) = here.sessions
        session.client.login = "joe"
        assert [client.send(line).code for line in ENVELOPE] == [250, code]

    def test_what_is_refused_after_the_login_stands(self, front: Fronted) -> None:
        here = front(delay_deny={}, rules={"20-sender.py": SENDER})
        client = here.client()
        (session,) = here.sessions
        session.client.login = "joe"
        assert [client.send(line).code for line in ENVELOPE] == [250, 550]

    def test_another_rule_may_still_overrule(self, front: Fronted) -> None:
        mercy = "from smtpproxy.script import accept\ndef on_deny(client, mail, verdict): return accept()\n"
        client = front(delay_deny={}, rules={"10-network.py": NETWORK, "30-mercy.py": mercy}).client()
        assert [client.send(line).code for line in ENVELOPE] == [250, 250]

    def test_close_is_obeyed_at_once(self, front: Fronted) -> None:
        files = {"10-network.py": NETWORK.replace("deny", "close")}
        assert FakeClient(front(delay_deny={}, rules=files).port).reply() == LISTED
