"""Mistakes that the text of a Lua rule shows."""

from __future__ import annotations

from collections.abc import Iterator

from smtpproxy.scripting.lint.finding import Finding, never_read, verdict_dropped
from smtpproxy.scripting.lua_text import declared_settings, dropped, read_settings, tokens
from smtpproxy.scripting.source import Source


def lua(source: Source) -> Iterator[Finding]:
    """Verdicts that are not returned, settings that are not read."""
    words = tokens(source.data)
    for word in dropped(words):
        yield verdict_dropped(source.file, word.line, word.text)
    read = read_settings(words)
    for word in declared_settings(words):
        if read is not None and word.text not in read:
            yield never_read(source.file, word.line, word.text)
