"""``streamal tune``: the best settings for a recorded stream, and how few labels they need."""

from __future__ import annotations

from decimal import Decimal, InvalidOperation
from pathlib import Path
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
from streamal.errors import ConfigError
from streamal.experiments import Goal, tune
from streamal.replay import read_stream
from streamal.replay.annotators import AnnotatorsRules

__all__ = ["command"]


def command(
    stream: Stream,
    label: Label,
    budget: Annotated[str | None, typer.Option(metavar="B", help="The share of the events that may be asked.")] = None,
    target_accuracy: Annotated[
        float | None, typer.Option(min=0, max=1, help="The metric wanted, with as few labels as possible.")
    ] = None,
    target_share_of_full: Annotated[
        float | None, typer.Option(min=0, max=1, help="… or this part of what all labels give; by default 0.98.")
    ] = None,
    trials: Annotated[int, typer.Option(min=1, help="Settings to be tried.")] = 30,
    train_share: Annotated[float, typer.Option(min=0.01, max=0.99, help="The part that is tuned on.")] = 0.3,
    families: Annotated[str, typer.Option(metavar="A,…", help="Search only these models.")] = "",
    write: Annotated[Path | None, typer.Option(metavar="FILE", help="Write the settings, a config.toml.")] = None,
    budgets: Budgets = "0.01,0.02,0.05,0.1,0.2",
    seeds: Seeds = 3,
    seed: Annotated[int, typer.Option(help="Of the search.")] = 1,
    metric: MetricName = "accuracy",
    time: Time = None,
    label_time: LabelTime = None,
    drop: Drop = "",
    limit: Limit = None,
    delay: Delay = 0.0,
    error: Error = 0.0,
    abstain: Abstain = 0.0,
    silence: Silence = 0.0,
    report: Report = None,
    pictures: Pictures = None,
    workers: Workers = None,
    cache: Cache = None,
    config: OptionalConfigPath = None,
    overrides: Overrides = None,
    as_json: Json = False,
) -> None:
    """Search the first part of a recorded stream for the best settings, and report on the rest of it.

    Model, hyper-parameters, strategy, rehearsal and the size of a step are searched; every figure that is printed is of
    the rest of the stream, which the search has not seen, replayed from an empty model. Needs the extra `tune`.

    ```text
    streamal tune noaa_weather.csv.gz --label rain --target-share-of-full 0.98 --write config.toml
    streamal tune mails.csv.gz --label label --time time --budget 0.05 --report mails.html
    ```
    """
    goal = _goal(budget, target_accuracy, target_share_of_full)
    require_places(report, pictures, write, drawn=report is not None or pictures is not None)
    settings = load_config(config, overrides or ())
    recorded = read_stream(stream, label, time, label_time, columns(drop), limit)
    with Steps(f"tuning on {stream}") as steps:
        result = tune(
            recorded,
            settings,
            goal=goal,
            trials=trials,
            train_share=train_share,
            budgets=columns(budgets),
            seeds=seeds,
            seed=seed,
            metric=metric,
            annotators=AnnotatorsRules(delay_s=delay, error=error, abstain=abstain, silence=silence),
            families=columns(families),
            cache=cache_of(cache),
            workers=workers,
            progress=steps.phase,
        )
    if write is not None:
        result.write(write)
    deliver(result, stream, report, pictures, as_json=as_json)
    if as_json:
        return
    typer.echo(result.sentence())
    if write is not None:
        typer.echo(f"Written: {write}, with budget.share = {result.answer.recommended}")


def _goal(budget: str | None, target_accuracy: float | None, target_share: float | None) -> Goal:
    """Return what is wanted; two of the three would contradict each other."""
    if sum(given is not None for given in (budget, target_accuracy, target_share)) > 1:
        raise ConfigError("give one of --budget, --target-accuracy and --target-share-of-full")
    if budget is None:
        none = target_accuracy is None and target_share is None
        return Goal(target_value=target_accuracy, target_share=0.98 if none else target_share)
    try:
        return Goal(budget=Decimal(budget))
    except InvalidOperation as error:
        raise ConfigError(f"--budget {budget}: a share of the events, like 0.05") from error
