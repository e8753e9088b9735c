"""Every dialogue in the *.smtp files beside this one, played against a server in a process of its own.

Dialogues that ask for the same configuration share a server: an instance serves one conversation after another.
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


class Stages:
    """The servers that dialogues are played on, by what they ask for."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._stages: dict[tuple[str, ...], tuple[RunningServer, FakeUpstream | None]] = {}

    def stage(self, dialogue: Dialogue) -> tuple[RunningServer, FakeUpstream | None]:
        """A server and its upstream, for one dialogue."""
        key = self._key(dialogue)
        if key not in self._stages:
            self._stages[key] = self._build(dialogue)
        return self._stages[key]

    def _key(self, dialogue: Dialogue) -> tuple[str, ...]:
        blocks = dialogue.blocks
        settings = [blocks.get(name, usual) for name, usual in DEFAULTS.items()]
        behind = announcement(blocks["upstream"]) if "upstream" in blocks else "none"
        return (*settings, behind, *(f"{name}\n{source}" for name, source in dialogue.rules.items()))

    def _build(self, dialogue: Dialogue) -> tuple[RunningServer, FakeUpstream | None]:
        upstream = fake_upstream(dialogue.blocks["upstream"]) if "upstream" in dialogue.blocks else None
        folder = Path(tempfile.mkdtemp(dir=self._folder))
        return start_server(folder, configuration(dialogue, upstream), dialogue.rules), upstream

    def stop(self) -> None:
        for server, upstream in self._stages.values():
            server.stop()
            if upstream is not None:
                upstream.stop()


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


@pytest.fixture(scope="session")
def stages(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stages]:
    servers = Stages(tmp_path_factory.mktemp("conversations"))
    yield servers
    servers.stop()


@pytest.mark.parametrize("dialogue", [pytest.param(it, id=f"{it.path.stem}: {it.title}") for it in DIALOGUES])
def test_dialogue(dialogue: Dialogue, stages: Stages) -> None:
    server, upstream = stages.stage(dialogue)
    if upstream is not None:
        upstream.reset()
        order(upstream, dialogue.blocks["upstream"])
    played = Player(dialogue, server.port, upstream, lambda: server.log).play()
    assert played == len(dialogue.turns) > 0
