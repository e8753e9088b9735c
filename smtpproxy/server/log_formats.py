"""What a record of the log looks like: one line, whatever a peer has put into it, of at most 8 KB."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from typing import Any

import msgspec

RECORD_LIMIT = 8192

_ESCAPE = re.compile(r'[\x00-\x1f\x7f-\x9f"\\\u2028\u2029\ud800-\udfff]')


class Logfmt:
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


def json_line(stamp: str, event: str, fields: dict[str, Any]) -> str:
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
