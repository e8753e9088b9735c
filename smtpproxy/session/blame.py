"""Whose refusal it was, in words that stand: the rule with its line, the core with its reason, the upstream with its reply."""

from __future__ import annotations

from collections.abc import Iterator
from time import monotonic

from smtpproxy.scripting.trace import UPSTREAM, Refusal, Trace
from smtpproxy.scripting.verdict import Verdict
from smtpproxy.wire.reply import Reply


def of_rule(trace: Trace, verdict: Verdict, reply: Reply, to: str) -> Refusal:
    """A rule's answer, or what was declared for its failure."""
    entry = trace.author(verdict)
    if entry is None:
        return _of_failure(trace, verdict, reply, to)
    place = f"{verdict.file or entry.rule.file}:{verdict.line}" if verdict.line else entry.rule.file
    why = f"by rule {entry.rule.name}, {place} in {entry.hook.name}:"
    return Refusal(monotonic(), "rule", why, str(reply), to, entry.hook.name, entry.rule.name, entry.rule.version, place)


def _of_failure(trace: Trace, verdict: Verdict, reply: Reply, to: str) -> Refusal:
    fault = next((fault for fault in reversed(trace.faults) if fault.entry.rule.name == verdict.rule), None)
    if fault is None:
        return Refusal(monotonic(), "rule", f"by rule {verdict.rule}:", str(reply), to, rule=verdict.rule)
    rule, hook = fault.entry.rule, fault.entry.hook.name
    place = fault.place or rule.file
    why = f"because rule {rule.name} failed, {place} in {hook}: {fault.error}:"
    return Refusal(monotonic(), "failure", why, str(reply), to, hook, rule.name, rule.version, place)


def of_core(reply: Reply, cause: str, to: str) -> Refusal:
    """The core's own; `cause` says what of the configuration or of the protocol."""
    return Refusal(monotonic(), "core", f"by the core, {cause}:", str(reply), to)


def of_handoff(trace: Trace, handoff: str, via: str, reply: Reply, to: str) -> Refusal:
    """A hand-off's reply: the upstream's own words, or ours where it gave none."""
    said = next((given for given in _upstream_answers(trace) if _same(given, reply)), None)
    if said is not None:
        return Refusal(monotonic(), "upstream", f"by the upstream: {via} said", str(reply), to)
    newest = next(_upstream_answers(trace), None)
    if isinstance(newest, str):
        return Refusal(monotonic(), "upstream", f"because of the upstream, {newest}:", str(reply), to)
    return Refusal(monotonic(), "core", f"by hand-off {handoff}:", str(reply), to)


def _upstream_answers(trace: Trace) -> Iterator[object]:
    """Replies, and texts for what stood in the place of one; the newest first."""
    return (given for kind, _, _, _, given in reversed(trace.events) if kind == UPSTREAM)


def _same(given: object, reply: Reply) -> bool:
    return isinstance(given, Reply) and not given.positive and given.completed() == reply
