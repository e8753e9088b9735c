"""Passwords of our own, for servers that we log in at: each alone in a file, read when it is needed."""

from __future__ import annotations

from pathlib import Path

from smtpproxy.accounts.connections import Unanswered


def read_secret(path: Path) -> str:
    """Without the end of the line. Raises ``Unanswered``, which names the file and nothing of what is in it."""
    try:
        secret = path.read_text("utf-8").strip("\r\n")
    except (OSError, UnicodeDecodeError) as error:
        raise Unanswered(f"{path}: {error.strerror if isinstance(error, OSError) else 'not UTF-8'}") from None
    if not secret:
        raise Unanswered(f"{path}: is empty")
    return secret
