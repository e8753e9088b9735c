"""Quarantine: 250 means that it is on disk; whatever goes wrong before leaves nothing behind."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from smtpproxy.facts.client import Client
from smtpproxy.handoff.quarantine import QuarantineOutlet
from smtpproxy.handoff.shelf import HELD, Holding, Slip, drop_orphans, items
from smtpproxy.testing.acts import Hold
from smtpproxy.testing.front import Front
from smtpproxy.testing.instance import one_listener
from smtpproxy.testing.process import running_server
from smtpproxy.testing.upstream import FakeUpstream
from smtpproxy.testing.waiting import until

MESSAGE = b"Subject: hello\r\n\r\n.dots\r\ntext\r\n"


class Jail:
    """A quarantine behind a front door, and what it has complained of."""

    def __init__(self, folder: Path) -> None:
        self.said: list[str] = []
        self.folder = folder / "jail"
        self.outlet = QuarantineOutlet("jail", self.folder, self._say)
        self.front = Front(self.outlet, folder=folder / "scripts")

    def _say(self, cause: str, client: Client) -> None:
        self.said.append(cause)

    def send(self, message: bytes = MESSAGE) -> Any:
        with self.front.begun() as client:
            return client.message(message)

    @property
    def files(self) -> list[str]:
        return sorted(str(path.relative_to(self.folder)) for path in self.folder.rglob("*") if path.is_file())


@pytest.fixture
def jail(tmp_path: Path) -> Iterator[Jail]:
    (tmp_path / "scripts").mkdir(mode=0o755)
    jail = Jail(tmp_path)
    yield jail
    jail.front.close()


def test_a_message_is_two_files_in_the_folder_of_its_day(jail: Jail) -> None:
    assert jail.send() == "250 2.0.0 Ok: taken as 1.1"
    (item,) = items(jail.folder)
    assert jail.files == [f"{item.slip.day}/1.1.eml", f"{item.slip.day}/1.1.json"]
    assert item.message.read_bytes().endswith(MESSAGE)
    assert item.message.read_bytes().startswith(b"Received: from client.example ")
    told = json.loads(item.note.read_bytes())
    assert (told["sender"], told["recipients"], told["id"]) == ("a@client.example", ["b@example.com"], "1.1")
    assert told["client"] == {"address": "127.0.0.1", "helo": "client.example"}
    assert item.note.stat().st_mode & 0o777 == 0o600


def test_it_is_synced_before_the_answer_both_files_and_both_folders(jail: Jail, synced: list[str]) -> None:
    jail.send()
    synced.clear()
    assert jail.send().code == 250
    (day,) = {item.slip.day for item in items(jail.folder)}
    assert synced == ["2.1.eml", "2.1.json", HELD, "rename 2.1.eml", "rename 2.1.json", day, HELD]


@pytest.mark.parametrize(
    ("number", "reply"),
    [(errno.ENOSPC, "452 4.3.1"), (errno.EDQUOT, "452 4.3.1"), (errno.EIO, "451 4.3.0")],
)
@pytest.mark.parametrize("call", ["fsync", "write", "rename"])
def test_a_disk_that_fails(jail: Jail, monkeypatch: pytest.MonkeyPatch, call: str, number: int, reply: str) -> None:
    assert jail.send().code == 250
    before = jail.files

    def fails(*_: Any) -> None:
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as patch:
        patch.setattr(os, call, fails)
        answer = jail.send()
    assert answer.startswith(reply)
    assert jail.files == before
    assert jail.send().code == 250


def test_a_client_that_leaves_before_the_answer(jail: Jail) -> None:
    client = jail.front.begun()
    client.send("DATA")
    client.raw(b"Subject: x\r\n")
    client.close()
    until(lambda: not jail.front.sessions)
    assert jail.files == []


def test_the_same_name_twice(tmp_path: Path) -> None:
    slip = Slip("1.1", 0.0, "a@example.com", ["b@example.com"], "why")
    one, two = Holding(tmp_path, slip), Holding(tmp_path, slip)
    assert (one.name, two.name) == ("1.1", "1.1-2")


class TestAtTheStart:
    def held(self, folder: Path, id: str = "1.1") -> Holding:
        holding = Holding(folder, Slip(id, 0.0, "a@example.com", ["b@example.com"], "why"))
        holding.write([b"text"])
        holding.sync()
        return holding

    def test_what_a_living_process_holds_is_left_alone(self, tmp_path: Path) -> None:
        holding = self.held(tmp_path)
        assert drop_orphans(tmp_path) == 0
        holding.commit()
        assert [item.name for item in items(tmp_path)] == ["1.1"]

    def test_what_was_held_by_one_that_is_gone_is_dropped(self, tmp_path: Path) -> None:
        self.held(tmp_path)._close()
        self.held(tmp_path, "1.2").commit()
        assert drop_orphans(tmp_path) == 1
        assert [item.name for item in items(tmp_path)] == ["1.2"]
        assert list((tmp_path / HELD).iterdir()) == []

    def test_an_end_between_the_two_renames(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        holding = self.held(tmp_path)
        rename = os.rename

        def once(old: Path, new: Path) -> None:
            if str(new).endswith(".json"):
                raise SystemExit
            rename(old, new)

        monkeypatch.setattr(os, "rename", once)
        with pytest.raises(SystemExit):
            holding.commit()
        holding._close()
        assert drop_orphans(tmp_path) == 1
        assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_killed_between_finish_and_commit(tmp_path: Path, upstream: FakeUpstream) -> None:
    """The quarantine holds the message while the live upstream decides; nobody has been told 250."""
    toml = one_listener("proxy", upstream.address, more='[handoff.jail]\nkind = "quarantine"\n')
    rules = {"10-jail.py": "def on_rcpt(mail, rcpt):\n    if rcpt.local_part == 'bad': rcpt.via = 'jail'\n"}
    jail = tmp_path / "server" / "data" / "quarantine"
    hold = Hold()
    upstream.on("dot", hold)
    with running_server(tmp_path / "server", toml, rules) as server:
        client = server.client()
        for command in ("MAIL FROM:<a@client.example>", "RCPT TO:<bad@example.com>", "RCPT TO:<good@example.com>"):
            assert client.send(command).code == 250
        assert client.send("DATA").code == 354
        client.raw(MESSAGE + b".\r\n")
        hold.reached.wait(15)
        assert len(list((jail / HELD).glob("*.eml"))) == 1
        server.kill()
    hold.release()
    assert list(items(jail)) == []
    with running_server(tmp_path / "server", toml, rules) as server:
        assert list((jail / HELD).iterdir()) == []
        assert list(items(jail)) == []
        until(lambda: "event=held_dropped" in server.log)
