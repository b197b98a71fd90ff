"""``streamal report``: the cost of a period's labels, what they bought, and advice on the budget."""

from __future__ import annotations

import dataclasses
import math
import shutil
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from streamal import INSTALL
from streamal.bootstrap import transports
from streamal.bootstrap.rules import topic_names
from streamal.cli.console import echo, echo_block, echo_json
from streamal.cli.options import ConfigPath, Json, Overrides, show
from streamal.config import load_config
from streamal.core.quality.estimates import Estimate
from streamal.errors import ConfigError
from streamal.inspection.report import Report, report
from streamal.reports.curves import save_points, terminal_points

__all__ = ["command"]

Since = Annotated[str | None, typer.Option(metavar="TIME", help="Begin here: ISO 8601 or seconds since the epoch.")]
Until = Annotated[str | None, typer.Option(metavar="TIME", help="End here; by default at the last record.")]
Days = Annotated[float, typer.Option(min=0.001, help="Length of the period, where --since is not given.")]
Svg = Annotated[Path | None, typer.Option(metavar="FILE", help="Draw the curve into FILE too (.svg or .png).")]


def command(
    since: Since = None,
    until: Until = None,
    days: Days = 30.0,
    svg: Svg = None,
    config: ConfigPath = Path("config.toml"),
    overrides: Overrides = None,
    as_json: Json = False,
) -> None:
    """Report the cost of a period's labels, the accuracy that they bought, and whether to buy more.

    The command reads the topics alone; the daemon may run. The period is the last 30 days up to the last record.
    Accuracies are estimates over *all* events, from the labels bought, with 95 % intervals.

    The advice fits a line to the accuracy over the logarithm of the number of labels. The line says how much accuracy
    as many labels again would add. **Raise** the budget: certainly something, and 1 point or more; or the accuracy
    falls in spite of the labels. **Lower** it: certainly less than 1 point. **Stop**, but keep the audit lane:
    certainly less than 0.2 points. **Hold** in all other cases, and while there are fewer than 120 labels.

    ```text
    streamal report
    streamal report --since 2026-10-01 --until 2026-11-01 --svg october.svg
    streamal report --days 7 --json | jq .advice.verdict
    ```
    """
    loaded = load_config(config, overrides or ())
    begin, end = _parse_time(since, "--since"), _parse_time(until, "--until")
    log = transports.open_log(loaded)
    try:
        found = report(log, topic_names(loaded), begin, end, days, loaded.quality.window)
    finally:
        log.close()
    period = f"{_format_time(found.since)} to {_format_time(found.until)}"
    title = f"Accuracy over all events, {period}"
    labels, curves = [point.labels for point in found.curve], _curves(found)
    if svg is not None and labels and not save_points(svg, title, "labels", labels, curves):
        raise ConfigError(f"--svg needs matplotlib: {INSTALL.format(extra='plot')}")
    if as_json:
        echo_json(_to_json(dataclasses.asdict(found)))
        return
    if labels:
        width = min(100, shutil.get_terminal_size().columns)
        echo_block(terminal_points(title, "labels", labels, curves, width))
    show(f"{transports.describe_transport(loaded)}, {period}", _rows(found, loaded.budget.currency), as_json=False)
    echo(f"{found.advice.verdict.upper()}: {found.advice.reason}")


def _curves(found: Report) -> dict[str, list[float]]:
    """Return the accuracy and the ends of its interval, one value for each point of the curve."""
    accuracies = [point.accuracy for point in found.curve]
    return {
        "accuracy": [accuracy.value for accuracy in accuracies],
        "95 %, low": [accuracy.low for accuracy in accuracies],
        "95 %, high": [accuracy.high for accuracy in accuracies],
    }


def _rows(found: Report, currency: str) -> dict[str, object]:
    """Return the rows of the table, name -> value."""
    labels = found.outcomes["labels"]
    rows: dict[str, object] = {
        "requests": sum(found.requests.values()),
        "requests by lane": found.requests or None,
        "outcomes": found.outcomes,
        "natural labels": found.natural,
        "replies by annotator": found.annotators or None,
        "accuracy before": _format_estimate(found.before),
        "accuracy now": _format_estimate(found.now),
        "accuracy among the labels (biased)": found.naive,
        "unanswered requests": found.unanswered,
        "events that are never asked": found.never_askable,
    }
    if found.cost or found.reserved:
        rows["cost"] = f"{found.cost:,.2f} {currency}"
        rows["reserved for open requests"] = f"{found.reserved:,.2f} {currency}"
        rows["cost of a label"] = f"{found.cost / labels:,.2f} {currency}" if labels else None
    return rows


def _format_estimate(estimate: Estimate | None) -> str | None:
    return None if estimate is None else f"{estimate.value:.3f} [{estimate.low:.3f}, {estimate.high:.3f}]"


def _format_time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M")


def _parse_time(given: str | None, option: str) -> float | None:
    """Return *given* as seconds since the epoch; a time without a zone is in UTC.

    Raises:
        ConfigError: it is no time.
    """
    if given is None:
        return None
    wrong = ConfigError(f"{option}: {given!r} is neither ISO 8601 nor seconds since the epoch")
    try:
        seconds = float(given)
    except ValueError:
        try:
            moment = datetime.fromisoformat(given)
        except ValueError:
            raise wrong from None
        return moment.replace(tzinfo=moment.tzinfo or UTC).timestamp()
    if not math.isfinite(seconds):
        raise wrong
    return seconds


def _to_json(value: object) -> object:
    """Return *value* as JSON has it: an estimate becomes an object."""
    if isinstance(value, Estimate):
        return value._asdict()
    if isinstance(value, dict):
        return {key: _to_json(part) for key, part in value.items()}
    return [_to_json(part) for part in value] if isinstance(value, list | tuple) else value
