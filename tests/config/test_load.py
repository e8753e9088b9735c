"""A configuration is read whole, and every mistake in it is told at once."""

from __future__ import annotations

import string
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from smtpproxy.config import sample
from smtpproxy.config.checks import warnings
from smtpproxy.config.lines import key_lines
from smtpproxy.config.load import load, origin
from smtpproxy.config.problem import ConfigErrors
from smtpproxy.config.schema import Config

Loaded = Callable[..., Config]
Problems = Callable[..., list[str]]


def test_everything_has_a_default() -> None:
    config = Config(hostname="mx.example.com")
    assert config.limits.connections == 5000
    assert config.limits.message_size == 50 << 20
    assert config.limits.timeouts.command == 300
    assert not config.relaying.domains
    assert not config.relaying.networks


def test_a_folder_is_merged(loaded: Loaded) -> None:
    config = loaded(
        a='hostname = "MX.example.com"\n[rule.greylist]\nenabled = true\n',
        b="[rule.other]\ndepth = 5\n[limits]\nerrors = 3\n",
    )
    assert config.hostname == "mx.example.com"
    assert config.rule == {"greylist": {"enabled": True}, "other": {"depth": 5}}
    assert config.limits.errors == 3
    assert config.handoff["in"].kind == "discard"


def test_one_file_holds_all(write: Callable[..., Path]) -> None:
    folder = write(other="this is not even TOML")
    assert load(folder / "zz.toml").listener["mx"].handoff == "in"


def test_files_in_folders_below_are_not_read(write: Callable[..., Path]) -> None:
    folder = write()
    (folder / "scripts").mkdir()
    (folder / "scripts" / "x.toml").write_text("nonsense")
    assert load(folder)


def test_relative_paths_start_at_the_configuration(write: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write(a='data = "d"\n[log]\nto = "mail.log"\n[handoff.b]\nkind = "relay"\nto = "lmtp+unix:run/lmtp"\n')
    monkeypatch.chdir(folder.parent)
    config = load(Path(folder.name))
    assert config.data == folder / "d"
    assert config.scripts.folder == folder / "scripts"
    assert config.log.to == str(folder / "mail.log")
    assert config.handoff["b"].to[0].path == str(folder / "run/lmtp")


def test_a_text_stands_for_a_list_of_one(loaded: Loaded) -> None:
    config = loaded(a='[handoff.up]\nkind = "proxy"\nto = "127.0.0.1:25"\n')
    assert [str(target) for target in config.handoff["up"].to] == ["127.0.0.1:25"]


def test_the_known_settings_of_a_rule_are_converted_and_the_others_kept(loaded: Loaded) -> None:
    config = loaded(a='[rule.10-own]\nwall = "2s"\nskip = ["trusted"]\nlisteners = "mx"\nown = { deep = [1] }\n')
    assert config.rule["10-own"] == {"wall": 2, "skip": ("trusted",), "listeners": ("mx",), "own": {"deep": [1]}}


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ('hostnam = "x"', 'a.toml:1: hostnam: unknown key; did you mean "hostname"?'),
        ("\n\n[limits]\nerors = 1", 'a.toml:4: limits.erors: unknown key; did you mean "errors"?'),
        ("[limits]\nerrors = 'x'", "a.toml:2: limits.errors: expected a whole number, got 'x'"),
        ("[limits]\nerrors = -1", "a.toml:2: limits.errors: expected a whole number >= 0, got -1"),
        ("[limits]\nerrors = true", "a.toml:2: limits.errors: expected a whole number, got true"),
        ("workers = 0", "a.toml:1: workers: expected a whole number >= 1, got 0"),
        ("limits = 5", "a.toml:1: limits: expected a table, got 5"),
        ("rule = 5", "a.toml:1: rule: expected tables [rule.NAME], got 5"),
        ("[handoff]\nx = 5", "a.toml:2: handoff.x: expected a table, got 5"),
        (
            "[limits.timeouts]\ncommand = 300",
            'a.toml:2: limits.timeouts.command: a duration needs a unit, not 300; did you mean "300s"?',
        ),
        (
            '[log]\nformat = "jsn"',
            "a.toml:2: log.format: 'jsn' is not one of logfmt, json; did you mean \"json\"?",
        ),
        (
            '[listener.b]\nbind = "127.0.0.1:1"\nhandoff = "in"\ntls = { mode = "implicit" }',
            'a.toml:4: listener.b.tls.mode: "implicit" needs a certificate; write cert and key, or folder',
        ),
        ('admin = 1', "a.toml:1: admin: comes with a later version"),
        ("[dns]\nservers = '127.0.0.1'", "a.toml:1: dns: comes with a later version"),
        (
            '[users.staff]\nkind = "file"\npath = "u"\n'
            '[listener.s]\nbind = "127.0.0.1:587"\nhandoff = "q"\nauth = "staff"\n[handoff.q]\nkind = "discard"',
            "a.toml:7: listener.s.auth: nobody could log in without TLS; give tls, or auth_without_tls = true",
        ),
        (
            '[listener.s]\nbind = "127.0.0.1:587"\nhandoff = "q"\nauth_required = true\n[handoff.q]\nkind = "discard"',
            "a.toml:4: listener.s.auth_required: nobody could log in without TLS; give tls, or auth_without_tls = true",
        ),
        (
            '[users.staff]\nkind = "file"\npath = "u"\n'
            '[listener.s]\nbind = "127.0.0.1:587"\nhandoff = "q"\nauth = "staf"\nauth_without_tls = true\n'
            '[handoff.q]\nkind = "discard"',
            'a.toml:7: listener.s.auth: there is no [users.staf]; did you mean "staff"?',
        ),
        ('[users.staff]\nkind = "file"', 'a.toml:1: users.staff.path: is missing; such as path = "users"'),
        (
            '[handoff.q]\nkind = "queue"\npartial = "notice"',
            'a.toml:3: handoff.q.partial: "notice" comes with a later version',
        ),
        (
            '[handoff.q]\nkind = "queue"\nto = "a:1"',
            "a.toml:3: handoff.q.to: has no use where mail goes by [route] and the DNS",
        ),
        ('[route."*"]\ntls = "may"', 'a.toml:1: route."*".to: is missing'),
        (
            '[route."*"]\nto = "a:1"\nlogin = "us"',
            'a.toml:3: route."*".login: login and password_file need one another',
        ),
        (
            '[handoff.q]\nkind = "proxy"',
            'a.toml:1: handoff.q.to: a proxy needs at least one upstream; such as to = ["127.0.0.1:10025"]',
        ),
        ('[handoff.q]\nkind = "discard"\nto = "a:1"', "a.toml:3: handoff.q.to: has no use where mail is discarded"),
        ("[relaying]\nnetworks = ['x']", "a.toml:2: relaying.networks: 'x' is no network such as \"192.0.2.0/24\""),
        ('[listener.b]\nhandoff = "in"', "a.toml:1: listener.b.bind: is missing"),
        (
            '[listener.b]\nbind = "127.0.0.1:0"\nhandoff = "inn"',
            'a.toml:3: listener.b.handoff: there is no [handoff.inn]; did you mean "in"?',
        ),
        (
            '[listener.b]\nbind = "127.0.0.1:0"\nhandoff = "in"\nproxy_tls = true',
            "a.toml:4: listener.b.proxy_tls: has no use without proxy_from",
        ),
        (
            '[listener.b]\nbind = "127.0.0.1:0"\nhandoff = "in"\nrules = ["*", "not greylist"]',
            'a.toml:4: listener.b.rules: \'not greylist\': write "*", "name" or "!name"',
        ),
        ('[rule.x]\nlisteners = ["mxx"]', 'a.toml:2: rule.x.listeners: there is no [listener.mxx]; did you mean "mx"?'),
        (
            '[rule.x]\nskip = ["trustd"]',
            "a.toml:2: rule.x.skip: 'trustd' is not one of authenticated, trusted; did you mean \"trusted\"?",
        ),
    ],
)
def test_a_mistake_is_told_with_its_place_and_what_was_meant(problems: Problems, text: str, told: str) -> None:
    assert problems(a=text) == [told]


def test_all_mistakes_are_told_at_once_in_the_order_of_the_files(problems: Problems) -> None:
    told = problems(a="workers = 'x'\n[limits]\nerrors = 'y'\nreceived = 'z'\n", b="[log]\nformat = 1\nfrom = 2\n")
    assert [line.split(":")[:2] for line in told] == [
        ["a.toml", "1"],
        ["a.toml", "3"],
        ["a.toml", "4"],
        ["b.toml", "2"],
        ["b.toml", "3"],
    ]


def test_a_table_in_two_files_is_a_mistake(problems: Problems) -> None:
    assert problems(a="workers = 1\n[limits]\n", b="\nworkers = 2\n[limits]\nerrors = 1\n") == [
        "b.toml:2: workers: stands in a.toml too; keep one",
        "b.toml:3: limits: stands in a.toml too; keep one",
    ]


def test_so_is_a_named_table_in_two_files(problems: Problems) -> None:
    assert problems(a='[handoff.in]\nkind = "discard"\n') == ["zz.toml:4: handoff.in: stands in a.toml too; keep one"]


def test_a_file_that_is_no_toml_does_not_hide_the_others_nor_bring_false_alarms(problems: Problems) -> None:
    told = problems(listener=False, a="x = = 1", b='workers = 0\n[listener.mx]\nbind = "a:1"\nhandoff = "x"\n')
    assert told[0].startswith("a.toml: is not TOML: ")
    assert told[1:] == ["b.toml:1: workers: expected a whole number >= 1, got 0"]


def test_nothing_to_serve_is_a_mistake(problems: Problems) -> None:
    assert problems(listener=False, a="workers = 1") == [
        "listener: there is none: nothing would be served; write a [listener.NAME] with bind and handoff"
    ]


def test_a_folder_without_configuration(problems: Problems) -> None:
    (told,) = problems(listener=False)
    assert "no *.toml file" in told
    assert "smtpproxy init" in told


def test_a_place_that_is_not_there() -> None:
    with pytest.raises(ConfigErrors, match="no such file or folder"):
        load(Path("/nonexistent/folder"))


@pytest.mark.parametrize(
    ("one", "other", "told"),
    [
        ("127.0.0.1:25", "127.0.0.1:25", "127.0.0.1:25 is bound in [listener.b] too"),
        ("0.0.0.0:25", "127.0.0.1:25", "127.0.0.1:25 collides with 0.0.0.0:25 in [listener.b]"),
        ("0.0.0.0:25", "[::]:25", ""),
        ("127.0.0.1:0", "127.0.0.1:0", ""),
        ("127.0.0.1:25", "127.0.0.2:25", ""),
    ],
)
def test_an_address_is_bound_once(write: Callable[..., Path], one: str, other: str, told: str) -> None:
    table = '[listener.{}]\nbind = "{}"\nhandoff = "in"\n'
    folder = write(a=table.format("b", one), b=table.format("c", other))
    if not told:
        assert load(folder)
        return
    with pytest.raises(ConfigErrors) as raised:
        load(folder)
    assert str(raised.value) == f"b.toml:2: listener.c.bind: {told}"


def test_an_open_relay_is_warned_of(loaded: Loaded) -> None:
    config = loaded(a='[relaying]\nnetworks = ["10.0.0.0/8", "0.0.0.0/0", "::/0"]\n')
    assert [str(warning) for warning in warnings(config)] == [
        f"a.toml:2: relaying.networks: {network} is an open relay: anybody may send anywhere" for network in ("0.0.0.0/0", "::/0")
    ]


def test_a_scripts_folder_that_is_named_must_be_there(problems: Problems) -> None:
    (told,) = problems(a='[scripts]\nfolder = "rules"\n')
    assert told.startswith("a.toml:2: scripts.folder: ")
    assert told.endswith("rules: no such folder")


def test_the_origin_of_a_setting(loaded: Loaded) -> None:
    config = loaded(a='[handoff.b]\nkind = "relay"\nto = [\n  "a:1",\n]\ntimeouts = { connect = "5s" }\n')
    assert origin(config, "handoff.b.kind") == "a.toml:2"
    assert origin(config, "handoff.b.to") == "a.toml:3"
    assert origin(config, "handoff.b.timeouts.connect") == "a.toml:6"
    assert origin(config, "handoff.b.timeouts.mail") == ""


def test_keys_are_found_however_they_are_written() -> None:
    text = '[ "a b" . c ]\n"d.e" = 1\nf.g = 2\n[[list]]\nh = 3\n'
    parsed: dict[str, Any] = {"a b": {"c": {"d.e": 1, "f": {"g": 2}}}, "list": [{"h": 3}]}
    assert key_lines(text, parsed) == {
        ("a b",): 1,
        ("a b", "c"): 1,
        ("a b", "c", "d.e"): 2,
        ("a b", "c", "f"): 1,
        ("a b", "c", "f", "g"): 3,
        ("list",): 4,
    }


def test_the_sample_loads_and_says_nothing_but_defaults(tmp_path: Path) -> None:
    """With every setting behind a # brought to life, too."""
    for name, text in sample.files().items():
        (tmp_path / name).write_text(text, "utf-8")
    plain = load(tmp_path)
    (tmp_path / "scripts").mkdir()
    for name, text in sample.files().items():
        lines = [line[1:] if line[:1] == "#" and line[1:2] not in (" ", "") else line for line in text.split("\n")]
        (tmp_path / name).write_text("\n".join(lines), "utf-8")
    spoken = load(tmp_path)
    assert spoken.limits == plain.limits
    assert spoken.listener == plain.listener
    assert spoken.handoff == plain.handoff
    assert spoken.log == plain.log
    assert spoken.data == plain.data
    assert spoken.scripts == plain.scripts


NAMES = st.sampled_from(["mx", "listener", "handoff", "rule", "limits", "timeouts", "bind", "to", "kind", "wall", "skip", "data"])
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.floats(-1, 1) | st.text(string.printable, max_size=6),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3),
    max_leaves=12,
)


@given(st.dictionaries(NAMES, VALUES, max_size=5))
@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_nonsense_is_refused_and_never_a_crash(tmp_path: Path, tables: dict[str, Any]) -> None:
    lines = [f"{name} = {_toml(value)}" for name, value in tables.items()]
    (tmp_path / "a.toml").write_text("\n".join(lines), "utf-8")
    with pytest.raises(ConfigErrors):
        load(tmp_path)


def _toml(value: Any) -> str:
    match value:
        case None:
            return '""'
        case bool():
            return str(value).lower()
        case str():
            return '"' + "".join(f"\\u{ord(character):04x}" for character in value) + '"'
        case list():
            return f"[{', '.join(map(_toml, value))}]"
        case dict():
            return "{" + ", ".join(f"{name} = {_toml(item)}" for name, item in value.items()) + "}"
        case _:
            return f"{value:.6f}" if isinstance(value, float) else str(value)
