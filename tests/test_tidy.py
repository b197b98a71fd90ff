"""Rules of layout and form, read off the syntax trees: who may import whom, how long, how documented."""

from __future__ import annotations

import ast
import graphlib
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "streamal"
FILES = sorted(PACKAGE.rglob("*.py"))
TREES = {path: ast.parse(path.read_text()) for path in FILES}
CORE = [path for path in FILES if "core" in path.parts]
EDGE = [path for path in FILES if path.relative_to(PACKAGE).parts[0] == "edge"]

# Each package and each module of the top level: what it may import besides itself. A name covers all that it contains.
MAY_IMPORT: Mapping[str, str] = {
    "__init__": "",
    "__main__": "cli edge.health errors",
    "errors": "",
    "core": "core errors",
    "core.budget": "core.coins core.records core.strategies",
    "core.codec": "core.labels core.records core.schema core.vectors",
    "core.gauges": "core",
    "core.model": "core.coins core.records core.schema core.vectors errors",
    "core.quality": "core.coins core.model core.records core.vectors",
    "core.strategies": "core.coins core.model.own_code core.records core.vectors errors",
    "ports": "core.records errors",
    "config": "core errors",
    "daemon": "core errors ports",
    "edge": "core.records core.budget.money core.gauges errors ports",
    "edge.kafka": "core.records errors ports",
    "edge.kafka.librdkafka": "core.records errors edge.retries edge.kafka.base edge.kafka.base_transport"
    " edge.kafka.membership",
    "edge.kafka.python": "core.records errors edge.retries edge.kafka.base edge.kafka.base_transport"
    " edge.kafka.membership",
    "recordings": "core errors config recordings",
    "recordings.formats": "core.codec core.records errors recordings",
    "bootstrap": "core errors ports config daemon edge recordings",
    "bootstrap.transports": "core.records errors ports config edge bootstrap.rules",
    "inspection": "core errors ports config bootstrap",
    "inspection.verify": "core errors ports",
    "exchange": "core errors ports recordings",
    "labeling": "core errors ports",
    "labeling.label_studio": "core.records errors ports exchange labeling.feed",
    "labeling.web": "core errors ports config bootstrap inspection labeling",
    "replay": "core errors ports config daemon edge recordings bootstrap",
    "experiments": "core.vectors errors config recordings replay",
    "reports": "errors experiments",
    "cli": "core errors ports config daemon edge recordings bootstrap inspection exchange labeling replay"
    " experiments reports",
}
# Each library from outside: who may import it.
LIBRARIES: Mapping[str, str] = {
    "confluent_kafka": "edge.kafka.librdkafka",
    "grafana_foundation_sdk": "edge.grafana",
    "h11": "edge.http labeling.web.connections",
    "httpx": "edge.label_studio",
    "jinja2": "labeling.web reports",
    "kafka": "edge.kafka.python",
    "lz4": "edge.kafka.python",
    "markdown_it": "labeling.web",
    "matplotlib": "reports",
    "msgspec": "daemon.poison core exchange inspection recordings labeling replay experiments cli",
    "narwhals": "experiments recordings",
    "numpy": "core.coins core.model.embedding core.model.linear core.model.linear_rows core.model.unit_vectors"
    " core.strategies.near_duplicates core.strategies.points"
    " core.strategies.sketch core.strategies.space core.vectors",
    "opentelemetry": "edge.otel",
    "optuna": "experiments",
    "plotext": "reports",
    "prometheus_client": "edge.metrics edge.scrape",
    "pyarrow": "recordings exchange",
    "pydantic": "config bootstrap experiments",
    "pydantic_settings": "config",
    "rich": "cli",
    "river": "core.model bootstrap labeling.web replay experiments",
    "stamina": "edge.retries",
    "snappy": "edge.kafka.python",
    "starlette": "labeling.web",
    "structlog": "cli",
    "tomlkit": "experiments.config_file",
    "typer": "cli",
    "uvicorn": "labeling.web",
    "wordllama": "edge.wordllama",
    "zstandard": "edge.kafka.python",
}
MODULES_AT_THE_TOP_MAX = 5
PACKAGES_AT_THE_TOP_MAX = 13
FILES_IN_A_FOLDER_MAX = 18  # but for cli/, which has one a command
LINES_MAX = 300
LONG_FILES: Mapping[str, str] = {
    "config.py": "one class for each section, nothing else",
    "core/records.py": "every record that travels, one type each",
    "daemon/daemon.py": "the only loop; its parts have no meaning apart",
    "edge/sqlite.py": "the schema and every statement of one library, in one place",
    "edge/memory.py": "broker, group and member are one state machine",
}
WITH_MORE_LIBRARIES: Mapping[str, str] = {"edge/kafka/python/codecs.py": "one decoder for each of Kafka's codecs"}
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


def module_of(path: Path) -> str:
    """Return the dotted name below ``streamal``; a package's own file has the package's name."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" and len(parts) > 1 else parts)


MODULES = {module_of(path): path for path in FILES}
FOLDERS = {module_of(path): path.parent for path in FILES if path.name == "__init__.py" and path.parent != PACKAGE}


def owner_of(module: str) -> str:
    """Return the package that holds *module*: its own entry in ``MAY_IMPORT``."""
    return module if module in FOLDERS or "." not in module else module.rpartition(".")[0]


def is_covered(name: str, allowed: str) -> bool:
    """Return True if *name* or a package around it is one of the names in *allowed*."""
    return any(name == one or name.startswith(f"{one}.") for one in allowed.split())


def own_imports(path: Path) -> set[str]:
    """Return the modules of streamal that *path* imports, but for the version at the root."""
    found = set()
    for name in imports(path):
        root, _, rest = name.partition(".")
        while root == "streamal" and rest and rest not in MODULES:
            rest = rest.rpartition(".")[0]
        if root == "streamal" and rest:
            found.add(rest)
    return found - {module_of(path)}


GRAPH = {module: own_imports(path) for module, path in MODULES.items()}


def libraries(path: Path) -> set[str]:
    """Return the names of the libraries from outside that *path* imports."""
    return {name.split(".")[0] for name in imports(path)} - {"streamal", *sys.stdlib_module_names}


def may_import(module: str, name: str) -> bool:
    """Return True if the tables let *module* import *name*."""
    owner = owner_of(module)
    return owner_of(name) == owner or is_covered(name, MAY_IMPORT[owner])


def test_there_is_something_to_look_at() -> None:
    """The rules below hold for files that exist."""
    assert len(CORE) > 15
    assert len(EDGE) > 3


def test_every_package_says_what_it_may_import() -> None:
    """The table names each package and each module at the top, and none that is gone."""
    assert set(MAY_IMPORT) == {*FOLDERS, *(path.stem for path in PACKAGE.glob("*.py"))}
    assert set(" ".join(MAY_IMPORT.values()).split()) <= set(MODULES)


def test_a_module_imports_only_what_its_package_may() -> None:
    """The core knows no one, the daemon no edge, a recording no loop, a result no picture, a client no other client."""
    faults = [f"{one} imports {two}" for one in MODULES for two in sorted(GRAPH[one]) if not may_import(one, two)]
    assert not faults


def test_a_library_is_imported_only_where_its_table_says() -> None:
    """A library can be changed in one place; the core has msgspec, River around its models, NumPy where it counts."""
    used = [(module, library) for module in MODULES for library in sorted(libraries(MODULES[module]))]
    assert not [
        f"{module}: {library}" for module, library in used if not is_covered(module, LIBRARIES.get(library, ""))
    ]
    assert {library for _, library in used} == set(LIBRARIES)


def test_no_import_runs_in_a_circle() -> None:
    """Imports inside functions count too: none is there to hide a circle."""
    graphlib.TopologicalSorter(GRAPH).prepare()


def test_folders_are_small() -> None:
    """What a reader meets first fits on one screen, and so does each folder."""
    assert len(list(PACKAGE.glob("*.py"))) <= MODULES_AT_THE_TOP_MAX
    assert len([name for name in FOLDERS if "." not in name]) <= PACKAGES_AT_THE_TOP_MAX
    for name, folder in FOLDERS.items():
        assert name == "cli" or len(list(folder.glob("*.py"))) <= FILES_IN_A_FOLDER_MAX, name


@pytest.mark.parametrize("path", EDGE, ids=name_of)
def test_an_edge_file_has_one_library(path: Path) -> None:
    """What a library does to us is read in one place."""
    assert len(libraries(path)) <= 1 or name_of(path) in WITH_MORE_LIBRARIES


@pytest.mark.parametrize("path", CORE, ids=name_of)
def test_the_core_takes_nothing_that_differs_between_two_runs(path: Path) -> None:
    """No module of the standard library that knows the clock, chance, the environment or the outside."""
    assert not {name.split(".")[0] for name in imports(path)} & BANNED_IN_CORE


@pytest.mark.parametrize("path", CORE, ids=name_of)
def test_the_core_is_pure(path: Path) -> None:
    """No clock, randomness, environment or I/O; no hash(), which differs from process to process."""
    for node in ast.walk(TREES[path]):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            assert node.func.id not in BANNED_CALLS, f"{name_of(path)}:{node.lineno}: {node.func.id}()"
        if isinstance(node, ast.Global | ast.Nonlocal):
            pytest.fail(f"{name_of(path)}:{node.lineno}: state outside of arguments")


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
