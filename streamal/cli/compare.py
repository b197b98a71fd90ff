"""``streamal compare``: strategies, models and budgets side by side on a recorded stream."""

from __future__ import annotations

from typing import Annotated

import typer

from streamal.cli.experiment_options import (
    Budgets,
    Cache,
    MetricName,
    Pictures,
    Report,
    Seeds,
    Steps,
    Workers,
    cache_of,
    deliver,
    require_places,
)
from streamal.cli.options import Json, OptionalConfigPath, Overrides
from streamal.cli.replay import Abstain, Delay, Drop, Error, Label, LabelTime, Limit, Silence, Stream, Time, columns
from streamal.config import load_config
from streamal.experiments import compare
from streamal.replay import read_stream
from streamal.replay.annotators import AnnotatorsRules

__all__ = ["command"]


def command(
    stream: Stream,
    label: Label,
    strategies: Annotated[
        str, typer.Option(metavar="A,…", help="Names as in sampling.strategy; random is always there.")
    ] = "randomised_variable,variable,quantile,split",
    budgets: Budgets = "0.01,0.05,0.1,0.2",
    models: Annotated[
        str, typer.Option(metavar="A,…", help='"configured", or families: logistic, hoeffding_tree, forest …')
    ] = "configured",
    seeds: Seeds = 3,
    metric: MetricName = "accuracy",
    time: Time = None,
    label_time: LabelTime = None,
    drop: Drop = "",
    limit: Limit = None,
    delay: Delay = 0.0,
    error: Error = 0.0,
    abstain: Abstain = 0.0,
    silence: Silence = 0.0,
    batch: Annotated[int, typer.Option("--batch", min=1, help="Events per step.")] = 1,
    report: Report = None,
    pictures: Pictures = None,
    workers: Workers = None,
    cache: Cache = None,
    config: OptionalConfigPath = None,
    overrides: Overrides = None,
    as_json: Json = False,
) -> None:
    """Replay a recorded stream with every strategy, model and budget, beside three baselines.

    The baselines are the same model with all labels, the same model asking at random for as many, and predicting the
    label before. An interrupted run goes on where it was.

    ```text
    streamal compare elec.csv.gz --label class --budgets 0.05,0.1 --report elec.html
    streamal compare river:Phishing --label target --models configured,hoeffding_tree
    ```
    """
    require_places(report, pictures, drawn=report is not None or pictures is not None)
    settings = load_config(config, overrides or ())
    recorded = read_stream(stream, label, time, label_time, columns(drop), limit)
    with Steps(f"comparing on {stream}") as steps:
        result = compare(
            recorded,
            settings,
            strategies=columns(strategies),
            budgets=columns(budgets),
            models=columns(models),
            seeds=seeds,
            metric=metric,
            annotators=AnnotatorsRules(delay_s=delay, error=error, abstain=abstain, silence=silence),
            batch=batch,
            cache=cache_of(cache),
            workers=workers,
            progress=steps.count,
        )
    deliver(result, stream, report, pictures, as_json=as_json)
