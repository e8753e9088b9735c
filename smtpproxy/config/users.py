"""Who may log in: the tables [users.NAME]."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from msgspec import Struct

from smtpproxy.config.about import about


class Users(Struct, frozen=True, kw_only=True):
    """Who may log in. One table for each set of accounts; listeners and rules choose one by its name."""

    kind: Annotated[Literal["file"], about("file: a file that `smtpproxy user` writes.")]
    path: Annotated[Path | None, about("The file; a change of it counts at the next login.")] = None
