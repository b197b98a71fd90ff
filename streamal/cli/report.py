"""``streamal report``: what a period has cost, what it has bought, and whether the next labels are worth it."""

from __future__ import annotations

import dataclasses
import json
import math
import shutil
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from streamal import INSTALL
from streamal.bootstrap import transports
from streamal.bootstrap.rules import topic_names
from streamal.cli.options import ConfigPath, Json, Overrides, show
from streamal.config import Config, load_config
from streamal.core.quality.estimates import Estimate
from streamal.errors import ConfigError
from streamal.inspection.report import Report, report
from streamal.reports.curves import save_points, terminal_points

__all__ = ["command"]

Since = Annotated[str | None, typer.Option(metavar="TIME", help="Begin here: ISO 8601 or seconds since the epoch.")]
Until = Annotated[str | None, typer.Option(metavar="TIME", help="End here; by default at the last record.")]
Days = Annotated[float, typer.Option(min=0.001, help="Length of the period, where --since is not given.")]
Svg = Annotated[Path | None, typer.Option(metavar="FILE", help="Draw the curve into FILE as well (.svg or .png).")]


def command(
    since: Since = None,
    until: Until = None,
    days: Days = 30.0,
    svg: Svg = None,
    config: ConfigPath = Path("config.toml"),
    overrides: Overrides = None,
    as_json: Json = False,
) -> None:
    """Report what the labels of a period have cost and bought, and whether the next ones are worth it.

    Everything is read from the topics; the daemon may be running. The period is the last 30 days up to the last record.
    Accuracies are those over *all* events, with 95 % intervals, from the labels bought.

    The advice is one of four. A line is fitted to the accuracy over the logarithm of the number of labels, and says
    what as many labels again would add: **raise** the budget if that is certainly something and 1 point or more, or if
    accuracy falls in spite of the labels; **lower** it if it is certainly less than 1 point; **stop** (but for the
    audit lane) below 0.2 points; **hold** in all other cases, and as long as there are fewer than 120 labels.

    ```text
    streamal report
    streamal report --since 2026-10-01 --until 2026-11-01 --svg october.svg
    streamal report --days 7 --json | jq .advice.verdict
    ```
    """
    loaded = load_config(config, overrides or ())
    begin, end = (_time(text, name) for text, name in ((since, "--since"), (until, "--until")))
    log = transports.open_log(loaded)
    try:
        found = report(log, topic_names(loaded), begin, end, days, loaded.quality.window)
    finally:
        log.close()
    period = f"{_date(found.since)} to {_date(found.until)}"
    title = f"Accuracy over all events, {period}"
    x = [point.labels for point in found.curve]
    curves = {
        "accuracy": [point.accuracy.value for point in found.curve],
        "95 %, low": [point.accuracy.low for point in found.curve],
        "95 %, high": [point.accuracy.high for point in found.curve],
    }
    if svg is not None and x and not save_points(svg, title, "labels", x, curves):
        raise ConfigError(f"--svg needs matplotlib: {INSTALL.format(extra='plot')}")
    if as_json:
        typer.echo(json.dumps(_plain(dataclasses.asdict(found))))
        return
    if x:
        typer.echo(terminal_points(title, "labels", x, curves, min(100, shutil.get_terminal_size().columns)))
    show(f"{transports.describe_transport(loaded)}, {period}", _rows(found, loaded), as_json=False)
    typer.echo(f"{found.advice.verdict.upper()}: {found.advice.reason}")


def _rows(found: Report, config: Config) -> dict[str, object]:
    """Return the table's rows."""
    labels = found.outcomes["labels"]
    rows: dict[str, object] = {
        "requests": sum(found.requests.values()),
        "of them": found.requests or None,
        "outcomes": found.outcomes,
        "natural labels": found.natural,
        "annotators": found.annotators or None,
        "accuracy before": _interval(found.before),
        "accuracy now": _interval(found.now),
        "among the labels (biased)": found.naive,
        "unanswered requests": found.unanswered,
        "events out of reach": found.never_askable,
    }
    if found.cost or found.reserved:
        currency = config.budget.currency
        rows["cost"] = f"{found.cost:,.2f} {currency}"
        rows["reserved for open requests"] = f"{found.reserved:,.2f} {currency}"
        rows["cost of a label"] = f"{found.cost / labels:,.2f} {currency}" if labels else None
    return rows


def _interval(estimate: Estimate | None) -> str | None:
    return None if estimate is None else f"{estimate.value:.3f} [{estimate.low:.3f}, {estimate.high:.3f}]"


def _date(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M")


def _time(text: str | None, option: str) -> float | None:
    """Return *text* as seconds since the epoch; a time without a zone is UTC."""
    if text is None:
        return None
    try:
        seconds = float(text)
    except ValueError:
        try:
            moment = datetime.fromisoformat(text)
        except ValueError as error:
            raise ConfigError(f"{option}: {text!r} is neither ISO 8601 nor seconds since the epoch") from error
        return moment.replace(tzinfo=moment.tzinfo or UTC).timestamp()
    if not math.isfinite(seconds):
        raise ConfigError(f"{option}: {text!r} is neither ISO 8601 nor seconds since the epoch")
    return seconds


def _plain(value: object) -> object:
    """Return *value* with estimates as objects, for JSON."""
    if isinstance(value, Estimate):
        return value._asdict()
    if isinstance(value, dict):
        return {key: _plain(part) for key, part in value.items()}
    return [_plain(part) for part in value] if isinstance(value, list | tuple) else value
