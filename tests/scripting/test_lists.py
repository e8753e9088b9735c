"""Lists of networks, domains and addresses: what is found, what is refused, and files that change."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import gevent
import pytest

from smtpproxy.scripting.list_files import ListFiles
from smtpproxy.scripting.lists import KINDS, VALUES, ListError, fill
from smtpproxy.testing.rules import RuleBroken, run_rule
from smtpproxy.testing.waiting import until
from smtpproxy.wire.address import parse_path


def table(kind: str, *entries: str, values: str = "text") -> Any:
    made = KINDS[kind]()
    fill(made, entries, "entry ", VALUES[values])
    return made


@pytest.mark.parametrize(
    ("address", "key", "rank"),
    [
        ("192.0.2.7", "192.0.2.7/32", 32),
        ("192.0.2.8", "192.0.2.0/24", 24),
        ("192.0.3.1", "192.0.0.0/16", 16),
        ("::ffff:192.0.2.8", "192.0.2.0/24", 24),
        ("2001:db8::1", "2001:db8::/32", 32),
        ("2001:db9::1", None, 0),
        ("10.0.0.1", None, 0),
        ("", None, 0),
    ],
)
def test_the_longest_prefix_is_found(address: str, key: str | None, rank: int) -> None:
    found = table("networks", "192.0.0.0/16", "192.0.2.7", "192.0.2.0/24", "2001:db8::/32").find(address)
    assert (found and found.key, found.rank if found else 0) == (key, rank)


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("example.com", "example.com"),
        ("EXAMPLE.com.", "example.com"),
        ("a.example.com", ".example.com"),
        ("a.b.example.com", ".b.example.com"),
        ("b.example.com", ".example.com"),
        ("bexample.com", None),
        ("m\u00fcnchen.example", "xn--mnchen-3ya.example"),
        ("", None),
    ],
)
def test_the_nearest_domain_is_found(name: str, key: str | None) -> None:
    entries = "example.com", ".example.com", ".b.example.com", "MÜNCHEN.example"
    found = table("domains", *entries).find(name)
    assert (found and found.key) == key
    assert table("domains", *entries, "*").find(name).key == (key or "*")


@pytest.mark.parametrize(
    ("address", "key"),
    [
        (b"<Sales@Example.com>", "sales@example.com"),
        (b"<abuse@example.com>", "abuse@"),
        (b"<abuse@example.org>", "abuse@"),
        (b"<other@example.com>", "example.com"),
        (b"<other@a.example.com>", ".example.com"),
        (b"<Postmaster>", None),
        (b"<>", "<>"),
        (b'<"a b"@example.net>', '"a b"@example.net'),
        (b"<a@[192.0.2.1]>", "[192.0.2.1]"),
        (b"<a@example.net>", None),
    ],
)
def test_the_most_specific_address_is_found(address: bytes, key: str | None) -> None:
    found = table("addresses", "sales@example.com", "abuse@", "@example.com", ".example.com", "<>", "[192.0.2.1]")
    found.add('"a b"@example.net', "")  # a key with a space comes from no line
    match = found.find(parse_path(address))
    assert (match and match.key) == key


def test_values_and_comments() -> None:
    found = table("domains", "# a comment", "", "example.com   Go away  # because")
    assert found.find("example.com").value == "Go away" and len(found) == 1


@pytest.mark.parametrize(
    ("kind", "entry", "values", "wrong"),
    [
        ("networks", "192.0.2.1/24", "text", "has host bits set"),
        ("networks", "example.com", "text", "does not appear to be an IPv4 or IPv6 network"),
        ("domains", "a@example.com", "text", '"a@example.com" is no domain'),
        ("domains", "..example.com", "text", "is no domain"),
        ("addresses", "a@@example.com", "text", "local part is malformed"),
        ("addresses", "a@example.com", "addresses", "no address behind it"),
        ("addresses", "a@example.com b@example.com,c", "addresses", "address has no domain"),
        ("addresses", "example.com smtp:/x", "route", "smtp:/x"),
    ],
)
def test_a_broken_entry_is_named(kind: str, entry: str, values: str, wrong: str) -> None:
    with pytest.raises(ListError, match=r"entry 2: ") as raised:
        table(kind, "# first", entry, values=values)
    assert wrong in str(raised.value)


class Files:
    def __init__(self, folder: Path) -> None:
        self.records: list[tuple[str, dict[str, Any]]] = []
        self.path = folder / "blocked"
        self.files = ListFiles(folder, lambda event, **fields: self.records.append((event, fields)))

    def logged(self, event: str) -> list[dict[str, Any]]:
        return [fields for name, fields in self.records if name == event]

    def wait_for(self, event: str) -> dict[str, Any]:
        until(lambda: bool(self.logged(event)), what=event)
        return self.logged(event)[0]


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return Files(tmp_path)


def test_a_file_is_read_anew_when_it_changes(files: Files) -> None:
    files.path.write_text("192.0.2.0/24\n")
    listed = files.files.file("blocked", "networks", "text")
    assert listed.table.find("192.0.2.1") and not listed.table.find("198.51.100.1")
    files.path.write_text("198.51.100.0/24\n192.0.2.128/25\n")
    assert files.wait_for("list_live") == {"file": "blocked", "entries": 2}
    assert not listed.table.find("192.0.2.1") and listed.table.find("198.51.100.1")


def test_a_broken_line_is_logged_with_file_and_line_and_the_last_good_list_stays(files: Files) -> None:
    files.path.write_text("192.0.2.0/24\n")
    listed = files.files.file("blocked", "networks", "text")
    files.path.write_text("198.51.100.0/24\n192.0.2.0/33\n")
    told = files.wait_for("list_broken")
    assert told["error"].startswith("blocked:2: '192.0.2.0/33'") and told["kept"] == 1
    assert listed.table.find("192.0.2.1")
    files.path.write_text("198.51.100.0/24\n")
    files.wait_for("list_live")
    assert not listed.table.find("192.0.2.1")
    assert len(files.logged("list_broken")) == 1


def test_a_file_that_is_gone_leaves_its_list(files: Files) -> None:
    files.path.write_text("192.0.2.0/24\n")
    listed = files.files.file("blocked", "networks", "text")
    files.path.unlink()
    assert files.wait_for("list_broken")["error"] == "blocked: No such file or directory"
    assert listed.table.find("192.0.2.1")
    files.path.write_text("192.0.2.0/24\n192.0.3.0/24\n")
    assert files.wait_for("list_live")["entries"] == 2


def test_all_rules_share_one_list(files: Files) -> None:
    files.path.write_text("192.0.2.0/24\n")
    assert files.files.file("blocked", "networks", "text") is files.files.file("blocked", "networks", "text")
    assert files.files.inline(["192.0.2.0/24"], "networks", "text") is files.files.inline(["192.0.2.0/24"], "networks", "text")


def test_a_hundred_thousand_lines_hold_nobody_up(files: Files) -> None:
    files.path.write_text("".join(f"10.{n >> 16 & 255}.{n >> 8 & 255}.{n & 255}\n" for n in range(100_000)))
    pauses, last = [], time.thread_time()

    def beat() -> None:
        nonlocal last
        while True:
            gevent.sleep(0.001)
            pauses.append(time.thread_time() - last)
            last = time.thread_time()

    beating = gevent.spawn(beat)
    listed = files.files.file("blocked", "networks", "text")
    beating.kill()
    assert len(listed.table) == 100_000
    assert len(pauses) > 20 and max(pauses) < 0.15  # as long as rules may hold everybody up
    began = time.thread_time()
    for n in range(1000):
        assert listed.table.find(f"10.1.{n % 100}.{n % 7}")
    assert (time.thread_time() - began) / 1000 < 0.0005  # a scan of the list would take milliseconds


PYTHON = """
from smtpproxy.script import deny, lists, settings
class Settings:
    blocked: list[str] = ["198.51.100.0/24 Not from there"]
    friends: list[str] = ["friend@example.org"]
def on_mail(mail, sender):
    found = lists.networks(settings.blocked).find(mail.client.address)
    if found and not lists.addresses(settings.friends).has(sender):
        return deny(found.value or found.key + " is blocked")
"""
LUA = """
settings = { blocked = {"198.51.100.0/24 Not from there"}, friends = {"friend@example.org"} }
function on_mail(mail, sender)
  local found = lists.networks(settings.blocked):find(mail.client.address)
  if found and not lists.addresses(settings.friends):has(sender) then
    return deny(found.value ~= "" and found.value or found.key .. " is blocked")
  end
end
"""


@pytest.mark.parametrize(("language", "source"), [("py", PYTHON), ("lua", LUA)])
def test_rules_of_both_languages_look_things_up(language: str, source: str, tmp_path: Path) -> None:
    (tmp_path / "blocked").write_text("192.0.2.1\n")

    def reply(address: str, sender: str = "a@example.com", **settings: Any) -> str:
        outcome = run_rule(
            source, "on_mail", language=language, settings=settings, client={"address": address}, sender=sender
        )
        assert not [fields for event, fields in outcome.logged if event == "rule_failed"]
        return outcome.reply

    file = f"file:{tmp_path}/blocked"
    assert reply("198.51.100.7") == "550 5.7.1 Not from there"
    assert reply("198.51.100.7", "friend@example.org") == ""
    assert reply("192.0.2.1") == ""
    assert reply("192.0.2.1", blocked=[file]) == "550 5.7.1 192.0.2.1/32 is blocked"
    assert reply("192.0.2.1", blocked=["203.0.113.0/24", file]) == "550 5.7.1 192.0.2.1/32 is blocked"
    assert reply("192.0.2.2", blocked=[]) == ""


def test_a_list_that_is_wrong_at_the_start_is_a_broken_rule(tmp_path: Path) -> None:
    source = "from smtpproxy.script import lists\nBLOCKED = lists.domains('file:nowhere')\ndef on_mail(mail, sender): pass\n"
    with pytest.raises(RuleBroken, match=r"rule.py:2: ListError: nowhere: No such file or directory"):
        run_rule(source, "on_mail")
