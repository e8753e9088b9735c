from __future__ import annotations

import re

from smtpproxy.server.clock import Ids, SystemClock


def test_no_two_processes_give_the_same_id() -> None:
    processes = [Ids() for _ in range(20)]
    given = [ids() for ids in processes for _ in range(500)]
    assert len(set(given)) == len(given)


def test_an_id_is_a_word_that_a_log_and_a_header_can_hold() -> None:
    assert re.fullmatch(r"[0-9A-Za-z]{8,16}", Ids()())


def test_the_date_is_that_of_a_header_field() -> None:
    date = SystemClock().date()
    assert re.fullmatch(r"(Mon|Tue|Wed|Thu|Fri|Sat|Sun), \d{1,2} [A-Z][a-z]{2} \d{4} \d\d:\d\d:\d\d [+-]\d{4}", date)
