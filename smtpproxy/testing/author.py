"""Rules under test: what the fixture `rule` gives to the tests of an operator's rules (docs/testing-rules.md)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from email.message import Message
from pathlib import Path
from typing import Any, TypedDict, TypeVar, Unpack

from smtpproxy.facts.delivery import Delivery
from smtpproxy.facts.login import Login
from smtpproxy.facts.tls import Certificate, Tls
from smtpproxy.message.rendering import with_crlf
from smtpproxy.scripting.facade import Timer
from smtpproxy.scripting.hooks import HOOKS
from smtpproxy.scripting.instance import Instance
from smtpproxy.scripting.loader import Rules
from smtpproxy.scripting.runner import Call
from smtpproxy.scripting.trace import Trace
from smtpproxy.scripting.verdict import Verdict
from smtpproxy.testing.doors import Doors
from smtpproxy.testing.finding import files, find
from smtpproxy.testing.rehearsal import Muted, Rehearsal
from smtpproxy.testing.rules import ask, fabricate, load
from smtpproxy.testing.run import Records, Run, of_hook, of_mail
from smtpproxy.testing.waiting import FixedClock
from smtpproxy.wire.reply import ReplyParser

MESSAGE = b"From: sender@client.example\r\nTo: recipient@example.com\r\nSubject: test\r\n\r\nThis is a test.\r\n"

__tracebackhide__ = True  # a failed test shows its own lines

T = TypeVar("T")
Content = str | bytes | Path | Message
"""A message: text, octets (LF becomes CRLF), a file, or one of the standard library's."""


class RuleFailed(AssertionError):
    """A rule has failed in a run that did not expect it; or one did not fail that should have."""


class Facts(TypedDict, total=False):
    """What a run is about. What is not given is made up: a client 192.0.2.1, a sender, a recipient, a small message."""

    client: str
    """Its address."""
    name: str | None
    """Its confirmed host name; not given: as the DNS says. None: it has none."""
    helo: str
    login: str | None
    relay: bool
    trusted: bool
    spoke_early: bool
    tls: bool
    """The connection is encrypted."""
    certificate: str
    """The fingerprint of the one that the client has shown: encrypted, too."""
    sender: str
    """"" is the null sender."""
    to: str | Sequence[str]
    """The recipients; on_rcpt is asked about the last of them, the others were accepted."""
    message: Content
    notes: Mapping[str, Any]
    """What was noted about the mail before this hook, also of a delivery."""
    host: str
    """The server that answered, of a delivery."""
    answer: str
    """Its answer, "250 2.0.0 Ok"; "": none."""
    attempts: int
    fails: bool
    """The rule fails in this run: not given, that ends the test."""


class Clock(FixedClock):
    """The rules' clock. Timers (`@every`) run when they are due."""

    __slots__ = ("_moved",)

    def __init__(self) -> None:
        super().__init__()
        self._moved: list[Ticking] = []

    def advance(self, time: float | str) -> None:
        """Let time pass: seconds, or "2h". What expires has expired then, and timers have run."""
        super().advance(time)
        for ticking in self._moved:
            ticking.until(self.now)

    def drives(self, ticking: Ticking) -> None:
        """Have these timers follow."""
        self._moved.append(ticking)


class Ticking:
    """The timers of loaded rules, run when a clock that stands still is moved."""

    def __init__(self, rules: Rules, now: float) -> None:
        self._rules = rules
        timers = [(instance, timer) for instance in rules.table.instances.values() for timer in instance.timers]
        self._due: list[tuple[Instance, Timer, float]] = [(*pair, now + pair[1].seconds) for pair in timers]

    def until(self, now: float) -> None:
        """Run each as often as it was due."""
        while self._due and (next_one := min(self._due, key=lambda it: it[2]))[2] <= now:
            instance, timer, due = next_one
            self._rules.library.tick(instance, timer.function)
            self._due[self._due.index(next_one)] = instance, timer, due + timer.seconds


class World:
    """What the rules of one test have in common, and what is to be closed after it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.clock = Clock()
        self.doors = Doors(viruses={}, folder=folder.parent, clock=self.clock)
        self.loaded: list[Rules] = []
        self.runs: list[Run] = []

    def close(self) -> None:
        for rules in self.loaded:
            rules.stop()


class RuleUnderTest:
    """One rule or several, loaded at their first run as the server loads them.

    `dns`, `http`, `clamav`, `users`, `outbox`, `store`, `cache` and `clock` are all the world that they see; globals, notes
    of the worker and what they keep last from run to run, up to the end of the test.
    """

    def __init__(self, world: World, files: Sequence[Path]) -> None:
        self._world = world
        self._files = files
        self._settings: dict[str, dict[str, Any]] = {}
        self._running: Rules | None = None
        self.clock = world.clock
        self.dns = world.doors.dns
        self.http = world.doors.http
        self.store = world.doors.store
        self.cache = world.doors.cache
        self.clamav = world.doors.clamav
        self.users = world.doors.users
        self.outbox = world.doors.outbox
        """What was submitted is in `outbox.taken`."""
        self.handoffs = {"quarantine": "quarantine"}
        """Kinds of the hand-offs that rules choose, by name; what is not here is a proxy."""

    def __repr__(self) -> str:
        return f"<rule {', '.join(file.name for file in self._files)}>"

    def __call__(self, *names: str) -> RuleUnderTest:
        """Other rules of the folder, in the order of their numbers: rule("20-local-people"), rule("10-a", "20-b.lua")."""
        return RuleUnderTest(self._world, [find(self._world.folder, name) for name in names])

    def configure(self, rule: str = "", /, **settings: Any) -> RuleUnderTest:
        """Settings as in [rule.NAME]; `rule` names which one, where there are several. Before the first run."""
        if self._running is not None:
            raise RuntimeError("configure() comes before the first run: the rule is loaded by now")
        name = rule or self._only().stem
        self._settings[name] = {**self._settings.get(name, {}), **settings}
        return self

    # -- one hook --------------------------------------------------------------------------------------------------

    def connect(self, **facts: Unpack[Facts]) -> Run:
        return self.hook("on_connect", **facts)

    def ehlo(self, name: str = "client.example", /, **facts: Unpack[Facts]) -> Run:
        return self.hook("on_ehlo", name, **facts)

    def auth(self, name: str, password: str = "", /, **facts: Unpack[Facts]) -> Run:
        return self.hook("on_auth", Login(name, password), **facts)

    def capabilities(self, **facts: Unpack[Facts]) -> Run:
        return self.hook("on_capabilities", **facts)

    def mail(self, **facts: Unpack[Facts]) -> Run:
        return self.hook("on_mail", **facts)

    def rcpt(self, **facts: Unpack[Facts]) -> Run:
        return self.hook("on_rcpt", **facts)

    def data(self, **facts: Unpack[Facts]) -> Run:
        return self.hook("on_data", **facts)

    def header(self, **facts: Unpack[Facts]) -> Run:
        return self.hook("on_header", **facts)

    def message(self, **facts: Unpack[Facts]) -> Run:
        return self.hook("on_message", **facts)

    def route(self, **facts: Unpack[Facts]) -> Run:
        return self.hook("on_route", **facts)

    def deny(self, verdict: Verdict, **facts: Unpack[Facts]) -> Run:
        return self.hook("on_deny", verdict, **facts)

    def command(self, verb: str, argument: str = "", /, **facts: Unpack[Facts]) -> Run:
        return self.hook("on_command", verb, argument, **facts)

    def deliver(self, **facts: Unpack[Facts]) -> Run:
        return self.hook("on_deliver", **({"host": "", "answer": ""} | facts))

    def delivered(self, **facts: Unpack[Facts]) -> Run:
        return self.hook("on_delivered", **facts)

    def deferred(self, **facts: Unpack[Facts]) -> Run:
        return self.hook("on_deferred", **({"answer": "451 4.3.0 Try again later"} | facts))

    def bounced(self, **facts: Unpack[Facts]) -> Run:
        return self.hook("on_bounced", **({"answer": "550 5.1.1 No such user"} | facts))

    def hook(self, hook: str, *more: Any, **facts: Unpack[Facts]) -> Run:
        """Any hook, "watch_refused"; `more` are those of its arguments that `facts` do not give."""
        rules = self._rules()
        content = octets(facts.get("message", MESSAGE))
        made = fabricate(self.dns, hook, _client(facts), *_envelope(facts), content)
        _attempt(made["delivery"], facts)
        _note(made, facts)
        given = iter(more)
        arguments = [made[name] if name in made else next(given) for name in HOOKS[hook].arguments]
        call = Call(trace=Trace("test"), doors=self._world.doors.by_name, client=made["client"], mail=made["mail"])
        call.trace.begin()
        verdict, records = self._records_of(lambda: ask(rules, hook, call, *arguments))
        return self._done(of_hook(hook, verdict, made, call.trace, records, content), facts)

    # -- a whole mail ------------------------------------------------------------------------------------------------

    def send(self, **facts: Unpack[Facts]) -> Run:
        """One mail from connection to hand-off, through all hooks that the rules have. example.com is ours."""
        rules = self._rules()
        content = octets(facts.get("message", MESSAGE))
        made = fabricate(self.dns, "on_connect", _client(facts), *_envelope(facts), b"")
        sender, recipients = _envelope(facts)
        rehearsal = Rehearsal(rules, self._world.doors.by_name, now=self.clock, outlets=Muted(self.handoffs))
        played, records = self._records_of(lambda: rehearsal.play(made["client"], sender, recipients, content))
        return self._done(of_mail(played, made["mail"], records, content), facts)

    # -- what it takes -----------------------------------------------------------------------------------------------

    def _rules(self) -> Rules:
        if self._running is None:
            self._running = load(self._files or [self._only()], self._settings, self._world.doors, self.handoffs)
            self._world.loaded.append(self._running)
            self.clock.drives(Ticking(self._running, self.clock.now))
        return self._running

    def _only(self) -> Path:
        if len(self._files) == 1:
            return self._files[0]
        names = ", ".join(file.name for file in files(self._world.folder)) or "no rule at all"
        raise LookupError(f'which rule? Say rule("NAME"); in {self._world.folder} there are: {names}')

    def _records_of(self, run: Callable[[], T]) -> tuple[T, Records]:
        records = self._world.doors.records
        before = len(records)
        return run(), records[before:]

    def _done(self, run: Run, facts: Facts) -> Run:
        self._world.runs.append(run)
        if run.failures and not facts.get("fails"):
            raise RuleFailed("\n".join(run.failures))
        if facts.get("fails") and not run.failures:
            raise RuleFailed(f"no rule failed: {run!r}")
        return run


def _client(facts: Facts) -> Mapping[str, Any]:
    attributes = ("name", "helo", "login", "relay", "trusted", "spoke_early")
    given: dict[str, Any] = {key: value for key, value in facts.items() if key in attributes}
    if "client" in facts:
        given["address"] = facts["client"]
    if facts.get("tls") or "certificate" in facts:
        given["tls"] = Tls("TLSv1.3", "TLS_AES_256_GCM_SHA384", 256, certificate=_certificate(facts))
    return given


def _certificate(facts: Facts) -> Certificate | None:
    shown = facts.get("certificate")
    return Certificate("client.example", "Test CA", ("client.example",), shown) if shown else None


def _envelope(facts: Facts) -> tuple[str, Sequence[str]]:
    to = facts.get("to", "recipient@example.com")
    return facts.get("sender", "sender@client.example"), [to] if isinstance(to, str) else to


def _attempt(delivery: Delivery, facts: Facts) -> None:
    answer = facts.get("answer", "250 2.0.0 Ok")
    delivery.reply = ReplyParser().feed(answer.encode()) if answer else None
    delivery.host = facts.get("host", "mx.example.org")
    delivery.attempts = facts.get("attempts", 1)


def _note(made: Mapping[str, Any], facts: Facts) -> None:
    for name, value in facts.get("notes", {}).items():
        made["mail"].notes[name] = made["delivery"].notes[name] = value


def octets(content: Content) -> bytes:
    """A message as it goes over the wire, its lines ended by CRLF."""
    if isinstance(content, Path):
        content = content.read_bytes()
    elif isinstance(content, Message):
        content = content.as_bytes()
    elif isinstance(content, str):
        content = content.encode()
    return with_crlf(content)

