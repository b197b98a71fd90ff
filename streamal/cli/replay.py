"""``streamal replay``: a recorded stream through the production loop."""

from __future__ import annotations

from streamal.cli.console import echo
from streamal.cli.experiment_options import AnnotatorOptions, Batch, StreamOptions
from streamal.cli.options import Json, OptionalConfigOptions, progress_bar, show, with_options
from streamal.replay import replay

__all__ = ["command"]


@with_options
def command(
    stream: StreamOptions,
    annotators: AnnotatorOptions,
    configuration: OptionalConfigOptions,
    batch: Batch = 1,
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
    config, recorded = configuration.load(), stream.read()
    with progress_bar(f"replaying {stream.stream}", len(recorded.rows)) as progress:
        task = progress.task_ids[0]
        result = replay(recorded, config, annotators.rules(), batch, lambda events: progress.advance(task, events))
    for reason, times in result.refused.items():
        echo(f"streamal: {times} of {len(recorded.rows)} rows were refused: {reason}", err=True)
    show(f"{stream.stream}, budget {config.budget.share}", result.as_dict(), as_json)
