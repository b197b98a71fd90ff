"""How honest is the estimated accuracy? Many replays of one recorded stream, each with other coins.

    python benchmarks/honesty.py mails.csv.gz --label label --time time
    python benchmarks/honesty.py noaa_weather.csv.gz --label rain --replays 200
    python benchmarks/honesty.py noaa_weather.csv.gz --label rain --replays 40 --audit-shares 0.1,0.2,0.3,0.5,0.7,1

For each replay the truth is the prequential accuracy of all events. Printed are how often the 95 % interval covers it
(and the least count that a binomial test at 1 % allows), the mean absolute error beside that of a purely random sample
with as many labels, drawn from the same replay, and the naive figure. Seeds are 0 … N-1: the table repeats exactly.
With ``--audit-shares`` there is a line for each: what a larger audit lane costs in accuracy and buys in certainty.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from typing import Annotated

import numpy as np
import typer
from rich.progress import track
from scipy.stats import binom

from streamal.config import load_config
from streamal.replay import read_stream, replay
from streamal.replay.reading import Stream

_DRAWS = 200


def one(stream: Stream, overrides: list[str], seed: int) -> dict[str, float]:
    """Return truth, estimate and controls of one replay."""
    result = replay(stream, load_config(None, [*overrides, f"sampling.seed={seed}"]))
    estimate = result.estimated_accuracy
    assert estimate is not None
    assert result.naive_accuracy is not None
    chance = np.random.default_rng(seed)
    correct = np.array(result.correct)
    samples = [chance.choice(correct, result.labels, replace=False).mean() for _ in range(_DRAWS)]
    return {
        "truth": result.accuracy,
        "covered": float(estimate.low <= result.accuracy <= estimate.high),
        "width": estimate.high - estimate.low,
        "error": abs(estimate.value - result.accuracy),
        "bias": estimate.value - result.accuracy,
        "random_error": float(np.abs(np.array(samples) - result.accuracy).mean()),
        "naive_bias": result.naive_accuracy - result.accuracy,
        "share": result.share,
    }


def summary(rows: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Return what the replays show together."""
    means = {key: float(np.mean([row[key] for row in rows])) for key in rows[0]}
    return {
        "accuracy": round(means["truth"], 4),
        "accuracy_sd": round(float(np.std([row["truth"] for row in rows], ddof=1)), 4),
        "accuracy_min": round(min(row["truth"] for row in rows), 4),
        "share": round(means["share"], 4),
        "covered": int(sum(row["covered"] for row in rows)),
        "covered_needed": int(binom.ppf(0.01, len(rows), 0.95)),
        "interval_width": round(means["width"], 4),
        "bias": round(means["bias"], 4),
        "mean_absolute_error": round(means["error"], 4),
        "of_random_sample": round(means["random_error"], 4),
        "ratio": round(means["error"] / means["random_error"], 2),
        "naive_bias": round(means["naive_bias"], 4),
    }


def main(
    path: str,
    label: Annotated[str, typer.Option()],
    time: Annotated[str | None, typer.Option()] = None,
    drop: Annotated[str, typer.Option()] = "",
    replays: Annotated[int, typer.Option(min=2)] = 200,
    audit_shares: Annotated[str, typer.Option(metavar="A,…")] = "",
    workers: Annotated[int, typer.Option(min=1)] = os.cpu_count() or 1,
    overrides: Annotated[list[str] | None, typer.Option("--set")] = None,
) -> None:
    """Replay PATH many times and print one JSON object, or one for each audit share."""
    stream = read_stream(path, label, time, drop=[name for name in drop.split(",") if name])
    for share in audit_shares.split(","):
        settings = [*(overrides or []), *([f"budget.audit_share={share}"] if share else [])]
        with ProcessPoolExecutor(workers) as pool:
            runs = pool.map(partial(one, stream, settings), range(replays))
            rows = list(track(runs, description=f"{stream.name} {share}", total=replays))
        print(json.dumps({"stream": path.rpartition("/")[2], "replays": replays, "set": settings, **summary(rows)}))


if __name__ == "__main__":
    typer.run(main)
