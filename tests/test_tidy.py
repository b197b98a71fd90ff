"""The layout's rules, read off the syntax trees: core decides, edges do, and everything says what it is for."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "streamal"
FILES = sorted(PACKAGE.rglob("*.py"))
TREES = {path: ast.parse(path.read_text()) for path in FILES}
CORE = [path for path in FILES if "core" in path.parts]
EDGE = [path for path in FILES if path.parent.name == "edge"]

LINES_MAX = 300
LONG_FILES: Mapping[str, str] = {
    "config.py": "one class for each section, nothing else",
    "core/records.py": "every record that travels, one type each",
    "daemon.py": "the only loop; its parts have no meaning apart",
    "edge/sqlite.py": "the schema and every statement of one library, in one place",
    "edge/memory.py": "broker, group and seat are one state machine",
    "edge/confluent/transport.py": "one seat: as edge/kafka/transport.py, over another client",
    "edge/kafka/transport.py": "one seat: every call in the order that exactly-once needs",
}
BODY_LINES_MAX = 40
BANNED_IN_CORE = {"time", "random", "os", "uuid", "logging", "secrets", "socket", "threading", "pathlib", "datetime"}
BANNED_CALLS = {"open", "print", "hash", "input", "eval", "exec"}
NAMED = (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
DOCSTRINGS_NEEDED = (ast.Module, *NAMED)


def name_of(path: Path) -> str:
    return path.relative_to(PACKAGE).as_posix()


def imports(path: Path) -> Iterator[str]:
    """Yield the dotted names of all modules that *path* imports, inside functions too."""
    for node in ast.walk(TREES[path]):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name_of(path)}:{node.lineno}: relative import"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def functions(path: Path) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.walk(TREES[path]):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


def is_public(name: str) -> bool:
    return not name.startswith("_")


def public_parts(tree: ast.Module) -> Iterator[ast.AST]:
    """Yield the module, its public functions and classes, and the public methods of those."""
    yield tree
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) and is_public(node.name):
            yield node
            if isinstance(node, ast.ClassDef):
                for part in node.body:
                    if isinstance(part, ast.FunctionDef | ast.AsyncFunctionDef) and is_public(part.name):
                        yield part


def public_names(path: Path) -> set[str]:
    return {part.name for part in TREES[path].body if isinstance(part, NAMED) and is_public(part.name)}


def defined(path: Path) -> set[str]:
    """Return all names that the module's own lines bind."""
    names = {part.name for part in TREES[path].body if isinstance(part, NAMED)}
    for node in TREES[path].body:
        if isinstance(node, ast.Import | ast.ImportFrom):
            names |= {alias.asname or alias.name for alias in node.names}
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            names |= {part.id for target in targets for part in ast.walk(target) if isinstance(part, ast.Name)}
    return names


def listed(path: Path) -> list[str] | None:
    """Return ``__all__``, None if the module has none."""
    for node in TREES[path].body:
        if isinstance(node, ast.Assign) and any(getattr(target, "id", "") == "__all__" for target in node.targets):
            return list(ast.literal_eval(node.value))
    return None


def test_there_is_something_to_look_at() -> None:
    """The rules below hold for files that exist."""
    assert len(CORE) > 15
    assert len(EDGE) > 3


@pytest.mark.parametrize("path", CORE, ids=name_of)
def test_the_core_imports_only_the_core(path: Path) -> None:
    """The standard library, msgspec, core, errors; River in what is made of it alone, NumPy where it counts."""
    allowed = {"msgspec", *sys.stdlib_module_names} - BANNED_IN_CORE
    if path.name in {"linear.py", "model.py", "pipeline.py", "river_fast.py", "river_tree.py"}:
        allowed.add("river")
    if path.name in {"chance.py", "linear.py", "sketch.py", "space.py"}:
        allowed.add("numpy")
    for name in imports(path):
        ours = name.startswith(("streamal.core.", "streamal.errors."))
        assert ours or name.split(".")[0] in allowed, f"{name_of(path)} imports {name}"


@pytest.mark.parametrize("path", CORE, ids=name_of)
def test_the_core_is_pure(path: Path) -> None:
    """No clock, randomness, environment or I/O; no hash(), which differs from process to process."""
    for node in ast.walk(TREES[path]):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            assert node.func.id not in BANNED_CALLS, f"{name_of(path)}:{node.lineno}: {node.func.id}()"
        if isinstance(node, ast.Global | ast.Nonlocal):
            pytest.fail(f"{name_of(path)}:{node.lineno}: state outside of arguments")


def test_the_daemon_receives_its_parts() -> None:
    """It imports no edge, no configuration and no command: only ``cli`` chooses and joins."""
    for name in imports(PACKAGE / "daemon.py"):
        assert not name.startswith(("streamal.edge", "streamal.cli", "streamal.config", "streamal.replay")), name


@pytest.mark.parametrize("path", EDGE, ids=name_of)
def test_edges_do_not_know_each_other(path: Path) -> None:
    """One library a file; none needs another edge, the daemon or the commands."""
    for name in imports(path):
        if name.startswith("streamal."):
            assert name.split(".")[1] in {"core", "errors", "ports", "__version__"}, f"{name_of(path)} imports {name}"


@pytest.mark.parametrize("package", ["kafka", "confluent"])
def test_the_clients_do_not_know_each_other(package: str) -> None:
    """Each package of an edge has one library, and of ours the core, the errors and what holds for every client."""
    ours = {"core", "errors", "ports", "cluster", "readback"}
    for path in (PACKAGE / "edge" / package).glob("*.py"):
        for name in imports(path):
            parts = name.split(".")
            assert parts[0] != {"kafka": "confluent_kafka", "confluent": "kafka"}[package], f"{name_of(path)}: {name}"
            assert parts[0] != "streamal" or parts[1] in ours or parts[2] == package, f"{name_of(path)}: {name}"


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_files_and_functions_are_short(path: Path) -> None:
    """300 lines a file but for the named ones, 40 lines a function without its docstring."""
    lines = len(path.read_text().splitlines())
    assert lines <= LINES_MAX or name_of(path) in LONG_FILES, f"{lines} lines"
    for function in functions(path):
        body = function.body[1:] if ast.get_docstring(function) else function.body
        if body:
            length = (body[-1].end_lineno or 0) - body[0].lineno + 1
            assert length <= BODY_LINES_MAX, f"{name_of(path)}: {function.name} has {length} lines"


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_everything_public_says_what_it_is(path: Path) -> None:
    """Modules, classes, functions, methods: a docstring each."""
    for node in public_parts(TREES[path]):
        assert isinstance(node, DOCSTRINGS_NEEDED)
        assert ast.get_docstring(node), f"{name_of(path)}: {getattr(node, 'name', 'the module')} has no docstring"


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_all_is_sorted_and_true(path: Path) -> None:
    """``__all__`` names only what there is, in ruff's order; a module with anything public has one."""
    names = listed(path)
    if names is None:
        assert path.name == "__main__.py" or not public_names(path), f"{name_of(path)} has no __all__"
        return
    assert names == sorted(set(names), key=lambda name: (not name.isupper(), not name[0].isupper(), name))
    assert set(names) <= defined(path), f"{name_of(path)}: {set(names) - defined(path)} in __all__, not in the file"
    if path in CORE:
        assert public_names(path) <= set(names), f"{name_of(path)}: {public_names(path) - set(names)} not in __all__"


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_all_is_complete(path: Path) -> None:
    """What one file imports from another stands in that one's ``__all__``."""
    for name in imports(path):
        module, _, wanted = name.rpartition(".")
        source = ROOT / (module.replace(".", "/") + ".py")
        if source in TREES and "cli" not in source.parts:  # commands share their options
            assert wanted in (listed(source) or ()), f"{name_of(path)} imports {name}, which is not in __all__"


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_nothing_is_left_to_do(path: Path) -> None:
    """Open ends live in issues."""
    for number, line in enumerate(path.read_text().splitlines(), 1):
        for word in ("TODO", "FIXME", "XXX", "HACK"):
            assert word not in line, f"{name_of(path)}:{number}: {line.strip()}"
