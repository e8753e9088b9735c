"""Answers clients with bad marks slowly, and the more of them the slower.

A mark is each reply of 4xx and 5xx that the client was given; a recipient that was refused, by whomever, and a check that
failed (a result `fail`) are more. Other rules give marks by `client.notes.tarpit` and `mail.notes.tarpit`, a number. The
first few are free; each one behind them adds a step, up to a bound. Good clients are not delayed, and those in [relaying]
networks never. No more than so many sessions are held at once: who comes when the pit is full is not delayed.

How long a client was held stands in `client.results`, name `tarpit`.
"""

from gevent.lock import BoundedSemaphore

from smtpproxy.script import Duration, settings, sleep

order = 4
on_error = "continue"


class Settings:
    step: Duration = "500ms"
    """What a mark adds to the time before an answer."""
    longest: Duration = "4s"
    """No answer waits longer; 4 s at most."""
    free: int = 2
    """Marks that cost nothing: everybody mistypes an address."""
    refused_recipient: int = 1
    """Marks for a recipient that was refused, beside the one for the reply."""
    failed: int = 2
    """Marks for each check that failed."""
    sessions: int = 100
    """How many are held at once in a process."""


PLACES = BoundedSemaphore(settings.sessions)
FREE, REFUSED, FAILED = settings.free, settings.refused_recipient, settings.failed


def on_load():
    if settings.longest > 4:
        raise ValueError(f"longest: 4s at most, not {settings.longest}: a call of a hook may take 5 s")


def on_command(client, verb, argument):
    if not client.trusted and verb != "QUIT":
        marks = client.errors + REFUSED * client.recipients_refused + found(client)
        if marks > FREE:
            hold(client, marks - FREE)


def on_rcpt(mail, rcpt):
    hold_for_mail(mail)


def on_data(mail):
    hold_for_mail(mail)


def hold_for_mail(mail):
    """For what was found about this mail; what the client had before it has waited for already."""
    if not mail.client.trusted and (marks := found(mail)):
        hold(mail.client, marks)


def found(fact):
    """The marks that rules have given."""
    given = fact.notes.tarpit
    failed = sum(result.value == "fail" for result in fact.results)
    return FAILED * failed + (given if isinstance(given, int | float) else 0)


def hold(client, marks):
    seconds = min(settings.step * marks, settings.longest)
    if seconds <= 0 or not PLACES.acquire(blocking=False):
        return
    try:
        sleep(seconds)
    finally:
        PLACES.release()
    before = client.results.get("tarpit")
    client.results.add("tarpit", "held", seconds=seconds + (before.keys["seconds"] if before else 0))
