"""Many syncs side by side: a disk takes them as one."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from gevent.monkey import get_original

from smtpproxy.queue.crew import Crew

SIMPLE_QUEUE = get_original("queue", "SimpleQueue")


def test_what_waits_for_each_other_is_done_side_by_side() -> None:
    met: list[str] = []
    first, second = SIMPLE_QUEUE(), SIMPLE_QUEUE()

    def meet(name: str, mine: object, other: object) -> Callable[[], None]:
        def work() -> None:
            mine.put(name)  # type: ignore[attr-defined]
            met.append(other.get(timeout=10.0))  # type: ignore[attr-defined]

        return work

    crew = Crew(2)
    crew.run([meet("a", first, second), meet("b", second, first)])
    crew.close()
    assert sorted(met) == ["a", "b"]


@pytest.mark.parametrize("number", [0, 1, 3, 40])
def test_all_of_it_is_done_when_it_returns(number: int) -> None:
    done: list[int] = []
    crew = Crew(3)
    for turn in range(3):
        crew.run([lambda at=at: done.append(at) for at in range(number)])  # type: ignore[misc]
        assert len(done) == (turn + 1) * number
    crew.close()
    assert sorted(done) == sorted(list(range(number)) * 3)
