"""Webhook on message: tell a web server of every mail that was taken or refused, as JSON, when the sender has its answer.

No mail waits for it: this rule only looks on. What cannot be told is in the log.

    [rule.webhook-on-message]
    url = "https://shop.example.com/mail-events"
    secret = "..."           # signs the request: X-Signature is the HMAC with SHA-256 of its time and the mail's id
"""

from smtpproxy.script import HttpError, Secret, clock, digest, http, log, settings


class Settings:
    url: str = "https://shop.example.com/mail-events"
    secret: Secret = ""


def watch_message(mail):
    tell("taken", mail, results={result.name: result.value for result in mail.results})


def watch_refused(client, mail, reply):
    if mail:
        tell("refused", mail, reply=str(reply))


def watch_deny(client, mail, verdict):
    if mail:
        tell("refused", mail, reply=f"{verdict.code} {verdict.text}", rule=verdict.rule)


def tell(event, mail, **more):
    told = {"event": event, "at": int(clock.now()), "id": mail.id, "client": mail.client.address, **more}
    told |= {"sender": mail.sender, "recipients": mail.recipients}
    signature = digest.hmac_sha256(settings.secret, f"{told['at']} {mail.id}")
    try:
        if not (answer := http.post_json(settings.url, told, headers={"X-Signature": signature}, timeout="2s")).ok:
            raise HttpError(f"status {answer.status}")
    except HttpError as error:
        log.warning("webhook not told", event_of=event, problem=str(error))
