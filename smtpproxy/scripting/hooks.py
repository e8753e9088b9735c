"""The moments of a mail's life at which rules are asked: one table.

A hook is a function of this name in a rule file. `on_*` decide: what they answer is acted upon. `watch_*` look on:
they run after the reply, in the background, on a frozen snapshot, and answer nothing. The manual, the checks at load
and the run of a chain read this table.

A *verdict* is what a rule may answer, a *failure verdict* what `on_error` and `on_timeout` may declare for it. Hooks
that come before the commit defer when a rule fails: nothing that a rule should have looked at gets through because
the rule could not look. Hooks that come after it continue, for there is nothing left to refuse.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

CALL_BUDGET = 5.0
CHAIN_BUDGET = 10.0
CPU_BUDGET = 0.3
LOAD_CPU_BUDGET = 2.0
"""For what runs outside of sessions: a file that is loaded imports its libraries, a timer reads its lists."""
MESSAGE_BUDGET = 60.0


class Hook(NamedTuple):
    """One moment. `budget` is the wall time in seconds of all its rules together, `wall` that of one call."""

    name: str
    arguments: tuple[str, ...]
    verdicts: frozenset[str]
    failures: tuple[str, ...]
    failure: str
    budget: float
    manual: str
    stage: str
    wall: float = CALL_BUDGET
    since: int = 1

    @property
    def signature(self) -> str:
        return f"{self.name}({', '.join(self.arguments)})"


ANY = frozenset({"accept", "deny", "defer", "close"})
NONE: frozenset[str] = frozenset()
BEFORE = ("defer", "deny", "continue")
WITH_MAIL = (*BEFORE, "quarantine")
AFTER = ("continue",)

# fmt: off
# name, arguments, verdicts, failure verdicts (the first is the default), stage, manual
_DECIDERS: tuple[tuple[str, str, frozenset[str], tuple[str, ...], str, str], ...] = (
    ("on_connect", "client", ANY, BEFORE, "session",
     "A client connected; nothing was sent yet, not even the banner."),
    ("on_ehlo", "client name", ANY, BEFORE, "session",
     "HELO, EHLO or LHLO with the name that the client gives itself."),
    ("on_capabilities", "client offer", NONE, BEFORE, "session",
     "The EHLO answer is put together: change the offer in place."),
    ("on_starttls", "client", ANY, BEFORE, "session",
     "STARTTLS was asked for; the handshake has not begun."),
    ("on_auth", "client login", ANY, BEFORE, "session",
     "A login was tried; accept() lets it in, deny() does not."),
    ("on_mail", "mail sender", ANY, WITH_MAIL, "transaction",
     "MAIL FROM: the sender is known; the null sender is falsy."),
    ("on_rcpt", "mail rcpt", ANY, WITH_MAIL, "transaction",
     "RCPT TO, once for each recipient; relay permission is checked afterwards."),
    ("on_data", "mail", ANY, WITH_MAIL, "transaction",
     "DATA was asked for; nothing of the message has been read."),
    ("on_header", "mail", ANY, WITH_MAIL, "transaction",
     "The header is in, the body is not."),
    ("on_message", "mail", ANY, WITH_MAIL, "transaction",
     "The whole message is in; nobody has promised anything yet."),
    ("on_route", "mail", ANY, WITH_MAIL, "transaction",
     "Last before the hand-off: choose mail.via."),
    ("on_deny", "client mail verdict", ANY, AFTER, "session",
     "A rule refused (mail is None outside of a transaction; verdict.rule and verdict.hook say which, and where). accept() "
     "overrules it, and the chain goes on behind that rule; another refusal takes its place; nothing lets it stand. Failures "
     "of rules do not come here, nor does what the core or the upstream refuses."),
    ("on_command", "client verb argument", ANY, BEFORE, "session",
     "A command came, before anything is made of it. accept with a text is the answer to VRFY and EXPN."),
    ("on_reset", "mail", NONE, AFTER, "transaction",
     "The transaction was given up: RSET, a new greeting or a hang-up."),
    ("on_disconnect", "client", NONE, AFTER, "session",
     "The client is gone."),
    ("on_deliver", "delivery", frozenset({"accept", "deny", "defer"}), BEFORE, "outbound",
     "A queued mail is about to be sent."),
    ("on_delivered", "delivery", NONE, AFTER, "outbound",
     "The next server has taken it."),
    ("on_deferred", "delivery", NONE, AFTER, "outbound",
     "An attempt failed; another one follows."),
    ("on_bounced", "delivery", frozenset({"deny"}), AFTER, "outbound",
     "It has failed for good; deny() suppresses the notice."),
)
# fmt: on
_LIFECYCLE: tuple[tuple[str, str], ...] = (
    (
        "on_load",
        "Once for each version of a file, before its first hook runs. If it fails, this version does not go live.",
    ),
    ("on_unload", "The last table that uses this version is gone."),
)


def _deciders() -> Iterable[Hook]:
    for name, arguments, verdicts, failures, stage, manual in _DECIDERS:
        budget = MESSAGE_BUDGET if name == "on_message" else CHAIN_BUDGET
        yield Hook(name, tuple(arguments.split()), verdicts, failures, failures[0], budget, manual, stage)


def _observer(hook: Hook) -> Hook:
    name = hook.name.replace("on_", "watch_", 1)
    manual = f"After {hook.name}, in the background, on a frozen snapshot."
    return hook._replace(name=name, verdicts=NONE, failures=AFTER, failure="continue", manual=manual, budget=CHAIN_BUDGET)


def _table() -> Mapping[str, Hook]:
    deciders = list(_deciders())
    observers = [_observer(hook) for hook in deciders]
    refused = "What the core or the upstream refused, after the reply (mail is None outside of a transaction)."
    observers.append(
        Hook("watch_refused", ("client", "mail", "reply"), NONE, AFTER, "continue", CHAIN_BUDGET, refused, "session")
    )
    lifecycle = [Hook(name, (), NONE, AFTER, "continue", CHAIN_BUDGET, manual, "lifecycle") for name, manual in _LIFECYCLE]
    return {hook.name: hook for hook in (*deciders, *observers, *lifecycle)}


HOOKS: Mapping[str, Hook] = _table()
"""Every hook by its name, in the order of a mail's life; observers and lifecycle follow."""

EVERY = Hook("every", (), NONE, AFTER, "continue", CHAIN_BUDGET, 'A function under @every("5m"), as often as that.', "lifecycle")


def is_hook_name(name: str) -> bool:
    """True for names that must stand in the table: `on_error` and `on_timeout` declare failures, they are no hooks."""
    return name.startswith(("on_", "watch_")) and name not in ("on_error", "on_timeout")
