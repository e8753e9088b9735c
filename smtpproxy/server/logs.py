"""The log: one structured record an event, logfmt or JSON, to stdout, a file or syslog, written through within a second.

Records are made and gathered here and written in batches by one greenlet: nothing on the way of a message waits for
the disk, and no ``logging`` lock can switch greenlets in the middle of it.
"""

from __future__ import annotations

import json
import os
import re
import select
import stat
import sys
import syslog
import time
from collections.abc import Callable, Iterable
from typing import Any

import gevent
import msgspec

from smtpproxy.config.schema import Log as LogSettings

FLUSH_SECONDS = 0.2
BATCH_OCTETS = 1 << 16
RECORD_LIMIT = 8192

_ESCAPE = re.compile(r'[\x00-\x1f\x7f-\x9f"\\\u2028\u2029\ud800-\udfff]')


class Log:
    """``log("message", id=..., size=...)``; fields whose value is None or "" are left out."""

    __slots__ = ("_console", "_encode", "_flusher", "_lines", "_size", "_stamp", "_stamped", "_to")

    def __init__(self, settings: LogSettings, console: Callable[[str, dict[str, Any]], None] | None = None) -> None:
        """``console`` is told every record too, at once."""
        self._console = console
        self._encode = _json if settings.format == "json" else _Logfmt()
        self._to = _target(settings)
        self._lines: list[str] = []
        self._size = 0
        self._stamped = -1
        self._stamp = ""
        self._flusher: gevent.Greenlet[..., None] | None = None

    def __call__(self, event: str, **fields: Any) -> None:
        line = self._encode(self._time(), event, fields)
        self._lines.append(line)
        self._size += len(line)
        if self._size > BATCH_OCTETS:
            self.flush()
        if self._console is not None:
            self._console(event, fields)

    def start(self) -> None:
        """Write through every FLUSH_SECONDS from now on."""
        if self._flusher is None:
            self._flusher = gevent.spawn(self._run)

    def flush(self) -> None:
        if self._lines:
            lines, self._lines, self._size = self._lines, [], 0
            self._to.write(lines)

    def stop(self) -> None:
        if self._flusher is not None:
            self._flusher.kill()
            self._flusher = None
        self.flush()
        self._to.close()

    def _run(self) -> None:
        while True:
            gevent.sleep(FLUSH_SECONDS)
            self.flush()

    def _time(self) -> str:
        now = time.time()
        second = int(now)
        if second != self._stamped:
            self._stamped = second
            self._stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))
        return f"{self._stamp}.{int((now - second) * 1000):03d}Z"


class _Logfmt:
    """name=value; values with spaces or "=" stand in quotes, control characters and quotes are escaped.

    Most records of an event look alike: where no value is empty or odd and only ``reply`` has spaces, one template that
    was made for these names does it in a third of the time.
    """

    __slots__ = ("_templates",)

    def __init__(self) -> None:
        self._templates: dict[tuple[str, ...], str] = {}

    def __call__(self, stamp: str, event: str, fields: dict[str, Any]) -> str:
        texts = [value if type(value) is str else _text(value) for value in fields.values()]
        joined = "".join(texts)
        reply = fields.get("reply") or ""
        if (
            "" not in texts
            and joined.isprintable()  # five times as fast as a search for what is not
            and '"' not in joined
            and "\\" not in joined
            and joined.count(" ") == reply.count(" ")
            and joined.count("=") == reply.count("=")
            and len(joined) < RECORD_LIMIT // 2
        ):
            return self._template(tuple(fields)) % (stamp, event, *texts)
        return _carefully(stamp, event, zip(fields, texts, strict=True))

    def _template(self, names: tuple[str, ...]) -> str:
        template = self._templates.get(names)
        if template is None:
            words = [f'{name}="%s"' if name == "reply" else f"{name}=%s" for name in ("time", "event", *names)]
            template = self._templates[names] = " ".join(words)
        return template


def _text(value: Any) -> str:
    if type(value) is list:
        return ",".join(map(str, value))
    return "" if value is None else str(value)


def _carefully(stamp: str, event: str, fields: Iterable[tuple[str, str]]) -> str:
    words = [f"time={stamp} event={event}"]
    for name, text in fields:
        if text:
            escaped = _ESCAPE.sub(_escape, text)
            words.append(f'{name}="{escaped}"' if " " in text or "=" in text or escaped != text else f"{name}={text}")
    line = " ".join(words)
    return line if len(line) <= RECORD_LIMIT else line[:RECORD_LIMIT] + '..."'


def _json(stamp: str, event: str, fields: dict[str, Any]) -> str:
    record: dict[str, Any] = {"time": stamp, "event": event}
    record.update((name, value) for name, value in fields.items() if value is not None and value != "")
    try:
        return msgspec.json.encode(record, enc_hook=str).decode()
    except UnicodeEncodeError:  # octets of a peer's that are no UTF-8 (surrogateescape)
        return json.dumps(record, default=str)


def _escape(match: re.Match[str]) -> str:
    character = match[0]
    if character in '"\\':
        return "\\" + character
    return {"\n": "\\n", "\r": "\\r", "\t": "\\t"}.get(character) or f"\\u{ord(character):04x}"


def _target(settings: LogSettings) -> _Stream | _Syslog:
    """Where records go; raises OSError."""
    if settings.to == "syslog":
        return _Syslog()
    if settings.to == "stdout":
        return _Stream(os.dup(sys.stdout.fileno()))
    os.makedirs(os.path.dirname(os.path.abspath(settings.to)), exist_ok=True)
    return _Stream(os.open(settings.to, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o640))


class _Stream:
    """A file or a pipe. A full disk loses records, never mail: whoever logs is not told."""

    __slots__ = ("_at_once", "_descriptor")

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._at_once = select.PIPE_BUF if stat.S_ISFIFO(os.fstat(descriptor).st_mode) else sys.maxsize

    def write(self, lines: list[str]) -> None:
        """In whole lines; several processes may write to one pipe, which takes no more than PIPE_BUF at once."""
        data = ("\n".join(lines) + "\n").encode("utf-8", "backslashreplace")
        while len(data) > self._at_once:
            end = data.rfind(b"\n", 0, self._at_once) + 1 or data.find(b"\n") + 1
            self._write(data[:end])
            data = data[end:]
        self._write(data)

    def _write(self, data: bytes) -> None:
        while data:
            try:
                data = data[os.write(self._descriptor, data) :]
            except BlockingIOError:
                gevent.sleep(0.01)
            except OSError:
                return

    def close(self) -> None:
        os.close(self._descriptor)


class _Syslog:
    """The system's log, facility mail."""

    __slots__ = ()

    def __init__(self) -> None:
        syslog.openlog("smtpproxy", syslog.LOG_PID, syslog.LOG_MAIL)

    def write(self, lines: list[str]) -> None:
        for line in lines:
            syslog.syslog(line)

    def close(self) -> None:
        syslog.closelog()
