"""So many of everything within a time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from smtpproxy.scripting import bundled
from smtpproxy.scripting.doors.cache import Kept
from smtpproxy.stores.base import StoreError
from smtpproxy.stores.memory import MemoryStore
from smtpproxy.testing.client import FakeClient, Reply
from smtpproxy.testing.front import ENVELOPE, Front
from smtpproxy.testing.handoffs import FakeOutlet, live
from smtpproxy.testing.rules import RuleBroken, run_rule
from smtpproxy.testing.waiting import FixedClock, until
from smtpproxy.wire.reply import Reply as Answer

RULE = bundled.FOLDER / "limits.py"
TEXT = "Too much for now, try again later"
LATER = f"451 4.7.1 {TEXT}"
MESSAGE = b"Subject: x\r\n\r\n" + b"x" * 984 + b"\r\n"  # 1000 octets
Fronted = Callable[..., Front]


class CountedStore(MemoryStore):
    """Counts how often it is asked."""

    trips = 0

    def take(self, claims: Any) -> int | None:
        self.trips += 1
        return super().take(claims)

    def remove(self, key: str, member: str) -> bool:
        self.trips += 1
        return super().remove(key, member)


class Asked:
    """One hook after the other, over one store and one clock."""

    def __init__(self, **settings: Any) -> None:
        self.settings = settings
        self.clock = FixedClock()
        self.store = MemoryStore(self.clock)
        self.cache = Kept(self.clock)

    def connect(self, address: str = "192.0.2.1", **client: Any) -> str:
        return self.ask("on_connect", client={"address": address, **client})

    def mail(self, sender: str = "a@example.net", **client: Any) -> str:
        return self.ask("on_mail", sender=sender, client=client)

    def ask(self, hook: str, **facts: Any) -> str:
        done = run_rule(RULE, hook, settings=self.settings, store=self.store, cache=self.cache, clock=self.clock, **facts)
        assert "rule_failed" not in [event for event, _ in done.logged], done.logged
        return done.reply


class TestConnections:
    def test_above_the_rate_they_are_refused_until_there_is_room(self) -> None:
        asked = Asked(client_connections=["2/1m"])
        assert [asked.connect() for _ in range(3)] == ["", "", f"421 4.7.0 {TEXT}"]
        asked.clock.advance(62)
        assert asked.connect() == ""

    def test_who_is_refused_is_not_counted(self) -> None:
        asked = Asked(client_connections=["2/1m"])
        for _ in range(30):
            asked.connect()
            asked.clock.advance(10)
        assert asked.store.hits("rule/limits/client_connections 192.0.2.1/32", 60) == 2

    def test_all_windows_hold(self) -> None:
        asked = Asked(client_connections=["2/1m", "3/1h"])
        assert [asked.connect() for _ in range(2)] == ["", ""]
        asked.clock.advance(62)
        assert [asked.connect() != "" for _ in range(2)] == [False, True]
        asked.clock.advance(62)
        assert asked.connect() != ""

    @pytest.mark.parametrize(
        ("first", "second", "together"),
        [
            ("192.0.2.1", "192.0.2.2", False),
            ("2001:db8:1:2::1", "2001:db8:1:2:ffff::9", True),
            ("2001:db8:1:2::1", "2001:db8:1:3::1", False),
        ],
    )
    def test_networks_count_together(self, first: str, second: str, together: bool) -> None:
        asked = Asked(client_connections=["1/1m"])
        assert asked.connect(first) == ""
        assert (asked.connect(second) != "") is together

    def test_the_length_of_the_prefixes_is_the_operators(self) -> None:
        asked = Asked(client_connections=["1/1m"], ipv4_prefix=24, ipv6_prefix=48)
        found = [asked.connect(it) != "" for it in ("192.0.2.1", "192.0.2.200", "2001:db8:1:2::1", "2001:db8:1:3::1")]
        assert found == [False, True, False, True]

    def test_exempt_networks(self) -> None:
        asked = Asked(client_connections=["1/1m"], exempt=["192.0.2.0/24"])
        assert [asked.connect() for _ in range(3)] == ["", "", ""]

    def test_denied_for_good_when_told_to(self) -> None:
        asked = Asked(client_connections=["1/1m"], outcome="deny", text="No")
        assert [asked.connect(), asked.connect()] == ["", "554 5.7.1 No"]

    def test_a_client_that_nobody_knows_is_not_counted(self) -> None:
        asked = Asked(client_connections=["1/1m"])
        assert [asked.connect("") for _ in range(3)] == ["", "", ""]


class TestErrors:
    def test_many_of_them_close_the_door(self) -> None:
        asked = Asked(client_errors=["10/1h"])
        asked.ask("on_disconnect", client={"errors": 9})
        assert asked.connect() == ""
        asked.ask("on_disconnect", client={"errors": 30})
        assert asked.connect() == f"421 4.7.0 {TEXT}"
        asked.clock.advance(3700)
        assert asked.connect() == ""


class TestMail:
    @pytest.mark.parametrize(
        ("limit", "facts", "other"),
        [
            ("client_messages", {"address": "192.0.2.1"}, {"address": "192.0.2.2"}),
            ("sender_messages", {"sender": "a@example.net"}, {"sender": "b@example.net"}),
            ("domain_messages", {"sender": "a@example.net"}, {"sender": "a@example.org"}),
            ("user_messages", {"login": "joe"}, {"login": "ann"}),
        ],
    )
    def test_who_is_counted(self, limit: str, facts: Any, other: Any) -> None:
        asked = Asked(**{limit: ["2/1h"]})
        assert [asked.mail(**facts) for _ in range(3)] == ["", "", LATER]
        assert asked.mail(**other) == ""

    def test_a_sender_in_capitals_is_the_same_and_a_domain_has_many(self) -> None:
        asked = Asked(sender_messages=["1/1h"])
        assert [asked.mail("a@example.net"), asked.mail("A@EXAMPLE.NET")] == ["", LATER]
        asked = Asked(domain_messages=["1/1h"])
        assert [asked.mail("a@example.net"), asked.mail("b@example.net")] == ["", LATER]

    def test_bounces_have_no_sender(self) -> None:
        asked = Asked(sender_messages=["1/1h"], domain_messages=["1/1h"])
        assert [asked.mail("") for _ in range(3)] == ["", "", ""]

    def test_exempt_users(self) -> None:
        asked = Asked(user_messages=["1/1h"], client_messages=["1/1h"], exempt_users=["newsletter"])
        assert [asked.mail(login="newsletter") for _ in range(3)] == ["", "", ""]

    def test_the_log_and_the_results_say_which_limit_and_the_client_does_not_hear_it(self) -> None:
        store, clock = MemoryStore(), FixedClock()
        for _ in range(2):
            done = run_rule(
                RULE, "on_mail", settings={"client_messages": ["100/1d"], "sender_messages": ["1/1h"]}, store=store, clock=clock
            )
        assert done.reply == LATER
        (record,) = [fields for event, fields in done.logged if event == "rule"]
        assert {name: record[name] for name in ("limit", "who", "allowed", "within")} == {
            "limit": "sender_messages", "who": "sender@client.example", "allowed": 1, "within": 3600.0,
        }  # fmt: skip
        assert done.mail.results.get("limits").keys["limit"] == "sender_messages"  # type: ignore[union-attr]

    def test_a_store_that_cannot_answer_limits_nobody(self) -> None:
        class Broken(MemoryStore):
            def take(self, claims: Any) -> int | None:
                raise StoreError("down")

        done = run_rule(RULE, "on_mail", settings={"client_messages": ["1/1h"]}, store=Broken())
        assert done.verdict is None
        assert [fields["verdict"] for event, fields in done.logged if event == "rule_failed"] == ["continue"]


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"client_messages": ["many"]}, "setting client_messages: 'many' is no rate"),
        ({"ipv6_prefix": 129}, "ipv6_prefix: from 1 to 128"),
        ({"exempt": ["192.0.2.0/33"]}, "192.0.2.0/33"),
        ({"outcome": "drop"}, "setting outcome: Invalid enum value 'drop'"),
    ],
)
def test_mistakes_are_told_when_it_is_loaded(settings: dict[str, Any], told: str) -> None:
    with pytest.raises(RuleBroken) as wrong:
        run_rule(RULE, "on_connect", settings=settings)
    assert told in str(wrong.value)


class Service:
    """The rule in front of a hand-off, over a store that can be looked into."""

    def __init__(self, front: Fronted, **settings: Any) -> None:
        self.store = CountedStore()
        self.out: FakeOutlet = live()
        self.front = front(self.out, limits=settings, doors={"store": self.store}, xclient_from=["127.0.0.1"])

    def send(self, client: FakeClient, *recipients: str, sender: str = "a@client.example", size: str = "") -> Reply:
        """A transaction; the first refusal of MAIL, or the last reply."""
        reply = client.send(f"MAIL FROM:<{sender}>{size}")
        if reply.code != 250:
            return reply
        for name in recipients or ("b",):
            client.send(f"RCPT TO:<{name}@example.com>")
        return client.message(MESSAGE)

    def left(self, client: FakeClient) -> None:
        """Wait until nothing of this client's session is left to do."""
        client.send("QUIT")
        client.close()
        until(lambda: not self.front.sessions)

    def count(self, limit: str, within: float = 3600.0, who: str = "127.0.0.1/32") -> int:
        return self.store.hits(f"rule/limits/{limit} {who}", within)


@pytest.fixture
def service(front: Fronted) -> Callable[..., Service]:
    return lambda **settings: Service(front, **settings)


Make = Callable[..., Service]


class TestOverASocket:
    def test_messages_that_were_taken_count(self, service: Make) -> None:
        here = service(client_messages=["3/1h"])
        client = here.front.client()
        assert [here.send(client).code for _ in range(3)] == [250, 250, 250]
        assert here.send(client) == LATER
        assert here.send(here.front.client()) == LATER

    def test_what_was_refused_or_given_up_does_not_count(self, service: Make) -> None:
        here = service(client_messages=["2/1h"], client_recipients=["2/1h"], client_bytes=["5KB/1h"])
        here.out.on("finish", Answer(550, "5.6.0", "No"), None)
        client = here.front.client()
        assert here.send(client, size=" SIZE=1000").code == 550
        for line in (*ENVELOPE, "RSET", *ENVELOPE, "EHLO client.example"):
            client.send(line)
        client.send(ENVELOPE[0])
        here.left(client)
        assert [here.count(name) for name in ("client_messages", "client_recipients", "client_bytes")] == [0, 0, 0]

    def test_recipients_above_the_limit_are_deferred_one_by_one(self, service: Make) -> None:
        here = service(client_recipients=["3/1h"])
        client = here.front.client()
        client.send(ENVELOPE[0])
        replies = [client.send(f"RCPT TO:<{name}@example.com>") for name in "abcde"]
        assert [str(reply)[:9] for reply in replies] == ["250 2.1.5", "250 2.1.5", "250 2.1.5", "451 4.7.1", "451 4.7.1"]
        assert client.message(MESSAGE).code == 250
        assert len(here.out.delivered[0].recipients) == 3

    def test_recipients_that_others_refuse_do_not_count(self, service: Make) -> None:
        here = service(client_recipients=["10/1h"])
        here.out.on("recipient", Answer(550, "5.1.1", "No such user"), argument="nobody@example.com")
        client = here.front.client()
        assert here.send(client, "a", "nobody", "b", "nobody").code == 250
        assert here.count("client_recipients") == 2

    @pytest.mark.parametrize("size", ["", " SIZE=1000", " SIZE=1500", " SIZE=10"])
    def test_octets_count_as_they_came(self, service: Make, size: str) -> None:
        here = service(client_bytes=["10KB/1h"])
        client = here.front.client()
        for _ in range(3):
            here.send(client, size=size)
        here.left(client)
        assert here.count("client_bytes") == 3000

    def test_octets_above_the_limit_are_refused_at_mail(self, service: Make) -> None:
        here = service(client_bytes=["2500B/1h"])
        client = here.front.client()
        assert [here.send(client, size=" SIZE=1000") for _ in range(2)] == ["250 2.0.0 Ok: taken by out"] * 2
        assert here.send(client, size=" SIZE=1000") == LATER
        assert here.send(client, size=" SIZE=500").code == 250

    def test_octets_that_were_not_declared_count_for_the_next(self, service: Make) -> None:
        here = service(client_bytes=["2500B/1h"])
        client = here.front.client()
        assert [here.send(client).code for _ in range(5)] == [250, 250, 250, 451, 451]
        here.left(client)
        assert here.count("client_bytes") == 3000

    def test_connections_at_one_time(self, service: Make) -> None:
        here = service(client_concurrent=2)
        first, _second = here.front.client(), here.front.client()
        assert FakeClient(here.front.port).reply() == f"421 4.7.0 {TEXT}"
        assert FakeClient(here.front.port, source="127.0.0.2").reply().code == 220
        first.close()
        until(lambda: len(here.store.members("rule/limits/client_concurrent 127.0.0.1/32")) == 1)
        assert FakeClient(here.front.port).reply().code == 220

    def test_a_place_goes_with_the_identity(self, service: Make) -> None:
        here = service(client_concurrent=1)
        client = here.front.client()
        assert client.send("XCLIENT ADDR=192.0.2.1").code == 220
        assert here.store.members("rule/limits/client_concurrent 127.0.0.1/32") == ()
        assert len(here.store.members("rule/limits/client_concurrent 192.0.2.1/32")) == 1
        here.left(client)
        assert here.store.members("rule/limits/client_concurrent 192.0.2.1/32") == ()

    def test_errors_of_one_connection_count_for_the_next(self, front: Fronted) -> None:
        here = Service(front, client_errors=["3/1h"])
        client = here.front.client()
        for _ in range(4):
            client.send("NONSENSE")
        here.left(client)
        assert FakeClient(here.front.port).reply() == f"421 4.7.0 {TEXT}"

    def test_many_at_once_do_not_overrun_a_limit(self, service: Make) -> None:
        here = service(client_messages=["5/1h"])
        clients = [here.front.client() for _ in range(10)]
        for client in clients:
            client.raw(b"MAIL FROM:<a@client.example>\r\n")
        assert sorted(client.reply().code for client in clients) == [250] * 5 + [451] * 5

    def test_a_hook_asks_the_store_once_however_many_limits_there_are(self, service: Make) -> None:
        windows = ["1000/1m", "1000/1h", "1000/1d"]
        here = service(
            client_messages=windows, sender_messages=windows, domain_messages=windows, client_recipients=windows,
            sender_recipients=windows, client_bytes=["1GB/1d"], sender_bytes=["1GB/1d"],
        )  # fmt: skip
        client = here.front.client()
        assert here.send(client, "a", "b", size=" SIZE=1000").code == 250
        assert here.store.trips == 3  # MAIL and two recipients
        here.left(client)
        assert here.store.trips == 3

    def test_what_is_not_limited_does_not_ask_the_store(self, service: Make) -> None:
        here = service()
        client = here.front.client()
        assert here.send(client).code == 250
        here.left(client)
        assert (here.store.trips, len(here.store)) == (0, 0)


STEPS = st.sampled_from(["send", "send", "declared", "lied", "refused", "unknown", "reset", "ehlo", "data", "leave"])


@given(sessions=st.lists(st.lists(STEPS, max_size=6), min_size=1, max_size=4))
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_in_the_end_what_was_taken_is_what_counts(front: Fronted, sessions: list[list[str]]) -> None:
    """Whatever clients do, at the same time, and wherever they hang up."""
    limits = {f"client_{what}": ["1000000/1h"] for what in ("messages", "recipients", "bytes")}
    here = Service(front, **limits, sender_bytes=["1GB/1h"], client_concurrent=100)
    here.out.on("finish", *[Answer(550, "5.6.0", "No")] * 100, argument="refused@client.example")
    here.out.on("recipient", *[Answer(550, "5.1.1", "No such user")] * 100, argument="unknown@example.com")
    clients = [here.front.client() for _ in sessions]
    for step in range(6):
        for client, steps in zip(clients, sessions, strict=True):
            if step < len(steps):
                perform(here, client, steps[step])
    for client in clients:
        client.close()
    until(lambda: not here.front.sessions)
    taken = here.out.delivered
    assert here.count("client_messages") == len(taken)
    assert here.count("client_recipients") == sum(len(letter.recipients) for letter in taken)
    assert here.count("client_bytes") == here.count("sender_bytes", who="a@client.example") == 1000 * len(taken)
    assert here.store.members("rule/limits/client_concurrent 127.0.0.1/32") == ()


def perform(here: Service, client: FakeClient, step: str) -> None:
    """One thing that a client does; hung up, it does nothing any more."""
    sizes = {"declared": " SIZE=1000", "lied": " SIZE=70000"}
    if client.socket.fileno() < 0:
        return
    if step == "leave":
        client.send(ENVELOPE[0])
        client.close()
    elif step in ("reset", "ehlo"):
        for line in (*ENVELOPE, "RSET" if step == "reset" else "EHLO client.example"):
            client.send(line)
    elif step == "data":
        client.pipeline([*ENVELOPE, "DATA"])
        client.raw(MESSAGE[:500])
        client.close()
    else:
        sender = "refused@client.example" if step == "refused" else "a@client.example"
        here.send(client, "b", "unknown" if step == "unknown" else "c", sender=sender, size=sizes.get(step, ""))
