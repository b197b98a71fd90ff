"""How many one-line mutants of the core, the daemon and the edge do the tests beside them find?

``python -m tests.mutation`` draws ``--count`` mutants by ``--seed``, spread over the modules by their length (see
`tests.mutants`). It runs for each the tests of its package (`TESTS`) in a private copy of the tree, up to the first
failure or to a minute of work, and notes in ``--out`` whether it was killed. A second start goes on where the first has
stopped: first with ``--files 2``, which kills most of them at little cost, then with ``--again`` for the rest.
``--survivors FILE`` writes those that lived as a table with a column for a judgement; judgements are kept.

The tests of a package are collected once. For each mutant the process forks, and the child gets the mutated code in
the place of the original (`patch`): a mutant costs what its tests cost, without any start.
"""

from __future__ import annotations

import argparse
import gc
import importlib
import json
import multiprocessing
import os
import resource
import shutil
import signal
import sys
import tempfile
import traceback
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from types import CodeType, FunctionType
from typing import Any

import pytest

from tests import kafka_broker
from tests.mutants import ROOT, Mutant, draw

SECONDS_MAX = 60
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
    "core.budget": "test_budget test_spending test_mute test_spend_gauges test_state test_traps",
    "core.budget.answer_rate": "test_answer_rate test_mute test_spend_gauges test_budget",
    "core.budget.limits": "test_answer_rate test_budget test_spending test_mute test_traps",
    "core.budget.money": "test_spend_gauges test_spending test_budget",
    "core.schema": "test_schema test_wire test_vectors",
    "core.codec": "test_wire test_natural test_dropped_features test_step test_fuzz",
    "core.codec.schema_records": "test_schema test_check",
    "core.coins": "test_coins test_strategies test_budget",
    "core.fold": f"test_fold test_guard test_gain test_natural test_step {SIMULATION}",
    "core.gauges.refusals": "test_refusals",
    "core.gauges": "test_gauges test_mute test_fold test_spend_gauges test_guard test_natural test_traps test_daemon"
    " test_lookback",
    "core.join": f"test_step test_natural test_wire test_fold {SIMULATION}",
    "core.labels": "test_labels",
    "core.learned": f"test_fold test_schema test_linear test_guard test_rehearsal test_gain test_step test_natural"
    f" {SIMULATION}",
    "core.model": "test_model test_pipeline test_model_checks test_guard test_linear test_rehearsal",
    "core.model.checks": "test_model_checks",
    "core.model.own_code": "test_pipeline test_check",
    "core.model.embedding": "test_embedding",
    "core.model.guard": "test_guard test_fold",
    "core.model.model": "test_model test_linear test_pipeline test_river_fast test_model_checks test_guard",
    "core.model.rehearsal": "test_rehearsal test_guard",
    "core.model.slim_pickle": "test_guard test_river_fast",
    "core.model.linear": "test_linear test_pipeline test_linear_rows",
    "core.model.linear_rows": "test_linear_rows test_embedding",
    "core.model.unit_vectors": "test_linear_rows test_pipeline",
    "core.model.pipeline": "test_pipeline test_model test_river_fast",
    "core.model.river_fast": "test_river_fast test_pipeline",
    "core.model.river_tree": "test_river_fast",
    "core.vectors": "test_vectors test_linear_rows test_near_duplicates",
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
    "daemon.exporter": "test_refusals test_mute test_daemon test_lookback test_logs",
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


def tests_of(module: str, most: int) -> list[str]:
    """Return what pytest runs for a mutant of *module*, at most so many, but for the module's own doctests."""
    name = module.removeprefix("streamal.")
    while name not in TESTS:
        name = name.rpartition(".")[0]
    files = [part.partition("::") for part in TESTS[name].split()]
    return [f"tests/{file}.py{to}{test}" for file, to, test in files][:most]


def codes(text: str, path: Path) -> dict[tuple[str, int], CodeType]:
    """Return the code of each function of a module, by its name and how many of that name come before it."""
    found: dict[tuple[str, int], CodeType] = {}
    waiting, count = [compile(text, str(path), "exec")], Counter[str]()
    while waiting:
        code = waiting.pop(0)
        found[code.co_qualname, count[code.co_qualname]] = code
        count[code.co_qualname] += 1
        waiting += [constant for constant in code.co_consts if isinstance(constant, CodeType)]
    return found


def patch(path: Path, original: str, mutated: str) -> None:
    """Give each function of the module the code that it would have if the module had been imported mutated."""
    before, after = codes(original, path), codes(mutated, path)
    keys = {(code.co_qualname, code.co_firstlineno): key for key, code in before.items()}
    for function in [each for each in gc.get_objects() if isinstance(each, FunctionType)]:
        code = function.__code__
        if code.co_filename == str(path):
            function.__code__ = after[keys[code.co_qualname, code.co_firstlineno]]


class Attempts:
    """A plugin of pytest: instead of running what was collected, try mutants on it, each in a child of its own."""

    def __init__(self, place: Path, mutants: Sequence[Mutant], out: Path) -> None:
        self._place, self._mutants, self._out = place, mutants, out
        self._failed = place / "failed.txt"

    def pytest_runtestloop(self, session: pytest.Session) -> bool | None:
        """Return True in the parent: all is done. The children go on, and run the tests."""
        if session.testsfailed:  # the module could not be imported
            note(self._out, self._mutants[0], 1, "import")
            return True
        for number, mutant in enumerate(self._mutants):
            with mutated(self._place, mutant, number) as original:
                self._failed.write_text("")
                child = os.fork()
                if child == 0:
                    resource.setrlimit(resource.RLIMIT_CPU, (SECONDS_MAX, SECONDS_MAX))  # the machine may be busy
                    signal.alarm(10 * SECONDS_MAX)
                    if mutant.late:
                        patch(self._place / mutant.path, original, mutant.source)
                    return None
                code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
            note(self._out, mutant, code, self._failed.read_text())
        return True

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Note which test has found the mutant."""
        if report.failed:
            self._failed.write_text(report.nodeid)


@contextmanager
def mutated(place: Path, mutant: Mutant, number: int) -> Iterator[str]:
    """Let the file of the module be the mutant's for a while: for processes that tests start."""
    path = place / mutant.path
    original = (ROOT / mutant.path).read_text()
    path.write_text(mutant.source)
    os.utime(path, (number, number))  # two mutants of one second and one size share no bytecode
    yield original
    path.write_text(original)


def note(out: Path, mutant: Mutant, code: int, test: str) -> None:
    """Write how a mutant has ended."""
    outcome = {0: "survived", 1: "killed"}.get(code, "timeout" if code < 0 else "error")
    with out.open("a") as file:
        file.write(json.dumps({"key": mutant.key, "outcome": outcome, "code": code, "test": test}) + "\n")


def try_mutants(place: Path, mutants: Sequence[Mutant], out: Path, tests: Sequence[str]) -> int:
    """Run pytest in this process, which is a fork, with the modules of *place* instead of ours."""
    os.chdir(place)
    os.environ["PYTHONPATH"] = str(place)
    for name in [name for name in sys.modules if name.split(".")[0] in {"streamal", "tests"}]:
        del sys.modules[name]
    sys.path[:] = [str(place), *(each for each in sys.path if each and Path(each) != ROOT)]
    said = os.open(place / "said.txt", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(said, 1)
    os.dup2(said, 2)
    options = ["-x", "-q", "-p", "no:cacheprovider", "--hypothesis-seed=0"]
    files = [*sorted({mutant.path for mutant in mutants}), *tests]
    return int(pytest.main([*options, *files], [Attempts(place, mutants, out)]))


def work(waiting: Any, out: Path, parent: Path, most: int) -> None:
    """Try groups of mutants in one copy of the tree until none waits."""
    place = Path(tempfile.mkdtemp(dir=parent))
    left_out = shutil.ignore_patterns(".git", "__pycache__", ".*_cache", ".hypothesis", "results", "*.pyc")
    shutil.copytree(ROOT, place, ignore=left_out, dirs_exist_ok=True, symlinks=True)
    while (mutants := waiting.get()) is not None:
        with mutated(place, mutants[0], 2**30) if not mutants[0].late else nullcontext():
            child = os.fork()  # the libraries are imported already
            if child == 0:
                code = 70
                try:
                    code = try_mutants(place, mutants, out, tests_of(mutants[0].module, most))
                except BaseException:
                    traceback.print_exc()
                finally:
                    sys.stdout.flush()
                    sys.stderr.flush()
                    os._exit(code)
            os.waitpid(child, 0)
        if not {mutant.key for mutant in mutants} <= outcomes(out).keys():
            print(mutants[0].module, (place / "said.txt").read_text(), flush=True)


def groups(mutants: Sequence[Mutant]) -> list[list[Mutant]]:
    """Put together what the same tests try; a mutant that shows at the import stays alone."""
    late = defaultdict[str, list[Mutant]](list)
    for mutant in mutants:
        if mutant.late:
            late[" ".join(tests_of(mutant.module, 99))].append(mutant)
    return [*late.values(), *([mutant] for mutant in mutants if not mutant.late)]


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
    parser.add_argument("--count", type=int, default=220)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--only", default="streamal", help="beginning of the modules' names")
    parser.add_argument("--out", type=Path, default=Path("mutation.jsonl"))
    parser.add_argument("--files", type=int, default=99, help="so many test files for each mutant, the nearest first")
    parser.add_argument("--survivors", type=Path)
    parser.add_argument("--clean", action="store_true", help="run the tests on the program as it is: all must survive")
    parser.add_argument("--again", action="store_true", help="try once more what was not killed")
    options = parser.parse_args()
    drawn = [mutant for mutant in draw(options.count, options.seed) if mutant.module.startswith(options.only)]
    if options.clean:
        drawn = unchanged(drawn)
    known = outcomes(options.out)
    untried = [one for one in drawn if one.key not in known or (options.again and known[one.key] != "killed")]
    if any("edge.kafka" in mutant.module for mutant in untried):
        os.environ["STREAMAL_TEST_BOOTSTRAP"] = kafka_broker.shared().bootstrap
    for name in LIBRARIES:
        importlib.import_module(name)
    context = multiprocessing.get_context("fork")
    waiting = context.Queue()
    for group in [*groups(untried), *[None] * options.jobs]:
        waiting.put(group)
    with tempfile.TemporaryDirectory() as parent:
        workers = [
            context.Process(target=work, args=(waiting, options.out, Path(parent), options.files))
            for _ in range(options.jobs)
        ]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
    known = outcomes(options.out)
    print(Counter(known.get(mutant.key, "not tried") for mutant in drawn))
    if options.survivors:
        write_survivors(options.survivors, [mutant for mutant in drawn if known.get(mutant.key) != "killed"])


def unchanged(drawn: list[Mutant]) -> list[Mutant]:
    """Return one mutant that changes nothing for each set of tests."""
    by_tests = {" ".join(tests_of(mutant.module, 99)): mutant for mutant in drawn}
    return [
        Mutant(mutant.module, 0, (ROOT / mutant.path).read_text(), "unchanged", late=True)
        for mutant in by_tests.values()
    ]


def outcomes(path: Path) -> dict[str, str]:
    """Return how each mutant that was tried has ended."""
    rows = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    return {row["key"]: row["outcome"] for row in rows}


if __name__ == "__main__":
    main()
