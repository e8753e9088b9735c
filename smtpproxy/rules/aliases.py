"""Aliases: recipients that stand for others.

An alias is an address, `user@` (at any domain), a domain (`example.com`, `.example.com` for all below it) or `*`; it
stands for one address or more, or with `@example.net` for the same name at another domain. The most specific one
counts. Targets are aliases themselves if they are listed; an address that stands for itself and others keeps its mail,
and where aliases go round in a circle, the address that comes up again is taken as it is. `ann+lists@example.com` is
looked up as it is, then as `ann@example.com`, whose targets then get the `+lists`.

In files each line has the alias and, behind white space, its targets with commas between; they are read anew within a
second when they change. An alias may lead anywhere, and one that names an address or a domain lets mail for it in, as if
it stood in `[relaying] domains`; `user@` and `*` do not. The next server is asked about the first target at once, about
further ones when the message comes: if it refuses one of them then, the message is refused. A server that is spoken to
by LMTP gets one recipient at a time: with more targets, mail is deferred there. What another rule has made of a
recipient before is what is looked up.

```toml
[rule.aliases]
enabled = true
files = ["aliases"]

[rule.aliases.aliases]
"sales@example.com" = ["ann@example.com", "bob@example.net"]
"old.example" = "@example.com"
"abuse@" = "security@example.com"
```
"""

from smtpproxy.script import lists, settings

order = 30

MOST = 100  # targets of one alias
LOCAL_PART = 900  # the rank of "user@": this and above are names, below are domains


class Settings:
    aliases: dict[str, str | list[str]] = {}
    """What stands for what: `"sales@example.com" = ["ann@example.com", "bob@example.net"]`."""
    files: list[str] = []
    """Files of aliases."""
    plus: str = "+"
    """What begins the part of a name that is kept; empty for none."""


def entries():
    for alias, targets in settings.aliases.items():
        yield f"{alias} {targets if isinstance(targets, str) else ', '.join(targets)}"
    for file in settings.files:
        yield f"file:{file}"


ALIASES = lists.addresses(list(entries()), values="addresses")


def split(address):
    """Name, kept part and domain: "ann", "+lists", "example.com"."""
    local_part, _, domain = address.rpartition("@")
    at = local_part.find(settings.plus, 1) if settings.plus and not local_part.startswith('"') else -1
    return (local_part, "", domain) if at < 0 else (local_part[:at], local_part[at:], domain)


def lookup(address):
    """The entry for an address, and the part of the name that its targets get."""
    name, kept, domain = split(address)
    found = ALIASES.find(address)
    if kept and (found is None or found.rank < LOCAL_PART):
        base = ALIASES.find(f"{name}@{domain}")
        if base is not None and base.rank >= LOCAL_PART:
            return base, kept
    return found, ""


def target_for(address, target, kept):
    local_part, _, domain = target.rpartition("@")
    if not local_part:
        return f"{address.rpartition('@')[0]}@{domain}"
    return f"{local_part}{kept}@{domain}" if kept and not split(target)[1] and not local_part.startswith('"') else target


def expand(address, above=()):
    """All addresses at the end of an alias, in their order."""
    found, kept = (None, "") if address.lower() in above else lookup(address)
    if found is None:
        return [address]
    ends = {}
    for target in found.value.split(","):
        for end in expand(target_for(address, target.strip(), kept), (*above, address.lower())):
            ends.setdefault(end.lower(), end)
        if len(ends) > MOST:
            raise ValueError(f"{address} stands for more than {MOST} addresses")
    return list(ends.values())


def on_rcpt(mail, rcpt):
    given = str(rcpt)
    ends = expand(given)
    others = [end for end in ends if end.lower() != given.lower()]
    if len(others) == len(ends):
        rcpt.relay = rcpt.relay or not lookup(given)[0].key.endswith(("@", "*"))
        rcpt.address, *others = others
    if others:
        rcpt.notes.aliases_more = others


def on_data(mail):
    for rcpt in list(mail.recipients):
        known = {str(other).lower() for other in mail.recipients}
        for more in rcpt.notes.aliases_more or ():
            if more.lower() not in known:
                known.add(more.lower())
                mail.add_recipient(more)
        rcpt.notes.aliases_more = None
