"""The accuracy that a share of the labels buys: the default strategy, a random control at that budget, all labels.

    python benchmarks/accuracy.py mails.csv.gz --label label --time time --budgets 0.1,0.2
    python benchmarks/accuracy.py elec.csv.gz --label class --seeds 5

Prints one JSON line for each budget: mean prequential accuracy of all events over the seeds of the coins, its standard
deviation, the share really spent, and the two baselines that cost nothing. "All labels" is the same model, asking for
every event.
"""

from __future__ import annotations

import json
import os
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from statistics import fmean, stdev
from typing import Annotated

import typer
from rich.progress import track

from streamal.cli.experiment_options import StreamOptions
from streamal.cli.options import with_options
from streamal.config import load_config
from streamal.recordings.reading import Stream
from streamal.replay import Replay, replay

_ALL = ["budget.share=1", "sampling.strategy=fixed", "sampling.parameters={threshold=1}"]


def replay_once(stream: Stream, overrides: list[str]) -> Replay:
    """Return one replay under *overrides*."""
    return replay(stream, load_config(None, overrides))


@with_options
def main(
    source: StreamOptions,
    budgets: Annotated[str, typer.Option(metavar="B,…")] = "0.1",
    seeds: Annotated[int, typer.Option(min=2)] = 5,
    workers: Annotated[int, typer.Option(min=1)] = os.cpu_count() or 1,
    overrides: Annotated[list[str] | None, typer.Option("--set")] = None,
) -> None:
    """Replay STREAM at each budget and print one JSON object a line."""
    stream = source.read()
    asked = [*(overrides or [])]
    plan = {
        (budget, arm): [[*asked, f"budget.share={budget}", f"sampling.seed={seed}", *arm] for seed in range(seeds)]
        for budget in budgets.split(",")
        for arm in ((), ("sampling.strategy=random",))
    }
    jobs = [[*asked, *_ALL], *(job for arm in plan.values() for job in arm)]
    with ProcessPoolExecutor(workers) as pool:
        results = list(track(pool.map(partial(replay_once, stream), jobs), description=stream.name, total=len(jobs)))
    full, rest = results[0], iter(results[1:])
    found = {key: [next(rest) for _ in arm] for key, arm in plan.items()}
    for budget in budgets.split(","):
        ours, control = found[budget, ()], found[budget, ("sampling.strategy=random",)]
        print(
            json.dumps(
                {
                    "stream": source.stream.rpartition("/")[2],
                    "budget": float(budget),
                    "share": round(fmean(run.share for run in ours), 4),
                    "accuracy": round(fmean(run.accuracy for run in ours), 4),
                    "accuracy_sd": round(stdev(run.accuracy for run in ours), 4),
                    "random_control": round(fmean(run.accuracy for run in control), 4),
                    "random_control_sd": round(stdev(run.accuracy for run in control), 4),
                    "random_control_share": round(fmean(run.share for run in control), 4),
                    "all_labels": round(full.accuracy, 4),
                    "all_labels_share": round(full.share, 4),
                    "no_change": round(full.no_change_accuracy, 4),
                    "majority": round(full.majority_accuracy, 4),
                    "events_per_second": round(fmean(run.events_per_second for run in ours)),
                }
            )
        )


if __name__ == "__main__":
    typer.run(main)
