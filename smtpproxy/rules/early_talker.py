"""Refuses clients that speak before they are greeted, or send the message before they are told to.

A mail server waits for the greeting and for the answer to DATA (RFC 5321 4.3.1); many programs that only send spam do not
wait for anything. The greeting is held back for a moment, and who has said something by then is refused. Clients in
[relaying] networks are not held up. A PROXY header is not the client's word; a server in front of this one that gives
XCLIENT belongs into `exempt`: its own connection is looked at, not those of its clients.

What was found stands in `client.results`, name `early_talker`, for the rules behind this one.
"""

from typing import Literal

from smtpproxy.script import Duration, cache, close, defer, deny, lists, log, settings, sleep

order = 20
on_error = "continue"

TEXT = "Protocol error: you speak before it is your turn"


class Settings:
    wait: Duration = "1s"
    """How long the greeting is held back, 4 s at most; 0 only looks whether something is there already."""
    outcome: Literal["deny", "defer", "close", "mark"] = "deny"
    """What becomes of who speaks early: `close` answers 554 and hangs up, `mark` only leaves a result."""
    at_data: bool = True
    """Look at DATA as well; nobody is held up there."""
    exempt: list[str] = []
    """Networks whose clients are left alone; `file:PATH` for a list in a file."""


EXEMPT = lists.networks(settings.exempt)


def on_load():
    if settings.wait > 4:
        raise ValueError(f"wait: 4s at most, not {settings.wait}: a call of a hook may take 5 s")


def on_connect(client):
    if left_alone(client) or cache.get(client.id):
        return None
    cache.set(client.id, True, expires="1h")
    if settings.wait:
        sleep(settings.wait)
    return judged(client, "greeting")


def on_data(mail):
    client = mail.client
    if settings.at_data and client.login is None and not left_alone(client):
        return judged(client, "data")


def left_alone(client):
    return client.trusted or client.address in EXEMPT


def judged(client, before):
    if not client.spoke_early:
        if "early_talker" not in client.results:
            client.results.add("early_talker", "pass")
        return None
    client.results.add("early_talker", "fail", before=before)
    log.info("spoke early", client=client.address, before=before, outcome=settings.outcome)
    if settings.outcome == "deny":
        return deny(TEXT, code="554 5.5.1")
    if settings.outcome == "defer":
        return defer(TEXT, code="450 4.5.1")
    if settings.outcome == "close":
        return close(TEXT, code="554 5.5.1")
