"""Block list: refuse senders of domains that a web server lists, as {"domains": ["bad.example", ...]}.

The list is fetched when the first mail wants it and kept in memory for five minutes. While the server cannot be
reached, the last list that came counts; mail never waits for it longer than two seconds, and never fails for it.

    [rule.block-list-from-http]
    url = "https://lists.example.com/blocked.json"
"""

from smtpproxy.script import Duration, HttpError, cache, deny, http, log, settings

on_error = "continue"


class Settings:
    url: str = "https://lists.example.com/blocked.json"
    refresh: Duration = "5m"


def on_mail(mail, sender):
    if sender.domain in blocked():
        return deny(f"Mail from {sender.domain} is not wanted here", code="550 5.7.1")


def blocked():
    domains = cache.get("fresh")
    if domains is None:
        domains = fetched() or cache.get("last") or set()
        cache.set("fresh", domains, expires=settings.refresh)
        cache.set("last", domains)
    return domains


def fetched():
    try:
        return set(http.get(settings.url, timeout="2s").json["domains"])
    except (HttpError, ValueError, KeyError, TypeError) as error:
        log.warning("the block list is not to be had", url=settings.url, error=str(error))
        return None
