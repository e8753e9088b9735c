"""`class Settings` against [rule.NAME]."""

from __future__ import annotations

import ipaddress
from typing import Any

import pytest

RULE = """
    from smtpproxy.script import settings
    class Settings:
        domains: set[str] = {"example.com"}
        limit: int = 5
        factor = 1.5
        word: str | None = None
    def on_data(mail):
        mail.append(settings)
"""


def settings_of(scripts: Any, table: dict[str, Any], text: str = RULE) -> Any:
    scripts.restart({"a": table})
    scripts.write("a.py", text)
    report = scripts.load()
    if report.problems:
        raise ValueError(str(report.problems[0]))
    scripts.ask("on_data", seen := [])
    return seen[0]


def test_defaults(scripts: Any) -> None:
    settings = settings_of(scripts, {})
    assert (settings.domains, settings.limit, settings.factor, settings.word) == ({"example.com"}, 5, 1.5, None)


def test_values_have_the_declared_types(scripts: Any) -> None:
    settings = settings_of(scripts, {"domains": ["a", "b"], "limit": 7, "factor": 2, "word": "x"})
    assert (settings.domains, settings.limit, settings.factor, settings.word) == ({"a", "b"}, 7, 2.0, "x")


@pytest.mark.parametrize(
    ("table", "told"),
    [
        ({"limit": "many"}, "setting limit: Expected `int`, got `str`, got 'many'"),
        ({"domains": "example.com"}, "setting domains: Expected `array`"),
        ({"limt": 7}, 'unknown setting "limt"; did you mean "limit"?'),
        ({"skip": ["trustd"]}, 'did you mean "trusted"?'),
        ({"order": "first"}, "order: Expected `int | null`"),
        ({"wall": "soon"}, "wall: 'soon' is no duration"),
        ({"enabled": "yes"}, "enabled: Expected `bool`"),
    ],
)
def test_what_does_not_fit_is_refused(scripts: Any, table: dict[str, Any], told: str) -> None:
    with pytest.raises(ValueError) as refused:
        settings_of(scripts, table)
    assert told in str(refused.value)


def test_a_rule_without_settings_takes_none(scripts: Any) -> None:
    with pytest.raises(ValueError, match="sets limit, but the file declares no settings"):
        settings_of(scripts, {"limit": 5}, "def on_data(mail): pass")


def test_a_setting_without_default_must_be_given(scripts: Any) -> None:
    rule = "class Settings:\n    key: str\nfrom smtpproxy.script import settings\ndef on_data(mail): mail.append(settings)"
    with pytest.raises(ValueError, match="setting key has no default"):
        settings_of(scripts, {}, rule)
    assert settings_of(scripts, {"key": "x"}, rule).key == "x"


def test_words_of_ours_are_no_settings(scripts: Any) -> None:
    with pytest.raises(ValueError, match='cannot be called "order"'):
        settings_of(scripts, {}, "class Settings:\n    order: int = 1\ndef on_data(mail): pass")


def test_annotations_may_be_texts_and_types_of_the_rule(scripts: Any) -> None:
    rule = """
        from __future__ import annotations
        import ipaddress, re, enum
        from smtpproxy.script import settings
        class Mode(enum.Enum):
            HARD = "hard"
        class Settings:
            network: ipaddress.IPv4Network = ipaddress.ip_network("192.0.2.0/24")
            pattern: re.Pattern[str] = re.compile("x")
            mode: Mode = Mode.HARD
        def on_data(mail):
            mail.append(settings)
    """
    settings = settings_of(scripts, {"network": "198.51.100.0/24", "pattern": "a+", "mode": "hard"}, rule)
    assert settings.network == ipaddress.ip_network("198.51.100.0/24")
    assert settings.pattern.fullmatch("aaa")
    assert settings.mode.value == "hard"


def test_are_read_only_and_unknown_ones_are_told(scripts: Any) -> None:
    settings = settings_of(scripts, {})
    with pytest.raises(AttributeError, match="read-only"):
        settings.limit = 6
    with pytest.raises(AttributeError, match='did you mean "limit"'):
        _ = settings.limt


def test_may_be_read_at_the_top_of_the_file_once_declared(scripts: Any) -> None:
    scripts.restart({"a": {"x": 3}})
    text = "from smtpproxy.script import settings\nclass Settings:\n    x: int = 1\nY = settings.x\n"
    scripts.load(a=text + "def on_data(mail): mail.append(Y)")
    scripts.ask("on_data", seen := [])
    assert seen == [3]


def test_each_rule_has_its_own(scripts: Any) -> None:
    scripts.restart({"a": {"limit": 1}, "b": {"limit": 2}})
    scripts.write("a.py", RULE)
    scripts.write("b.py", RULE)
    scripts.load()
    scripts.ask("on_data", seen := [])
    assert [settings.limit for settings in seen] == [1, 2]


def test_a_wrong_table_leaves_the_rule_as_it_ran(scripts: Any) -> None:
    settings_of(scripts, {"limit": 7})
    scripts.rules.configure({"a": {"limit": "x"}}, {"mx": ["*"]})
    (problem,) = scripts.refresh().problems
    assert problem.kept
    scripts.ask("on_data", seen := [])
    assert seen[0].limit == 7


def test_a_table_for_no_rule_is_told(scripts: Any) -> None:
    scripts.restart({"20-locl": {}})
    scripts.write("20-local.py", RULE)
    (problem,) = scripts.load().problems
    assert str(problem) == '[rule.20-locl]: there is no rule "20-locl"; did you mean "20-local"?'


PARSED = """
    from smtpproxy.script import Duration, Rate, Size, settings
    class Settings:
        wait: Duration = "1m"
        most: Size = "1MB"
        rates: list[Rate] = ["100/1h"]
    def on_data(mail):
        mail.append((settings.wait, settings.most, [(rate.count, rate.within, str(rate)) for rate in settings.rates]))
"""


def test_times_sizes_and_rates_are_written_as_in_the_rest_of_the_configuration(scripts: Any) -> None:
    assert settings_of(scripts, {}, PARSED) == (60.0, 1 << 20, [(100, 3600.0, "100/1h")])
    given = {"wait": "500ms", "most": 10, "rates": ["5/1m", "2MB/1d"]}
    assert settings_of(scripts, given, PARSED) == (0.5, 10, [(5, 60.0, "5/1m"), (2 << 20, 86400.0, "2MB/1d")])


@pytest.mark.parametrize(
    ("table", "told"),
    [
        ({"wait": 5}, "setting wait: a duration needs a unit, not 5, got 5"),
        ({"rates": ["100"]}, "setting rates: '100' is no rate: write how many, and within what time, such as \"100/1h\""),
        ({"rates": ["0/1h"]}, "'0/1h' is no rate"),
        ({"rates": ["5/0s"]}, "'5/0s' is no rate"),
        ({"rates": "5/1h"}, "setting rates: Expected `array`, got `str`"),
    ],
)
def test_a_wrong_time_or_rate_is_told(scripts: Any, table: dict[str, Any], told: str) -> None:
    with pytest.raises(ValueError, match=r"wait|rate") as wrong:
        settings_of(scripts, table, PARSED)
    assert told in str(wrong.value)
