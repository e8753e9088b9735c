"""One chain of one hook: ask each rule in order, until one decides.

`decide` is on the hot path of every command: per hook one clock read (the begin is the end of the hook before), which is
all that the trace keeps of a rule without anything to say, and a deadline for the sweep in `budget.py`. Everything that
is not "the rule had nothing to say, in time" stands in functions of its own.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping
from contextvars import ContextVar
from typing import Any, NoReturn

import greenlet

from smtpproxy.scripting.errors import CpuTimeout, Ended, RuleTimeout, Tripped
from smtpproxy.scripting.failure import Failure, Nonsense, type_name, verdict_for
from smtpproxy.scripting.hooks import CPU_BUDGET, Hook
from smtpproxy.scripting.trace import CPU, HOOK, Fault, Trace
from smtpproxy.scripting.verdict import Verdict

LogFunction = Callable[..., None]
"""`log(event, **fields)`: one record."""

NEVER = float("inf")
_clock = time.monotonic


class Call:
    """One per session: where the rules of this greenlet find their doors, and what of them runs now.

    `doors` are the answers to the outside world by name ("dns", "log"); `mail` is the running transaction's or None.
    `abandoned` is called, in another greenlet, when this one had to be given up in the middle of a rule: whoever waits
    for it goes on there. Where nobody can, it is None. `meter` is `preemption.py`'s.
    """

    __slots__ = ("__weakref__", "abandoned", "client", "deadline", "doors", "entry", "greenlet", "mail", "meter", "trace")

    def __init__(self, *, trace: Trace, doors: Mapping[str, Any] | None = None, client: Any = None, mail: Any = None) -> None:
        self.trace = trace
        self.doors: Mapping[str, Any] = doors if doors is not None else {}
        self.client = client
        self.mail = mail
        self.entry: Entry | None = None
        self.deadline = NEVER
        self.greenlet = greenlet.getcurrent()
        self.abandoned: Callable[[], None] | None = None
        self.meter: Any = None

    @property
    def id(self) -> str:
        """What the peer is told and `explain` finds: the mail's id, else the session's."""
        return self.mail.id if self.mail is not None else self.trace.id


CALL: ContextVar[Call] = ContextVar("smtpproxy_call")
"""The call that runs in this greenlet: doors of the facade are looked up through it."""


class Entry:
    """One rule's function in a chain.

    `wall` and `cpu` are its budgets in seconds, `quarantine` the hand-off that a failure may choose, `title` how a story
    names it.
    """

    __slots__ = ("cpu", "function", "hook", "on_error", "on_timeout", "quarantine", "rule", "skip", "title", "wall")

    def __init__(
        self,
        rule: Any,
        hook: Hook,
        function: Callable[..., Any],
        *,
        on_error: str = "",
        on_timeout: str = "",
        wall: float = 0.0,
        cpu: float = CPU_BUDGET,
        skip: frozenset[str] = frozenset(),
        quarantine: str = "",
    ) -> None:
        self.rule = rule
        self.hook = hook
        self.function = function
        self.on_error = on_error or hook.failure
        self.on_timeout = on_timeout or hook.failure
        self.wall = wall or hook.wall
        self.cpu = cpu
        self.skip = skip
        self.quarantine = quarantine
        self.title = f"{hook.name} {rule.name} [{rule.version}]"

    def skips(self, client: Any) -> bool:
        """True when this rule leaves this client alone."""
        skip = self.skip
        return ("authenticated" in skip and client.login is not None) or ("trusted" in skip and bool(client.trusted))


Chain = tuple[Entry, ...]


class Chains:
    """The chains of one listener, an attribute a hook: () when nobody uses it.

    `held` keeps the table's versions loaded.
    """

    # fmt: off
    __slots__ = (
        "breaker", "by_name", "held", "listener", "log", "observed", "observers", "on_auth", "on_bounced", "on_capabilities",
        "on_command", "on_connect", "on_data", "on_deferred", "on_deliver", "on_delivered", "on_deny", "on_disconnect", "on_ehlo",
        "on_header", "on_mail", "on_message", "on_rcpt", "on_reset", "on_route", "on_starttls", "running",
    )
    # fmt: on

    def __init__(
        self,
        listener: str,
        by_name: Mapping[str, Chain],
        *,
        running: set[Call],
        log: LogFunction,
        held: object,
        observers: Any,
        breaker: Any,
    ) -> None:
        self.listener = listener
        self.breaker = breaker
        self.by_name = by_name
        self.running = running
        self.log = log
        self.held = held
        self.observers = observers
        self.observed = any(name.startswith("watch_") for name in by_name)
        chain = by_name.get
        self.on_connect: Chain = chain("on_connect", ())
        self.on_ehlo: Chain = chain("on_ehlo", ())
        self.on_capabilities: Chain = chain("on_capabilities", ())
        self.on_starttls: Chain = chain("on_starttls", ())
        self.on_auth: Chain = chain("on_auth", ())
        self.on_mail: Chain = chain("on_mail", ())
        self.on_rcpt: Chain = chain("on_rcpt", ())
        self.on_data: Chain = chain("on_data", ())
        self.on_header: Chain = chain("on_header", ())
        self.on_message: Chain = chain("on_message", ())
        self.on_route: Chain = chain("on_route", ())
        self.on_deny: Chain = chain("on_deny", ())
        self.on_command: Chain = chain("on_command", ())
        self.on_reset: Chain = chain("on_reset", ())
        self.on_disconnect: Chain = chain("on_disconnect", ())
        self.on_deliver: Chain = chain("on_deliver", ())
        self.on_delivered: Chain = chain("on_delivered", ())
        self.on_deferred: Chain = chain("on_deferred", ())
        self.on_bounced: Chain = chain("on_bounced", ())


def decide(chains: Chains, chain: Chain, call: Call, *arguments: Any) -> Verdict | None:
    """Ask the rules of one hook in order. None: nobody decided; else the verdict that ended the chain.

    deny, defer and close of a rule go through `on_deny` first. A rule that fails gives its declared verdict. Raises
    nothing of a rule's making, whatever it does.
    """
    if not chain:
        return None
    if CALL.get(None) is not call:
        CALL.set(call)
    running = chains.running
    nested = call in running
    outer = call.entry, call.deadline
    call.greenlet = greenlet.getcurrent()
    running.add(call)
    try:
        return call_rules(chains, chain, call, arguments)
    finally:
        call.entry, call.deadline = outer
        if not nested:
            running.discard(call)


def call_rules(chains: Chains, chain: Chain, call: Call, arguments: tuple[Any, ...]) -> Verdict | None:
    """The loop of ``decide``: its frame is where `preemption.py` sees that a rule begins."""
    skipped = call.mail.skipped if call.mail is not None else ()
    began = _clock()
    limit = began + chain[0].hook.budget
    tick = call.trace.calls(began, chain)
    for entry in chain:
        if (skipped or entry.skip) and _skips(call, entry, skipped):
            tick(None)
            continue
        deadline = began + entry.wall
        if deadline > limit:
            deadline = limit
        call.entry = entry
        call.deadline = deadline
        try:
            verdict = entry.function(*arguments) if began < limit else _exhausted()
            ended = _clock()
            if call.meter is not None:
                _metered(call, entry, began, returned=True)
            if verdict is None and ended <= deadline:
                tick(ended)
                began = ended
                continue
            call.deadline = NEVER
            # whatever else a rule returns is not kept: it would be its code that runs when somebody looks at it
            answered = verdict if type(verdict) is Verdict else type_name(verdict)
            call.trace.append((HOOK, began, ended, entry, answered))
            late, began = ended > deadline, ended
            answer = _answered(chains, call, entry, verdict, late=late)
        except Ended:
            raise
        except BaseException as error:  # SystemExit, GreenletExit, a gevent.Timeout: all of the rule's making
            call.deadline = NEVER
            if call.meter is not None:
                _metered(call, entry, began, returned=False)
            answer = failed(chains, call, entry, error, began)
        if answer is not None:
            return answer
        began = _clock()
        tick = call.trace.calls(began, chain[chain.index(entry) + 1 :])
    return None


def _skips(call: Call, entry: Entry, skipped: Collection[str]) -> bool:
    """Whether this rule is left out: for this client, or by name (`skipped`) for this mail, which the story then says."""
    if entry.rule.name in skipped:
        call.trace.note(f"rule {entry.rule.name} is skipped at {entry.hook.name}")
        return True
    return entry.skips(call.client)


def _answered(chains: Chains, call: Call, entry: Entry, verdict: Any, *, late: bool) -> Verdict | None:
    """The verdict if this hook allows it and `on_deny` lets it stand. Raises what makes it a failure of the rule."""
    if late:
        raise RuleTimeout
    if type(verdict) is not Verdict:
        raise Nonsense(f"{entry.hook.name} returned {type_name(verdict)}, which is no verdict")
    if verdict.kind not in entry.hook.verdicts:
        raise Nonsense(f"{entry.hook.name} may not answer {verdict.kind}()")
    verdict.given_by(entry.rule.name, entry.hook.name)
    if verdict.kind == "accept" or not chains.on_deny or entry.hook.name == "on_deny":
        return verdict
    overruled = decide(chains, chains.on_deny, call, call.client, call.mail, verdict)
    if overruled is None:
        return verdict
    return None if overruled.kind == "accept" else overruled


def _metered(call: Call, entry: Entry, began: float, *, returned: bool) -> None:
    """A call was long enough for `preemption.py` to see it at work: what it has used belongs to the trace.

    Raises CpuTimeout when it was told to stop, caught that, and returned.
    """
    meter, call.meter = call.meter, None
    if meter.entry is entry:
        call.trace.append((CPU, began, began, entry, meter.used))
        if meter.strikes and returned:
            raise CpuTimeout


def failed(chains: Chains, call: Call, entry: Entry, error: BaseException, began: float) -> Verdict | None:
    """Log and trace the failure of a rule, called at `began`; the verdict that it declared for that."""
    failure = Failure.of(error, at=entry.rule.place(entry.function))
    declared = entry.on_timeout if failure.timeout else entry.on_error
    call.trace.failure(Fault(entry, failure.error, failure.at, declared), failure.frames, began)
    if type(error) is Tripped:
        chains.breaker.refused(entry)
        return verdict_for(declared, call, entry)
    rule = entry.rule
    chains.log(
        "rule_failed", level="error", id=call.id, rule=rule.name, version=rule.version, hook=entry.hook.name,
        at=failure.at, error=failure.error, verdict=declared,
    )  # fmt: skip
    chains.breaker.failed(entry)
    return verdict_for(declared, call, entry)


def _exhausted() -> NoReturn:
    """The rules before have used up the chain's budget: those left have not looked, and may not pass as if they had."""
    raise RuleTimeout
