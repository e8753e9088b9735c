"""What a rule costs when it has nothing to say (W8 in the README: at most 1 us for one trivial Python hook call)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from smtpproxy.scripting.loader import Rules
from smtpproxy.scripting.runner import Call, Chains, decide
from smtpproxy.scripting.trace import Trace

TRIVIAL = "def on_rcpt(mail, rcpt):\n    pass\n"
CALLS = 1000


def chains_of(folder: Path, rules: int) -> Chains:
    for number in range(rules):
        (folder / f"{number:02}-trivial.py").write_text(TRIVIAL)
    loader = Rules(folder, listeners={"mx": ["*"]}, log=lambda event, **fields: None)
    loader.load()
    return loader.table.chains["mx"]


def calls(chains: Chains) -> Callable[[], None]:
    call = Call(trace=Trace("perf"))
    mail, rcpt = object(), object()

    def run() -> None:
        chain = chains.on_rcpt
        for _ in range(CALLS):
            decide(chains, chain, call, mail, rcpt)

    return run


@pytest.fixture
def per_call(benchmark: Any) -> Iterator[Any]:
    """Says what one call costs beside the figures of a round of CALLS."""
    yield benchmark
    if benchmark.stats:
        benchmark.extra_info["us_per_call"] = round(benchmark.stats.stats.median / CALLS * 1e6, 3)


def test_the_function_alone(per_call: Any) -> None:
    """The floor: the same function called without the runner."""
    scope: dict[str, Any] = {}
    exec(TRIVIAL, scope)
    function = scope["on_rcpt"]

    def run() -> None:
        for _ in range(CALLS):
            function(None, None)

    per_call(run)


def test_one_trivial_hook(per_call: Any, tmp_path: Path) -> None:
    """A chain of one: everything that a chain costs is in it."""
    per_call(calls(chains_of(tmp_path, 1)))


def test_one_trivial_hook_while_cpu_time_is_metered(per_call: Any, tmp_path: Path) -> None:
    """The timer ticks and the sweep runs: a call must not notice."""
    (tmp_path / "00-trivial.py").write_text(TRIVIAL)
    loader = Rules(tmp_path, listeners={"mx": ["*"]}, log=lambda event, **fields: None)
    loader.load()
    loader.start()
    per_call(calls(loader.table.chains["mx"]))
    loader.stop()


def test_ten_trivial_hooks(per_call: Any, tmp_path: Path) -> None:
    """A chain of ten: a tenth of it is the price of one more rule."""
    per_call(calls(chains_of(tmp_path, 10)))


def test_a_hook_that_nobody_uses(per_call: Any, tmp_path: Path) -> None:
    """What the session pays where there is no rule: one attribute test."""
    chains = chains_of(tmp_path, 0)

    def run() -> None:
        for _ in range(CALLS):
            if chains.on_rcpt:
                raise AssertionError

    per_call(run)
