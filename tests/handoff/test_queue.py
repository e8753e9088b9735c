"""The queue and the contract: 250 means that body, folder and ledger are synced; what goes wrong before leaves nothing."""

from __future__ import annotations

import errno
import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest

from smtpproxy.facts.client import Client
from smtpproxy.handoff.queue import QueueOutlet
from smtpproxy.queue.ledger import Entry
from smtpproxy.queue.room import FreeSpace
from smtpproxy.queue.sqlite import SqliteLedger
from smtpproxy.testing.front import Front
from smtpproxy.testing.handoffs import live
from smtpproxy.testing.queues import idle_queue
from smtpproxy.testing.waiting import until
from smtpproxy.wire.reply import Reply

MESSAGE = b"Subject: hello\r\n\r\n.dots\r\ntext\r\n"
COPY = 'def on_message(mail):\n    mail.add_copy("queue")\n'


class Office:
    """A queue behind a front door, alone or beside another way out, and what it has complained of."""

    def __init__(self, folder: Path) -> None:
        self.said: list[str] = []
        self.bodies = folder / "queue" / "1" / "bodies"
        self.queue = idle_queue(folder / "queue", time.time)
        self.outlet = QueueOutlet("queue", self.queue, time.time, self._say)
        self.out = live()
        self.folder = folder / "scripts"

    def _say(self, cause: str, client: Client) -> None:
        self.said.append(cause)

    def front(self, *, copies: bool = False) -> Front:
        self.folder.mkdir(mode=0o755)
        if copies:
            return Front(self.out, self.outlet, folder=self.folder, rules={"10-copy.py": COPY})
        return Front(self.outlet, folder=self.folder)

    @property
    def files(self) -> list[str]:
        return sorted(os.listdir(self.bodies))

    def entries(self, limit: int = 10) -> list[Entry]:
        return self.queue.ledger.lease(limit)


@pytest.fixture
def office(tmp_path: Path) -> Iterator[Office]:
    office = Office(tmp_path)
    yield office
    office.queue.stop(0)


@pytest.fixture
def front(office: Office) -> Iterator[Front]:
    front = office.front()
    yield front
    front.close()


@pytest.fixture
def copying(office: Office) -> Iterator[Front]:
    front = office.front(copies=True)
    yield front
    front.close()


def send(front: Front) -> Any:
    with front.begun() as client:
        return client.message(MESSAGE)


def test_the_envelope_and_the_message_are_kept(office: Office, front: Front) -> None:
    assert send(front) == "250 2.0.0 Ok: queued as 1.1"
    (entry,) = office.entries()
    envelope = entry.envelope
    assert (envelope.sender.path, [party.path for party in envelope.recipients]) == ("a@client.example", ["b@example.com"])
    assert envelope.client == {"address": "127.0.0.1", "helo": "client.example"}
    assert b"".join(office.queue.ledger.body(entry).content()).endswith(MESSAGE)
    assert (office.bodies / envelope.name).stat().st_mode & 0o777 == 0o600


def test_it_is_synced_before_the_answer_the_body_and_its_name(office: Office, front: Front, synced: list[str]) -> None:
    synced.clear()
    assert send(front).code == 250
    assert synced == [".1.1", "rename 1.1", "bodies"]


@pytest.mark.parametrize(
    ("number", "reply"),
    [(errno.ENOSPC, "452 4.3.1"), (errno.EDQUOT, "452 4.3.1"), (errno.EIO, "451 4.3.0")],
)
@pytest.mark.parametrize("call", ["fsync", "write", "rename"])
def test_a_disk_that_fails(
    office: Office, front: Front, monkeypatch: pytest.MonkeyPatch, call: str, number: int, reply: str
) -> None:
    def fails(*_: Any) -> None:
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as patch:
        patch.setattr(os, call, fails)
        answer = send(front)
    assert answer.startswith(reply)
    assert (office.files, office.entries()) == ([], [])
    assert send(front).code == 250


def test_a_disk_that_is_full_when_the_ledger_is_written(office: Office, front: Front) -> None:
    connection = cast(SqliteLedger, office.queue.ledger)._thread._connection
    (pages,) = connection.execute("PRAGMA page_count").fetchone()
    connection.execute(f"PRAGMA max_page_count = {pages}")
    replies = [send(front) for _ in range(30)]
    full = replies[-1]
    assert full.startswith("452 4.3.1 Not enough room")
    taken = sum(reply.code == 250 for reply in replies)
    connection.execute("PRAGMA max_page_count = 1000")
    assert send(front).code == 250
    assert len(office.entries(100)) == len(office.files) == taken + 1


def test_a_disk_that_is_nearly_full_is_told_before_the_message_comes(office: Office, front: Front) -> None:
    office.queue.room = FreeSpace(office.bodies, 1 << 60)
    with front.client() as client:
        client.send("MAIL FROM:<a@client.example>")
        assert client.send("RCPT TO:<b@example.com>").startswith("452 4.3.1 ")
    assert "are to stay free ([queue] min_free)" in office.said[0]


def test_a_mail_that_would_fill_the_disk_is_told_so(office: Office, front: Front) -> None:
    free = shutil.disk_usage(office.bodies).free
    office.queue.room = FreeSpace(office.bodies, free - (8 << 20))
    with front.client() as client:
        client.send("MAIL FROM:<a@client.example> SIZE=50000000")
        assert client.send("RCPT TO:<b@example.com>").startswith("452 4.3.1 ")
        client.send("RSET")
        client.send("MAIL FROM:<a@client.example> SIZE=1000")
        assert client.send("RCPT TO:<b@example.com>").code == 250


def test_a_start_on_a_full_disk_waits_for_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "mkdir", full)
        office = Office(tmp_path)
    front = office.front()
    assert send(front).startswith("452 4.3.1 ")
    until(lambda: send(front).code == 250, 10, "there is room")
    front.close()
    office.queue.stop(0)


def test_a_client_that_leaves_before_the_end(office: Office, front: Front) -> None:
    client = front.begun()
    client.send("DATA")
    client.raw(b"Subject: x\r\n" * 10_000)
    client.close()
    until(lambda: not front.sessions)
    assert (office.files, office.entries(), office.said) == ([], [], [])


def test_a_copy_is_released_when_the_live_one_has_it(office: Office, copying: Front) -> None:
    assert send(copying).code == 250
    assert len(office.entries()) == 1


def test_a_copy_is_dropped_when_the_live_one_refuses(office: Office, copying: Front) -> None:
    office.out.on("finish", Reply(554, "5.7.1", "No"))
    assert send(copying).startswith("554 5.7.1 No")
    assert (office.files, office.entries()) == ([], [])
