"""The coverage and error of the estimated accuracy: many replays of one recorded stream, each with other coins.

    python -m benchmarks.honesty mails.csv.gz --label label --time time
    python -m benchmarks.honesty elec.csv.gz --label class --limit 15000 --rows rows.jsonl
    python -m benchmarks.honesty noaa_weather.csv.gz --label rain --replays 40 --audit-shares 0.1,0.3,0.5

For each replay the truth is the prequential accuracy of all events. Printed are how often the 95 % interval covers it,
the least count that a binomial test at 1 % allows and whether that was held; the mean absolute error beside that of a
purely random sample with as many labels, drawn from the same replay, and the ratio of the two with its standard
error; the same coverage of the log loss; and the naive figure. Seeds are 0 … N-1: the table repeats exactly.

With ``--audit-shares`` there is a line for each: what a larger audit lane costs in accuracy and buys in certainty.
``--drift`` renames the classes in a ring from the middle of the stream on: all that was learned is wrong at once.
``--rows`` keeps finished replays in a file, so that a run may be interrupted, or go on with more replays. The replays
are `lean`; that they are the daemon's own is tried on one of each line.
"""

from __future__ import annotations

import dataclasses
import json
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from rich.progress import track
from scipy.stats import binom

from benchmarks.lean import lean, require_same
from streamal.cli.experiment_options import StreamOptions
from streamal.cli.options import with_options
from streamal.config import load_config
from streamal.recordings.reading import Stream

_DRAWS = 200
_SIGNIFICANCE = 0.01
_WHOLE = "quality.window=1000000"
"""The log loss, too, shall be estimated over all events; nothing that is decided depends on it."""

Row = Mapping[str, Any]


def rename_classes(stream: Stream) -> Stream:
    """Return *stream* with each class called by the next one's name from the middle on."""
    classes, middle = stream.classes, len(stream.rows) // 2
    renamed = dict(zip(classes, (*classes[1:], classes[0]), strict=True))
    later = [row._replace(label=renamed[row.label]) for row in stream.rows[middle:]]
    return dataclasses.replace(stream, rows=[*stream.rows[:middle], *later])


def replay_once(stream: Stream, overrides: list[str], seed: int) -> Row:
    """Return truth, estimate and controls of one replay."""
    result = lean(stream, load_config(None, [*overrides, f"sampling.seed={seed}", _WHOLE]))
    estimate, loss = result.accuracy, result.estimated_log_loss
    assert estimate is not None
    assert loss is not None
    assert result.naive is not None
    truth, wrong = result.right / result.events, result.events - result.right
    samples = np.random.default_rng(seed).hypergeometric(result.right, wrong, result.labels, _DRAWS) / result.labels
    return {
        "seed": seed,
        "truth": truth,
        "covered": estimate.low <= truth <= estimate.high,
        "width": estimate.high - estimate.low,
        "error": abs(estimate.value - truth),
        "bias": estimate.value - truth,
        "random_error": float(np.abs(samples - truth).mean()),
        "naive_bias": result.naive - truth,
        "loss": result.log_loss,
        "loss_covered": loss.low <= result.log_loss <= loss.high,
        "loss_width": loss.high - loss.low,
        "share": result.labels / result.events,
    }


def summary(rows: Sequence[Row]) -> dict[str, Any]:
    """Return the figures over all replays."""
    means = {key: float(np.mean([row[key] for row in rows])) for key in rows[0]}
    needed = int(binom.ppf(_SIGNIFICANCE, len(rows), 0.95))
    covered = sum(row["covered"] for row in rows)
    ratio = means["error"] / means["random_error"]
    residuals = [row["error"] - ratio * row["random_error"] for row in rows]
    return {
        "replays": len(rows),
        "accuracy": round(means["truth"], 4),
        "accuracy_sd": round(float(np.std([row["truth"] for row in rows], ddof=1)), 4),
        "share": round(means["share"], 4),
        "covered": covered,
        "covered_needed": needed,
        "held": covered >= needed,
        "interval_width": round(means["width"], 4),
        "bias": round(means["bias"], 4),
        "mean_absolute_error": round(means["error"], 4),
        "of_random_sample": round(means["random_error"], 4),
        "ratio": round(ratio, 2),
        "ratio_se": round(float(np.std(residuals, ddof=1)) / math.sqrt(len(rows)) / means["random_error"], 2),
        "naive_bias": round(means["naive_bias"], 4),
        "log_loss": round(means["loss"], 4),
        "log_loss_covered": sum(row["loss_covered"] for row in rows),
        "log_loss_width": round(means["loss_width"], 4),
    }


def _load_rows(path: Path | None, of: Row) -> list[Row]:
    """Return the rows of *path* that are of this stream and these settings."""
    lines = path.read_text().splitlines() if path is not None and path.exists() else []
    return [row for row in map(json.loads, lines) if all(row[key] == value for key, value in of.items())]


def _rows(stream: Stream, settings: list[str], of: Row, replays: int, workers: int, path: Path | None) -> Iterator[Row]:
    """Yield a row for each seed, and keep the new ones in *path*."""
    kept = {row["seed"]: row for row in _load_rows(path, of)}
    yield from (row for seed, row in kept.items() if seed < replays)
    missing = [seed for seed in range(replays) if seed not in kept]
    with ProcessPoolExecutor(workers) as pool:
        for row in (map if workers == 1 else pool.map)(partial(replay_once, stream, settings), missing):
            if path is not None:
                with path.open("a") as file:
                    file.write(json.dumps({**of, **row}) + "\n")
            yield row


@with_options
def main(
    source: StreamOptions,
    drift: Annotated[bool, typer.Option("--drift")] = False,
    replays: Annotated[int, typer.Option(min=2)] = 200,
    audit_shares: Annotated[str, typer.Option(metavar="A,…")] = "",
    workers: Annotated[int, typer.Option(min=1)] = os.cpu_count() or 1,
    overrides: Annotated[list[str] | None, typer.Option("--set")] = None,
    rows: Annotated[Path | None, typer.Option()] = None,
) -> None:
    """Replay STREAM many times and print one JSON object, or one for each audit share."""
    stream = rename_classes(source.read()) if drift else source.read()
    for share in audit_shares.split(","):
        settings = [*(overrides or []), *([f"budget.audit_share={share}"] if share else [])]
        of = {"stream": source.stream.rpartition("/")[2], "events": len(stream.rows), "drift": drift, "set": settings}
        require_same(stream, load_config(None, settings))
        found = _rows(stream, settings, of, replays, workers, rows)
        done = list(track(found, description=f"{stream.name} {share}", total=replays))
        print(json.dumps({**of, **summary([{k: v for k, v in row.items() if k not in of} for row in done])}))


if __name__ == "__main__":
    typer.run(main)
