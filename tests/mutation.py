"""One-line mutants of the core, the daemon and the edge: how many of them do the tests beside them find?

``python -m tests.mutation`` makes ``--count`` mutants, drawn by ``--seed`` and spread over the modules by their length.
It runs for each the tests of its package (`TESTS`) in a private copy of the tree, up to the first failure or to a
minute, and notes in ``--out`` whether it was killed. A second start goes on where the first has stopped.
``--survivors FILE`` writes those that lived as a table with a column for a judgement; judgements in it are kept.

A mutant changes one expression or removes one statement. Assertions, annotations, decorators and texts stay as they
are: a correct program is the same without them. So do numbers that are a choice (a constant of a module, a default of
a class): a test could only repeat them.
"""

from __future__ import annotations

import argparse
import ast
import difflib
import importlib
import itertools
import json
import multiprocessing
import os
import random
import resource
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests import kafka_broker

ROOT = Path(__file__).parents[1]
SECONDS_MAX = 60
PYTEST = ("-x", "-q", "-p", "no:cacheprovider", "--hypothesis-seed=0")
LIBRARIES = (
    "kafka",
    "prometheus_client",
    "pydantic_settings",
    "rich.table",
    "river.preprocessing",
    "structlog",
    "typer",
)
SIMULATION = "test_simulation::test_the_shipped_verifier_agrees test_simulation::test_snapshots_change_no_output"
# The longest name that fits counts. The module's own doctests run first, then these files in this order.
TESTS: Mapping[str, str] = {
    "core": f"test_step test_fold test_state test_pending test_schema test_natural test_wire {SIMULATION} test_quality",
    "core.budget": "test_budget test_mute test_spend_gauges test_state test_traps test_spending",
    "core.budget.answer_rate": "test_answer_rate test_mute test_spend_gauges test_budget",
    "core.budget.limits": "test_answer_rate test_budget test_mute test_traps test_spending",
    "core.budget.money": "test_spend_gauges test_spending test_budget",
    "core.codec": "test_wire test_natural test_step test_fuzz",
    "core.coins": "test_coins test_strategies test_budget",
    "core.fold": f"test_fold test_guard test_gain test_natural test_step {SIMULATION}",
    "core.gauges": "test_mute test_spend_gauges test_fold test_guard test_natural test_traps test_daemon test_lookback",
    "core.join": f"test_step test_natural test_wire test_fold {SIMULATION}",
    "core.learned": f"test_fold test_guard test_rehearsal test_gain test_step test_natural {SIMULATION}",
    "core.model": "test_model test_pipeline test_model_checks test_guard test_linear test_rehearsal",
    "core.model.guard": "test_guard test_fold",
    "core.model.linear": "test_linear test_pipeline",
    "core.model.pipeline": "test_pipeline test_model test_river_fast",
    "core.model.river_fast": "test_river_fast test_pipeline",
    "core.model.river_tree": "test_river_fast",
    "core.pending": f"test_pending test_step test_state {SIMULATION}",
    "core.quality": "test_quality test_report test_traps",
    "core.quality.gain": "test_gain test_quality",
    "core.scoring": "test_step test_uncertainty test_near_duplicates test_lookback test_strategies_more",
    "core.strategies": "test_strategies test_uncertainty test_strategies_more test_near_duplicates"
    " test_strategy_checks",
    "core.strategies.checks": "test_strategy_checks",
    "core.strategies.near_duplicates": "test_near_duplicates test_strategies_more",
    "daemon": f"test_daemon test_batches test_mute test_lookback {SIMULATION}",
    "daemon.batch_size": "test_batches test_daemon",
    "daemon.exporter": "test_mute test_daemon test_lookback test_logs",
    "edge": "test_bridge test_exposed",
    "edge.grafana": "test_dashboards",
    "edge.http": "test_http test_top test_exposed",
    "edge.kafka": "test_kafka_open test_confluent test_own test_kafka test_transport_contract test_kafka_defects",
    "edge.kafka.acls": "test_kafka_acls",
    "edge.label_studio": "test_bridge",
    "edge.memory": f"test_memory test_open_queue {SIMULATION} test_transport_contract",
    "edge.metrics": "test_metrics test_exposed test_alerts",
    "edge.otel": "test_logs",
    "edge.scrape": "test_top test_exposed",
    "edge.snapshots": "test_snapshots",
    "edge.sqlite": "test_sqlite test_transport_contract",
}
TWINS: Mapping[type[ast.AST], tuple[type[ast.AST], ...]] = {
    ast.Lt: (ast.LtE, ast.GtE),
    ast.LtE: (ast.Lt, ast.Gt),
    ast.Gt: (ast.GtE, ast.LtE),
    ast.GtE: (ast.Gt, ast.Lt),
    ast.Eq: (ast.NotEq,),
    ast.NotEq: (ast.Eq,),
    ast.Is: (ast.IsNot,),
    ast.IsNot: (ast.Is,),
    ast.In: (ast.NotIn,),
    ast.NotIn: (ast.In,),
    ast.Add: (ast.Sub,),
    ast.Sub: (ast.Add,),
    ast.Mult: (ast.Div,),
    ast.Div: (ast.Mult,),
    ast.And: (ast.Or,),
    ast.Or: (ast.And,),
}
NAMES = {"min": "max", "max": "min", "any": "all", "all": "any"}


class Mutant(NamedTuple):
    """A module with one node replaced."""

    module: str
    line: int
    source: str
    diff: str

    @property
    def key(self) -> str:
        """Return what names the mutant."""
        return f"{self.module}:{self.line}\n{self.diff}"


def changed_expressions(node: ast.AST) -> Iterator[ast.AST]:
    """Yield what may stand in the place of an expression."""
    match node:
        case ast.Compare(left, [operator], rest):
            yield from (ast.Compare(left, [twin()], rest) for twin in TWINS[type(operator)])  # type: ignore[list-item]
        case ast.BinOp(left, operator, right) if type(operator) in TWINS and not is_text(left) and not is_text(right):
            yield from (ast.BinOp(left, twin(), right) for twin in TWINS[type(operator)])  # type: ignore[arg-type]
        case ast.BoolOp(operator, values):
            yield from (ast.BoolOp(twin(), values) for twin in TWINS[type(operator)])  # type: ignore[arg-type]
        case ast.UnaryOp(ast.Not() | ast.USub(), operand):
            yield operand
        case ast.IfExp(test, body, other):
            yield ast.IfExp(test, other, body)
        case ast.Constant(bool() as value):
            yield ast.Constant(not value)
        case ast.Constant(int() | float() as value):
            yield ast.Constant(value + 1)
        case ast.Call(ast.Name(name), arguments, keywords) if name in NAMES:
            yield ast.Call(ast.Name(NAMES[name]), arguments, keywords)


def changed_statements(node: ast.AST) -> Iterator[ast.AST]:
    """Yield what may stand in the place of a statement: nothing, or an early end."""
    match node:
        case ast.Return(ast.AST()):
            yield ast.Return()
        case ast.Break():
            yield ast.Continue()
        case ast.Return() | ast.Continue() | ast.Raise() | ast.AugAssign() | ast.Expr(ast.Call()) | ast.Delete():
            yield ast.Pass()
        case ast.Assign([ast.Attribute() | ast.Subscript()]):
            yield ast.Pass()


def is_text(node: ast.AST) -> bool:
    """Return True for what + joins."""
    number = isinstance(node, ast.Constant) and isinstance(node.value, int | float)
    return isinstance(node, ast.JoinedStr | ast.List | ast.Tuple | ast.Constant) and not number


def nodes(node: ast.AST) -> Iterator[ast.expr | ast.stmt]:
    """Yield *node* and all below it that a test could see change."""
    if isinstance(node, ast.expr | ast.stmt):
        yield node
    if isinstance(node, ast.Assert | ast.JoinedStr):
        return
    for name, value in ast.iter_fields(node):
        for child in value if isinstance(value, list) else [value]:
            chosen = isinstance(node, ast.Module | ast.ClassDef) and isinstance(
                getattr(child, "value", 0), ast.Constant
            )
            if isinstance(child, ast.AST) and not chosen and name not in {"annotation", "returns", "decorator_list"}:
                yield from nodes(child)


def mutants_of(path: Path) -> Iterator[Mutant]:
    """Yield all mutants of a module."""
    text = path.read_bytes()
    starts = list(itertools.accumulate((len(line) for line in text.splitlines(keepends=True)), initial=0))
    module = path.relative_to(ROOT).with_suffix("").as_posix().replace("/", ".")
    tree = ast.parse(text)
    tests = {node.test for node in ast.walk(tree) if isinstance(node, ast.If | ast.While | ast.IfExp)}
    for node in nodes(tree):
        begin = starts[node.lineno - 1] + node.col_offset
        end = starts[(node.end_lineno or 0) - 1] + (node.end_col_offset or 0)
        negated = node in tests and isinstance(node, ast.Name | ast.Attribute | ast.Call)
        opposite = [ast.UnaryOp(ast.Not(), node)] if negated and isinstance(node, ast.expr) else []
        for variant in itertools.chain(changed_expressions(node), changed_statements(node), opposite):
            changed = ast.unparse(ast.fix_missing_locations(variant))
            if isinstance(variant, ast.Compare | ast.BinOp | ast.BoolOp | ast.UnaryOp | ast.IfExp):
                changed = f"({changed})"
            source = (text[:begin] + changed.encode() + text[end:]).decode()
            diff = difflib.unified_diff(text.decode().splitlines(), source.splitlines(), n=0, lineterm="")
            yield Mutant(module, node.lineno, source, "\n".join(itertools.islice(diff, 3, None)))


def draw(count: int, seed: int) -> list[Mutant]:
    """Draw mutants from every module of the three packages, from each as many as its share of all mutants."""
    files = [path for name in ("core", "daemon", "edge") for path in sorted((ROOT / "streamal" / name).rglob("*.py"))]
    every = [list(mutants_of(path)) for path in files]
    total = sum(map(len, every))
    chance = random.Random(seed)
    drawn = [chance.sample(some, max(1, round(count * len(some) / total))) for some in every if some]
    return [mutant for some in drawn for mutant in some]


def tests_of(module: str) -> list[str]:
    """Return what pytest runs for a mutant of *module*."""
    name = module.removeprefix("streamal.")
    while name not in TESTS:
        name = name.rpartition(".")[0]
    files = [part.partition("::") for part in TESTS[name].split()]
    return [module.replace(".", "/") + ".py", *(f"tests/{file}.py{to}{test}" for file, to, test in files)]


def copy_of_the_tree(parent: Path) -> Path:
    """Copy what the tests read, so that a mutant never stands in the real tree."""
    place = Path(tempfile.mkdtemp(dir=parent))
    left_out = shutil.ignore_patterns(".git", "__pycache__", ".*_cache", ".hypothesis", "results", "*.pyc")
    shutil.copytree(ROOT, place, ignore=left_out, dirs_exist_ok=True, symlinks=True)
    return place


def run(place: Path, module: str, environment: Mapping[str, str]) -> tuple[str, str]:
    """Run the tests of *module* in *place*; return the outcome (killed, survived, timeout) and the test that failed."""
    said = place / "said.txt"
    child = os.fork()  # the libraries are imported already: that saves half of the time
    if child == 0:
        status = 70
        try:
            status = run_here(place, [*PYTEST, *tests_of(module)], environment, said)
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(status)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    text = said.read_text()
    assert code not in {4, 5, 70}, text  # pytest found no such test
    failed = [line for line in text.splitlines() if line.startswith(("FAILED", "ERROR"))]
    return "survived" if code == 0 else "timeout" if code < 0 else "killed", failed[-1] if failed else ""


def run_here(place: Path, command: list[str], environment: Mapping[str, str], said: Path) -> int:
    """Run pytest in this process, which is a fork, with the modules of *place* instead of ours."""
    resource.setrlimit(resource.RLIMIT_CPU, (SECONDS_MAX, SECONDS_MAX))  # no clock on the wall: the machine may be busy
    signal.alarm(10 * SECONDS_MAX)
    with said.open("wb") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    os.chdir(place)
    os.environ |= {"PYTHONPATH": str(place), **environment}
    for name in [name for name in sys.modules if name.split(".")[0] in {"streamal", "tests"}]:
        del sys.modules[name]
    sys.path[:] = [str(place), *(each for each in sys.path if each and Path(each) != ROOT)]
    return int(pytest.main(command))


def work(waiting: Any, out: Path, parent: Path, environment: Mapping[str, str]) -> None:
    """Try mutants in one copy of the tree until none waits."""
    place = copy_of_the_tree(parent)
    number = 0
    while (mutant := waiting.get()) is not None:
        path = place / (mutant.module.replace(".", "/") + ".py")
        original = path.read_text()
        path.write_text(mutant.source)
        number += 1
        os.utime(path, (number, number))  # two mutants of one second and one size share no bytecode
        began = time.monotonic()
        outcome, test = run(place, mutant.module, environment)
        path.write_text(original)
        row = {"key": mutant.key, "outcome": outcome, "test": test[:200]}
        with out.open("a") as file:
            file.write(json.dumps(row) + "\n")
        print(f"{outcome} ({time.monotonic() - began:.0f} s) {mutant.key}\n", flush=True)


def write_survivors(path: Path, lived: list[Mutant]) -> None:
    """Write a table of those that lived; a judgement that stands in it already is kept."""
    rows = [line.strip("|\n ").rsplit(" | ", 1) for line in path.read_text().splitlines()[2:]] if path.exists() else []
    judged = {row[0]: row[1] for row in rows}
    lines = ["| module, line | mutant | judgement |", "|---|---|---|"]
    for mutant in lived:
        diff = mutant.diff.replace("\n", "<br>").replace("|", "\\|")
        cell = f"{mutant.module}:{mutant.line} | <code>{diff}</code>"
        lines.append(f"| {cell} | {judged.get(cell, '?')} |")
    path.write_text("\n".join(lines) + "\n")


def main() -> None:
    """Draw, try what was not tried yet, and sum up."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=240)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--only", default="streamal", help="beginning of the modules' names")
    parser.add_argument("--out", type=Path, default=Path("mutation.jsonl"))
    parser.add_argument("--survivors", type=Path)
    parser.add_argument("--clean", action="store_true", help="run the tests on the program as it is: all must survive")
    parser.add_argument("--again", action="store_true", help="try once more those that survived")
    options = parser.parse_args()
    drawn = [mutant for mutant in draw(options.count, options.seed) if mutant.module.startswith(options.only)]
    if options.clean:
        drawn = unchanged(drawn)
    known = outcomes(options.out)
    untried = [one for one in drawn if one.key not in known or (options.again and known[one.key] == "survived")]
    needs_kafka = any("edge.kafka" in mutant.module for mutant in untried)
    environment = {"STREAMAL_TEST_BOOTSTRAP": kafka_broker.shared().bootstrap} if needs_kafka else {}
    context = multiprocessing.get_context("fork")
    for name in LIBRARIES:
        importlib.import_module(name)
    waiting = context.Queue()
    for mutant in [*untried, *[None] * options.jobs]:
        waiting.put(mutant)
    with tempfile.TemporaryDirectory() as parent:
        arguments = (waiting, options.out, Path(parent), environment)
        workers = [context.Process(target=work, args=arguments) for _ in range(options.jobs)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
    known = outcomes(options.out)
    print(Counter(known[mutant.key] for mutant in drawn))
    if options.survivors:
        write_survivors(options.survivors, [mutant for mutant in drawn if known[mutant.key] == "survived"])


def unchanged(drawn: list[Mutant]) -> list[Mutant]:
    """Return one mutant that changes nothing for each set of tests."""
    by_tests = {tuple(tests_of(mutant.module)[1:]): mutant.module for mutant in drawn}
    sources = {module: (ROOT / (module.replace(".", "/") + ".py")).read_text() for module in by_tests.values()}
    return [Mutant(module, 0, source, "unchanged") for module, source in sources.items()]


def outcomes(path: Path) -> dict[str, str]:
    """Return how each mutant that was tried has ended."""
    rows = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    return {row["key"]: row["outcome"] for row in rows}


if __name__ == "__main__":
    main()
