"""What a rule's settings hold secret is written nowhere: no log, no trace, no command, whatever the rule does with it."""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from smtpproxy.cli.main import main
from smtpproxy.testing.client import FakeClient
from smtpproxy.testing.instance import one_listener
from smtpproxy.testing.process import RunningServer
from smtpproxy.testing.waiting import until

PYTHON = """\
from smtpproxy.script import Secret, deny, every, log, settings

class Settings:
    secret: str = "in-the-file"
    api: Secret = "of-its-type"
    many: dict[str, list[Secret]] = {}
    shop: dict[str, str] = {}

def on_rcpt(mail, rcpt):
    mail.keep_trace()
    mail.results.add("told", "fail", why=settings.secret)
    log.info("it is " + settings.secret, deep=[settings.many["a"][0]])
    if rcpt.local_part == "denied":
        return deny("No " + settings.secret + settings.api + settings.shop["api_key"])
    raise ValueError(settings.secret + settings.shop["api_key"])

@every("100ms")
def again():
    raise ValueError("timer " + settings.shop["api_key"])
"""
LUA = """\
settings = { secret = "in-the-file", api = { token = "of-its-type" }, passwords = {}, shop = { api_key = "" } }

function on_rcpt(mail, rcpt)
  mail:keep_trace()
  mail.results:add("told", "fail", { why = settings.secret })
  log.info("it is " .. settings.secret, { deep = settings.passwords[1] })
  if rcpt.local_part == "denied" then
    return deny("No " .. settings.secret .. settings.api.token .. settings.shop.api_key)
  end
  error(settings.secret .. settings.shop.api_key)
end

every("100ms", function()
  error("timer " .. settings.shop.api_key)
end)
"""
GIVEN = {
    "py": '[rule.10-told]\nsecret = "from-the-table"\nmany = { a = ["very-deep"] }\nshop = { api_key = "shop-key" }\n',
    "lua": '[rule.10-told]\nsecret = "from-the-table"\npasswords = ["very-deep"]\nshop = { api_key = "shop-key" }\n',
}
RULE = {"py": PYTHON, "lua": LUA}
FAILS = {
    "py": "\ndef on_load():\n    raise ValueError(settings.secret)\n",
    "lua": "\nfunction on_load()\n  error(settings.secret)\nend\n",
}
SECRETS = "in-the-file", "of-its-type", "from-the-table", "very-deep", "shop-key"
LANGUAGES = pytest.mark.parametrize("language", ["py", "lua"])


@pytest.fixture
def refused(start: Callable[..., RunningServer]) -> Callable[..., RunningServer]:
    """A server whose rule has told everybody."""

    def tell(language: str, form: str = "logfmt") -> RunningServer:
        more = f'[log]\nformat = "{form}"\n{GIVEN[language]}'
        server = start(one_listener("discard", more=more), {f"10-told.{language}": RULE[language]})
        with FakeClient.greeted(server.port) as client:
            client.send("MAIL FROM:<a@client.example>")
            assert client.send("RCPT TO:<denied@example.com>").startswith("550 5.7.1 No from-the-table")
            assert client.send("RCPT TO:<b@example.com>").startswith("451 4.3.0 ")
        until(lambda: "timer " in server.log, what="the timer's failure")
        return server

    return tell


def hidden(text: str) -> str:
    """The text, which holds none of them and tells so."""
    assert [secret for secret in SECRETS if secret in text] == []
    assert "***" in text
    return text


@LANGUAGES
@pytest.mark.parametrize("form", ["logfmt", "json"])
def test_the_log(refused: Callable[..., RunningServer], language: str, form: str) -> None:
    server = refused(language, form)
    server.stop()
    log = hidden(server.log)
    assert "it is ***" in log and "timer ***" in log
    assert log.count("550 5.7.1 No ***") >= 1
    assert "rule_failed" in log


@LANGUAGES
def test_the_traces(refused: Callable[..., RunningServer], capsys: pytest.CaptureFixture[str], language: str) -> None:
    server = refused(language)
    server.stop()
    traces = b"".join(path.read_bytes() for path in (server.folder / "data" / "traces").iterdir())
    hidden(traces.decode())
    assert main(["explain", "last", "--config", str(server.folder)]) == 0
    told = hidden(capsys.readouterr().out)
    assert "10-told info: it is ***" in told and "550 5.7.1 No ***" in told


@LANGUAGES
def test_commands(refused: Callable[..., RunningServer], capsys: pytest.CaptureFixture[str], language: str) -> None:
    server, config = refused(language), ["--config"]
    config.append(str(server.folder))
    lives = server.log.count("rule_live")
    server.write_rule(f"10-told.{language}", RULE[language].replace("in-the-file", "another-one"))
    until(lambda: server.log.count("rule_live") > lives, what="the new version")
    server.stop()
    assert main(["rules", *config]) == 0
    assert main(["rules", "--history", *config]) == 0
    message = server.folder / "mail.eml"
    message.write_bytes(b"Subject: x\r\n\r\n")
    assert main(["run", str(message), "--to", "denied@example.com", *config]) == 1
    assert "another-one" not in hidden(capsys.readouterr().out)
    assert main(["config", "--why", "rule", *config]) == 0
    told = capsys.readouterr().out
    assert 'rule.10-told.secret = "***"' in told and 'rule.10-told.shop.api_key = "***"' in told


@LANGUAGES
@pytest.mark.parametrize(
    "wrong", ["secret = 12345678", 'secret = ["shop-key"]', 'shop = { api_key = "shop-key" }\nsecret = 12345678']
)
def test_one_of_the_wrong_kind(tmp_path: Path, capsys: pytest.CaptureFixture[str], language: str, wrong: str) -> None:
    main(["init", str(tmp_path / "mail")])
    (tmp_path / "mail" / "scripts" / f"10-told.{language}").write_text(RULE[language])
    (tmp_path / "mail" / "own.toml").write_text(f"[rule.10-told]\n{wrong}\n")
    capsys.readouterr()
    assert main(["rules", "--config", str(tmp_path / "mail")]) == 1
    told = capsys.readouterr().err
    assert "10-told" in told and "setting s" in told
    assert "12345678" not in told and "shop-key" not in told


@LANGUAGES
def test_on_load_that_fails(start: Callable[..., RunningServer], language: str) -> None:
    server = start(one_listener("discard", more=GIVEN[language]), {f"10-told.{language}": RULE[language]})
    server.write_rule(f"10-told.{language}", RULE[language] + FAILS[language])
    until(lambda: "on_load failed" in server.log, what="the failure")
    assert "from-the-table" not in server.log


@LANGUAGES
def test_on_load_that_fails_at_the_start(start: Callable[..., RunningServer], language: str) -> None:
    with pytest.raises(AssertionError, match=r"on_load failed: .*\*\*\*") as ended:
        start(one_listener("discard", more=GIVEN[language]), {f"10-told.{language}": RULE[language] + FAILS[language]})
    assert "from-the-table" not in str(ended.value)


def test_the_console_of_try(trying: Any) -> None:
    rule = trying.folder / "scripts" / "10-hello.py"
    rule.write_text(
        "from smtpproxy.script import deny, log, settings\nclass Settings:\n    token: str = 'hush-hush'\n"
        "def on_mail(mail, sender): log.info(settings.token)\n"
        "def on_rcpt(mail, rcpt): return deny('No ' + settings.token) if rcpt.local_part == 'a' else 1 / 0 * settings.token\n"
    )
    trying.says("rule 10-hello is live, version ", times=2)
    trying.send("--to", "a@example.com")
    told = trying.says("deny 550 5.7.1 No ***")
    assert "10-hello info: ***" in told
    trying.end(signal.SIGINT)
    assert "hush" not in trying.printed + (trying.folder / ".try" / "stories.log").read_text()
