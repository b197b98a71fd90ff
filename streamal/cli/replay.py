"""``streamal replay``: a recorded stream through the production loop."""

from __future__ import annotations

import itertools
from collections.abc import Mapping

from rich.table import Table

from streamal.bootstrap import build
from streamal.bootstrap.model import build_model
from streamal.cli.check import require_sound_model
from streamal.cli.console import echo, echo_json, plain, render
from streamal.cli.experiment_options import AnnotatorOptions, Batch, StreamOptions, echo_profile
from streamal.cli.options import Json, OptionalConfigOptions, progress_bar, show, with_options
from streamal.config import Config
from streamal.recordings.reading import Stream
from streamal.replay import replay
from streamal.replay.replay import stream_config

__all__ = ["command", "draw_confusion"]

_APART = frozenset({"stream", "confusion", "refused", "refused_labels", "never_labelled"})
"""Figures that stand in the title, in a table of their own, or in a remark."""
_ALWAYS = frozenset({"events", "requests", "labels", "share", "accuracy", "balanced_accuracy", "no_change_accuracy"})
"""Figures that are shown even if they are 0."""
_CLASSES_MAX = 10
_NOTHING = "(nothing)"


@with_options
def command(
    stream: StreamOptions,
    annotators: AnnotatorOptions,
    configuration: OptionalConfigOptions,
    batch: Batch = 1,
    as_json: Json = False,
) -> None:
    """Replay a recorded, labelled stream through the production loop, to see what a budget would have bought.

    Of columns of texts the type is found out, and the label is told only when streamal asks for it. Lines on
    standard error say what was left out and what makes the figures mean less: rows and labels refused, requests
    that expired, classes that were never labelled, a model that fails.

    ```text
    streamal replay elec.csv.gz --label class
    streamal replay flights.csv.gz --label delay15 --time event_time --label-time label_time --drop outcome
    streamal replay river:Phishing --label target --set budget.share=0.05 --set sampling.strategy=split
    ```
    """
    config = configuration.load()
    recorded = stream.read(config)
    echo_profile(recorded, as_json=as_json)
    _require_sound_factory(config, recorded)
    with progress_bar(f"replaying {stream.stream}", len(recorded.rows)) as progress:
        task = progress.task_ids[0]
        result = replay(recorded, config, annotators.rules(), batch, lambda events: progress.advance(task, events))
    for remark in result.remarks():
        echo(f"streamal: {remark}", err=True)
    figures = result.as_dict()
    if as_json:
        echo_json({**figures, "remarks": result.remarks(), "account": recorded.account.as_dict()})
        return
    # what is empty, or said in a remark, would only make the table longer
    shown = {name: value for name, value in figures.items() if name in _ALWAYS or (value and name not in _APART)}
    show(f"{stream.stream}, budget {config.budget.share}", shown, as_json=False)
    render(draw_confusion(result.confusion))


def draw_confusion(confusion: Mapping[str, Mapping[str, int]]) -> Table:
    """Return the confusion as a table with a row for each true class; of many classes, the commonest mistakes."""
    columns = sorted({*confusion, *itertools.chain.from_iterable(confusion.values())})
    if len(columns) > _CLASSES_MAX:
        table = Table("true class", "predicted", "events", title="the commonest mistakes")
        pairs = [(count, a, b) for a, row in confusion.items() for b, count in row.items() if a != b]
        for count, truth, said in sorted(pairs, key=lambda pair: (-pair[0], pair[1:]))[:_CLASSES_MAX]:
            table.add_row(plain(truth), plain(said or _NOTHING), f"{count:,}")
        return table
    table = Table("true \\ predicted", *(plain(name or _NOTHING) for name in columns), title="confusion, in events")
    for truth, row in confusion.items():
        table.add_row(plain(truth), *(f"{row.get(name, 0):,}" for name in columns))
    return table


def _require_sound_factory(config: Config, stream: Stream) -> None:
    """Raise a ConfigError with the reasons if the user's own model breaks its contract, as `check` does."""
    if config.model.factory is not None:
        fitted = stream_config(config, stream)
        require_sound_model(build(fitted), lambda: build_model(fitted))
