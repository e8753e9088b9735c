"""Which rule had a worker die or hang: read from the stack that it left behind (faulthandler's, the innermost frame first)."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import NamedTuple

FRAME = re.compile(r'^  File "([^"\n]+)", line (\d+) in ', re.MULTILINE)
STRIKES = 2
"""Workers that one version of a rule may cost before it is taken out."""


class Culprit(NamedTuple):
    """A rule's file, the line it was at, and which version of it: the SHA-256 of its bytes."""

    file: str
    line: int
    digest: str

    @property
    def at(self) -> str:
        return f"{self.file}:{self.line}"


def culprit(stack: str, scripts: Path) -> Culprit | None:
    """The innermost rule of this folder on the stack."""
    folder = str(scripts)
    for path, line in FRAME.findall(stack):
        parent, _, file = path.rpartition("/")
        if parent == folder:
            try:
                data = (scripts / file).read_bytes()
            except OSError:
                data = b""
            return Culprit(file, int(line), hashlib.sha256(data).hexdigest())
    return None


class Blame:
    """Counts what versions of rules have cost; both tables say why, by digest."""

    __slots__ = ("_strikes", "banned", "refused")

    def __init__(self) -> None:
        self._strikes: dict[str, int] = {}
        self.banned: dict[str, str] = {}
        """Taken out: what they declare for a failure applies."""
        self.refused: dict[str, str] = {}
        """Not loaded again: the version before goes on."""

    def refuse(self, found: Culprit) -> None:
        """It has ended the gate, which only loads: it never gets to a worker."""
        self.refused[found.digest] = f"loading it has ended the process, at {found.at}"

    def strike(self, found: Culprit) -> bool:
        """Count one more; True when it is to be taken out from now on."""
        count = self._strikes[found.digest] = self._strikes.get(found.digest, 0) + 1
        if count < STRIKES or found.digest in self.banned:
            return False
        self.banned[found.digest] = f"it has cost {count} workers, the last one at {found.at}"
        return True
