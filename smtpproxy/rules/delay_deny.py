"""Keeps what other rules refuse at the connection, at EHLO and at MAIL until the recipient is known.

The client is let on, and hears the refusal at each RCPT: so mail to the postmaster gets through, somebody who logs in
first is let in, and the log says whose mail was refused. Rules that say close() are obeyed at once, and so are the core
and the upstream. What another rule's on_deny would overrule at once is overruled at RCPT: it is asked there.

What is kept stands in `client.notes.delay_deny` and `mail.notes.delay_deny`, what was given in `mail.results`.
"""

from smtpproxy.script import accept, defer, deny, lists, log, settings

order = 3

KEPT_AT = {"on_connect", "on_ehlo", "on_mail"}


class Settings:
    rules: list[str] = ["*", "!limits"]
    """Whose refusals are kept: `*`, `NAME`, `NAME:on_mail` for one hook of a rule, with `!` those that are not; the last that
    fits counts."""
    exempt: list[str] = ["postmaster@"]
    """Recipients that get their mail all the same: `user@example.com`, `example.com`, `user@` in any domain; `file:PATH` for a
    list in a file."""
    drop_at_login: bool = True
    """What was refused before the client logged in is forgotten when it has."""


EXEMPT = lists.addresses(settings.exempt)


def on_deny(client, mail, verdict):
    if verdict.hook not in KEPT_AT or verdict.kind == "close" or not kept(verdict):
        return None
    fact = client if mail is None else mail
    refusal = {
        "rule": verdict.rule, "hook": verdict.hook, "logged_in": client.login is not None,
        "kind": verdict.kind, "code": f"{verdict.code} {verdict.enhanced}", "text": verdict.text,
    }  # fmt: skip
    fact.notes.delay_deny = [*(fact.notes.delay_deny or []), refusal]
    return accept()


def kept(verdict):
    chosen = False
    for pattern in settings.rules:
        if pattern.removeprefix("!") in ("*", verdict.rule, f"{verdict.rule}:{verdict.hook}"):
            chosen = not pattern.startswith("!")
    return chosen


def on_ehlo(client, name):
    """The name is another one now."""
    if client.notes.delay_deny:
        client.notes.delay_deny = [it for it in client.notes.delay_deny if it["hook"] != "on_ehlo"]


def on_rcpt(mail, rcpt):
    client = mail.client
    if not (client.notes.delay_deny or mail.notes.delay_deny):
        return None
    refusals = [*(client.notes.delay_deny or []), *(mail.notes.delay_deny or [])]
    if settings.drop_at_login and client.login is not None:
        refusals = [refusal for refusal in refusals if refusal["logged_in"]]
    if not refusals:
        return None
    # for good comes before for now, else what was refused first
    given = next((refusal for refusal in refusals if refusal["kind"] == "deny"), refusals[0])
    told = f"{given['rule']} had refused at {given['hook']}"
    if rcpt in EXEMPT:
        log.info(f"{told}, {rcpt} is exempt", to=str(rcpt), by=given["rule"], hook=given["hook"])
        return None
    mail.results.add("delay_deny", "fail", rule=given["rule"], hook=given["hook"])
    log.info(f"{told}, {rcpt} is told now", to=str(rcpt), by=given["rule"], hook=given["hook"])
    refuse = deny if given["kind"] == "deny" else defer
    return refuse(given["text"], code=given["code"])
