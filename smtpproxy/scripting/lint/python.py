"""Mistakes that the text of a Python rule shows."""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Iterator

from smtpproxy.config.problem import did_you_mean
from smtpproxy.scripting.doors.base import Door
from smtpproxy.scripting.facade import SCRIPT, Every, Facade
from smtpproxy.scripting.hooks import is_hook_name
from smtpproxy.scripting.lint.blocking import CALLS, MODULES, PATTERNS, Stall, explodes, stalls
from smtpproxy.scripting.lint.finding import Finding, never_read, verdict_dropped
from smtpproxy.scripting.source import Source

VERDICTS = frozenset({"accept", "deny", "defer", "close"})


class PythonText:
    """A file with the dotted names that its words stand for: {"deny": "smtpproxy.script.deny"}."""

    def __init__(self, source: Source) -> None:
        self.file = source.file
        self.tree = source.tree
        self.names = dict(_imported(self.tree))
        self.script = Facade(None, Every(), None)

    def findings(self) -> Iterator[Finding]:
        """In the order of their kinds."""
        yield from self._twice()
        yield from self._settings()
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
                yield from self._dropped(node.value)
            elif isinstance(node, ast.Import | ast.ImportFrom):
                yield from self._import(node)
            elif isinstance(node, ast.Attribute):
                yield from self._attribute(node)
            if isinstance(node, ast.Call):
                yield from self._call(node)

    def _dotted(self, node: ast.expr) -> str:
        """What a name, or a name with attributes, stands for; "" for anything else."""
        if isinstance(node, ast.Name):
            return self.names.get(node.id, "")
        if isinstance(node, ast.Attribute) and (base := self._dotted(node.value)):
            return f"{base}.{node.attr}"
        return ""

    def _twice(self) -> Iterator[Finding]:
        """The second function of a name takes the place of the first."""
        hooks = [node for node in self.tree.body if isinstance(node, ast.FunctionDef) and is_hook_name(node.name)]
        last = {node.name: node.lineno for node in hooks}
        for node in hooks:
            if node.lineno != last[node.name]:
                yield Finding(self.file, node.lineno, f"{node.name} can never run: line {last[node.name]} defines it again")

    def _dropped(self, call: ast.Call) -> Iterator[Finding]:
        base, _, kind = self._dotted(call.func).rpartition(".")
        if base == SCRIPT and kind in VERDICTS:
            yield verdict_dropped(self.file, call.lineno, kind)

    def _import(self, node: ast.Import | ast.ImportFrom) -> Iterator[Finding]:
        if isinstance(node, ast.ImportFrom) and node.module == SCRIPT:
            for alias in node.names:
                if alias.name != "*" and alias.name not in self.script.names:
                    yield Finding(self.file, node.lineno, self.script.missing(alias.name))
            return
        modules = [alias.name for alias in node.names] if isinstance(node, ast.Import) else [node.module or ""]
        for module in modules:
            if (stall := stalls(module, MODULES)) is not None:
                yield self._stall(node.lineno, module, stall)

    def _attribute(self, node: ast.Attribute) -> Iterator[Finding]:
        """A word of a door, or of the whole API, that there is not."""
        base = self._dotted(node.value)
        if base == SCRIPT and node.attr not in self.script.names:
            yield Finding(self.file, node.lineno, self.script.missing(node.attr))
        door = self.script.names.get(base.removeprefix(f"{SCRIPT}.")) if base.startswith(f"{SCRIPT}.") else None
        if isinstance(door, Door) and not hasattr(type(door), node.attr) and node.attr not in dir(door):
            known = [name for name in dir(type(door)) if not name.startswith("_")]
            text = f'{base.rpartition(".")[2]} has no "{node.attr}"; {did_you_mean(node.attr, known)}'
            yield Finding(self.file, node.lineno, text)

    def _call(self, node: ast.Call) -> Iterator[Finding]:
        dotted = self._dotted(node.func)
        if not dotted:
            return
        if (stall := stalls(dotted, CALLS)) is not None:
            yield self._stall(node.lineno, f"{dotted}()", stall)
        first = node.args[0] if node.args else None
        if dotted in PATTERNS and isinstance(first, ast.Constant) and isinstance(first.value, str) and explodes(first.value):
            text = f"the pattern {first.value!r} repeats a repetition: a text made for it takes for ever, and holds everybody up"
            yield Finding(self.file, node.lineno, f"{text}; leave one of the two out, or make it atomic: (?>...)")

    def _stall(self, line: int, what: str, stall: Stall) -> Finding:
        return Finding(self.file, line, f"{what} holds everybody up: it {stall.why}; {stall.remedy}")

    def _settings(self) -> Iterator[Finding]:
        declared = next((node for node in self.tree.body if isinstance(node, ast.ClassDef) and node.name == "Settings"), None)
        words = {name for name, dotted in self.names.items() if dotted == f"{SCRIPT}.settings"}
        if declared is None:
            return
        uses = Counter(node.id for node in ast.walk(self.tree) if isinstance(node, ast.Name) and node.id in words)
        read = [node for node in ast.walk(self.tree) if isinstance(node, ast.Attribute)]
        read = [node for node in read if isinstance(node.value, ast.Name) and node.value.id in words]
        if uses.total() > len(read) or any(dotted == SCRIPT for dotted in self.names.values()):
            return  # it is handed on as a whole: who knows what is read of it
        names = {node.attr for node in read}
        for node in declared.body:
            target = node.target if isinstance(node, ast.AnnAssign) else node.targets[0] if isinstance(node, ast.Assign) else None
            if isinstance(target, ast.Name) and not target.id.startswith("_") and target.id not in names:
                yield never_read(self.file, node.lineno, target.id)


def _imported(tree: ast.Module) -> Iterator[tuple[str, str]]:
    """Each name that an import makes, anywhere in the file, and what it stands for."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield (alias.asname, alias.name) if alias.asname else (alias.name.partition(".")[0],) * 2
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            for alias in node.names:
                yield alias.asname or alias.name, f"{node.module}.{alias.name}"
