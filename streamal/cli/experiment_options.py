"""What `compare` and `tune` share: their options, the progress bar, the table and the curve in the terminal."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import Annotated, Self

import typer
from rich.console import Console
from rich.table import Table

from streamal.cli.options import progress_bar
from streamal.errors import ConfigError
from streamal.experiments.bench import cache_directory
from streamal.experiments.compare import ALL, Baselines, Comparison, Summary
from streamal.experiments.runs import Metric
from streamal.experiments.tune import Tuned
from streamal.reports.curves import terminal_lines

__all__ = [
    "Budgets",
    "Cache",
    "MetricName",
    "Pictures",
    "Report",
    "Seeds",
    "Steps",
    "Workers",
    "cache_of",
    "deliver",
    "require_places",
    "told",
]

Budgets = Annotated[str, typer.Option("--budgets", metavar="B,…", help="Shares of the events.")]
Seeds = Annotated[int, typer.Option("--seeds", min=1, help="Sets of coins: `sampling.seed` and the next ones.")]
MetricName = Annotated[
    str, typer.Option("--metric", help="accuracy, or balanced_accuracy: the mean recall of the classes.")
]
Report = Annotated[Path | None, typer.Option("--report", metavar="FILE.html", help="Write the report: one HTML file.")]
Pictures = Annotated[
    Path | None, typer.Option("--pictures", metavar="DIR", help="Draw the report's pictures into DIR, as SVG and PNG.")
]
Workers = Annotated[int | None, typer.Option("--workers", min=1, help="Processes; by default one for each core.")]
Cache = Annotated[
    str | None,
    typer.Option(
        "--cache",
        metavar="DIR",
        help='Keeps finished replays, so that an interrupted run goes on; "" keeps none. By default ~/.cache/streamal.',
    ),
]


def cache_of(directory: str | None) -> Path | None:
    """Return where finished replays are kept; "" is nowhere."""
    if directory is None:
        return cache_directory()
    return Path(directory) if directory else None


def require_places(*files: Path | None, drawn: bool) -> None:
    """Raise a ConfigError now, rather than after an hour, if a result could not be written; *drawn*: needs pictures."""
    for file in files:
        if file is not None and not file.parent.is_dir():
            raise ConfigError(f"{file}: there is no directory {file.parent}")
    if drawn and find_spec("matplotlib") is None:
        raise ConfigError("reports and pictures need matplotlib: pip install 'streamal[plot]'")


def deliver(
    study: Comparison | Tuned, stream: str, report: Path | None, pictures: Path | None, *, as_json: bool
) -> None:
    """Write the report and the pictures that are wanted, and print what was found on *stream*."""
    if report is not None:
        study.save_report(report)
    if pictures is not None:
        study.save_pictures(pictures)
    if as_json:
        typer.echo(json.dumps(study.as_dict()))
    else:
        typer.echo(told(stream, study.metric, study.summaries(), study.baselines), nl=False)


class Steps:
    """A progress bar on standard error whose length and title may change under way."""

    def __init__(self, title: str) -> None:
        """Show *title* until something else is said."""
        self._bar = progress_bar(title, None)

    def __enter__(self) -> Self:
        self._progress = self._bar.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.__exit__(kind, error, trace)

    def count(self, done: int, total: int) -> None:
        """Show that *done* of *total* are finished."""
        self._progress.update(self._progress.task_ids[0], completed=done, total=total)

    def phase(self, what: str, done: int, total: int) -> None:
        """Show likewise, and what is being done."""
        self._progress.update(self._progress.task_ids[0], description=what, completed=done, total=total)


def told(title: str, metric: Metric, summaries: Sequence[Summary], baselines: Baselines) -> str:
    """Return the figures as a curve and a table."""
    name = metric.replace("_", " ")
    table = Table("asks", "model", "budget", "spent", name, "± sd")
    for row in summaries:
        spread = f"{row.sd:.4f}" if row.seeds > 1 else ""
        table.add_row(row.arm, row.model, f"{row.budget:.3g}", f"{row.share:.2%}", f"{row.value:.4f}", spread)
    table.add_row("the label before", "-", "1", "100.00%", f"{baselines.no_change:.4f}", "")
    table.add_row("commonest class", "-", "0", "0.00%", f"{baselines.majority:.4f}", "")
    console = Console(file=sys.stdout)
    with console.capture() as shown:
        console.print(table)
    curve = terminal_lines(
        f"{title}: {name}", "labels, % of the events", lines_of(summaries), min(100, shutil.get_terminal_size().columns)
    )
    return f"{curve}\n{shown.get()}" if curve else shown.get()


def lines_of(summaries: Sequence[Summary]) -> dict[str, tuple[list[float], list[float]]]:
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
