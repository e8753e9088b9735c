"""Doors: a Lua rule that waits, and nobody who waits with it."""

from __future__ import annotations

import gc
import random
import weakref
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import gevent
import pytest
from gevent.event import Event

from smtpproxy.facts.client import Client, ListenerFacts
from smtpproxy.facts.mail import Mail
from smtpproxy.facts.recipient import Recipient
from smtpproxy.message.body import bytes_body
from smtpproxy.message.edits import Ledger
from smtpproxy.message.header import HeaderBlock
from smtpproxy.scripting.errors import RuleTimeout
from smtpproxy.scripting.lua import LuaError, LuaRule
from smtpproxy.wire.address import parse_address


class Watched(Client):
    """One that a weak reference can be made to."""


def load(text: str, **doors: Callable[..., Any]) -> LuaRule:
    return LuaRule(text.encode(), "a", "a.lua", {}, doors)


def test_a_door_gives_the_others_their_turn() -> None:
    order: list[str] = []
    opened = Event()
    rule = load("function on_ehlo(client, name) say(name) wait() say(name) end", say=order.append, wait=opened.wait)
    waiting = [gevent.spawn(rule.hooks["on_ehlo"], None, name) for name in "ab"]
    gevent.idle()
    assert order == ["a", "b"]
    opened.set()
    gevent.joinall(waiting, raise_error=True)
    assert order == ["a", "b", "a", "b"]


def test_an_error_of_a_door_has_the_scripts_line_and_can_be_caught() -> None:
    def door(name: str) -> None:
        raise KeyError(name)

    rule = load(
        """function on_load()
             local ok, err = pcall(function() return door('caught') .. '' end)
             told(err)
             door('open')
           end""",
        door=door,
        told=(told := []).append,
    )
    with pytest.raises(LuaError) as caught:
        rule.hooks["on_load"]()
    assert told == ["a.lua:2: door: KeyError: 'caught'"]
    assert str(caught.value) == "a.lua:4: door: KeyError: 'open'"


def test_a_door_asked_in_a_coroutine_of_the_script() -> None:
    rule = load(
        """function on_load()
             local co = coroutine.wrap(function(x)
               local inner = coroutine.create(function() return door(x) .. door('b') end)
               local ok, v = coroutine.resume(inner)
               coroutine.yield(v)
               return door('c')
             end)
             return deny(co('a') .. co() .. coroutine.status(coroutine.create(co)))
           end""",
        door=lambda x: gevent.sleep(0) or x,
    )
    assert rule.hooks["on_load"]().text == "abcsuspended"  # type: ignore[union-attr]


@pytest.mark.parametrize("kill", [gevent.GreenletExit, RuleTimeout])
def test_a_call_that_is_killed_at_a_door_is_gone_and_nothing_else(kill: type[BaseException]) -> None:
    reached: list[str] = []
    rule = load(
        "function on_ehlo(client, name) pcall(wait) say(name) end function on_load() return deny('alive') end",
        wait=Event().wait,
        say=reached.append,
    )
    ended: list[BaseException] = []

    def session() -> None:
        try:
            rule.hooks["on_ehlo"](None, "a")
        except BaseException as error:
            ended.append(error)

    stuck = gevent.spawn(session)
    gevent.idle()
    stuck.kill(kill)
    assert [type(error) for error in ended] == [kill]
    assert not reached
    assert rule.hooks["on_load"]().text == "alive"  # type: ignore[union-attr]


def test_a_script_cannot_answer_for_a_door() -> None:
    """A coroutine left waiting for a door by a call that was killed is resumed by another call."""
    rule = load(
        """function on_ehlo(client, name)
             if name == "first" then
               left = coroutine.create(function() local v = wait() say('answered') return v end)
               coroutine.resume(left)
             else
               say(select(2, coroutine.resume(left, 1, 1, 1)))
               say(coroutine.status(left))
             end
           end""",
        wait=Event().wait,
        say=(said := []).append,
    )
    hook = rule.hooks["on_ehlo"]
    stuck = gevent.spawn(hook, None, "first")
    gevent.idle()
    stuck.kill()
    hook(None, "second")
    assert said == ["this coroutine was left waiting for a door", "dead"]


def test_a_coroutine_that_waits_for_another_call_is_refused_to_this_one() -> None:
    opened = Event()
    rule = load(
        """function on_ehlo(client, name)
             if name == "first" then
               left = coroutine.create(function() return wait() end)
               say(select(2, coroutine.resume(left)))
             else
               say(select(2, coroutine.resume(left, 1, 1, 1)))
             end
           end""",
        wait=opened.wait,
        say=(said := []).append,
    )
    hook = rule.hooks["on_ehlo"]
    first = gevent.spawn(hook, None, "first")
    gevent.idle()
    hook(None, "second")
    opened.set()
    first.get()
    assert said == ["this coroutine was left waiting for a door", "cannot resume dead coroutine"]


def test_a_coroutine_may_live_longer_than_its_call() -> None:
    rule = load(
        """gen = coroutine.wrap(function() for i = 1, 9 do coroutine.yield(door(i)) end end)
           function on_load() return deny(gen()) end""",
        door=lambda i: i * 10,
    )
    assert [rule.hooks["on_load"]().text for _ in range(3)] == ["10", "20", "30"]  # type: ignore[union-attr]


def test_calls_that_wait_may_end_after_the_rule_was_closed() -> None:
    opened = Event()
    rule = load("function on_load() wait() return deny('late') end", wait=opened.wait)
    waiting = gevent.spawn(rule.hooks["on_load"])
    gevent.idle()
    rule.close()
    opened.set()
    assert waiting.get().text == "late"


def test_a_version_that_nobody_uses_is_freed() -> None:
    class Door:
        def __call__(self) -> str:
            return "x"

    door = Door()
    gone = weakref.ref(door)
    rule = load("function on_ehlo(client, name) kept = client return deny(door()) end", door=door)
    client = Watched("s1", "192.0.2.1", 25, ListenerFacts("mx"))
    rule.hooks["on_ehlo"](client, "x")
    held = weakref.ref(client)
    del client
    assert held() is None
    del rule, door
    gc.collect()
    assert gone() is None


# many at once

SCRIPT = """
function on_rcpt(mail, rcpt)
  local before = mail.header["Subject"]
  local exists = users.exists(rcpt)
  local names = ""
  for i, r in ipairs(mail.recipients) do names = names .. i .. r.local_part end
  for i, r in pairs(mail.recipients) do names = names .. r.domain end
  local found = coroutine.wrap(function() return users.exists(mail.recipients[1]) end)()
  mail.header["Subject"] = before .. "|" .. rcpt .. "|" .. names .. "|" .. tostring(exists) .. tostring(found)
  mail.notes.name = mail.client.name
  local ok, err = pcall(users.broken, mail.id)
  mail.notes.error = err
  local odd = pcall(function() return mail.__class__ end)
  return deny(mail.header["Subject"] .. tostring(odd), {code = "550 5.1.1"})
end
"""
RAW = b"Subject: s\r\n\r\n"
GREENLETS, CALLS = 500, 20


def a_mail(number: int, lookup: Callable[[str], tuple[str | None, bool]]) -> Mail:
    mail = Mail(
        f"m{number}", Client(f"s{number}", f"10.0.0.{number % 250}", 25, ListenerFacts("mx"), lookup), parse_address("a@b.c")
    )
    for i in range(3):
        mail.accepted(Recipient(parse_address(f"u{i}@d{number}.example")))
    mail.arrived(Ledger(bytes_body(RAW), HeaderBlock.parse(RAW)), True)
    mail.header["Subject"] = f"s{number}"
    return mail


class Crowd:
    """Sessions that run the same hook at the same time; some are thrown a timeout while they wait at a door."""

    hook: Callable[..., Any]

    def __init__(self) -> None:
        self.wrong: list[tuple[str, str]] = []
        self.right = self.killed = 0
        self.random = random.Random(7)

    def pause(self) -> None:
        gevent.sleep(self.random.random() * 0.003)

    def exists(self, rcpt: Any) -> bool:
        self.pause()
        return str(rcpt).startswith("u")

    def broken(self, what: str) -> None:
        self.pause()
        raise LookupError(what)

    def lookup(self, address: str) -> tuple[str | None, bool]:
        self.pause()
        return f"host-{address}", False

    def session(self, number: int) -> None:
        for call in range(CALLS):
            mail = a_mail(number * 100 + call, self.lookup)
            doomed = self.random.random() < 0.05
            timeout = (
                gevent.Timeout(self.random.random() * 0.01, RuleTimeout()) if doomed else SimpleNamespace(close=lambda: None)
            )
            if doomed:
                timeout.start()
            try:
                self.check(mail, self.hook(mail, mail.recipients[1]))
            except RuleTimeout:
                self.killed += 1
            finally:
                timeout.close()

    def check(self, mail: Mail, verdict: Any) -> None:
        n = mail.id[1:]
        wanted = f"s{n}|u1@d{n}.example|1u02u13u2" + f"d{n}.example" * 3 + "|truetruefalse"
        got = (verdict.text, mail.notes.name, mail.notes.error)
        if got == (wanted, f"host-{mail.client.address}", f"a.lua:11: users.broken: LookupError: {mail.id}"):
            self.right += 1
        else:
            self.wrong.append((str(got), wanted))


def test_hundreds_of_sessions_at_once_none_wrong() -> None:
    crowd = Crowd()
    rule = load(
        SCRIPT,
        **{"users.exists": crowd.exists, "users.broken": crowd.broken},
    )
    crowd.hook = rule.hooks["on_rcpt"]
    gevent.joinall([gevent.spawn(crowd.session, number) for number in range(GREENLETS)], raise_error=True)
    assert crowd.wrong == []
    assert crowd.right + crowd.killed == GREENLETS * CALLS
    assert 50 < crowd.killed < 1000
    rule.close()
