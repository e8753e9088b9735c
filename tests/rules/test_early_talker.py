"""Who speaks before it is his turn."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from smtpproxy.config.schema import Relaying
from smtpproxy.config.values import Domains, Networks
from smtpproxy.scripting import bundled
from smtpproxy.testing.client import FakeClient
from smtpproxy.testing.front import ENVELOPE, Front
from smtpproxy.testing.rules import RuleBroken, run_rule
from smtpproxy.testing.waiting import FixedClock, until

RULE = bundled.FOLDER / "early_talker.py"
Fronted = Callable[..., Front]


@pytest.mark.parametrize(
    ("outcome", "reply"),
    [
        ("deny", "554 5.5.1 Protocol error: you speak before it is your turn"),
        ("defer", "450 4.5.1 Protocol error: you speak before it is your turn"),
        ("close", "554 5.5.1 Protocol error: you speak before it is your turn"),
        ("mark", ""),
    ],
)
@pytest.mark.parametrize("hook", ["on_connect", "on_data"])
def test_what_becomes_of_one_who_speaks_early(hook: str, outcome: str, reply: str) -> None:
    done = run_rule(RULE, hook, settings={"outcome": outcome}, client={"spoke_early": True})
    assert done.reply == reply
    assert done.client.results.get("early_talker").value == "fail"  # type: ignore[union-attr]
    assert done.verdict is None or done.verdict.hang_up is (outcome == "close")


def test_one_who_waits_is_greeted_after_the_wait() -> None:
    done = run_rule(RULE, "on_connect", settings={"wait": "1500ms"}, clock=(clock := FixedClock(0)))
    assert (done.verdict, clock.now) == (None, 1.5)
    assert done.client.results.get("early_talker").value == "pass"  # type: ignore[union-attr]


@pytest.mark.parametrize(
    "client", [{"trusted": True}, {"address": "192.0.2.7"}, {"address": "2001:db8::7"}], ids=["trusted", "v4", "v6"]
)
@pytest.mark.parametrize("hook", ["on_connect", "on_data"])
def test_who_is_left_alone(client: dict[str, Any], hook: str) -> None:
    settings = {"exempt": ["192.0.2.0/24", "2001:db8::/32"]}
    done = run_rule(RULE, hook, settings=settings, client={"spoke_early": True, **client}, clock=(clock := FixedClock(0)))
    assert (done.verdict, clock.now, "early_talker" in done.client.results) == (None, 0, False)


def test_at_data_nobody_is_held_up_and_who_has_logged_in_may_be_hasty() -> None:
    assert run_rule(RULE, "on_data", clock=(clock := FixedClock(0))).verdict is None
    assert clock.now == 0
    early = {"spoke_early": True}
    assert run_rule(RULE, "on_data", client={**early, "login": "joe"}).verdict is None
    assert run_rule(RULE, "on_data", settings={"at_data": False}, client=early).verdict is None


def test_a_wait_that_no_call_may_take_is_refused_when_it_is_loaded() -> None:
    with pytest.raises(RuleBroken, match="wait: 4s at most, not 5s"):
        run_rule(RULE, "on_connect", settings={"wait": "5s"})


class TestOverASocket:
    def test_one_who_sends_everything_at_once_is_refused(self, front: Fronted) -> None:
        here = front(early_talker={"wait": "200ms"})
        client = FakeClient(here.port)
        client.raw(b"EHLO client.example\r\nMAIL FROM:<>\r\n")
        assert client.reply() == "554 5.5.1 Protocol error: you speak before it is your turn"
        assert client.reply().code == 554
        (record,) = here.logged("rule")
        assert (record["text"], record["client"], record["before"]) == ("spoke early", "127.0.0.1", "greeting")

    def test_one_who_waits_is_served(self, front: Fronted) -> None:
        here = front(early_talker={"wait": "100ms"})
        with here.begun() as client:
            assert client.message(b"Subject: x\r\n\r\n").code == 250

    def test_one_who_does_not_wait_for_the_354_is_refused(self, front: Fronted) -> None:
        here = front(early_talker={"wait": "0s"})
        client = here.begun()
        client.raw(b"DATA\r\nSubject: x\r\n\r\nhello\r\n.\r\n")
        assert client.reply() == "554 5.5.1 Protocol error: you speak before it is your turn"

    def test_pipelining_is_not_early(self, front: Fronted) -> None:
        client = front(early_talker={"wait": "0s"}).client()
        assert [reply.code for reply in client.pipeline([*ENVELOPE, "DATA"])] == [250, 250, 354]

    def test_trusted_networks_do_not_wait(self, front: Fronted) -> None:
        relaying = Relaying(domains=Domains(["example.com"]), networks=Networks(["127.0.0.0/8"]))
        client = FakeClient(front(early_talker={"wait": "4s"}, relaying=relaying).port, timeout=2)
        client.raw(b"EHLO client.example\r\n")
        assert client.reply().code == 220

    def test_another_identity_is_not_held_up_again(self, front: Fronted) -> None:
        here = front(early_talker={"wait": "100ms"}, doors={"sleep": (slept := []).append}, xclient_from=["127.0.0.1"])
        client = here.client()
        assert client.send("XCLIENT ADDR=192.0.2.9").code == 220
        assert slept == [0.1]

    def test_others_are_served_while_one_waits(self, front: Fronted) -> None:
        here = front(early_talker={"wait": "1s", "exempt": ["127.0.0.2/32"]})
        waiting = FakeClient(here.port)
        until(lambda: here.sessions)
        FakeClient.greeted(here.port, source="127.0.0.2").send("QUIT")
        assert waiting.quiet(0.01)

    def test_a_rule_in_lua_can_do_the_same(self, front: Fronted) -> None:
        rule = """
            function on_connect(client)
              sleep("200ms")
              if client.spoke_early then return deny("too soon", {code = "554 5.5.1"}) end
            end
            function on_deny(client, mail, verdict)
              log.info(verdict.rule .. " at " .. verdict.hook)
            end
            function on_command(client, verb)
              if client.errors > 1 then return close("enough") end
            end
        """
        here = front(rules={"10-early.lua": rule})
        client = FakeClient(here.port)
        client.raw(b"EHLO client.example\r\n")
        assert client.reply() == "554 5.5.1 too soon"
        assert [record["text"] for record in here.logged("rule")] == ["10-early at on_connect"]
        polite = here.client()
        assert [polite.send(line).code for line in ("NONSENSE", "NONSENSE", "NOOP")] == [500, 500, 421]
