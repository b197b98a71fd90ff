"""The Grafana dashboard: one table of panels, built with grafana-foundation-sdk (the extra ``dashboards``).

The table decides what an operator sees, and in which order. A test runs every query of it against a real Prometheus
that scrapes a real run. ``{J}`` stands for the chosen job.
"""

from __future__ import annotations

import json
import warnings
from importlib.util import find_spec
from typing import Any, NamedTuple

from streamal import INSTALL
from streamal.errors import ConfigError

__all__ = ["DATA_SOURCE", "PANELS", "Panel", "build"]

DATA_SOURCE = "streamal-prometheus"
"""The uid of the data source; ``docker/grafana/provisioning`` gives it to Prometheus."""

_RATE = "[$__rate_interval]"


class Panel(NamedTuple):
    """One panel.

    Attributes:
        row: the row that it stands in; rows come in the order of their first panel.
        kind: "stat" is a number, "lines" a curve.
        unit: Grafana's name of the unit.
        queries: legend -> PromQL.
        about: one line for the operator.
        width: of 24 columns.
    """

    row: str
    title: str
    kind: str
    unit: str
    queries: dict[str, str]
    about: str
    width: int = 8


def _interval(name: str, unit: str) -> dict[str, str]:
    parts = {
        "": f"streamal_{name}_{unit}",
        "low": f"streamal_{name}_low_{unit}",
        "high": f"streamal_{name}_high_{unit}",
    }
    return {legend or "estimate": f"max({metric}{{J}})" for legend, metric in parts.items()}


def _rate(metric: str, by: str = "", where: str = "") -> str:
    matching = f"{{J,{where}}}" if where else "{J}"
    return f"sum{f' by ({by}) ' if by else ''}(rate({metric}{matching}{_RATE}))"


def _quantiles(histogram: str) -> dict[str, str]:
    rates = f"sum by (le) (rate(streamal_{histogram}_bucket{{J}}{_RATE}))"
    return {f"p{round(100 * q)}": f"histogram_quantile({q}, {rates})" for q in (0.5, 0.99)}


_SPENT = "sum(streamal_spend{J})"
_ALL = "sum(streamal_spend{J} / (streamal_budget_spent_ratio{J} > 0))"

PANELS: tuple[Panel, ...] = (
    Panel("Overview", "Spent on labels", "stat", "short", {"": _SPENT}, "Money, what open requests can still cost included.", 4),
    Panel("Overview", "Saved", "stat", "short", {"": f"{_ALL} - {_SPENT}"}, "Against a label for each event, at the same price.", 4),
    Panel("Overview", "Share asked", "stat", "percentunit", {"": "avg(streamal_budget_spent_ratio{J})"}, "Requests per accepted event.", 4),
    Panel("Overview", "Accuracy", "stat", "percentunit", {"": "max(streamal_quality_accuracy_ratio{J})"}, "Of all events, asked or not; corrected for the choice of labels.", 4),
    Panel("Overview", "Accuracy, at least", "stat", "percentunit", {"": "max(streamal_quality_accuracy_low_ratio{J})"}, "The lower end of the 95 % interval.", 4),
    Panel("Overview", "Events", "stat", "reqps", {"": _rate("streamal_events_total")}, "Per second, refused ones too.", 4),
    Panel("Spend", "Money", "lines", "short", {"settled": "sum(streamal_spend_settled{J})", "reserved": "sum(streamal_spend_reserved{J})"}, "What closed requests have cost, and the most that open ones can."),
    Panel("Spend", "Left of the day's cap", "lines", "short", {"left": "sum(streamal_budget_left_cost_day{J})", "cap": "max(streamal_budget_limit_cost_day{J})"}, "Empty without budget.cost_per_day."),
    Panel("Spend", "Requests", "lines", "reqps", {"{{lane}}": _rate("streamal_requests_total", "lane")}, "Per second, by the lane that paid."),
    Panel("Spend", "Share asked and its limit", "lines", "percentunit", {"asked": "avg(streamal_budget_spent_ratio{J})", "limit": "max(streamal_budget_share_limit_ratio{J})"}, "A burst may go above for a while; streamal_requests_over_budget may not leave 0."),
    Panel("Spend", "Requests over budget", "stat", "short", {"": "sum(streamal_requests_over_budget{J})"}, "0, or a promise is broken."),
    Panel("Spend", "Mute partitions", "stat", "short", {"": "sum(streamal_mute_partitions{J})"}, "Where events flow, and nothing is asked."),
    Panel("Quality", "Accuracy", "lines", "percentunit", _interval("quality_accuracy", "ratio"), "Honest, with its 95 % interval; lags by the label delay."),
    Panel("Quality", "Balanced accuracy", "lines", "percentunit", _interval("quality_balanced_accuracy", "ratio"), "The mean recall of the classes."),
    Panel("Quality", "Worst class", "lines", "percentunit", {"recall": "max(streamal_quality_least_recall_ratio{J})"}, "Recall of the class that is recognised worst."),
    Panel("Quality", "Gain over random", "lines", "percentunit", _interval("gain_over_random", "ratio"), "What choosing adds; needs quality.control."),
    Panel("Quality", "What it cannot see", "lines", "percentunit", {"unanswered": "max(streamal_unanswered_ratio{J})", "never askable": "avg(streamal_never_askable_ratio{J})"}, "Requests that brought no label; events without a chance."),
    Panel("Quality", "Log loss", "lines", "short", _interval("quality_log_loss", "nats"), "In nats, over all events."),
    Panel("Queue", "Open requests", "lines", "short", {"open": "max(streamal_open_requests{J})", "limit": "max(streamal_open_requests_limit{J})"}, "At the limit nothing is asked."),
    Panel("Queue", "Oldest open request", "lines", "s", {"age": "max(streamal_oldest_open_request_seconds{J})"}, "They expire by labels.ttl_s."),
    Panel("Queue", "Label delay", "lines", "s", _quantiles("label_delay_seconds"), "From request to label."),
    Panel("Queue", "Replies", "lines", "reqps", {"{{outcome}}": _rate("streamal_replies_total", "outcome")}, "Per second, by what became of them."),
    Panel("Queue", "Expired", "lines", "reqps", {"expired": _rate("streamal_expiries_total")}, "Requests that nobody answered in time, per second."),
    Panel("Queue", "Dead letters", "lines", "reqps", {"{{reason}}": _rate("streamal_dead_letters_total", "reason")}, "Refused records per second, by reason."),
    Panel("Model", "Version", "lines", "short", {"{{instance}}": "streamal_model_version{J}"}, "The same for all workers, but for a moment."),
    Panel("Model", "Since it last learned", "lines", "s", {"{{instance}}": "time() - streamal_last_fold_timestamp_seconds{J}"}, "Age of the newest training record folded."),
    Panel("Model", "Examples", "lines", "short", {"learned": "max(streamal_model_examples{J})", "quarantined": "max(streamal_model_quarantined{J})", "failed": "max(streamal_model_failures{J})"}, "What the model knows, and what was left out."),
    Panel("Model", "Sick", "stat", "short", {"": "max(streamal_model_sick{J})"}, "1: its answers are no probabilities."),
    Panel("Model", "Features", "stat", "short", {"": "max(streamal_features{J})"}, "In the schema."),
    Panel("Model", "Snapshot age", "stat", "s", {"": "time() - max(streamal_last_snapshot_timestamp_seconds{J})"}, "A restart folds what came after it."),
    Panel("Drift", "Confidence", "lines", "percentunit", {"recent": "avg(streamal_confidence_recent_ratio{J})", "reference": "avg(streamal_confidence_reference_ratio{J})"}, "Of the last 500 events against the last 10,000: needs no label.", 12),
    Panel("Drift", "Predictions without preference", "lines", "reqps", {"uniform": _rate("streamal_uniform_predictions_total")}, "An untrained or a broken model, per second.", 12),
    Panel("Kafka", "Lag", "lines", "short", {"events": "sum(streamal_lag_events{J})", "labels": "sum(streamal_lag_labels{J})"}, "Records that wait."),
    Panel("Kafka", "Transaction", "lines", "s", _quantiles("commit_seconds"), "The commit alone."),
    Panel("Kafka", "Transactions", "lines", "reqps", {"{{outcome}}": _rate("streamal_steps_total", "outcome")}, "Per second, by outcome."),
    Panel("Process", "Step", "lines", "s", _quantiles("step_seconds"), "Poll to commit."),
    Panel("Process", "Events", "lines", "reqps", {"{{instance}} {{outcome}}": _rate("streamal_events_total", "instance, outcome")}, "Per second and worker."),
    Panel("Process", "Snapshots", "lines", "reqps", {"{{outcome}}": _rate("streamal_snapshots_total", "outcome")}, "Saved and failed, per second."),
)  # fmt: skip
"""All panels, in the order of the page."""


def build() -> str:
    """Return the dashboard as JSON, the same text every time.

    Raises:
        ConfigError: the extra is not installed.
    """
    if find_spec("grafana_foundation_sdk") is None:
        raise ConfigError(f"grafana-foundation-sdk is not installed; run `{INSTALL.format(extra='dashboards')}`")
    from grafana_foundation_sdk.cog.encoder import JSONEncoder  # noqa: PLC0415

    with warnings.catch_warnings():
        # the SDK prefers the resource of Grafana 13; files are provisioned in the older form, which every Grafana reads
        warnings.simplefilter("ignore", DeprecationWarning)
        board = _board()
    return json.dumps(board, cls=JSONEncoder, sort_keys=True, indent=2) + "\n"


def _board() -> Any:
    from grafana_foundation_sdk.builders import dashboard  # noqa: PLC0415
    from grafana_foundation_sdk.models.common import DataSourceRef  # noqa: PLC0415

    source = DataSourceRef(type_val="prometheus", uid=DATA_SOURCE)
    job = dashboard.QueryVariable("job").label("Job").datasource(source).query("label_values(streamal_build_info, job)")
    board = (
        dashboard.Dashboard("streamal").uid("streamal").tags(["streamal"]).refresh("10s").time("now-1h", "now")
    ).with_variable(job)  # fmt: skip
    row = ""
    for number, panel in enumerate(PANELS, 1):
        if panel.row != row:
            board = board.with_row(dashboard.Row(panel.row))
            row = panel.row
        board = board.with_panel(_build_panel(panel, source).id(number))
    return board.build()


def _build_panel(panel: Panel, source: Any) -> Any:
    from grafana_foundation_sdk.builders import prometheus, stat, timeseries  # noqa: PLC0415

    kind = stat.Panel() if panel.kind == "stat" else timeseries.Panel()
    made = kind.title(panel.title).description(panel.about).unit(panel.unit).datasource(source)
    made = made.span(panel.width).height(4 if panel.row == "Overview" else 7)
    for letter, (legend, expression) in zip("ABC", panel.queries.items(), strict=False):
        query = prometheus.Dataquery().ref_id(letter).expr(_for_job(expression)).legend_format(legend)
        # exemplars: the coordinates of an event, where a curve is odd
        query = query.exemplar("_bucket" in expression)
        made = made.with_target(query.datasource(source))
    return made


def _for_job(expression: str) -> str:
    """Return *expression* for the chosen job.

    >>> _for_job('sum(a{J,b="c"}) / sum(d{J})')
    'sum(a{job="$job",b="c"}) / sum(d{job="$job"})'
    """
    return expression.replace("{J,", '{job="$job",').replace("{J}", '{job="$job"}')
