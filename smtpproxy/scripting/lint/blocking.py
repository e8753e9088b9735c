"""Calls that hold everybody up: they wait, or compute, in C, where no other session can be served meanwhile.

What waits through Python's own sockets, time.sleep, subprocess and threading is fine: other sessions are served.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple


class Stall(NamedTuple):
    """Why it is slow for everybody, and what to use in its place."""

    why: str
    remedy: str


_DRIVER = "waits for the database in C"
_HASH = "computes for tens of milliseconds in C"
_IN_A_THREAD = "call it through gevent.get_hub().threadpool.apply(function, arguments)"

MODULES: Mapping[str, Stall] = {
    "psycopg2": Stall(_DRIVER, "use psycopg 3, or psycogreen.gevent.patch_psycopg()"),
    "MySQLdb": Stall(_DRIVER, "use PyMySQL"),
    "_mysql": Stall(_DRIVER, "use PyMySQL"),
    "mariadb": Stall(_DRIVER, "use PyMySQL"),
    "cx_Oracle": Stall(_DRIVER, "use oracledb in its thin mode"),
    "pyodbc": Stall(_DRIVER, _IN_A_THREAD),
    "pymssql": Stall(_DRIVER, "use python-tds"),
    "duckdb": Stall(_DRIVER, _IN_A_THREAD),
    "ldap": Stall("waits for the directory in C", "use ldap3"),
    "pycurl": Stall("waits for the server in C", "use http of smtpproxy.script, or requests"),
    "pylibmc": Stall("waits for the server in C", "use cache or store of smtpproxy.script, or pymemcache"),
    "grpc": Stall("waits for the server in C", "call grpc.experimental.gevent.init_gevent() first"),
    "ctypes": Stall("what C code does there nobody can interrupt", _IN_A_THREAD),
    "_socket": Stall("its sockets block", "use socket"),
    "bcrypt": Stall(_HASH, _IN_A_THREAD),
    "asyncio": Stall("its loop takes the place of the one that serves everybody", "use together() of smtpproxy.script"),
    "multiprocessing": Stall("a fork of the server takes its sockets along", "use subprocess, or @every"),
}
"""Told where they are imported: which of their objects' methods wait cannot be seen in a text."""

CALLS: Mapping[str, Stall] = {
    "sqlite3.connect": Stall("waits for the disk and for locks in C", "use store of smtpproxy.script"),
    "gevent.monkey.get_original": Stall("what it gives waits without letting others go on", "use what you import as usual"),
    "os.system": Stall("waits for the program in C", "use subprocess.run"),
    "os.wait": Stall("waits for a program in C", "use subprocess.run"),
    "os.wait3": Stall("waits for a program in C", "use subprocess.run"),
    "os.wait4": Stall("waits for a program in C", "use subprocess.run"),
    "os.fork": Stall("a copy of the server takes its sockets along", "use subprocess.run"),
    "signal.pause": Stall("waits in C", "use @every of smtpproxy.script"),
    "signal.sigwait": Stall("waits in C", "use @every of smtpproxy.script"),
    "fcntl.flock": Stall("waits for the lock in C", "use store.lease of smtpproxy.script, or LOCK_NB"),
    "fcntl.lockf": Stall("waits for the lock in C", "use store.lease of smtpproxy.script, or LOCK_NB"),
    "os.fsync": Stall("waits for the disk", "use store of smtpproxy.script"),
    "hashlib.scrypt": Stall(_HASH, _IN_A_THREAD),
    "hashlib.pbkdf2_hmac": Stall(_HASH, _IN_A_THREAD),
    "crypt.crypt": Stall(_HASH, _IN_A_THREAD),
}
"""Told where they are called."""

PATTERNS = frozenset(
    f"re.{name}" for name in ("compile", "match", "search", "fullmatch", "sub", "subn", "split", "findall", "finditer")
)


def stalls(dotted: str, table: Mapping[str, Stall]) -> Stall | None:
    """The entry for a dotted name, or for a package that it is in."""
    parts = dotted.split(".")
    return next((table[name] for end in range(len(parts), 0, -1) if (name := ".".join(parts[:end])) in table), None)


def explodes(pattern: str) -> bool:
    """Whether a repetition without bound stands directly in another one, as in (a+)+: time doubles with each character."""
    from re import _parser  # type: ignore[attr-defined]

    try:
        return any(_nested(item) for item in _parser.parse(pattern))
    except (re.error, RecursionError, OverflowError):
        return False  # the rule's load says what is wrong with it


def _nested(item: tuple[Any, Any]) -> bool:
    code, argument = str(item[0]), item[1]
    if _unbounded(item):
        inner = list(argument[2])
        return (len(inner) == 1 and any(_unbounded(one) for one in _flat(inner[0]))) or any(map(_nested, inner))
    return any(_nested(one) for one in _children(code, argument))


def _unbounded(item: tuple[Any, Any]) -> bool:
    return str(item[0]) in ("MAX_REPEAT", "MIN_REPEAT") and item[1][1] > 1000


def _flat(item: tuple[Any, Any]) -> Iterator[tuple[Any, Any]]:
    """What an only thing inside a repetition may be: itself, or the only thing of a group or of a branch."""
    code, argument = str(item[0]), item[1]
    yield item
    if code == "SUBPATTERN" and len(argument[3]) == 1:
        yield from _flat(argument[3][0])
    elif code == "BRANCH":
        for way in argument[1]:
            if len(way) == 1:
                yield from _flat(way[0])


def _children(code: str, argument: Any) -> Iterator[tuple[Any, Any]]:
    if code == "SUBPATTERN":
        yield from argument[3]
    elif code == "BRANCH":
        for way in argument[1]:
            yield from way
    elif code in ("MAX_REPEAT", "MIN_REPEAT"):
        yield from argument[2]
    elif code in ("ASSERT", "ASSERT_NOT"):
        yield from argument[1]
