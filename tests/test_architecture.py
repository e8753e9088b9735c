"""The house keeps its shape: who may import whom, what pure rooms may touch, how large a file may be."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "smtpproxy"

# A room imports rooms further to the right only, never one on its own step (rules may import script: see below).
STEPS = (
    ("cli",),
    ("server", "admin"),
    ("replay", "testing"),
    ("session",),
    ("handoff",),
    ("queue",),
    ("delivery",),
    ("script", "rules"),
    ("scripting", "verify", "scanners", "accounts"),
    ("dns",),
    ("net",),
    ("stores", "config"),
    ("facts",),
    ("message",),
    ("wire",),
)
STEP = {room: step for step, rooms in enumerate(STEPS) for room in rooms}

PURE = ("wire", "message", "facts")
IMPURE = frozenset({"gevent", "socket", "_socket", "time", "random", "secrets", "logging", "select", "ssl", "threading"})

LINES = 400

FILES = sorted(file for file in PACKAGE.rglob("*.py") if "__pycache__" not in file.parts)
STUBS = frozenset((PACKAGE / "scripting" / "stubs").glob("*.lua"))  # generated, for editors
RULES = sorted([*(ROOT / "scripts").rglob("*.py"), *(PACKAGE / "rules").rglob("*.py")])


def name(file: Path) -> str:
    return str(file.relative_to(ROOT))


def room(file: Path) -> str:
    """The room a file stands in: the package's own __init__ is in none, __main__ belongs to the command line."""
    first = file.relative_to(PACKAGE).parts[0].removesuffix(".py")
    return {"__main__": "cli", "__init__": ""}.get(first, first)


def parse(file: Path) -> ast.Module:
    return ast.parse(file.read_text("utf-8"), name(file))


def imports(file: Path) -> Iterator[tuple[str, int]]:
    """Dotted names of all that is imported anywhere in the file, with the line; `if TYPE_CHECKING` counts."""
    package = file.relative_to(ROOT).with_suffix("").parts[:-1]
    for node in ast.walk(parse(file)):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = ".".join(package[: len(package) - node.level + 1]) + "." if node.level else ""
            module = (base + (node.module or "")).rstrip(".")
            yield from ((f"{module}.{alias.name}", node.lineno) for alias in node.names)


def rooms_imported(file: Path) -> Iterator[tuple[str, int]]:
    for dotted, line in imports(file):
        parts = dotted.split(".")
        if parts[0] == "smtpproxy" and parts[1:] not in ([], ["__version__"]):
            yield parts[1], line


def allowed(importer: str, imported: str) -> bool:
    if importer == imported or (importer, imported) == ("rules", "script"):
        return True
    return STEP[importer] < STEP[imported]


@pytest.mark.parametrize("file", FILES, ids=name)
def test_imports_point_to_the_right(file: Path) -> None:
    here = room(file)
    assert not here or here in STEP, f"{here} is no room of the house"
    wrong = [
        f"line {line}: {here or 'smtpproxy'} imports {other}"
        for other, line in rooms_imported(file)
        if not (here and other in STEP and allowed(here, other))
    ]
    assert not wrong


@pytest.mark.parametrize("file", [file for file in FILES if room(file) in PURE], ids=name)
def test_pure_rooms_know_no_clock_no_socket_and_no_chance(file: Path) -> None:
    assert not [f"line {line}: {dotted}" for dotted, line in imports(file) if dotted.split(".")[0] in IMPURE]


@pytest.mark.parametrize("file", [file for file in FILES if room(file) == "session"], ids=name)
def test_the_session_sees_the_contract_of_the_handoff_only(file: Path) -> None:
    seen = [dotted for dotted, _ in imports(file) if dotted.startswith("smtpproxy.handoff")]
    assert [dotted for dotted in seen if not dotted.startswith("smtpproxy.handoff.base")] == []


@pytest.mark.parametrize("file", RULES, ids=name)
def test_rules_see_the_api_only(file: Path) -> None:
    ours = [dotted for dotted, _ in imports(file) if dotted.split(".")[0] == "smtpproxy"]
    assert [dotted for dotted in ours if not dotted.startswith("smtpproxy.script.")] == []


@pytest.mark.parametrize("file", [file for file in FILES if file.name == "__init__.py" and file.parent != PACKAGE], ids=name)
def test_a_room_opens_with_a_few_words_and_no_code(file: Path) -> None:
    body = parse(file).body
    assert len(body) == 1
    assert isinstance(body[0], ast.Expr)
    assert isinstance(body[0].value, ast.Constant)
    assert isinstance(body[0].value.value, str)
    assert len(body[0].value.value.strip().split("\n")) <= 5


def test_every_room_has_its_words() -> None:
    folders = {file.parent for file in FILES} - {PACKAGE}
    assert [name(folder) for folder in sorted(folders) if not (folder / "__init__.py").is_file()] == []


@pytest.mark.parametrize("file", [*FILES, *sorted(set(PACKAGE.rglob("*.lua")) - STUBS)], ids=name)
def test_a_file_stays_readable(file: Path) -> None:
    assert len(file.read_text("utf-8").splitlines()) <= LINES


def changes_module_state(file: Path) -> Iterator[str]:
    """`global` statements, and bare [], {} or set() at module level under a name that is not a constant's."""
    module = parse(file)
    for node in ast.walk(module):
        if isinstance(node, ast.Global):
            yield f"line {node.lineno}: global {', '.join(node.names)}"
    for node in module.body:
        targets = node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
        for target in targets:
            if isinstance(target, ast.Name) and not is_constant(target.id) and is_mutable(getattr(node, "value", None)):
                yield f"line {node.lineno}: {target.id} is mutable"


def is_constant(identifier: str) -> bool:
    return identifier.isupper() or identifier.startswith("__")


def is_mutable(value: ast.AST | None) -> bool:
    if isinstance(value, ast.Call) and isinstance(value.func, ast.Name):
        return value.func.id in ("list", "dict", "set", "bytearray", "deque", "defaultdict", "Counter", "OrderedDict")
    return isinstance(value, ast.List | ast.Dict | ast.Set | ast.ListComp | ast.DictComp | ast.SetComp)


@pytest.mark.parametrize("file", FILES, ids=name)
def test_no_state_at_module_level(file: Path) -> None:
    assert list(changes_module_state(file)) == []


def test_every_setting_is_read_somewhere() -> None:
    """A setting that nothing reads would be a promise that nobody keeps."""
    from smtpproxy.config import limits, log, schema
    from smtpproxy.config.fields import settings

    tables = [schema.Config, schema.Listener, schema.Handoff, schema.HandoffTimeouts, schema.Relaying]
    tables += [schema.Scripts, schema.Store, limits.Limits, limits.LimitTimeouts, log.Log, log.LogLevels, schema.Trace]
    tables += [schema.ClamAV, schema.ScanTimeouts, schema.Users]
    read = {
        node.attr
        for file in FILES
        if room(file) not in ("config", "cli")
        for node in ast.walk(parse(file))
        if isinstance(node, ast.Attribute)
    }
    # A setting with one choice has nothing to tell yet.
    known = {f"{table.__name__}.{name}": it for table in tables for name, it in settings(table).items()}
    unread = [key for key, it in known.items() if it.name not in read and len(it.choices) != 1]
    assert unread == []


# -- the suite itself ---------------------------------------------------------------------------------------------------

SUITE = sorted((ROOT / "tests").rglob("test_*.py"))
LEFT_OUT = {"pytest.skip", "pytest.importorskip", "pytest.mark.skip", "pytest.mark.skipif", "pytest.mark.xfail", "pytest.xfail"}


def called(node: ast.AST) -> str:
    """The last name of what is called; "" for what is no call."""
    function = node.func if isinstance(node, ast.Call) else None
    return function.attr if isinstance(function, ast.Attribute) else function.id if isinstance(function, ast.Name) else ""


def asserts(test: ast.AST) -> bool:
    return any(isinstance(node, ast.Assert) or called(node) in ("raises", "warns") for node in ast.walk(test))


def sleeps(test: ast.AST) -> bool:
    """A sleep of the test's own that no loop repeats until a condition holds; 0 lets others run and does not count."""
    inner = [node for node in ast.iter_child_nodes(test) if not isinstance(node, ast.FunctionDef | ast.Lambda | ast.While)]
    own = any(called(node) == "sleep" and ast.unparse(node.args[0]) != "0" for node in inner if isinstance(node, ast.Call))
    return own or any(sleeps(node) for node in inner)


@pytest.mark.parametrize("file", SUITE, ids=name)
def test_every_test_asserts_something_and_waits_for_conditions(file: Path) -> None:
    tests = [node for node in ast.walk(parse(file)) if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")]
    assert tests
    assert [test.name for test in tests if not asserts(test)] == []
    assert [test.name for test in tests if sleeps(test)] == [], "smtpproxy.testing.waiting has until()"


@pytest.mark.parametrize("file", SUITE, ids=name)
def test_no_test_is_left_out(file: Path) -> None:
    found = [node.lineno for node in ast.walk(parse(file)) if isinstance(node, ast.Attribute) and ast.unparse(node) in LEFT_OUT]
    assert found == [], "what a test needs is there, or the test fails and says what is missing"
