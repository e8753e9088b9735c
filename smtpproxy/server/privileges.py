"""Who serves: the user of the configuration, once the sockets are bound and the keys are read."""

from __future__ import annotations

import codecs
import os
import pwd
from pathlib import Path

from smtpproxy.server.refused import Refused

CODECS = ("ascii", "latin-1", "utf-8", "idna", "punycode")


def check(user: str) -> None:
    """Raises ``Refused`` for a user that does not exist or that this process cannot become."""
    if user and os.geteuid() != 0 and _entry(user).pw_uid != os.geteuid():
        raise Refused(f"user = {user!r}: only root can become another user")


def give(folder: Path, user: str) -> None:
    """Let the user own what was made for it."""
    if user and os.geteuid() == 0:
        entry = _entry(user)
        os.chown(folder, entry.pw_uid, entry.pw_gid)


def drop(user: str) -> None:
    """Become the user, for good."""
    if not user or os.geteuid() != 0:
        return
    entry = _entry(user)
    for codec in CODECS:
        codecs.lookup(codec)  # loaded while we can read them: the interpreter may lie where the user may not look
    os.setgroups(os.getgrouplist(user, entry.pw_gid))
    os.setresgid(entry.pw_gid, entry.pw_gid, entry.pw_gid)
    os.setresuid(entry.pw_uid, entry.pw_uid, entry.pw_uid)
    os.environ["HOME"] = entry.pw_dir


def _entry(user: str) -> pwd.struct_passwd:
    try:
        return pwd.getpwnam(user)
    except KeyError:
        raise Refused(f"user = {user!r}: there is no such user") from None
