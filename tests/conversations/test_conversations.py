"""Every dialogue in the *.smtp files beside this one, played against a server in a process of its own.

Dialogues that ask for the same configuration stand together and share a server: it serves one conversation after another.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from smtpproxy.testing.dialogue import Dialogue, read_dialogues
from smtpproxy.testing.player import Player, fake_upstream, order
from smtpproxy.testing.process import RunningServer, start_server
from smtpproxy.testing.upstream import FakeUpstream

DIALOGUES = [dialogue for path in sorted(Path(__file__).parent.glob("*.smtp")) for dialogue in read_dialogues(path)]

DEFAULTS = {"relaying": 'domains = ["example.com"]\n', "limits": "", "listener": "", "handoff": "", "config": ""}


def announcement(block: str) -> str:
    """What of the upstream's block cannot change while the server runs."""
    return "".join(line + "\n" for line in block.splitlines() if line.startswith(("announce", "lmtp")))


def asked_for(dialogue: Dialogue) -> tuple[str, ...]:
    """What tells its server from others."""
    blocks = dialogue.blocks
    settings = [blocks.get(name, usual) for name, usual in DEFAULTS.items()]
    behind = announcement(blocks["upstream"]) if "upstream" in blocks else "none"
    return (*settings, behind, *(f"{name}\n{source}" for name, source in dialogue.rules.items()))


class Stage:
    """The server that dialogues are played on, with its upstream: one at a time, for as long as they ask for the same."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._key: tuple[str, ...] = ()
        self._server: RunningServer | None = None
        self._upstream: FakeUpstream | None = None

    def for_(self, dialogue: Dialogue) -> tuple[RunningServer, FakeUpstream | None]:
        """The server for one dialogue, and its upstream."""
        if self._server is None or asked_for(dialogue) != self._key:
            self.stop()
            self._key = asked_for(dialogue)
            self._upstream = fake_upstream(dialogue.blocks["upstream"]) if "upstream" in dialogue.blocks else None
            folder = Path(tempfile.mkdtemp(dir=self._folder))
            self._server = start_server(folder, configuration(dialogue, self._upstream), dialogue.rules)
        return self._server, self._upstream

    def stop(self) -> None:
        if self._server is not None:
            self._server.stop()
        if self._upstream is not None:
            self._upstream.stop()


def configuration(dialogue: Dialogue, upstream: FakeUpstream | None) -> str:
    """The configuration that a dialogue's blocks ask for."""
    given = {name: dialogue.blocks.get(name, usual) for name, usual in DEFAULTS.items()}
    handoff = 'kind = "discard"\n'
    if upstream is not None:
        kind = "relay" if upstream.lmtp else "proxy"
        handoff = ("" if "kind =" in given["handoff"] else f'kind = "{kind}"\n') + f'to = ["{upstream.address}"]\n'
    return (
        f'hostname = "mx.example.com"\n{given["config"]}\n'
        f'[listener.mx]\nbind = ["127.0.0.1:0"]\nhandoff = "out"\n{given["listener"]}\n'
        f"[handoff.out]\n{handoff}{given['handoff']}\n"
        f"[relaying]\n{given['relaying']}\n[limits]\n{given['limits']}\n"
    )


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    found = Stage(tmp_path_factory.mktemp("conversations"))
    yield found
    found.stop()


@pytest.mark.parametrize(
    "dialogue", [pytest.param(it, id=f"{it.path.stem}: {it.title}") for it in sorted(DIALOGUES, key=asked_for)]
)
def test_dialogue(dialogue: Dialogue, stage: Stage) -> None:
    server, upstream = stage.for_(dialogue)
    if upstream is not None:
        upstream.reset()
        order(upstream, dialogue.blocks["upstream"])
    played = Player(dialogue, server.port, upstream, lambda: server.log).play()
    assert played == len(dialogue.turns) > 0
