"""The schema read back: which settings a table has, of what type, with which default and which words."""

from __future__ import annotations

from typing import Annotated, Any, Literal, NamedTuple, get_args, get_origin, get_type_hints

from msgspec import NODEFAULT, Meta, Struct, structs

from smtpproxy.config.schema import RuleKeys


class Setting(NamedTuple):
    """A field of the schema: its type without annotations, what msgspec checks it by, its help and its default."""

    name: str
    type: Any
    checked: Any
    help: str
    default: Any
    """NODEFAULT when it must be given; a callable when it is worked out at start."""

    @property
    def required(self) -> bool:
        return self.default is NODEFAULT

    @property
    def table(self) -> type[Struct] | None:
        """The struct, when this is one table."""
        return self.type if isinstance(self.type, type) and issubclass(self.type, Struct) else None

    @property
    def named_tables(self) -> type[Struct] | None:
        """The struct, when this is [table.NAME]."""
        if get_origin(self.type) is not dict:
            return None
        kind = get_args(self.type)[1]
        return RuleKeys if self.name == "rule" else kind

    @property
    def choices(self) -> tuple[str, ...]:
        return get_args(self.type) if get_origin(self.type) is Literal else ()


def settings(table: type[Struct]) -> dict[str, Setting]:
    """The settings of a table, in the order of the manual."""
    hints = get_type_hints(table, include_extras=True)
    found = {}
    for item in structs.fields(table):
        hint = hints[item.name]
        notes = _notes(hint)
        if any(note.extra and note.extra.get("internal") for note in notes):
            continue
        text = next((note.description for note in notes if note.description), "")
        default = item.default_factory if item.default is NODEFAULT else item.default
        found[item.name] = Setting(item.name, _bare(hint), hint, text, default)
    return found


def _notes(hint: Any) -> list[Meta]:
    return [note for note in get_args(hint)[1:] if isinstance(note, Meta)] if get_origin(hint) is Annotated else []


def _bare(hint: Any) -> Any:
    return get_args(hint)[0] if get_origin(hint) is Annotated else hint
