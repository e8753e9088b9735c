"""What `smtpproxy check` has to say about logins: listeners where nobody can log in, and accounts that keep others from SCRAM."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from smtpproxy.accounts.file import keyless, read
from smtpproxy.config.schema import Config
from smtpproxy.scripting.table import Table

SHOWN = 5


def doubts(config: Config, table: Table) -> Iterator[str]:
    """A line for each."""
    for name, listener in config.listener.items():
        if listener.auth_required and not listener.auth and not table.chains_for(name).on_auth:
            yield f"listener.{name}.auth_required: nobody can log in: there is neither auth nor a rule with on_auth"
    for name, users in config.users.items():
        if users.kind == "file" and users.path is not None:
            yield from (f"users.{name}: {users.path}: {doubt}" for doubt in _of_file(users.path))


def _of_file(path: Path) -> Iterator[str]:
    try:
        accounts = read(path)
    except (OSError, ValueError) as error:
        yield f"{getattr(error, 'strerror', None) or error}; nobody can log in"
        return
    without = keyless(accounts)
    if without and len(without) < len(accounts):
        more = f" and {len(without) - SHOWN} more" if len(without) > SHOWN else ""
        yield (
            f"SCRAM-SHA-256 is not offered, as {', '.join(without[:SHOWN])}{more} could not use it; "
            "give the password anew: smtpproxy user passwd"
        )
