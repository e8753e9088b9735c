"""The client, and who it turns out to be."""

from __future__ import annotations

import pytest

from smtpproxy.facts.client import Client, ListenerFacts
from smtpproxy.facts.missing import FactMissing


class Names:
    """A lookup that remembers what it was asked."""

    def __init__(self, **names: str) -> None:
        self.names = names
        self.asked: list[str] = []

    def __call__(self, address: str) -> tuple[str | None, bool]:
        self.asked.append(address)
        return self.names.get(address), address == "192.0.2.99"


def client_of(lookup: Names | None = None, address: str = "192.0.2.1") -> Client:
    return Client("S1", address, 4321, ListenerFacts("mx", "192.0.2.25", 25, "mx.example.com"), lookup)


def test_another_identity_begins_without_errors() -> None:
    client = client_of()
    client.errors, client.recipients_refused, client.mails = 3, 2, 1
    client.take_identity(address="192.0.2.2")
    assert (client.errors, client.recipients_refused, client.mails) == (0, 0, 1)


def test_the_name_is_looked_up_when_somebody_asks_and_once() -> None:
    lookup = Names(**{"192.0.2.1": "client.example"})
    client = client_of(lookup)
    assert not client.name_known
    assert lookup.asked == []
    assert client.name == "client.example"
    assert client.name == "client.example"
    assert lookup.asked == ["192.0.2.1"]
    assert client.name_known


def test_a_client_without_a_name() -> None:
    client = client_of(Names())
    assert client.name is None
    assert not client.name_temporary


def test_a_lookup_that_failed_for_now() -> None:
    client = client_of(Names(), "192.0.2.99")
    assert client.name is None
    assert client.name_temporary


def test_without_a_lookup_there_is_no_name() -> None:
    assert client_of().name is None


def test_a_new_identity() -> None:
    lookup = Names(**{"192.0.2.1": "proxy.example"})
    client = client_of(lookup)
    assert client.name == "proxy.example"
    client.take_identity(address="2001:db8::1", port=1, name="real.example", helo="real", login="joe", esmtp=True)
    assert (client.address, client.port, client.name, client.helo, client.login, client.esmtp) == (
        "2001:db8::1", 1, "real.example", "real", "joe", True,
    )  # fmt: skip
    assert (client.connected_address, client.connected_port) == ("192.0.2.1", 4321)
    assert lookup.asked == ["192.0.2.1"]


def test_what_a_new_identity_leaves_out_stays() -> None:
    client = client_of()
    client.take_identity(helo="a", login="joe", port=5)
    client.take_identity(name="b.example")
    assert (client.address, client.port, client.helo, client.login, client.name) == (
        "192.0.2.1", 5, "a", "joe", "b.example",
    )  # fmt: skip
    client.take_identity(login=None)
    assert client.login is None


@pytest.mark.parametrize(("told", "temporary"), [(None, False), ("", True)])
def test_an_identity_that_says_there_is_no_name(told: str | None, temporary: bool) -> None:
    lookup = Names(**{"192.0.2.2": "never.asked"})
    client = client_of(lookup)
    client.take_identity(address="192.0.2.2", name=told)
    assert client.name_known
    assert client.name is None
    assert client.name_temporary is temporary
    assert lookup.asked == []


def test_a_new_address_alone_has_its_own_name() -> None:
    lookup = Names(**{"192.0.2.1": "one.example", "192.0.2.2": "two.example"})
    client = client_of(lookup)
    assert client.name == "one.example"
    client.take_identity(address="192.0.2.2")
    assert client.name == "two.example"


def test_notes_and_results_are_there_when_they_are_touched() -> None:
    client = client_of()
    client.notes.seen = 1
    client.results.add("dnsbl", "fail")
    assert client.notes.seen == 1
    assert "dnsbl" in client.results


@pytest.mark.parametrize(
    ("name", "message"),
    [("adress", "client has no 'adress'; did you mean 'address'"), ("zzz", "client has no 'zzz'$")],
)
def test_unknown_names_are_refused_with_a_suggestion(name: str, message: str) -> None:
    client = client_of()
    with pytest.raises(FactMissing, match=message):
        getattr(client, name)
    with pytest.raises(FactMissing, match=message):
        setattr(client, name, 1)


def test_a_rule_grants_relaying() -> None:
    client = client_of()
    assert not client.relay
    client.relay = True
    assert client.relay


def test_what_is_computed_cannot_be_assigned() -> None:
    with pytest.raises(AttributeError, match=r"client\.name cannot be assigned"):
        client_of().name = "x"  # type: ignore[misc]


def test_the_listener() -> None:
    listener = client_of().listener
    assert (listener.name, listener.hostname, listener.protocol) == ("mx", "mx.example.com", "smtp")
    with pytest.raises(FactMissing, match="listener has no 'hostnam'; did you mean 'hostname'"):
        _ = listener.hostnam  # type: ignore[attr-defined]
