"""The doors, in both languages."""

from __future__ import annotations

import textwrap
import time
from collections.abc import Callable, Iterator
from typing import Any

import gevent
import pytest
from gevent.event import Event

from smtpproxy.net.http import Response
from smtpproxy.scripting.doors.cache import Kept
from smtpproxy.scripting.trace import story
from smtpproxy.stores.memory import MemoryStore
from smtpproxy.testing.doors import FakeHttp
from smtpproxy.testing.waiting import FixedClock

URL = "https://api.example/list"
LANGUAGES = pytest.mark.parametrize("language", ["py", "lua"])


@pytest.fixture
def clock() -> FixedClock:
    return FixedClock()


@pytest.fixture
def http(scripts: Any, clock: FixedClock) -> FakeHttp:
    fake = FakeHttp({URL: {"names": ["a", "b"], "n": 2, "none": None}, "https://api.example/404": 404})
    scripts.doors |= {"cache": Kept(clock), "store": MemoryStore(clock), "http": fake}
    return fake


@pytest.fixture
def answer(scripts: Any, http: FakeHttp) -> Callable[..., str]:
    """What a rule whose on_rcpt returns deny(EXPRESSION) says; `before` are lines before that."""

    def asked(language: str, expression: str, before: str = "", top: str = "") -> str:
        lines = textwrap.indent(textwrap.dedent(before).strip(), "    ")
        if language == "py":
            text = (
                f"from smtpproxy.script import *\n{top}\ndef on_rcpt(mail, rcpt):\n{lines}\n    return deny(str({expression}))\n"
            )
        else:
            text = f"{top}\nfunction on_rcpt(mail, rcpt)\n{lines}\n  return deny(tostring({expression}))\nend\n"
        scripts.write(f"a.{language}", text)
        problems = scripts.rules.load().problems
        return str(problems[0]) if problems else scripts.rcpt().removeprefix("deny 550 5.7.1 ")

    return asked


@pytest.fixture
def in_berlin() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TZ", "Europe/Berlin")
        time.tzset()
        yield
    time.tzset()


@LANGUAGES
def test_what_time_it_is(scripts: Any, answer: Any, language: str, in_berlin: None) -> None:
    scripts.doors["clock"] = lambda: 1_700_000_000.5
    assert answer(language, "clock.now()") == "1700000000.5"
    assert answer(language, "clock.date()") == "2023-11-14"
    assert answer(language, "clock.date('%H:%M')") == "23:13"
    assert any("clock.date %H:%M" in line for line in story(scripts.call.trace))


@LANGUAGES
class TestCache:
    def test_keeps_values(self, answer: Any, language: str) -> None:
        before = "cache.set('k', 7)"
        assert answer(language, "cache.get('k')", before) == "7"

    def test_forgets_at_the_end_of_their_time(self, answer: Any, clock: FixedClock, language: str) -> None:
        options = "expires='5m'" if language == "py" else "{expires='5m'}"
        assert answer(language, "cache.get('k')", f"cache.set('k', 1, {options})") == "1"
        clock.advance(299)
        assert answer(language, "cache.get('k')") == "1"
        clock.advance(1)
        assert answer(language, "cache.get('k')") in ("None", "nil")

    def test_a_rule_sees_its_own_and_what_is_shared(self, answer: Any, scripts: Any, language: str) -> None:
        other = "from smtpproxy.script import cache\ndef on_rcpt(m, r): cache.set('k', 1); cache.shared.set('k', 2)"
        scripts.write("00-other.py", other)
        assert answer(language, "cache.get('k')") in ("None", "nil")
        assert answer(language, "cache.shared.get('k')") == "2"


class TestWhatTheCacheHolds:
    def test_cannot_be_changed_from_outside(self) -> None:
        kept = Kept()
        given = {"a": [1, {2}]}
        kept.set("k", given)
        given["a"].append(3)
        found = kept.get("k")
        assert found["a"] == (1, frozenset({2}))
        with pytest.raises(TypeError):
            found["b"] = 1

    def test_is_plain(self) -> None:
        with pytest.raises(TypeError, match="plain values"):
            Kept().set("k", object())

    def test_is_bounded_and_what_was_used_longest_ago_goes(self) -> None:
        kept = Kept(limit=10_000)
        for number in range(100):
            kept.get("k0")
            kept.set(f"k{number}", "x" * 500)
        assert kept.size <= 10_000
        assert kept.get("k0") and kept.get("k99") and not kept.get("k50")
        with pytest.raises(ValueError, match="2500 octets at most"):
            kept.set("large", "x" * 5000)

    def test_size_is_given_back(self) -> None:
        kept = Kept()
        kept.set("k", "x" * 500)
        kept.set("k", "y")
        kept.forget("k")
        assert kept.size == 0


@LANGUAGES
class TestStore:
    def test_values(self, answer: Any, language: str) -> None:
        table = "{'a': [1, 2]}" if language == "py" else "{a = {1, 2}}"
        index = "['a'][1]" if language == "py" else ".a[2]"
        assert answer(language, f"store.get('k'){index}", f"store.set('k', {table})") == "2"

    def test_counters_windows_sets_and_leases(self, answer: Any, language: str) -> None:
        calls = [
            "store.increment('n')", "store.increment('n', 2)", "store.hit('w', '1h')", "store.hits('w', '1h')",
            "store.add('s', rcpt)", "store.has('s', 'user@example.com')", "store.remove('s', rcpt)",
            "store.lease('l', '1m')", "store.release('l')",
        ]  # fmt: skip
        if language == "py":
            expression = f"[{', '.join(calls)}]"
            assert answer(language, expression) == "[1, 3, 1, 1, True, True, True, True, True]"
        else:
            expression = " .. ' ' .. ".join(f"tostring({call})" for call in calls)
            assert answer(language, expression) == "1 3 1 1 true true true true true"

    def test_a_rule_has_its_own_and_what_is_shared(self, answer: Any, scripts: Any, language: str) -> None:
        answer(language, "store.increment('n') and store.shared.increment('n')")
        store = scripts.doors["store"]
        assert (store.get("rule/a/n"), store.get("shared/n")) == (1, 1)

    def test_expiry(self, answer: Any, clock: FixedClock, language: str) -> None:
        options = "expires='5m'" if language == "py" else "{expires='5m'}"
        ask = f"store.increment('n', 1, {options})"
        assert answer(language, ask) == "1"
        clock.advance(299)
        assert answer(language, ask) == "2"
        clock.advance(1)
        assert answer(language, ask) == "1"

    def test_wrong_use_is_told(self, answer: Any, scripts: Any, language: str) -> None:
        answer(language, "store.hit('n', '5 minutes')")
        answer(language, "store.increment('n', 1.5)")
        answer(language, "store.incremant('n')")
        errors = " | ".join(record["error"] for record in scripts.logged("rule_failed"))
        assert "'5 minutes' is no duration" in errors
        assert "whole numbers" in errors
        assert 'did you mean "increment"?' in errors


@LANGUAGES
class TestHttp:
    def test_json(self, answer: Any, language: str) -> None:
        index = "['names'][1]" if language == "py" else ".names[2]"
        assert answer(language, f"http.get('{URL}').json{index}") == "b"

    def test_a_status_is_an_answer(self, answer: Any, language: str) -> None:
        assert answer(language, "http.get('https://api.example/404').ok").lower() == "false"
        assert answer(language, "http.get('https://api.example/404').status") == "404"

    def test_post(self, answer: Any, http: FakeHttp, language: str) -> None:
        url = "https://api.example/post"
        http.answers = {url: Response(201, b"made", {"x-id": "7"})}
        if language == "py":
            call = f"http.post_json('{url}', {{'to': rcpt}}, headers={{'X-Key': 'k'}}, timeout='2s')"
        else:
            call = f"http.post_json('{url}', {{to = rcpt}}, {{headers = {{['X-Key'] = 'k'}}, timeout = '2s'}})"
        id_ = "found.headers['x-id']"
        assign = f"found = {call}" if language == "py" else f"local found = {call}"
        assert answer(language, f"found.text + {id_}" if language == "py" else f"found.text .. {id_}", assign) == "made7"
        (request,) = http.asked
        assert (request.method, request.timeout, request.headers["X-Key"]) == ("POST", 2, "k")
        assert request.body in (b'{"to":"user@example.com"}',)

    def test_a_table_alone_is_the_value(self, answer: Any, http: FakeHttp, language: str) -> None:
        table = "{'expires': 1}" if language == "py" else "{expires = 1}"
        answer(language, f"http.post_json('{URL}', {table})")
        assert http.asked[0].body == b'{"expires":1}'

    def test_no_answer_fails_the_rule(self, answer: Any, scripts: Any, language: str) -> None:
        assert answer(language, "http.get('https://nowhere.example/')").startswith("defer")
        assert "HttpError: https://nowhere.example/ cannot be reached" in scripts.logged("rule_failed")[0]["error"]

    def test_no_json_is_told(self, answer: Any, http: FakeHttp, scripts: Any, language: str) -> None:
        http.answers[URL] = "<html>"
        answer(language, f"http.get('{URL}').json")
        assert "the answer is no JSON" in scripts.logged("rule_failed")[0]["error"]

    def test_the_size_is_capped(self, answer: Any, http: FakeHttp, scripts: Any, language: str) -> None:
        http.answers[URL] = "x" * 2000
        options = "limit='1KB'" if language == "py" else "{limit='1KB'}"
        answer(language, f"http.get('{URL}', {options})")
        assert "larger than 1024 octets" in scripts.logged("rule_failed")[0]["error"]


@LANGUAGES
def test_json(answer: Any, language: str) -> None:
    assert answer(language, "json.encode({'a': [1, rcpt]})" if language == "py" else "json.encode({a = {1, rcpt}})") == (
        '{"a":[1,"user@example.com"]}'
    )
    assert answer(language, "json.decode('[1, 2]')[1]") == ("2" if language == "py" else "1")


@LANGUAGES
def test_notes_are_the_workers(answer: Any, scripts: Any, language: str) -> None:
    scripts.write("00-other.py", "from smtpproxy.script import notes\ndef on_rcpt(m, r): notes.seen = 'yes'")
    assert answer(language, "notes.seen", "notes.mine = 1") == "yes"


@LANGUAGES
class TestSleep:
    def test_waits_and_keeps_nobody_waiting(self, answer: Any, scripts: Any, language: str) -> None:
        slept: list[float] = []
        scripts.doors["sleep"] = slept.append
        assert answer(language, "1", "sleep(1.5) sleep('500ms')".replace(") ", ")\n")) == "1"
        assert slept == [1.5, 0.5]
        assert any("sleep 1.5 s" in line for line in story(scripts.call.trace))

    def test_longer_than_the_call_may_take_is_refused_at_once(self, answer: Any, scripts: Any, language: str) -> None:
        scripts.doors["sleep"] = lambda seconds: None
        answer(language, "1", "sleep(6)")
        (failed,) = scripts.logged("rule_failed")
        assert "this call has 4.9 s left; [rule.NAME] wall gives it its time" in failed["error"]


@LANGUAGES
def test_room_is_taken_in_several_places_or_in_none(answer: Any, scripts: Any, language: str) -> None:
    claims = "[('a', 2, '1h'), ['b', 1, '1d', 'me']]" if language == "py" else "{{'a', 2, '1h'}, {'b', 1, '1d', 'me'}}"
    found = "store.take(CLAIMS) is None" if language == "py" else "store.take(CLAIMS) == nil"
    assert answer(language, found.replace("CLAIMS", claims)).lower() == "true"
    scripts.doors["store"].add("rule/a/b", "you")
    key = "[0]" if language == "py" else "[1]"
    assert answer(language, f"store.take({claims}){key}") == "b"
    assert scripts.doors["store"].hits("rule/a/a", 3600) == 1


@LANGUAGES
def test_question_answer_and_time_stand_in_the_trace(answer: Any, scripts: Any, language: str) -> None:
    answer(language, f"http.get('{URL}').status", "store.increment('n')\ncache.get('k')")
    told = "\n".join(story(scripts.call.trace))
    assert "store.increment n -> 1" in told
    assert "cache.get k -> None" in told
    assert f"http.get {URL} -> 200, " in told
    assert " ms)" in told


def test_secrets_and_large_things_do_not(answer: Any, scripts: Any, http: FakeHttp) -> None:
    http.answers = {"https://api.example/?key=hush-hush": "x" * 100_000}
    answer(
        "py",
        "len(http.get('https://api.example/?key=' + settings.token).body)",
        "store.set('k', settings.token * 1000)\nstore.get('k')\nlog.info('it is ' + settings.token)",
        top="class Settings:\n    token: Secret = 'hush-hush'",
    )
    told = "\n".join(story(scripts.call.trace))
    assert "hush" not in told
    assert "https://api.example/?key=*** -> 200, 100000 octets" in told
    assert max(map(len, told.splitlines())) < 1000
    assert scripts.logged("rule")[0]["text"] == "it is ***"


@pytest.mark.parametrize(
    ("expression", "told"),
    [
        ("http.gett('x')", 'http has no "gett"; did you mean "get"?'),
        ("cache.shared.gte('x')", 'did you mean "get"?'),
        ("store.expire('x')", 'store has no "expire"'),
        ("json.loads('x')", 'json has no "loads"'),
        ("dns.mxx('x')", 'did you mean "mx"?'),
        ("log.warn('x')", 'did you mean "warning"?'),
        ("cache.get(1)", "use str(...)"),
        ("store.get(1)", "use str(...)"),
        ("cache.set('k', object())", "plain values"),
        ("http.get('ftp://x/')", "no http:// or https://"),
        ("http.get('https://a:b@x/')", "belong into a header"),
    ],
)
def test_mistakes_are_told(answer: Any, scripts: Any, expression: str, told: str) -> None:
    if "ftp" in expression or "a:b@" in expression:
        from smtpproxy.net.http import HttpClient

        scripts.doors["http"] = HttpClient(lambda name: ["192.0.2.1"])
    answer("py", expression)
    assert told in scripts.logged("rule_failed")[0]["error"]


def test_many_at_once_are_exact(scripts: Any, http: FakeHttp) -> None:
    scripts.write("a.lua", "function on_rcpt(mail, rcpt) store.increment('lua') store.hit('w', '1h') end")
    scripts.load(b="from smtpproxy.script import store\ndef on_rcpt(mail, rcpt): store.increment('py')")
    gevent.joinall([gevent.spawn(scripts.rcpt) for _ in range(500)], raise_error=True)
    store = scripts.doors["store"]
    assert (store.get("rule/a/lua"), store.get("rule/b/py"), store.hits("rule/a/w", 3600)) == (500, 500, 500)


@LANGUAGES
def test_a_slow_server_meets_the_wall_budget(scripts: Any, http: FakeHttp, language: str) -> None:
    """Whatever time the rule would give it."""
    ended = Event()

    class Slow:
        def fetch(self, request: Any) -> Any:
            try:
                Event().wait()
            finally:
                ended.set()

    scripts.doors["http"] = Slow()
    scripts.restart({"a": {"wall": "100ms"}})
    call = "http.get('http://x/', timeout='1h')" if language == "py" else "http.get('http://x/', {timeout = '1h'})"
    if language == "py":
        scripts.write("a.py", f"from smtpproxy.script import http\ndef on_rcpt(mail, rcpt): {call}")
    else:
        scripts.write("a.lua", f"function on_rcpt(mail, rcpt) {call} end")
    scripts.load()
    scripts.rules.budget.start()
    with gevent.Timeout(15):
        assert scripts.rcpt().startswith("defer 451 4.3.0")
    assert ended.is_set()
    assert "over its wall budget" in scripts.logged("rule_failed")[0]["error"]
    assert "no answer" in "\n".join(story(scripts.call.trace))


@LANGUAGES
def test_digests(answer: Any, scripts: Any, language: str) -> None:
    """The values are those of FIPS 180-4 and RFC 4231 4.3."""
    assert answer(language, "digest.sha256('abc')") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    signed = answer(language, "digest.hmac_sha256('Jefe', 'what do ya want for nothing?')")
    assert signed == "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"
    answer(language, "digest.sha256(7)")
    assert "not of a" in scripts.logged("rule_failed")[0]["error"]
