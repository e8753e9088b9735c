"""Run hooks of rules on fabricated facts: no server, no socket, the same loader, runner and budgets as in production."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import gevent
from gevent.event import Event

from smtpproxy.config.limits import Limits
from smtpproxy.dns.resolver import Resolver, reverse_name
from smtpproxy.facts.capabilities import Capabilities
from smtpproxy.facts.client import Client
from smtpproxy.facts.delivery import Delivery
from smtpproxy.facts.mail import Mail
from smtpproxy.facts.recipient import Recipient
from smtpproxy.message.body import bytes_body
from smtpproxy.message.edits import Ledger
from smtpproxy.message.header import HeaderBlock, end_of_header
from smtpproxy.net.http import Fetcher
from smtpproxy.scripting import bundled
from smtpproxy.scripting.doors.cache import Kept
from smtpproxy.scripting.errors import CpuTimeout, FolderRefused
from smtpproxy.scripting.folder import is_rule_file
from smtpproxy.scripting.hooks import HOOKS
from smtpproxy.scripting.loader import Rules
from smtpproxy.scripting.runner import Call, decide
from smtpproxy.scripting.trace import Trace
from smtpproxy.scripting.verdict import Verdict
from smtpproxy.session.offer import own_extensions
from smtpproxy.stores.base import Store
from smtpproxy.testing.doors import Doors
from smtpproxy.testing.rehearsal import LISTENER
from smtpproxy.testing.waiting import FixedClock
from smtpproxy.wire.address import Address, parse_address

__tracebackhide__ = True  # a failed test shows its own lines

QUARANTINE: Mapping[str, str] = {"quarantine": "quarantine"}
STUCK = "a server hangs up on the client with 421"


class RuleBroken(AssertionError):
    """The rule did not load; str() says file, line and why."""


class RuleStuck(AssertionError):
    """The rule neither ends nor can be ended: a server hangs up on the client."""


class Outcome:
    """What became of a call: the verdict (None: continue), the facts as the rule left them, what it logged.

    A rule that failed has its declared verdict, and a record "rule_failed" in `logged` says how.
    """

    __slots__ = ("client", "logged", "mail", "verdict")

    def __init__(
        self, verdict: Verdict | None, client: Client, mail: Mail, logged: list[tuple[str, dict[str, Any]]]
    ) -> None:
        self.verdict = verdict
        self.client = client
        self.mail = mail
        self.logged = logged

    @property
    def reply(self) -> str:
        """The refusal as the client reads it, "550 5.1.1 No such user"; "" when the rule did not refuse."""
        return str(self.verdict.reply()) if self.verdict is not None and self.verdict.refusal else ""

    @property
    def message(self) -> bytes:
        """The message with the rule's edits."""
        return self.mail.raw()


def run_rule(
    rule: Path | str,
    hook: str,
    *,
    language: str = "py",
    settings: Mapping[str, Any] | None = None,
    zone: Resolver | None = None,
    http: Mapping[str, Any] | Fetcher | None = None,
    store: Store | None = None,
    cache: Kept | None = None,
    viruses: Mapping[bytes, str] | None = None,
    clock: FixedClock | None = None,
    client: Mapping[str, Any] | None = None,
    sender: str = "sender@client.example",
    recipients: Sequence[str] = ("recipient@example.com",),
    message: bytes = b"",
    **arguments: Any,
) -> Outcome:
    """Load a rule (a file, or its source in `language`) and call a hook of it.

    `client` sets attributes of the client (address, name, helo, login, relay ...). on_rcpt is called with the last of
    `recipients`, those before it count as accepted. `message` has CRLF line ends and is there for the hooks that may
    see it. `arguments` gives what else a hook is called with: name, login, offer, verb, argument, verdict, reply.
    `viruses` are what clamav finds, by the octets: {b"EVIL": "Test.Evil"}; without them no scanner can be reached.
    `http` answers by address: a text, a value for JSON, a status, a Response, an exception to raise. Give `store` and
    `cache` to look into them, or to keep them from call to call; `clock` is theirs, and sleep() advances it instead of
    waiting. Files of `lists` are found from the current folder on.
    A rule that comes with smtpproxy is `smtpproxy.scripting.bundled.FOLDER / "access.py"`.
    Raises RuleBroken when the rule does not load, LookupError when it has no such hook.
    """
    doors = Doors(dns=zone, http=http, store=store, cache=cache, viruses=viruses, clock=clock)
    with _file(rule, language) as path, loaded([path], {path.stem: settings or {}}, doors) as rules:
        facts = fabricate(doors.dns, hook, client or {}, sender, recipients, message)
        call = Call(trace=Trace("test"), doors=doors.by_name, client=facts["client"], mail=facts["mail"])
        known = {**facts, **arguments}
        verdict = ask(rules, hook, call, *(known[name] for name in HOOKS[hook].arguments))
    return Outcome(verdict, facts["client"], facts["mail"], doors.records)


@contextmanager
def loaded(files: Sequence[Path], settings: Mapping[str, Mapping[str, Any]], doors: Doors) -> Iterator[Rules]:
    """These files of one folder and of those that come with smtpproxy, running; others are helpers at most.

    Raises RuleBroken.
    """
    rules = load(files, settings, doors)
    try:
        yield rules
    finally:
        rules.stop()


def load(
    files: Sequence[Path], settings: Mapping[str, Mapping[str, Any]], doors: Doors, handoffs: Mapping[str, str] = QUARANTINE
) -> Rules:
    """See `loaded`; whoever calls this calls `stop()`."""
    folder = next((file.parent for file in files if file.resolve().parent != bundled.FOLDER), None)
    others = [file.stem for file in folder.iterdir() if is_rule_file(file.name)] if folder else []
    names = [file.stem for file in files]
    tables: dict[str, Mapping[str, Any]] = {name: {"enabled": False} for name in others}
    tables |= {name: {"enabled": True, **settings.get(name, {})} for name in names}
    rules = Rules(
        folder, tables, {LISTENER.name: names}, log=doors.log, doors=doors.by_name, clock=doors.clock,
        handoffs=handoffs,
    )  # fmt: skip
    try:
        rules.load()
    except FolderRefused as refused:
        raise RuleBroken(str(refused)) from None
    problems = rules.table.problems
    if {problem.file.rpartition("/")[2] for problem in problems} & {"", *(file.name for file in files)}:
        rules.stop()
        raise RuleBroken("\n".join(map(str, problems)))
    rules.budget.start()
    return rules


def ask(rules: Rules, hook: str, call: Call, *arguments: Any) -> Verdict | None:
    """Call a hook of theirs, in a greenlet of its own as a session would be.

    Raises LookupError when none has it, RuleStuck when one had to be given up.
    """
    chains = rules.table.chains[LISTENER.name]
    if hook not in chains.by_name:
        raise LookupError(f"{', '.join(rule.file for rule in rules.table.rules)} has no {hook}")
    over = Event()
    call.abandoned = over.set
    greenlet = gevent.spawn(decide, chains, chains.by_name[hook], call, *arguments)
    greenlet.rawlink(lambda _: over.set())
    over.wait()
    if not greenlet.ready():
        raise RuleStuck(f"{call.trace.faults[-1].place}: {CpuTimeout.why}, and it catches what should end it; {STUCK}")
    return greenlet.get()


@contextmanager
def _file(rule: Path | str, language: str) -> Iterator[Path]:
    if isinstance(rule, Path):
        yield rule
        return
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"rule.{language}"
        path.write_text(rule, "utf-8")
        yield path


def fabricate(
    resolver: Resolver, hook: str, client: Mapping[str, Any], sender: str, recipients: Sequence[str], message: bytes
) -> dict[str, Any]:
    """The facts that hooks are called with, by the names of their arguments."""
    peer = _client(resolver, client)
    mail = Mail("test.1", peer, parse_address(sender) if sender else Address("", "", ""))
    parties = [Recipient(parse_address(recipient)) for recipient in recipients]
    for accepted in parties[:-1] if hook in ("on_rcpt", "watch_rcpt") else parties:
        mail.accepted(accepted)
    moment = hook.partition("_")[2]
    if moment in ("header", "message", "route", "reset", "deny", "refused"):
        mail.arrived(_ledger(message), complete=moment != "header")
    return {
        "client": peer, "mail": mail, "sender": mail.sender, "rcpt": parties[-1] if parties else None,
        "offer": Capabilities(own_extensions(Limits())), "delivery": Delivery(mail.id, mail.sender, mail.recipients),
    }  # fmt: skip


def _client(resolver: Resolver, attributes: Mapping[str, Any]) -> Client:
    given = {"address": "192.0.2.1", "port": 4711, "helo": "client.example", "esmtp": True, **attributes}
    early = given.pop("spoke_early", False)
    client = Client(
        "test", given.pop("address"), given.pop("port"), LISTENER, lambda it: reverse_name(resolver, it), lambda: early
    )
    identity = {name: given.pop(name) for name in ("name", "helo", "login", "esmtp") if name in given}
    client.take_identity(**identity)
    for name, value in given.items():
        setattr(client, name, value)
    return client


def _ledger(message: bytes) -> Ledger:
    end = end_of_header(message)
    return Ledger(bytes_body(message), HeaderBlock.parse(message if end < 0 else message[:end]))
