"""The configuration that most tests of a server want, so that each shows only what is its own."""

from __future__ import annotations


def one_listener(kind: str, *to: str, listener: str = "", settings: str = "", more: str = "") -> str:
    """TOML: listener "mx" on a free port of the loopback hands to "out"; recipients in example.com are ours.

    `kind` and `to` are those of [handoff.out], `settings` are further lines of it, `listener` of the listener; `more` is what
    follows at the end.
    """
    listed = ", ".join(f'"{server}"' for server in to)
    servers = f"to = [{listed}]\n" if to else ""
    return (
        'hostname = "mx.example.com"\n'
        f'[listener.mx]\nbind = ["127.0.0.1:0"]\nhandoff = "out"\n{listener}\n'
        f'[handoff.out]\nkind = "{kind}"\n{servers}{settings}\n'
        f'[relaying]\ndomains = ["example.com"]\n{more}\n'
    )
