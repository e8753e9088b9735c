"""The hostile rules: those written out in the .rules files, and families that differ in one thing, from tables."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

_HERE = Path(__file__).parents[1] / "scripting" / "hostile"
_HEAD = re.compile(r"==== ([a-z0-9-]+): (\w+ ?\w*) (failed|parked|broken|nothing)((?:; \w+(?:=\w+)?)*)\n")

SIGNATURES = {
    "on_connect": "client", "on_ehlo": "client, name", "on_capabilities": "client, offer", "on_mail": "mail, sender",
    "on_rcpt": "mail, rcpt", "on_data": "mail", "on_header": "mail", "on_message": "mail", "on_route": "mail",
    "on_command": "client, verb, argument", "on_reset": "mail", "on_disconnect": "client",
    "watch_connect": "client", "watch_rcpt": "mail, rcpt", "watch_message": "mail", "watch_disconnect": "client",
}  # fmt: skip
DEFERRED = {
    "on_connect": "connect", "on_ehlo": "ehlo", "on_capabilities": "ehlo", "on_mail": "mail", "on_rcpt": "rcpt",
    "on_data": "data", "on_header": "dot", "on_message": "dot", "on_route": "dot", "on_command": "ehlo",
}  # fmt: skip
"""The stage at which a client hears that a rule has failed; a failure of the others nobody hears."""

RAISED = {
    "exception": "Exception('x')", "base": "BaseException('x')", "exit": "SystemExit(0)", "interrupt": "KeyboardInterrupt",
    "generator-exit": "GeneratorExit", "greenlet-exit": "gevent.GreenletExit", "stop": "StopIteration(5)",
    "timeout": "gevent.Timeout(1)", "memory": "MemoryError", "recursion": "RecursionError", "assertion": "AssertionError",
    "os": "OSError(32, 'Broken pipe')", "lost": "ConnectionResetError(104, 'x')", "time": "TimeoutError('timed out')",
    "loop-exit": "gevent.hub.LoopExit('x')", "block": "BlockingIOError", "unicode": "UnicodeDecodeError('utf-8', b'', 0, 1, 'x')",
    "name": "NameError('\\ud800\\r\\n')", "own": "type('Own', (BaseException,), {})", "nothing": "None",
}  # fmt: skip
EVERYWHERE = ("base", "greenlet-exit", "timeout")

NONSENSE = {
    "true": "True", "false": "False", "zero": "0", "text": "'deny'", "octets": "b'550'", "tuple": "(550, 'no')", "list": "[]",
    "dictionary": "{'kind': 'deny'}", "nan": "float('nan')", "big-number": "10**5000", "ellipsis": "...", "type": "int",
    "module": "__import__('os')", "lambda": "lambda: None", "exception": "ValueError('x')", "file": "open('/dev/null')",
    "not-implemented": "NotImplemented", "set": "{1}", "object": "object()", "code": "250", "range": "range(10**18)",
}  # fmt: skip

FACTS = {
    "the-id": "mail.id = object()", "the-client": "mail.client = None", "the-recipients": "mail.recipients = []",
    "the-params": "mail.params = None", "the-notes": "mail.notes = {}", "the-skipped": "mail.skipped = None",
    "the-trace": "mail.traced = 'x'", "the-hold": "mail.held = 'drop'", "the-beginning": "mail.begun = 7",
    "the-sender-with-lines": "mail.sender = 'a@b\\r\\nDATA'", "the-sender-with-a-number": "mail.sender = 5",
    "the-route-with-an-object": "mail.via = object()", "the-route-with-a-list": "mail.via = ['drop']",
    "the-route-of-one": "rcpt.via = object()", "a-name-of-one": "rcpt.local_part = None", "a-domain-of-one": "rcpt.domain = 5",
    "a-reply-of-one": "rcpt.reply = None", "a-change-of-one": "rcpt.changes = 'x'",
    "the-relaying": "mail.client.relay = object()",
    "the-trust": "mail.client.trusted = True",
    "the-login": "mail.client.login = 'root'",
    "the-address": "mail.client.address = 5",
    "the-helo": "mail.client.helo = None", "the-listener": "mail.client.listener = None", "the-hello": "mail.client.esmtp = 5",
    "what-is-not-there": "mail.vai = 'x'", "by-deleting": "del mail.client", "by-deleting-recipients": "del mail.recipients",
    "the-list-emptied": "mail.recipients.clear()", "the-list-filled": "mail.recipients.append('x')",
    "the-list-of-none": "mail.recipients[:] = [None]", "a-result-of-no-word": "mail.results.add(5, None)",
    "a-note-of-an-object": "mail.notes.x = object()", "a-note-without-a-name": "mail.notes[5] = 1",
    "a-recipient-of-none": "mail.add_recipient(None)", "a-recipient-with-lines": "mail.add_recipient('a@b\\r\\nRCPT TO:<c@d>')",
    "a-recipient-of-octets": "mail.add_recipient(b'a@b')",
    "a-recipient-taken-away": "mail.remove_recipient('nobody@example.com')",
    "forwarded": "mail.client.forwarded = None", "forwarded-by-item": "mail.client.forwarded['X'] = object()",
    "params-by-item": "mail.params['X'] = object()",
}  # fmt: skip
"""Assignments at on_rcpt: each is refused at its line."""

HEADERS = {
    "lines": "mail.header['Subject'] = 'x\\r\\nBcc: all'", "a-bare-cr": "mail.header['Subject'] = 'x\\ry'",
    "a-bare-lf": "mail.header['Subject'] = 'x\\ny'", "a-null": "mail.header['Subject'] = 'x\\x00'",
    "octets": "mail.header['Subject'] = b'x'", "nothing": "mail.header.add('Subject', None)",
    "a-name-with-lines": "mail.header['X\\r\\nY'] = 'x'", "a-name-with-a-colon": "mail.header['X: y'] = 'x'",
    "an-empty-name": "mail.header[''] = 'x'", "a-name-of-another-script": "mail.header['\\u00dc'] = 'x'",
    "a-name-that-is-a-number": "mail.header[5] = 'x'", "a-lone-surrogate": "mail.header['Subject'] = '\\ud800'",
}  # fmt: skip
"""Edits at on_message: each is refused at its line."""

OFFERS = {
    "lines": "offer['SIZE'] = '1\\r\\n250 EVIL'", "an-object": "offer['SIZE'] = object()", "octets": "offer['SIZE'] = b'1'",
    "a-float": "offer['PIPELINING'] = 0.5", "by-update": "offer.update(SIZE=object())", "by-default": "offer.setdefault('X', [])",
    "a-key": "offer[5] = 'x'", "a-key-with-lines": "offer['X\\r\\nY'] = ''",
}  # fmt: skip
"""Edits at on_capabilities: each is refused at its line."""

VERDICTS = {
    "deny-with-250": "deny('x', code=250)", "deny-with-4xx": "deny('x', code='450 4.0.0')",
    "deny-with-text": "deny('x', code='no')",
    "deny-with-two-classes": "deny('x', code='550 4.1.1')", "deny-with-none": "deny('x', code=None)",
    "deny-with-a-list": "deny('x', code=[550])", "defer-with-5xx": "defer('x', code=550)",
    "close-with-250": "close('x', code=250)",
    "close-with-354": "close('x', code='354')", "deny-with-lines-in-its-code": "deny('x', code='550 5.7.1\\r\\n250')",
    "deny-with-a-huge-code": "deny('x', code='5' * 10**6)", "accept-with-a-code": "accept('x', code=250)",
}  # fmt: skip
"""Answers at on_rcpt that cannot be made."""

ROUTES = {"unknown": "'nowhere'", "a-path": "'../../etc'", "lines": "'a\\r\\nb'", "long": "'x' * 100000"}
"""Hand-offs that there are none of: mail for them waits until there are."""


class Hostile(NamedTuple):
    """A rule: what the client hears ("rcpt 451", or "ok"), what the log says of it, and at which line (0: wherever)."""

    file: str
    text: str
    hears: str
    logged: str
    line: int = 0
    twice: bool = False
    keys: str = ""

    @property
    def name(self) -> str:
        return self.file.partition(".")[0]


def corpus() -> list[Hostile]:
    """All of them."""
    return [*_written("python.rules", ".py"), *_written("lua.rules", ".lua"), *_families()]


def _written(file: str, extension: str) -> Iterator[Hostile]:
    _, *parts = _HEAD.split((_HERE / file).read_text("utf-8"))
    for name, hears, logged, options, text in zip(*[iter(parts)] * 5, strict=True):
        given = [option.strip() for option in options.split(";") if option.strip()]
        keys = "\n".join(f'{key} = "{value}"' for key, _, value in (option.partition("=") for option in given) if value)
        line = next((number for number, line in enumerate(text.splitlines(), 1) if "HERE" in line), 0)
        yield Hostile(name + extension, text, hears, logged, line, "twice" in given, keys)


def _families() -> Iterator[Hostile]:
    for kind, error in RAISED.items():
        hooks = SIGNATURES if kind in EVERYWHERE else ("on_rcpt",)
        for hook in hooks:
            text = f"import gevent\nimport gevent.hub\ndef {hook}({SIGNATURES[hook]}):\n    raise {error}\n"
            yield Hostile(f"raises-{kind}-{_dashed(hook)}.py", text, _hears(hook), "failed", 4)
    for kind, value in NONSENSE.items():
        yield Hostile(f"returns-{kind}.py", f"def on_rcpt(mail, rcpt): return {value}\n", "rcpt 451", "failed")
    for hook, arguments in SIGNATURES.items():
        logged = "failed"
        yield Hostile(f"returns-at-{_dashed(hook)}.py", f"def {hook}({arguments}): return 'yes'\n", _hears(hook), logged)
    for kind, statement in FACTS.items():
        yield Hostile(f"changes-{kind}.py", f"def on_rcpt(mail, rcpt):\n    {statement}\n", "rcpt 451", "failed", 2)
    for kind, statement in HEADERS.items():
        yield Hostile(f"header-{kind}.py", f"def on_message(mail):\n    {statement}\n", "dot 451", "failed", 2)
    for kind, statement in OFFERS.items():
        yield Hostile(f"offers-{kind}.py", f"def on_capabilities(client, offer):\n    {statement}\n", "ehlo 451", "failed", 2)
    for kind, verdict in VERDICTS.items():
        text = f"from smtpproxy.script import *\ndef on_rcpt(mail, rcpt):\n    return {verdict}\n"
        yield Hostile(f"answers-{kind}.py", text, "rcpt 451", "failed", 3)
    for kind, route in ROUTES.items():
        yield Hostile(f"routes-to-{kind}.py", f"def on_rcpt(mail, rcpt): rcpt.via = {route}\n", "rcpt 451", "nothing")
    for hook, arguments in SIGNATURES.items():
        text = f"function {hook}({arguments})\n  local x = nil\n  return x.y\nend\n"
        yield Hostile(f"lua-fails-{_dashed(hook)}.lua", text, _hears(hook), "failed", 3)


def _hears(hook: str) -> str:
    return f"{DEFERRED[hook]} 451" if hook in DEFERRED else "ok"


def _dashed(hook: str) -> str:
    return hook.replace("_", "-")
