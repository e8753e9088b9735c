"""The table of hooks, and names and arguments checked against it when a file is loaded."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from smtpproxy.scripting.hooks import HOOKS
from smtpproxy.scripting.runner import Chains

DECIDERS = [name for name in HOOKS if name.startswith("on_") and name not in ("on_load", "on_unload")]


def test_every_decider_has_an_observer() -> None:
    assert {name.replace("on_", "watch_", 1) for name in DECIDERS} < HOOKS.keys()
    assert "watch_refused" in HOOKS
    assert "watch_load" not in HOOKS


def test_chains_have_an_attribute_for_every_decider() -> None:
    chains = Chains("mx", {}, running=set(), log=print, held=None, observers=None, breaker=None)
    assert all(name in Chains.__slots__ and getattr(chains, name) == () for name in DECIDERS)


def test_observers_decide_nothing() -> None:
    assert not any(hook.verdicts for name, hook in HOOKS.items() if name.startswith("watch_"))


@pytest.mark.parametrize("name", DECIDERS)
def test_the_failure_verdict_is_one_of_those_that_may_be_declared(name: str) -> None:
    assert HOOKS[name].failure in HOOKS[name].failures


def test_the_message_chain_has_more_time() -> None:
    assert (HOOKS["on_message"].budget, HOOKS["on_rcpt"].budget, HOOKS["on_rcpt"].wall) == (60, 10, 5)


def test_unknown_hook_names_are_refused_with_a_suggestion(problem: Callable[[str], str]) -> None:
    assert 'there is no hook "on_recipient"' in problem("def on_recipient(mail, rcpt): pass")


@pytest.mark.parametrize(
    ("name", "meant"), [("on_rctp", "on_rcpt"), ("watch_mesage", "watch_message"), ("on_messages", "on_message")]
)
def test_did_you_mean(problem: Callable[[str], str], name: str, meant: str) -> None:
    assert f'did you mean "{meant}"?' in problem(f"\ndef {name}(mail): pass")


def test_what_only_looks_like_a_hook_is_refused_too(problem: Callable[[str], str]) -> None:
    assert 'there is no hook "on_weekends"' in problem("on_weekends = True")


def test_a_hook_is_a_function(problem: Callable[[str], str]) -> None:
    assert "on_rcpt must be a function, not str" in problem("on_rcpt = 'deny'")


@pytest.mark.parametrize("arguments", ["", "mail", "mail, rcpt, more", "mail, *, rcpt"])
def test_wrong_number_of_arguments(problem: Callable[[str], str], arguments: str) -> None:
    told = problem(f"\ndef on_rcpt({arguments}): pass")
    assert told.startswith("10-rule.py:2: on_rcpt takes 2 arguments: on_rcpt(mail, rcpt)")


@pytest.mark.parametrize("function", ["def on_rcpt(*all): pass", "def on_rcpt(m, r, more=1): pass"])
def test_arguments_may_have_any_name_and_more_may_have_defaults(scripts: Any, function: str) -> None:
    assert not scripts.load(rule=function).problems


@pytest.mark.parametrize("function", ["async def on_data(mail): pass", "def on_data(mail): yield"])
def test_hooks_are_plain_functions(problem: Callable[[str], str], function: str) -> None:
    assert "must be a plain function" in problem(function)
