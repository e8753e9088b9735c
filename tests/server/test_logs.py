"""The log: nothing that a peer or a rule says can make a second record or another field."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from smtpproxy.config.log import Log as LogSettings
from smtpproxy.config.values import LogTo
from smtpproxy.server.logs import Log
from smtpproxy.testing.waiting import until

NASTY = [
    "two\r\nevent=message from=forged",
    'quote" event="forged',
    "back\\slash\\",
    "escape \x1b[31m red",
    "nul \0 byte",
    "bell \x07 and delete \x7f",
    "next line \x85 and separators \u2028\u2029",
    "bytes that are no UTF-8 \udcff\udc80",
    "grüße 你好",
    "a=b c=d",
    "'single'",
    " ",
]


def written(path: Path, form: str, **fields: object) -> str:
    path.unlink(missing_ok=True)
    log = Log(LogSettings(to=LogTo(str(path)), format=form))  # type: ignore[arg-type]
    log("refused", **fields)
    log.stop()
    return path.read_bytes().decode("utf-8")


@pytest.mark.parametrize("value", NASTY, ids=ascii)
def test_a_logfmt_record_is_one_line_of_printable_fields(tmp_path: Path, value: str) -> None:
    text = written(tmp_path / "log", "logfmt", by=value, after="end")
    assert text.endswith("after=end\n")
    assert text[:-1].isprintable()
    words = shlex.split(text.replace("'", "\\'")) if "'" in value else shlex.split(text)
    assert [word.partition("=")[0] for word in words] == ["time", "event", "by", "after"]


@pytest.mark.parametrize("value", NASTY, ids=ascii)
def test_a_json_record_is_one_object(tmp_path: Path, value: str) -> None:
    text = written(tmp_path / "log", "json", by=value, after="end")
    assert text.count("\n") == 1
    record = json.loads(text)
    assert list(record) == ["time", "event", "by", "after"]
    assert record["event"] == "refused"
    if not re.search("[\ud800-\udfff]", value):
        assert record["by"] == value


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=60)
@given(st.text(st.characters(exclude_categories=()), max_size=40), st.sampled_from(["logfmt", "json"]))
def test_any_text_at_all_makes_one_record(tmp_path: Path, value: str, form: str) -> None:
    text = written(tmp_path / "log", form, by=value, after="end")
    assert text.count("\n") == 1
    assert not re.search(r"[\x00-\x09\x0b-\x1f]", text)


def test_lists_and_numbers(tmp_path: Path) -> None:
    text = written(tmp_path / "log", "logfmt", to=["b@example.com", "c@example.com"], size=12, ms=0.5)
    assert text.endswith(" to=b@example.com,c@example.com size=12 ms=0.5\n")
    record = json.loads(written(tmp_path / "log", "json", to=["b@example.com"], size=12, ms=0.5))
    assert (record["to"], record["size"], record["ms"]) == (["b@example.com"], 12, 0.5)


def test_a_list_with_octets_that_are_no_text(tmp_path: Path) -> None:
    record = json.loads(written(tmp_path / "log", "json", to=["b\udcff@example.com"]))
    assert record["to"][0].startswith("b")


@pytest.mark.parametrize("form", ["logfmt", "json"])
def test_what_is_not_there_is_left_out(tmp_path: Path, form: str) -> None:
    assert "helo" not in written(tmp_path / "log", form, helo="", login=None)


def test_a_record_has_a_limit(tmp_path: Path) -> None:
    assert len(written(tmp_path / "log", "logfmt", by="x y" * 100_000)) < 10_000


def test_records_are_written_through_by_themselves(tmp_path: Path) -> None:
    path = tmp_path / "log"
    log = Log(LogSettings(to=LogTo(str(path))))
    log.start()
    log("started")
    assert until(lambda: "event=started" in path.read_text())
    log.stop()


def test_many_records_at_once_are_written_at_once(tmp_path: Path) -> None:
    path = tmp_path / "log"
    log = Log(LogSettings(to=LogTo(str(path))))
    for number in range(2000):
        log("message", number=number, text="x" * 50)
    assert path.stat().st_size > 100_000
    log.stop()
    assert path.read_text().count("\n") == 2000
