"""``streamal replay``: a recorded stream through the production loop."""

from __future__ import annotations

from typing import Annotated

import typer

from streamal.cli.options import Json, OptionalConfigPath, Overrides, progress_bar, show
from streamal.config import load_config
from streamal.replay import read_stream, replay
from streamal.replay.annotators import AnnotatorsRules

__all__ = ["columns", "command"]

Stream = Annotated[
    str, typer.Argument(metavar="STREAM", help="A .csv, .csv.gz, .jsonl, .jsonl.gz or .parquet file, or river:NAME.")
]
Label = Annotated[str, typer.Option("--label", help="The column of the true label.")]
Time = Annotated[str | None, typer.Option("--time", help="The column of the event's time: seconds or ISO 8601.")]
LabelTime = Annotated[
    str | None, typer.Option("--label-time", help="The column of the time when the label became known.")
]
Drop = Annotated[str, typer.Option("--drop", metavar="A,B", help="Columns that are no features.")]
Limit = Annotated[int | None, typer.Option("--limit", min=1, help="Take only the first N rows.")]
Delay = Annotated[
    float, typer.Option("--delay", min=0, help="Median seconds until a label comes, if none is recorded.")
]
Error = Annotated[float, typer.Option("--error", min=0, max=1, help="Share of wrong labels.")]
Abstain = Annotated[float, typer.Option("--abstain", min=0, max=1, help="Share of answers that are 'cannot tell'.")]
Silence = Annotated[float, typer.Option("--silence", min=0, max=1, help="Share of requests that nobody answers.")]


def command(
    stream: Stream,
    label: Label,
    time: Time = None,
    label_time: LabelTime = None,
    drop: Drop = "",
    limit: Limit = None,
    delay: Delay = 0.0,
    error: Error = 0.0,
    abstain: Abstain = 0.0,
    silence: Silence = 0.0,
    batch: Annotated[int, typer.Option("--batch", min=1, help="Events per step.")] = 1,
    config: OptionalConfigPath = None,
    overrides: Overrides = None,
    as_json: Json = False,
) -> None:
    """Replay a recorded, labelled stream through the production loop, to see what a budget would have bought.

    Numeric columns become numbers, all others strings; the label is told only when streamal asks for it.

    ```text
    streamal replay elec.csv.gz --label class
    streamal replay flights.csv.gz --label delay15 --time event_time --label-time label_time --drop outcome
    streamal replay river:Phishing --label target --set budget.share=0.05 --set sampling.strategy=split
    ```
    """
    settings = load_config(config, overrides or ())
    recorded = read_stream(stream, label, time, label_time, columns(drop), limit)
    rules = AnnotatorsRules(delay_s=delay, error=error, abstain=abstain, silence=silence)
    with progress_bar(f"replaying {stream}", len(recorded.rows)) as progress:
        result = replay(recorded, settings, rules, batch, lambda events: progress.advance(progress.task_ids[0], events))
    for reason, times in result.refused.items():
        typer.echo(f"streamal: {times} of {len(recorded.rows)} rows were refused: {reason}", err=True)
    show(f"{stream}, budget {settings.budget.share}", result.as_dict(), as_json)


def columns(names: str) -> list[str]:
    """Return the names in a list with commas."""
    return [name.strip() for name in names.split(",") if name.strip()]
