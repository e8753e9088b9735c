"""Routes: which recipients go to which hand-off, or to which server.

A route is an address, `user@` (at any domain), a domain (`example.com`, `.example.com` for all below it) or `*`; behind
it stands the name of a `[handoff.NAME]`, or a server (`smtp://10.0.0.1:25`, `lmtp://10.0.0.1:24`,
`lmtp+unix:/run/lmtp`). The most specific one counts; `ann+lists@example.com` is looked up as it is, then as
`ann@example.com`. Who is in no route goes where the mail goes.

A server is talked to as the listener's hand-off would be: its kind, identity, name and timeouts. Where that has no
upstreams, it is a relay that says nothing of the client. Routes do not let mail in: that is for `[relaying] domains`.
What another rule has chosen for a recipient stays, and recipients that rules add (`aliases`) are routed, too. The
recipients of one message that go to different servers while the client waits are told to come back for the others.

```toml
[rule.routes]
enabled = true
files = ["routes"]

[rule.routes.routes]
"archive@example.com" = "inbound"
".branches.example.com" = "smtp://10.0.0.1:25"
```
"""

from smtpproxy.script import lists, settings

order = 60

LOCAL_PART = 900  # the rank of "user@": this and above are names, below are domains


class Settings:
    routes: dict[str, str] = {}
    """Where to: `"example.com" = "inbound"`."""
    files: list[str] = []
    """Files of routes: on each line a recipient and, behind white space, where to. Read anew within a second."""
    plus: str = "+"
    """What begins the part of a name that may be left out; empty for none."""


INLINE = [f"{recipient} {where}" for recipient, where in settings.routes.items()]
ROUTES = lists.addresses([*INLINE, *(f"file:{file}" for file in settings.files)], values="route")


def route_of(rcpt):
    found = ROUTES.find(rcpt)
    at = rcpt.local_part.find(settings.plus, 1) if settings.plus else -1
    if at > 0 and (found is None or found.rank < LOCAL_PART):
        base = ROUTES.find(f"{rcpt.local_part[:at]}@{rcpt.domain}")
        if base is not None and base.rank >= LOCAL_PART:
            return base.value
    return found.value if found else None


def on_rcpt(mail, rcpt):
    if rcpt.via is None:
        rcpt.via = route_of(rcpt)


def on_data(mail):
    for rcpt in mail.recipients:
        on_rcpt(mail, rcpt)
