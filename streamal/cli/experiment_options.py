"""Shared by commands on recorded streams: option records, the progress line, the table and curve of a result."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import Annotated, Self

import typer
from rich.table import Table

from streamal import INSTALL
from streamal.cli.console import echo, echo_block, echo_json, plain, render
from streamal.cli.options import Json, ReadingOptions, echo_account, progress_bar, split_columns
from streamal.config import Config
from streamal.errors import ConfigError
from streamal.experiments import Comparison, Execution, Tuned
from streamal.experiments.bench import cache_directory
from streamal.experiments.options import Progress
from streamal.experiments.summaries import ALL, Summary
from streamal.recordings.profile import profile
from streamal.recordings.reading import Stream, read_stream
from streamal.replay.annotators import AnnotatorsRules
from streamal.reports import save_pictures, save_report
from streamal.reports.curves import terminal_lines

__all__ = [
    "AnnotatorOptions",
    "Batch",
    "ExecutionOptions",
    "Metric",
    "OutputOptions",
    "ProgressLine",
    "Seeds",
    "StreamOptions",
    "draw_curve",
    "draw_table",
    "echo_profile",
    "split_names",
]

_PROFILED = 4_000
"""So many rows are looked at before a replay: that takes less than a second."""

Batch = Annotated[int, typer.Option("--batch", min=1, help="Events per step.")]
Seeds = Annotated[int, typer.Option("--seeds", min=1, help="Sets of coins: `sampling.seed` and the next ones.")]
Metric = Annotated[
    str, typer.Option("--metric", help="accuracy, or balanced_accuracy: the mean recall of the classes.")
]


@dataclass(frozen=True, kw_only=True)
class StreamOptions(ReadingOptions):
    """Which recorded stream to read, and what its columns mean."""

    stream: Annotated[
        str,
        typer.Argument(metavar="STREAM", help="A .csv, .tsv, .jsonl (also .gz) or .parquet file, or river:NAME."),
    ]
    label: Annotated[str, typer.Option("--label", help="The column of the true label.")]
    time: Annotated[str | None, typer.Option("--time", help="The column of the times: seconds, ISO 8601 …")] = None
    label_time: Annotated[
        str | None, typer.Option("--label-time", help="The column of the time when the label became known.")
    ] = None
    drop: Annotated[str | None, typer.Option("--drop", metavar="A,B", help="Columns that are no features.")] = None
    limit: Annotated[int | None, typer.Option("--limit", min=1, help="Take only the first N rows.")] = None

    def read(self, config: Config | None = None) -> Stream:
        """Return what `load` returns, and say what was left out of it."""
        stream = self.load(config)
        echo_account(self.stream, stream.account)
        return stream

    def load(self, config: Config | None = None) -> Stream:
        """Return the recorded stream, as a daemon with *config* would read its rows."""
        return read_stream(
            self.stream,
            self.label,
            self.time,
            self.label_time,
            split_columns(self.drop),
            self.limit,
            rules=self.rules(config or Config()),
        )


@dataclass(frozen=True, kw_only=True)
class AnnotatorOptions:
    """The delay, errors and silence of simulated annotators."""

    delay: Annotated[
        float, typer.Option("--delay", min=0, help="Median seconds until a label comes, if none is recorded.")
    ] = 0.0
    error: Annotated[float, typer.Option("--error", min=0, max=1, help="Share of wrong labels.")] = 0.0
    abstain: Annotated[
        float, typer.Option("--abstain", min=0, max=1, help="Share of answers that are 'cannot tell'.")
    ] = 0.0
    silence: Annotated[
        float, typer.Option("--silence", min=0, max=1, help="Share of requests that nobody answers.")
    ] = 0.0

    def rules(self) -> AnnotatorsRules:
        """Return these options for `replay`."""
        return AnnotatorsRules(delay_s=self.delay, error=self.error, abstain=self.abstain, silence=self.silence)


@dataclass(frozen=True, kw_only=True)
class ExecutionOptions:
    """The number of processes, and the directory of finished replays."""

    workers: Annotated[
        int | None, typer.Option("--workers", min=1, help="Processes; by default one for each core.")
    ] = None
    cache: Annotated[
        str | None,
        typer.Option(
            "--cache",
            metavar="DIR",
            help='Keeps finished replays, so that an interrupted run goes on; "" keeps none. '
            "By default ~/.cache/streamal.",
        ),
    ] = None

    def execution(self, progress: Progress) -> Execution:
        """Return these options for `compare` and `tune`, with *progress*."""
        directory = cache_directory() if self.cache is None else Path(self.cache) if self.cache else None
        return Execution(directory, self.workers, progress)


@dataclass(frozen=True, kw_only=True)
class OutputOptions:
    """The outputs of a result: a report, pictures, and JSON or a table on standard output."""

    report: Annotated[
        Path | None, typer.Option("--report", metavar="FILE.html", help="Write the report: one HTML file.")
    ] = None
    pictures: Annotated[
        Path | None,
        typer.Option("--pictures", metavar="DIR", help="Draw the report's pictures into DIR, as SVG and PNG."),
    ] = None
    as_json: Json = False

    def require_places(self, *files: Path | None) -> None:
        """Raise a ConfigError now, rather than after an hour, if the result or *files* could not be written."""
        for file in (self.report, self.pictures, *files):
            if file is not None and not file.parent.is_dir():
                raise ConfigError(f"{file}: there is no directory {file.parent}")
        if self.report is None and self.pictures is None:
            return
        if any(find_spec(library) is None for library in ("matplotlib", "jinja2")):
            raise ConfigError(f"reports and pictures need matplotlib and Jinja2: {INSTALL.format(extra='plot')}")

    def write(self, result: Comparison | Tuned, stream: str) -> None:
        """Write the report and the pictures that are wanted, and print what was found on *stream*."""
        if self.report is not None:
            save_report(result, self.report)
        if self.pictures is not None:
            save_pictures(result, self.pictures)
        for remark in result.remarks():
            echo(f"streamal: {remark}", err=True)
        if self.as_json:
            echo_json(result.as_dict())
            return
        if curve := draw_curve(stream, result):
            echo_block(curve)
        render(draw_table(result))


class ProgressLine:
    """A progress bar on standard error whose length and title may change under way."""

    def __init__(self, title: str) -> None:
        """Show *title* until the first update."""
        self._bar = progress_bar(title, None)

    def __enter__(self) -> Self:
        self._progress = self._bar.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.__exit__(kind, error, trace)

    def update(self, what: str, done: int, total: int) -> None:
        """Show that *done* of the *total* parts of *what* are finished."""
        self._progress.update(self._progress.task_ids[0], description=plain(what), completed=done, total=total)


def echo_profile(stream: Stream, *, as_json: bool) -> None:
    """Say on standard error, in a line each, what *stream* holds (not *as_json*) and what in it is suspicious."""
    for line in profile(stream, _PROFILED).lines()[int(as_json) :]:
        echo(f"streamal: {line}", err=True)


def split_names(names: str) -> list[str]:
    """Return the names in a list with commas."""
    return [name.strip() for name in names.split(",") if name.strip()]


def draw_curve(title: str, result: Comparison | Tuned) -> str:
    """Return the figures of *result* as a curve, "" without points."""
    width = min(100, shutil.get_terminal_size().columns)
    name = result.metric.replace("_", " ")
    return terminal_lines(plain(f"{title}: {name}"), "labels, % of the events", _lines(result.summaries()), width)


def draw_table(result: Comparison | Tuned) -> Table:
    """Return the figures of *result* as a table; the model has a column where there are several."""
    name, summaries = result.metric.replace("_", " "), result.summaries()
    by_accuracy, several = result.metric == "accuracy", len({row.model for row in summaries}) > 1
    table = Table("asks", *(["model"] if several else []), "budget", "spent", name, "± sd")
    table.add_column("balanced" if by_accuracy else "accuracy")
    for column in table.columns[: 1 + several]:
        column.overflow = "fold"  # by default Rich cuts a long name
    for row in summaries:
        table.add_row(
            plain(row.arm),
            *([plain(row.model)] if several else []),
            f"{row.budget:.3g}",
            f"{row.share:.2%}",
            f"{row.value:.4f}",
            f"{row.sd:.4f}" if row.seeds > 1 else "",
            f"{row.balanced_accuracy if by_accuracy else row.accuracy:.4f}",
        )
    nobody = ["-"] if several else []
    table.add_row("the label before", *nobody, "1", "100.00%", f"{result.baselines.no_change:.4f}")
    table.add_row("commonest class", *nobody, "0", "0.00%", f"{result.baselines.majority:.4f}")
    return table


def _lines(summaries: Sequence[Summary]) -> dict[str, tuple[list[float], list[float]]]:
    """Return share and value of each arm, with the model where there are several; all labels as a level line."""
    several = len({row.model for row in summaries if not row.arm.startswith(ALL)}) > 1
    lines: dict[str, tuple[list[float], list[float]]] = {}
    for row in summaries:
        if row.arm.startswith(ALL):
            continue
        x, y = lines.setdefault(f"{row.arm}, {row.model}" if several else row.arm, ([], []))
        x.append(100 * row.share)
        y.append(row.value)
    ends = [x for xs, _ in lines.values() for x in xs]
    if ends:
        full = max(row.value for row in summaries if row.arm.startswith(ALL))
        lines[ALL] = [min(ends), max(ends)], [full, full]
    return lines
