"""``streamal compare``: strategies, models and budgets side by side on a recorded stream."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import typer

from streamal.cli.console import echo
from streamal.cli.experiment_options import (
    AnnotatorOptions,
    Batch,
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
from streamal.experiments import Grid, compare

__all__ = ["command"]


@dataclass(frozen=True, kw_only=True)
class _GridOptions:
    """The grid of the comparison, and the metric."""

    strategies: Annotated[
        str, typer.Option(metavar="A,…", help="Names as in sampling.strategy; random is always there.")
    ] = "randomised_variable,variable,quantile,split"
    budgets: Annotated[str, typer.Option(metavar="B,…", help="Shares of the events.")] = "0.01,0.05,0.1,0.2"
    models: Annotated[
        str, typer.Option(metavar="A,…", help='"configured", or families: logistic, hoeffding_tree, forest …')
    ] = "configured"
    seeds: Seeds = 3
    metric: Metric = "accuracy"

    def grid(self) -> Grid:
        """Return what is varied."""
        strategies, budgets, models = map(split_names, (self.strategies, self.budgets, self.models))
        return Grid(strategies, budgets, models, self.seeds)


@with_options
def command(
    stream: StreamOptions,
    grid: _GridOptions,
    annotators: AnnotatorOptions,
    execution: ExecutionOptions,
    configuration: OptionalConfigOptions,
    output: OutputOptions,
    batch: Batch = 1,
) -> None:
    """Replay a recorded stream with every strategy, model and budget, beside three baselines.

    The baselines are the same model with all labels, the same model asking at random for as many, and predicting the
    label before. A sentence says whether asking did better than random. An interrupted run goes on where it was.

    ```text
    streamal compare elec.csv.gz --label class --budgets 0.05,0.1 --report elec.html
    streamal compare river:Phishing --label target --models configured,hoeffding_tree
    ```
    """
    output.require_places()
    config = configuration.load()
    recorded = stream.read(config)
    echo_profile(recorded, as_json=output.as_json)
    with ProgressLine(f"comparing on {stream.stream}") as line:
        result = compare(
            recorded,
            config,
            grid.grid(),
            metric=grid.metric,
            annotators=annotators.rules(),
            batch=batch,
            execution=execution.execution(line.update),
        )
    output.write(result, stream.stream)
    if not output.as_json and result.sentence():
        echo(result.sentence())
