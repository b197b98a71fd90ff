"""``streamal tune``: the best settings for a recorded stream, and how few labels they need."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Annotated

import typer

from streamal.cli.console import echo
from streamal.cli.experiment_options import (
    AnnotatorOptions,
    ExecutionOptions,
    Metric,
    OutputOptions,
    ProgressLine,
    Seeds,
    StreamOptions,
    echo_profile,
    split_names,
)
from streamal.cli.options import OptionalConfigOptions, with_options
from streamal.config import load_config
from streamal.errors import ConfigError
from streamal.experiments import Goal, ReportOptions, SearchOptions, tune

__all__ = ["command"]


@dataclass(frozen=True, kw_only=True)
class _GoalOptions:
    """A budget or a target."""

    budget: Annotated[str | None, typer.Option(metavar="B", help="The share of the events that may be asked.")] = None
    target_accuracy: Annotated[
        float | None, typer.Option(min=0, max=1, help="The metric wanted, with as few labels as possible.")
    ] = None
    target_share_of_full: Annotated[
        float | None, typer.Option(min=0, max=1, help="… or this part of what all labels give; by default 0.98.")
    ] = None

    def goal(self) -> Goal:
        """Return the goal; two of the three options would contradict each other."""
        value, share = self.target_accuracy, self.target_share_of_full
        if sum(given is not None for given in (self.budget, value, share)) > 1:
            raise ConfigError("give one of --budget, --target-accuracy and --target-share-of-full")
        if self.budget is None:
            return Goal(target_value=value, target_share=0.98 if value is None and share is None else share)
        try:
            return Goal(budget=Decimal(self.budget))
        except InvalidOperation as error:
            raise ConfigError(f"--budget {self.budget}: a share of the events, like 0.05") from error


@dataclass(frozen=True, kw_only=True)
class _SearchOptions:
    """The search, the report on the rest, and the file for the settings."""

    trials: Annotated[int, typer.Option(min=1, help="Settings to be tried.")] = 30
    train_share: Annotated[float, typer.Option(min=0.01, max=0.99, help="The part that is tuned on.")] = 0.3
    families: Annotated[str, typer.Option(metavar="A,…", help="Search only these models.")] = ""
    write: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write the settings, a config.toml; its comments stay.")
    ] = None
    budgets: Annotated[str, typer.Option(metavar="B,…", help="Shares of the events.")] = "0.01,0.02,0.05,0.1,0.2"
    seeds: Seeds = 3
    seed: Annotated[int, typer.Option(help="Of the search.")] = 1
    metric: Metric = "accuracy"

    def search(self) -> SearchOptions:
        """Return the options of the search."""
        return SearchOptions(self.trials, self.seed, self.train_share, split_names(self.families))

    def report(self) -> ReportOptions:
        """Return the options of the report."""
        return ReportOptions(split_names(self.budgets), self.seeds)


@with_options
def command(
    stream: StreamOptions,
    goal: _GoalOptions,
    search: _SearchOptions,
    annotators: AnnotatorOptions,
    execution: ExecutionOptions,
    configuration: OptionalConfigOptions,
    output: OutputOptions,
) -> None:
    """Search the first part of a recorded stream for the best settings, and report on the rest of it.

    Model, hyper-parameters, strategy, rehearsal and the size of a step are searched; every figure that is printed is of
    the rest of the stream, which the search has not seen, replayed from an empty model. If the strategy that was found
    does no better there than asking at random, the settings ask at random. Needs the extra `tune`.

    ```text
    streamal tune noaa_weather.csv.gz --label rain --target-share-of-full 0.98 --write config.toml
    streamal tune mails.csv.gz --label label --time time --budget 0.05 --report mails.html
    ```
    """
    wanted = goal.goal()
    output.require_places(search.write)
    if search.write is not None and search.write.exists():
        load_config(search.write)  # a file that cannot be updated is refused now, not after an hour
    config = configuration.load()
    recorded = stream.read(config)
    echo_profile(recorded, as_json=output.as_json)
    with ProgressLine(f"tuning on {stream.stream}") as line:
        result = tune(
            recorded,
            config,
            goal=wanted,
            search=search.search(),
            report=search.report(),
            metric=search.metric,
            annotators=annotators.rules(),
            execution=execution.execution(line.update),
        )
    if search.write is not None:
        result.write(search.write)
    output.write(result, stream.stream)
    if output.as_json:
        return
    echo(result.sentence())
    echo(result.gain_sentence())
    if search.write is not None:
        echo(f"Written: {search.write}, with budget.share = {result.labels_needed.recommended}")
