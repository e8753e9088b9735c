"""Rules are asked about deliveries: what they refuse is not sent, what they silence is not told, in either language."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest

from smtpproxy.testing.client import FakeClient
from smtpproxy.testing.instance import one_listener
from smtpproxy.testing.process import RunningServer
from smtpproxy.testing.upstream import FakeUpstream
from smtpproxy.testing.waiting import until

MOMENTS = {
    "py": """
from smtpproxy.script import defer, deny, log

def told(moment, delivery):
    rcpts = ",".join(str(rcpt) for rcpt in delivery.recipients)
    log.info(f"{moment} {rcpts} {delivery.attempts} {delivery.reply or '-'} {delivery.host[:9] or '-'}")

def on_deliver(delivery):
    name = delivery.recipients[0].local_part
    if name == "never":
        return deny("Not from here", code="550 5.7.1")
    if name == "later" and delivery.attempts == 1:
        return defer("Not yet", code="451 4.7.1")

def on_delivered(delivery): told("delivered", delivery)

def on_deferred(delivery): told("deferred", delivery)

def on_bounced(delivery):
    told("bounced", delivery)
    if delivery.recipients[0].local_part == "quiet":
        return deny("nobody wants to know")

def watch_deliver(delivery): told("watched deliver", delivery)
def watch_delivered(delivery): told("watched delivered", delivery)
def watch_deferred(delivery): told("watched deferred", delivery)
def watch_bounced(delivery): told("watched bounced", delivery)
""",
    "lua": """
local function told(moment, delivery)
  local rcpts = {}
  for _, rcpt in ipairs(delivery.recipients) do table.insert(rcpts, tostring(rcpt)) end
  local host = delivery.host ~= "" and delivery.host:sub(1, 9) or "-"
  local reply = delivery.reply and tostring(delivery.reply) or "-"
  log.info(moment .. " " .. table.concat(rcpts, ",") .. " " .. delivery.attempts .. " " .. reply .. " " .. host)
end

function on_deliver(delivery)
  local name = delivery.recipients[1].local_part
  if name == "never" then return deny("Not from here", {code = "550 5.7.1"}) end
  if name == "later" and delivery.attempts == 1 then return defer("Not yet", {code = "451 4.7.1"}) end
end

function on_delivered(delivery) told("delivered", delivery) end

function on_deferred(delivery) told("deferred", delivery) end

function on_bounced(delivery)
  told("bounced", delivery)
  if delivery.recipients[1].local_part == "quiet" then return deny("nobody wants to know") end
end

function watch_deliver(delivery) told("watched deliver", delivery) end
function watch_delivered(delivery) told("watched delivered", delivery) end
function watch_deferred(delivery) told("watched deferred", delivery) end
function watch_bounced(delivery) told("watched bounced", delivery) end
""",
}
EACH = {
    "delivered b@example.com 1 250 2.0.0 Ok: taken 127.0.0.1",
    "bounced never@example.com 1 550 5.7.1 Not from here -",
    "deferred later@example.com 1 451 4.7.1 Not yet -",
    "bounced quiet@example.com 1 550 5.1.1 No such user 127.0.0.1",
    "delivered later@example.com 2 250 2.0.0 Ok: taken 127.0.0.1",
    "delivered a@client.example 1 250 2.0.0 Ok: taken 127.0.0.1",
}
"""What hooks are told, and each time an observer is told the same."""

NOTES = {
    "py": """
from smtpproxy.script import log

def on_rcpt(mail, rcpt):
    mail.sender.notes.plan = "basic"
    rcpt.notes.box = {"b": 1, "c": 2}[rcpt.local_part]

def on_message(mail):
    mail.notes.campaign = {"name": "spring", "tags": ["a", "b"]}
    mail.notes.odd = "\\udce9"
    mail.results.add("spf", "pass", domain="client.example")

def told(moment, delivery):
    boxes = [rcpt.notes.box for rcpt in delivery.recipients]
    tags = "".join(delivery.notes.campaign["tags"])
    domain = delivery.results.get("spf").keys["domain"]
    log.info(f"{moment} {delivery.sender.notes.plan} {sum(boxes)} {tags} {domain} {delivery.notes.asked}")

def on_deliver(delivery): delivery.notes.asked = 1
def on_delivered(delivery): told("delivered", delivery)
def watch_delivered(delivery): told("watched", delivery)
""",
    "lua": """
function on_rcpt(mail, rcpt)
  mail.sender.notes.plan = "basic"
  rcpt.notes.box = ({b = 1, c = 2})[rcpt.local_part]
end

function on_message(mail)
  mail.notes.campaign = { name = "spring", tags = {"a", "b"} }
  mail.notes.odd = "\\xe9"
  mail.results:add("spf", "pass", {domain = "client.example"})
end

local function told(moment, delivery)
  local sum = 0
  for _, rcpt in ipairs(delivery.recipients) do sum = sum + rcpt.notes.box end
  local tags = table.concat(delivery.notes.campaign.tags)
  local domain = delivery.results:get("spf").keys.domain
  log.info(table.concat({moment, delivery.sender.notes.plan, sum, tags, domain, delivery.notes.asked}, " "))
end

function on_deliver(delivery) delivery.notes.asked = 1 end
function on_delivered(delivery) told("delivered", delivery) end
function watch_delivered(delivery) told("watched", delivery) end
""",
}
LANGUAGES = pytest.mark.parametrize("language", ["py", "lua"])


def told(server: RunningServer) -> list[str]:
    """What the rule has logged."""
    return re.findall(r'event=rule .*?text="([^"]+)"', server.log)


def queue(upstream: FakeUpstream, more: str = "") -> str:
    return one_listener("queue", more=f'[queue]\nretry = ["200ms"]\n[route."*"]\nto = ["{upstream.address}"]\n{more}')


@LANGUAGES
def test_each_moment_of_a_delivery(start: Callable[..., RunningServer], upstream: FakeUpstream, language: str) -> None:
    upstream.on("RCPT", "550 5.1.1 No such user", argument="quiet@")
    server = start(queue(upstream), {f"10-x.{language}": MOMENTS[language]})
    with server.client() as client:
        for name in ("b", "never", "later", "quiet"):
            client.send("MAIL FROM:<a@client.example>")
            client.send(f"RCPT TO:<{name}@example.com>")
            assert client.message(b"Subject: x\r\n\r\ntext\r\n").code == 250
    wanted = EACH | {f"watched {line}" for line in EACH}
    said = until(lambda: (lines := told(server)) and wanted <= set(lines) and lines, within=20)
    assert sorted(message.recipients[0] for message in upstream.messages) == [
        "a@client.example", "b@example.com", "later@example.com",
    ]  # fmt: skip
    before = [line for line in said if line.startswith("watched deliver ")]
    assert set(before) == {
        f"watched deliver {rcpt} - -"
        for rcpt in ("a@client.example 1", "b@example.com 1", "never@example.com 1", "later@example.com 1",
                     "later@example.com 2", "quiet@example.com 1")
    }  # fmt: skip
    assert sorted(said) == sorted([*wanted, *before]), "each once"


@LANGUAGES
def test_what_was_noted_while_the_mail_came_in_is_there(
    start: Callable[..., RunningServer], upstream: FakeUpstream, language: str
) -> None:
    server = start(queue(upstream), {f"10-x.{language}": NOTES[language]})
    with server.client() as client:
        client.send("MAIL FROM:<a@client.example>")
        client.send("RCPT TO:<b@example.com>")
        client.send("RCPT TO:<c@example.com>")
        assert client.message(b"Subject: x\r\n\r\ntext\r\n").code == 250
    said = until(lambda: (lines := told(server)) and len(lines) == 2 and lines)
    assert sorted(said) == [f"{moment} basic 3 ab client.example 1" for moment in ("delivered", "watched")]
    assert len(re.findall(r'event=notes_left_out level=warning .*names="mail odd"', server.log)) == 1


@LANGUAGES
def test_asked_are_the_rules_of_the_listener_where_the_mail_came_in(
    start: Callable[..., RunningServer], upstream: FakeUpstream, language: str
) -> None:
    more = '[listener.other]\nbind = ["127.0.0.1:0"]\nhandoff = "out"\nrules = ["*", "!10-x"]\n'
    server = start(queue(upstream, more), {f"10-x.{language}": MOMENTS[language]})
    for listener in ("other", "mx"):
        with FakeClient.greeted(server.ports[listener]) as client:
            client.send("MAIL FROM:<a@client.example>")
            client.send(f"RCPT TO:<{listener}@example.com>")
            assert client.message(b"Subject: x\r\n\r\ntext\r\n").code == 250
    upstream.wait_for(lambda it: len(it.messages) == 2, within=20)
    until(lambda: "watched delivered mx@example.com 1 250 2.0.0 Ok: taken 127.0.0.1" in told(server))
    assert not [line for line in told(server) if "other@" in line]
