"""API-key login: programs log in with a key of their own instead of somebody's password.

The configuration holds the SHA-256 of each key (`printf %s KEY | sha256sum`), never the key. A name that stands here logs
in with its key or not at all; other names are left to whatever else checks logins.

    [rule.api-key-login]
    keys = { "shop" = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08" }
"""

from hmac import compare_digest

from smtpproxy.script import accept, deny, digest, settings

on_error = "deny"


class Settings:
    keys: dict[str, str] = {}


def on_auth(client, login):
    expected = settings.keys.get(login.name)
    if expected is None:
        return None
    if compare_digest(digest.sha256(login.password), expected.lower()):
        return accept()
    return deny("Wrong key", code="535 5.7.8")
