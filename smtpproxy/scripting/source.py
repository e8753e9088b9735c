"""One file of the folder, read once: its bytes, what it imports, and the mistakes that show without running it."""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Iterator
from functools import cached_property
from typing import Any

from smtpproxy.scripting.errors import RuleError
from smtpproxy.scripting.facade import SCRIPT
from smtpproxy.scripting.hooks import HOOKS, Hook
from smtpproxy.scripting.lua_text import returned, tokens
from smtpproxy.scripting.verdict import parse_code

_CODES = {"deny": ("5", "5.7.1"), "defer": ("4", "4.7.1"), "close": ("45", ".7.0")}
_VERDICTS = ("accept", *_CODES)

BUNDLED = "smtpproxy/rules/"
"""What the file names of the rules that come with smtpproxy begin with."""


class Source:
    """The bytes of `file` ("20-users.py", "smtpproxy/rules/access.py"); `name` is the rule's, `path` what tracebacks show.

    `error` says why the bytes could not be had.
    """

    def __init__(self, file: str, path: str, data: bytes, error: str = "") -> None:
        self.file = file
        self.path = path
        self.data = data
        self.error = error
        self.bundled = file.startswith(BUNDLED)
        self.name, _, suffix = file.removeprefix(BUNDLED).rpartition(".")
        self.language = {"py": "python", "lua": "lua"}[suffix]
        self.digest = hashlib.sha256(data or error.encode()).hexdigest()

    @cached_property
    def tree(self) -> ast.Module:
        """Raises SyntaxError, or ValueError for a NUL."""
        return ast.parse(self.data, self.path)

    @cached_property
    def imports(self) -> tuple[str, ...]:
        """The modules it names in imports, anywhere in the file."""
        if self.language != "python":
            return ()
        return tuple(sorted(set(_imports(self.tree))))

    def check(self) -> None:
        """Look for verdicts that their hook does not allow, or that cannot be made, as far as the text shows.

        Raises RuleError.
        """
        if self.language == "lua":
            for found in returned(tokens(self.data)):
                if (hook := HOOKS.get(found.hook)) is not None:
                    self._check_verdict(found.kind, hook, found.line, found.code)
            return
        names = verdict_names(self.tree)
        for function in self.tree.body:
            if isinstance(function, ast.FunctionDef) and (hook := HOOKS.get(function.name)):
                for call, kind in _verdicts(function, names):
                    self._check_verdict(kind, hook, call.lineno, _code(call))

    def _check_verdict(self, kind: str, hook: Hook, line: int, code: Any) -> None:
        at = f"{self.file}:{line}"
        if kind not in hook.verdicts:
            allowed = ", ".join(sorted(hook.verdicts)) or "nothing"
            raise RuleError(f"{hook.name} may not answer {kind}(); it may answer {allowed}", at)
        if code and kind in _CODES:
            try:
                parse_code(code, *_CODES[kind])
            except ValueError as wrong:
                raise RuleError(f"{kind}: {wrong}", at) from None


def _code(call: ast.Call) -> Any:
    """The value of `code=`, "" when it is not written out."""
    given = next((keyword.value for keyword in call.keywords if keyword.arg == "code"), None)
    return given.value if isinstance(given, ast.Constant) else ""


def _imports(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module


def verdict_names(tree: ast.Module) -> dict[str, str]:
    """The names that verdicts go by in this file: {"deny": "deny", "no": "deny"}."""
    names = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module == SCRIPT:
            for alias in node.names:
                if alias.name in _VERDICTS:
                    names[alias.asname or alias.name] = alias.name
    return names


def _verdicts(function: ast.FunctionDef, names: dict[str, str]) -> Iterator[tuple[ast.Call, str]]:
    """The calls that this hook returns, with the kind of verdict each makes.

    Functions inside it answer to themselves.
    """
    pending: list[ast.AST] = list(function.body)
    while pending:
        node = pending.pop()
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda | ast.ClassDef):
            continue
        if isinstance(node, ast.Return) and isinstance(node.value, ast.Call) and isinstance(node.value.func, ast.Name):
            kind = names.get(node.value.func.id)
            if kind:
                yield node.value, kind
        pending.extend(ast.iter_child_nodes(node))
