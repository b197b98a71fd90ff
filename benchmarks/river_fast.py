"""River's own and ours, side by side: what a prediction of naive Bayes or a tree costs, and a snapshot.

    python -m benchmarks.river_fast          # two tables, medians of interleaved repetitions, CPU time

Numbers: Gaussian classes of 8 numbers. Texts: 20 words each, out of 5,000, by a power law.
"""

from __future__ import annotations

import gc
import pickle
import random
import time
from collections.abc import Callable, Sequence
from statistics import median
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table
from river import forest, naive_bayes, tree

from streamal.core.model import river_fast
from streamal.core.model.slim_pickle import dumps, loads

_VOCABULARY, _WORDS, _FEATURES = 5_000, 20, 8

_OF_NUMBERS = {naive_bayes.GaussianNB, tree.HoeffdingTreeClassifier}
new_gaussian: Any = river_fast.GaussianNB
Examples = Sequence[tuple[dict[str, Any], str]]

app = typer.Typer(add_completion=False, help=__doc__, rich_markup_mode=None)


def numbers(count: int, classes: int) -> Examples:
    """Return examples of overlapping classes."""
    rng = random.Random(1)
    labels = [f"class {i % classes}" for i in range(count)]
    return [({f"x{k}": rng.gauss((i * k) % classes, 1.0) for k in range(_FEATURES)}, y) for i, y in enumerate(labels)]


def texts(count: int, classes: int) -> Examples:
    """Return bags of words; each class prefers some of them."""
    rng = random.Random(1)
    found = []
    for i in range(count):
        bag: dict[str, int] = {}
        for _ in range(_WORDS):
            word = f"word {int(_VOCABULARY * rng.random() ** 3 + i % classes) % _VOCABULARY}"
            bag[word] = bag.get(word, 0) + 1
        found.append((bag, f"class {i % classes}"))
    return found


def train(model: Any, examples: Examples) -> Any:
    """Return *model* after it has learned *examples*."""
    for lesson in examples:
        model.learn_one(*lesson)
    return model


def cpu_s(run: Callable[[], object]) -> float:
    """Return the seconds of the processor that *run* takes."""
    gc.collect()
    began = time.process_time()
    run()
    return time.process_time() - began


def predictions(model: Any, examples: Examples) -> Callable[[], None]:
    """Return the prediction of all *examples*, a tenth of which is learned first: what was kept is then stale."""

    def run() -> None:
        for i, (features, label) in enumerate(examples):
            if i % 10 == 0:
                model.learn_one(features, label)
            model.predict_proba_one(features)

    return run


@app.command()
def main(
    examples: Annotated[int, typer.Option(min=1_000, help="Learned by each model.")] = 10_000,
    repetitions: Annotated[int, typer.Option(min=1, help="The median of so many is shown.")] = 5,
) -> None:
    """Predictions of naive Bayes and trees with a tenth learned, and snapshots."""
    gc.freeze()  # as the daemon does after its start
    console = Console(width=120)
    table = Table("model", "classes", "River µs", "ours µs", "ratio")
    pairs: list[tuple[Any, Any]] = list(river_fast.FASTER.items())
    for slow, fast in pairs:
        for classes in (2, 7):
            made = (numbers if slow in _OF_NUMBERS else texts)(examples, classes)
            models = train(slow(), made), train(fast(), made)
            times: tuple[list[float], list[float]] = [], []
            for _ in range(repetitions):
                for model, count, found in zip(models, (50, 1_000), times, strict=True):
                    found.append(cpu_s(predictions(model, made[:count])) / count * 1e6)
            ratio = median(a / b for a, b in zip(*times, strict=True))
            cells = (f"{median(found):,.1f}" for found in times)
            table.add_row(slow.__name__, str(classes), *cells, f"{ratio:,.1f}")
    console.print(table)
    table = Table("model", "bytes", "slim", "ratio", "dumps ms", "slim", "loads ms", "slim")
    made = numbers(examples, 2)
    for model in (
        train(new_gaussian(), made),
        train(tree.HoeffdingTreeClassifier(), made),
        train(tree.HoeffdingAdaptiveTreeClassifier(seed=1), made),
        train(forest.ARFClassifier(n_models=10, seed=1), made),
    ):
        table.add_row(type(model).__name__, *snapshots(model, repetitions))
    console.print(table)


def snapshots(model: Any, repetitions: int) -> list[str]:
    """Return the cells of a model's row."""
    fat, slim = pickle.dumps(model, protocol=5), dumps(model)
    runs: list[Callable[[], object]] = [
        lambda: pickle.dumps(model, protocol=5),
        lambda: dumps(model),
        lambda: pickle.loads(fat),
        lambda: loads(slim),
    ]
    times: list[list[float]] = [[] for _ in runs]
    for _ in range(repetitions):
        for run, found in zip(runs, times, strict=True):
            found.append(cpu_s(run) * 1e3)
    return [f"{len(fat):,}", f"{len(slim):,}", f"{len(fat) / len(slim):.1f}", *(f"{median(t):.2f}" for t in times)]


if __name__ == "__main__":
    app()
