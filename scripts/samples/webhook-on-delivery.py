"""Webhook: tell a web server of every mail that was delivered, or has bounced for good, as JSON.

An answer other than 2xx, or none within a second, is asked for again, three times in all; then the log says so, and the
mail is none the worse. With a token, requests carry `Authorization: Bearer TOKEN`.

    [rule.webhook-on-delivery]
    url = "https://shop.example.com/mail-events"
    token = "..."
"""

from smtpproxy.script import HttpError, Secret, http, log, settings


class Settings:
    url: str = "https://shop.example.com/mail-events"
    token: Secret = ""
    tries: int = 3


def on_delivered(delivery):
    tell("delivered", delivery)


def on_bounced(delivery):
    tell("bounced", delivery)


def tell(event, delivery):
    told = {"event": event, "id": delivery.id, "sender": delivery.sender, "recipients": delivery.recipients}
    told |= {"host": delivery.host, "reply": str(delivery.reply or ""), "attempts": delivery.attempts}
    headers = {"Authorization": f"Bearer {settings.token}"} if settings.token else None
    for _ in range(settings.tries):
        try:
            answer = http.post_json(settings.url, told, headers=headers, timeout="1s")
            if answer.ok:
                return
            problem = f"status {answer.status}"
        except HttpError as error:
            problem = str(error)
    log.warning("webhook not told", mail=delivery.id, event_of=event, problem=problem)
