"""Lists of networks, domains and addresses, in settings and in files that are read anew when they change."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from smtpproxy.config.problem import did_you_mean
from smtpproxy.scripting.doors.base import Door, through
from smtpproxy.scripting.lists import VALUES, Match, best

if TYPE_CHECKING:
    from smtpproxy.scripting.list_files import Listed, ListFiles

FILE = "file:"


class Lookup:
    """Lists that are looked up as one: the most specific entry counts, of equals the first."""

    __slots__ = ("_lists",)
    _noun = "list"

    def __init__(self, lists: Sequence[Listed]) -> None:
        self._lists = tuple(lists)

    def find(self, thing: object) -> Match | None:
        """The entry that fits, with .key, .value and .rank (how specific it is); None when there is none."""
        return best(it.table.find(thing) for it in self._lists)

    def get(self, thing: object) -> str | None:
        """The value of the entry that fits, "" when it has none; None when there is no entry."""
        found = self.find(thing)
        return None if found is None else found.value

    def has(self, thing: object) -> bool:
        """Whether an entry fits."""
        return any(it.table.find(thing) is not None for it in self._lists)

    def __contains__(self, thing: object) -> bool:
        return self.has(thing)

    def __len__(self) -> int:
        return sum(len(it.table) for it in self._lists)


class Lists(Door):
    """Lists of entries: a key, and behind white space a value if it has one; `#` begins a comment.

    "file:PATH" stands for the entries of a file, one a line, from the configuration's folder on. A change of it counts within
    a second; what is broken in it is logged, and the last good list stays. Raises ListError for what is wrong at first.
    """

    __slots__ = ()

    def networks(self, entries: str | Sequence[str] = (), *, values: str = "text") -> Lookup:
        """Of "192.0.2.1", "192.0.2.0/24", "2001:db8::/32": looked up by an address."""
        return self._open("networks", entries, values)

    def domains(self, entries: str | Sequence[str] = (), *, values: str = "text") -> Lookup:
        """Of "example.com", ".example.com" (all below it), "*": looked up by a host name or a mail domain."""
        return self._open("domains", entries, values)

    def addresses(self, entries: str | Sequence[str] = (), *, values: str = "text") -> Lookup:
        """Of "user@example.com", "user@", "example.com", ".example.com", "*", "<>" (the null sender): looked up by an address.

        `values` says what stands behind the key: "text", "addresses" (with commas between) or "route".
        """
        return self._open("addresses", entries, values)

    def _open(self, kind: str, entries: str | Sequence[str], values: str) -> Lookup:
        if values not in VALUES:
            raise ValueError(f'values = "{values}"; {did_you_mean(values, VALUES)}')
        entries = [entries] if isinstance(entries, str) else [str(entry) for entry in entries]
        files = [entry.removeprefix(FILE).strip() for entry in entries if entry.startswith(FILE)]
        inline = [entry for entry in entries if not entry.startswith(FILE)]

        def ask(behind: ListFiles) -> Lookup:
            lists = [behind.inline(inline, kind, values)] if inline else []
            return Lookup([*lists, *(behind.file(name, kind, values) for name in files)])

        question = f"lists.{kind} {', '.join(files) or f'of {len(inline)}'}"
        return through("lists", question, ask, lambda found: f"{len(found)} entries")
