"""A file that was loaded with its settings and helpers: what a version hash stands for."""

from __future__ import annotations

import builtins
import hashlib
import inspect
import sys
from collections.abc import Callable, Mapping
from types import FunctionType, ModuleType
from typing import Any

from smtpproxy.config.problem import did_you_mean
from smtpproxy.scripting.errors import RuleError
from smtpproxy.scripting.facade import Every, Facade, Timer, imported
from smtpproxy.scripting.failure import MODULE_PREFIX
from smtpproxy.scripting.hooks import HOOKS, is_hook_name
from smtpproxy.scripting.settings import SettingsView, bind
from smtpproxy.scripting.source import Source


class Instance:
    """One version of one file, with globals of its own. `uses` counts the tables that have it."""

    __slots__ = (
        "declared", "ending", "given", "heap", "hooks", "imports", "known_as", "module", "settings", "source", "timers",
        "uses", "version",
    )  # fmt: skip

    def __init__(self, source: Source, given: Mapping[str, Any], imports: Mapping[str, Instance]) -> None:
        self.source = source
        self.given = given
        self.imports = imports
        self.version = version_of(source, given, imports)
        self.hooks: dict[str, Callable[..., Any]] = {}
        self.timers: list[Timer] = []
        self.settings: Any = None
        self.declared: dict[str, Any] = {}
        self.known_as = ""
        """In sys.modules; what the module says of itself is the rule's."""
        self.module: ModuleType | None = None
        self.ending: Callable[[], None] | None = None
        self.heap: Callable[[], int] | None = None
        """Octets that it holds, where that can be told."""
        self.uses = 0

    @property
    def key(self) -> tuple[str, str]:
        return self.source.file, self.version

    @property
    def is_rule(self) -> bool:
        """False for a helper."""
        return bool(self.hooks or self.timers)

    def forget(self) -> None:
        """The last table that had it is gone."""
        if self.module is not None and sys.modules.get(self.known_as) is self.module:
            del sys.modules[self.known_as]
        if self.ending is not None:
            self.ending()


def version_of(source: Source, given: Mapping[str, Any], imports: Mapping[str, Instance]) -> str:
    """12 hex digits over the file, its settings, and the versions of the helpers that it imports."""
    closure = (
        source.file,
        source.digest,
        repr(sorted(given.items())),
        sorted((n, i.version) for n, i in imports.items()),
    )
    return hashlib.sha256(repr(closure).encode()).hexdigest()[:12]


def run_python(instance: Instance, notes: object) -> None:
    """Run the file as a module: hooks, timers, settings. Raises RuleError, and whatever the file raises."""
    source = instance.source
    source.check()
    module = _module(instance)
    every = Every()
    view = SettingsView(vars(module), instance.given)
    facade = Facade(view, every, notes)
    vars(module)["__builtins__"] = {**vars(builtins), "__import__": _importer(instance, facade)}
    instance.known_as = module.__name__
    instance.module = sys.modules[module.__name__] = module
    exec(compile(source.data, source.path, "exec", dont_inherit=True), vars(module))
    every.closed = True
    bind(view)
    instance.settings = view
    instance.timers = every.timers
    instance.hooks = {name: value for name, value in vars(module).items() if is_hook_name(name)}
    instance.declared = {name: vars(module)[name] for name in ("on_error", "on_timeout", "order") if name in vars(module)}
    for name, function in instance.hooks.items():
        check_hook(name, function, source.file)


def _module(instance: Instance) -> ModuleType:
    """dataclasses, pickle and typing find a module by its name: it gets one that no other version has, without dots."""
    name = f"{MODULE_PREFIX}{instance.version}:{instance.source.name.replace('.', '_')}"
    while name in sys.modules:
        name += "+"
    module = ModuleType(name)
    module.__file__ = instance.source.path
    return module


def _importer(instance: Instance, facade: Facade) -> Callable[..., Any]:
    """`__import__` for the code of one rule: facade and helpers are this version's own."""

    def rule_import(name: str, globals: Any = None, locals: Any = None, fromlist: tuple[str, ...] = (), level: int = 0) -> Any:
        if level == 0:
            if name == "smtpproxy" or name.startswith("smtpproxy."):
                return imported(facade, name, tuple(fromlist or ()))
            if name in instance.imports:
                return instance.imports[name].module
        return builtins.__import__(name, globals, locals, fromlist, level)

    return rule_import


def check_hook(name: str, function: Any, file: str) -> None:
    """Raises RuleError for a name that is no hook, what is no function, and a wrong number of arguments."""
    hook = HOOKS.get(name)
    at = f"{file}:{function.__code__.co_firstlineno}" if isinstance(function, FunctionType) else file
    if hook is None:
        raise RuleError(f'there is no hook "{name}"; {did_you_mean(name, HOOKS)}', at)
    if not callable(function):
        raise RuleError(f"{name} must be a function, not {type(function).__name__}", at)
    if inspect.iscoroutinefunction(function) or inspect.isgeneratorfunction(function):
        raise RuleError(f"{name} must be a plain function: no async, no yield", at)
    if not isinstance(function, FunctionType):
        return  # what else can be called may run code of the rule's to say how
    try:
        inspect.signature(function).bind(*hook.arguments)
    except TypeError:
        raise RuleError(f"{name} takes {len(hook.arguments)} arguments: {hook.signature}", at) from None
    except ValueError:
        return
