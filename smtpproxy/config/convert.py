"""From raw TOML values to the structs of the schema, field by field, so that one mistake does not hide the next."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, Literal, Protocol, TypeVar, get_args, get_origin

import msgspec
from msgspec import Struct

from smtpproxy.config.fields import Setting, settings
from smtpproxy.config.lines import Keys
from smtpproxy.config.problem import did_you_mean
from smtpproxy.config.schema import LATER_KEYS, LATER_VALUES, RuleKeys
from smtpproxy.config.values import BadValue, LogTo, Target

Report = Callable[[Keys, str, str], None]
S = TypeVar("S", bound=Struct)

LATER: Final = "comes with a later version"
_BAD: Final = object()
_WORDS: Final = {
    "int": "a whole number", "str": "text in quotes", "bool": "true or false", "array": "a list",
    "object": "a table", "float": "a number", "null": "nothing",
}  # fmt: skip


class Parsed(Protocol):
    @classmethod
    def parse(cls, raw: object) -> Any: ...


class Converter:
    """Raw tables to structs; mistakes go to `report(keys, text, suggestion)`, relative paths start at `folder`."""

    def __init__(self, folder: Path, report: Report) -> None:
        self.folder = folder
        self.report = report

    def table(self, kind: type[S], raw: Any, at: Keys = (), **more: Any) -> S | None:
        """The struct, or None when a setting that must be given is missing or wrong."""
        if not isinstance(raw, dict):
            self.report(at, f"expected a table, got {_shown(raw)}", "")
            return None
        known = settings(kind)
        for name in raw:
            if name not in known:
                self._unknown(kind, name, at, known)
        values = {}
        for name, setting in known.items():
            given = name in raw or setting.table  # an absent table has defaults that start at the folder, too
            value = self._setting(kind, setting, raw.get(name, {}), (*at, name)) if given else _BAD
            if value is not _BAD:
                values[name] = value
            elif isinstance(setting.default, Path):
                values[name] = self.folder / setting.default
            elif setting.required and name not in raw:
                self.report((*at, name), "is missing", "")
        complete = all(name in values for name, setting in known.items() if setting.required)
        return kind(**values, **more) if complete else None

    def _unknown(self, kind: type[Struct], name: str, at: Keys, known: dict[str, Setting]) -> None:
        if name in LATER_KEYS.get(kind, ()):
            self.report((*at, name), LATER, "")
        else:
            self.report((*at, name), "unknown key", did_you_mean(name, known))

    def _setting(self, kind: type[Struct], setting: Setting, raw: Any, at: Keys) -> Any:
        if setting.name == "rule" and not at[1:]:
            return self._rules(raw, at)
        if setting.named_tables:
            return self._named(setting.named_tables, raw, at)
        if setting.table:
            found = self.table(setting.table, raw, at)
            return _BAD if found is None else found
        if isinstance(raw, str) and raw in LATER_VALUES.get((kind, setting.name), ()):
            self.report(at, f'"{raw}" {LATER}', "")
            return _BAD
        return self._value(setting, raw, at)

    def _named(self, kind: type[S], raw: Any, at: Keys) -> Any:
        if not isinstance(raw, dict):
            self.report(at, f"expected tables [{at[-1]}.NAME], got {_shown(raw)}", "")
            return _BAD
        found = {name: self.table(kind, value, (*at, name)) for name, value in raw.items()}
        return {name: value for name, value in found.items() if value is not None}

    def _rules(self, raw: Any, at: Keys) -> Any:
        """[rule.NAME] holds settings that only the rule knows: the ones known here are converted, the rest is kept."""
        if not isinstance(raw, dict):
            self.report(at, f"expected tables [rule.NAME], got {_shown(raw)}", "")
            return _BAD
        return {name: self._rule(table, (*at, name)) for name, table in raw.items()}

    def _rule(self, raw: Any, at: Keys) -> dict[str, Any]:
        if not isinstance(raw, dict):
            self.report(at, f"expected a table, got {_shown(raw)}", "")
            return {}
        known = settings(RuleKeys)
        found = dict(raw)
        for name in raw.keys() & known.keys():
            value = self._value(known[name], raw[name], (*at, name))
            if value is _BAD:
                del found[name]
            else:
                found[name] = value
        return found

    def _value(self, setting: Setting, raw: Any, at: Keys) -> Any:
        if get_origin(setting.type) is tuple:
            return self._list(get_args(setting.type)[0], raw, at)
        return self._one(setting.type, setting.checked, raw, at)

    def _list(self, kind: Any, raw: Any, at: Keys) -> Any:
        """A text alone stands for a list of one."""
        items = [raw] if isinstance(raw, str) else raw
        if not isinstance(items, list):
            self.report(at, f"expected a list, got {_shown(raw)}", "")
            return _BAD
        found = [self._one(kind, kind, item, at) for item in items]
        return _BAD if _BAD in found else tuple(found)

    def _one(self, kind: Any, checked: Any, raw: Any, at: Keys) -> Any:
        try:
            return self._parse(kind, checked, raw)
        except BadValue as wrong:
            self.report(at, str(wrong), f"did you mean {wrong.suggestion}?" if wrong.suggestion else "")
        except msgspec.ValidationError as wrong:
            if choices := get_args(kind) if get_origin(kind) is Literal else ():
                self.report(at, f"{_shown(raw)} is not one of {', '.join(choices)}", did_you_mean(str(raw), choices))
            else:
                self.report(at, f"{_plain(str(wrong))}, got {_shown(raw)}", "")
        return _BAD

    def _parse(self, kind: Any, checked: Any, raw: Any) -> Any:
        if kind == Path | None and raw == "":
            return None
        if kind in (Path, Path | None):
            return self.path(raw)
        if kind is LogTo:
            return LogTo(raw if raw in ("stdout", "syslog") or str(raw).startswith("syslog:") else self.path(raw))
        if kind is Target:
            target = Target.parse(raw)
            return target._replace(path=str(self.path(target.path))) if target.path else target
        if isinstance(kind, type) and hasattr(kind, "parse"):
            parsed: type[Parsed] = kind
            return parsed.parse(raw)
        return msgspec.convert(raw, checked)

    def path(self, raw: object) -> Path:
        if not isinstance(raw, str) or not raw or "\0" in raw:
            raise BadValue(f"expected a path, got {_shown(raw)}")
        return self.folder / Path(raw).expanduser()


def _shown(raw: object) -> str:
    return str(raw).lower() if isinstance(raw, bool) else repr(raw)


def _plain(text: str) -> str:
    """msgspec's words, without its marks: 'Expected `int`, got `str`' reads 'expected a whole number'."""
    expected = text.removeprefix("Expected ").split(", got")[0]
    head, _, tail = expected.partition("` ")
    word = head.strip("`")
    return f"expected {_WORDS.get(word, word)} {tail}".rstrip()
