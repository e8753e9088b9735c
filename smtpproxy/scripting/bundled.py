"""The rules that come with smtpproxy: files like the operator's own, read once, off unless [rule.NAME] enables them.

They are not watched: what an upgrade writes over them belongs to the next start.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from smtpproxy.scripting.folder import is_rule_file
from smtpproxy.scripting.hooks import HOOKS
from smtpproxy.scripting.source import BUNDLED, Source

FOLDER = Path(__file__).parent.parent / "rules"


def sources() -> dict[str, Source]:
    """Every bundled rule by its file, "smtpproxy/rules/access.py"."""
    files = sorted(path for path in FOLDER.iterdir() if is_rule_file(path.name))
    return {BUNDLED + path.name: Source(BUNDLED + path.name, str(path), path.read_bytes()) for path in files}


class About(NamedTuple):
    """What a rule's file says of itself: its docstring, settings, order and hooks."""

    name: str
    manual: str
    settings: tuple[SettingWords, ...]
    hooks: tuple[str, ...]
    order: int | None

    @property
    def summary(self) -> str:
        return self.manual.split("\n", 1)[0]


class SettingWords(NamedTuple):
    """One setting of a rule: its type as written, its default (... for none), and the text below it."""

    name: str
    type: str
    default: Any
    help: str


def about(source: Source) -> About:
    """Read from the text alone: nothing of the file runs."""
    body = source.tree.body
    declared = next((node for node in body if isinstance(node, ast.ClassDef) and node.name == "Settings"), None)
    hooks = tuple(node.name for node in body if isinstance(node, ast.FunctionDef) and node.name in HOOKS)
    order = next((node.value for node in body if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "order"), None)
    return About(
        source.name,
        ast.get_docstring(source.tree) or "",
        tuple(_settings(declared, _meanings(body))) if declared else (),
        hooks,
        ast.literal_eval(order) if order else None,
    )


def _meanings(body: list[ast.stmt]) -> dict[str, str]:
    """What names at the top of a file stand for: a setting's type may be one."""
    return {ast.unparse(node.targets[0]): ast.unparse(node.value) for node in body if isinstance(node, ast.Assign)}


def _settings(declared: ast.ClassDef, meanings: dict[str, str]) -> Iterator[SettingWords]:
    for node, following in zip(declared.body, [*declared.body[1:], ast.Pass()], strict=True):
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            text = following.value if isinstance(following, ast.Expr) else None
            words = " ".join(str(text.value).split()) if isinstance(text, ast.Constant) else ""
            default = ast.literal_eval(node.value) if node.value else ...
            kind = ast.unparse(node.annotation)
            yield SettingWords(node.target.id, meanings.get(kind, kind), default, words)
