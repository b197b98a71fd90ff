"""The cost of an event with more features, classes and open requests and other models, compared with River alone."""

from __future__ import annotations

from collections.abc import Callable
from statistics import median

from benchmarks.core_loop import Case, Loop, as_records, bare_river
from benchmarks.results import Result, Table, Target, cpu_us, interleave, machine, ratio

_OPEN = (10, 100_000)
_OVERHEAD_MAX = 0.15
Measures = dict[str, Callable[[], float]]


def growth(events: int, repetitions: int) -> Result:
    """Return four tables: one axis each, everything else as it is."""
    found = machine()
    columns = ["µs/event (CPU)", "× the first", "River alone µs/event", "streamal's own µs/event"]
    axes: dict[str, dict[str, Case]] = {
        "numbers in an event": {str(count): Case(features=count) for count in (8, 50, 500)},
        "classes": {str(count): Case(classes=count) for count in (2, 7, 40)},
        "model": {
            name: Case(name)
            for name in ("linear", "naive Bayes", "Hoeffding tree", "adaptive random forest of 10", "text")
        },
    }
    tables = []
    for axis, cases in axes.items():
        rows: list[list[str]] = []
        first = 0.0
        for name, case in cases.items():
            ours, bare = compare(case, _fewer_events(case, events), repetitions)
            whole, alone = median(ours), median(bare)
            own = median(a - b for a, b in zip(ours, bare, strict=True))
            first = first if rows else whole
            rows.append([name, f"{whole:.1f}", f"{whole / first:.1f}", f"{alone:.1f}", f"{own:.1f}"])
        tables.append(Table(f"Cost against {axis}", [axis, *columns], rows))
    tables.append(open_requests(events, repetitions))
    return Result(
        "growth",
        "How the cost of an event grows",
        "The production core from bytes to bytes, batches of 500, a tenth asked, answered at once and learned; 8 "
        "numbers, two classes, scaler and logistic regression where nothing else is said. River alone is "
        "`predict_proba_one` of every event and `learn_one` of the very same examples by River's own classes, decoded "
        "already: what is left is streamal's own: less than nothing where a batch is predicted as columns, or a class "
        "is built faster than River has it, and that saves more than all the rest costs; with a forest it is the "
        "small difference of two large numbers.",
        tables,
        machine=found,
    )


def compare(case: Case, events: int, repetitions: int) -> tuple[list[float], list[float]]:
    """Return microseconds of an event through streamal, and through River alone, taken in turns."""
    rows, labels = case.events(events)
    values, config = as_records(rows), case.config()
    lessons = Loop(config, case.batch).work(values, labels)

    def ours() -> float:
        loop = Loop(config, case.batch)
        return cpu_us(lambda: loop.work(values, labels), events)

    measures: Measures = {"ours": ours, "bare": lambda: cpu_us(bare_river(case, rows, labels, lessons), events)}
    found = interleave(measures, repetitions)
    return found["ours"], found["bare"]


def open_requests(events: int, repetitions: int) -> Table:
    """Return what it costs that many requests wait for an answer meanwhile."""
    case = Case()
    rows, labels = case.events(events)
    values = as_records(rows)
    loops: dict[str, Loop] = {}
    for count in _OPEN:
        loop = loops[f"{count:,}"] = Loop(case.config(), case.batch)
        while len(loop.fold.books.pending) < count:  # nobody answers these
            lacking = 10 * (count - len(loop.fold.books.pending))
            loop.work(values[:lacking], labels[:lacking], answered=False)
    measures: Measures = {
        name: lambda loop=loop: cpu_us(lambda: loop.work(values, labels), events)  # type: ignore[misc]
        for name, loop in loops.items()
    }
    found = interleave(measures, repetitions)
    first = next(iter(found.values()))
    cells = [[name, f"{median(times):.1f}", f"{ratio(times, first):.2f}"] for name, times in found.items()]
    return Table(
        "Cost against open requests",
        ["open requests", "µs/event (CPU)", "× the first"],
        cells,
        "They stay open all the time; what is asked beside them is answered as everywhere.",
    )


def overhead(events: int, repetitions: int) -> Result:
    """Return what streamal adds where the model's own work is most of it."""
    found = machine()
    cases = {
        "Hoeffding tree, 8 numbers, 2 classes": Case("Hoeffding tree"),
        "Hoeffding tree, 50 numbers, 7 classes": Case("Hoeffding tree", features=50, classes=7),
        "forest of 10, 8 numbers, 2 classes": Case("adaptive random forest of 10"),
        "forest of 10, 50 numbers, 7 classes": Case("adaptive random forest of 10", features=50, classes=7),
    }
    rows, targets = [], []
    for name, case in cases.items():
        ours, bare = compare(case, _fewer_events(case, events), repetitions)
        over = ratio(ours, bare) - 1.0
        rows.append([name, f"{median(ours):.0f}", f"{median(bare):.0f}", f"{over:+.0%}"])
        targets.append(Target(f"overhead, {name}", f"≤ {_OVERHEAD_MAX:.0%}", f"{over:+.0%}", over <= _OVERHEAD_MAX))
    return Result(
        "overhead",
        "Overhead where the model's own work dominates",
        "The production core against `predict_proba_one` of every event and `learn_one` of the same tenth of them, by "
        "River's own classes and in the same order: what decoding, asking, joining, encoding and counting add, less "
        "what a class saves that streamal builds faster than River has it (the Hoeffding tree).",
        [Table("Trees and forests", ["model", "streamal µs/event", "River alone µs/event", "overhead"], rows)],
        targets,
        machine=found,
    )


def _fewer_events(case: Case, events: int) -> int:
    """Return a smaller number of events for a slow model."""
    dear = "forest" in case.model or case.features > 100
    return max(2 * case.batch, events // 4 if dear else events)
