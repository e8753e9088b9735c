"""What editors are told of Lua rules: all there is, and valid Lua."""

from __future__ import annotations

import lupa.lua54

from smtpproxy.facts.surface import SURFACE
from smtpproxy.scripting import annotations
from smtpproxy.scripting.hooks import HOOKS
from smtpproxy.scripting.lua_rules import DOORS, operations

TEXT = annotations.text()


def test_every_hook_is_there() -> None:
    assert [name for name in HOOKS if f"\n{name} = nil\n" not in TEXT + "\n"] == []


def test_every_question_is_there() -> None:
    assert [question for questions in DOORS.values() for question in questions if f"---@field {question} fun(" not in TEXT] == []
    questions = {f"{path}.{question}" for path, questions in DOORS.items() for question in questions}
    assert set(operations()) == questions | {"sleep", "submit"}
    assert "\nfunction sleep(seconds) end\n" in TEXT


def test_every_name_of_every_object_is_there() -> None:
    names = {name for surface in SURFACE.values() for kind in ("read", "call") for name in surface[kind]}
    assert [name for name in names if f"---@field {name} " not in TEXT] == []


def test_types_and_words_are_those_of_the_declaration() -> None:
    assert "---@field client Client Who sends it to us.\n" in TEXT
    assert "---@field add_recipient fun(self: Mail, address: Address|string): Recipient One more recipient, at the end" in TEXT
    assert "---@field increment fun(key: string, by?: integer|table, expires?: string|number|nil|table): integer Count" in TEXT
    assert "---@type fun(mail: Mail, rcpt: Recipient): Verdict?\non_rcpt = nil\n" in TEXT


def test_it_is_lua() -> None:
    runtime = lupa.lua54.LuaRuntime()  # type: ignore[attr-defined]
    assert runtime.globals().load(TEXT), "a syntax error"
