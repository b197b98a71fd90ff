"""The Grafana dashboard: one table of panels, built with grafana-foundation-sdk (the extra ``dashboards``).

The table decides what an operator sees, and in which order. A test runs every query of it against a real Prometheus
that scrapes a real run. ``{J}`` stands for the chosen job.
"""

from __future__ import annotations

import json
import warnings
from importlib.util import find_spec
from string import ascii_uppercase
from typing import Any, NamedTuple

from streamal import INSTALL
from streamal.errors import ConfigError

__all__ = ["CAUSES", "DATA_SOURCE", "PANELS", "Panel", "build"]

DATA_SOURCE = "streamal-prometheus"
"""The uid of the data source in ``docker/grafana/provisioning``; the dashboard takes any Prometheus, this one first."""

_RATE = "[$__rate_interval]"


class Panel(NamedTuple):
    """One panel.

    Attributes:
        row: the row that it stands in; rows come in the order of their first panel.
        kind: "stat" is a number, "money" one with its currency, "lines" a curve, "causes" a bar for each query, over time:
            where it is 1, that is why.
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


def _money(expression: str) -> dict[str, str]:
    """Return the query of a sum of money: its series has the currency as a label, and that is its legend."""
    currency = "on (instance) group_left (currency) streamal_currency_info{J}"
    return {"{{currency}}": f"sum by (currency) (({expression}) * {currency})"}


def _cap(name: str, least: str) -> str:
    """Return a query that is 1 where less than *least* is left of the cap *name*."""
    return f"sum(streamal_budget_left_{name}{{J}}) < bool {least}"


def _any(*expressions: str) -> str:
    """Return a query that is 1 where one of *expressions* is; one without a value, as of a cap that is not set, is not."""
    return " + ".join(f"({each} or vector(0))" for each in expressions) + " > bool 0"


_LABEL = "max(streamal_cost_per_label{J})"
_CAPS = (
    *(_cap(f"cost_{window}", f"scalar({_LABEL})") for window in ("hour", "day", "month")),
    *(_cap(f"requests_{window}", "1") for window in ("hour", "day")),
)
_ACCEPTED = 'outcome="accepted"'
_NO_CHANCE = f"sum(rate(streamal_events_without_propensity_total{{J}}{_RATE})) >= bool 0.9 * {_rate('streamal_events_total', where=_ACCEPTED)}"
_SHARE_USED = "avg(streamal_budget_spent_ratio{J}) >= bool 0.95 * max(streamal_budget_share_limit_ratio{J})"
_EVENTS_COME = f"{_rate('streamal_events_total')} > bool 0"
_FULL = "max(streamal_open_requests{J}) >= bool max(streamal_open_requests_limit{J})"
_SLOW = "max(streamal_open_requests{J}) >= bool max(streamal_open_requests_pace_limit{J})"
_CLOCK = "max(streamal_clock_ahead_seconds{J} > bool 60) + max(abs(streamal_clock_jump_seconds{J}) > bool 0)"
CAUSES: dict[str, str] = {
    "no events come": f"{_rate('streamal_events_total')} == bool 0",
    "a cap is used up": _any(*_CAPS),
    "the share is used up": _any(f"({_NO_CHANCE}) * ({_SHARE_USED}) * ({_EVENTS_COME})"),
    "the queue is full": _any(_FULL),
    "annotators are too slow": _any(_SLOW),
    "a clock is wrong": _any(_CLOCK),
    "mute: something else": _any("sum(streamal_mute_partitions{J})"),
}
"""Why nothing is asked: what it is called -> a query that is 1 where it holds."""

PANELS: tuple[Panel, ...] = (
    Panel("Overview", "Saved", "money", "short", _money("streamal_spend{J} / (streamal_budget_spent_ratio{J} > 0) - streamal_spend{J}"), "Against a label for each event, at the same price.", 4),
    Panel("Overview", "Spent on labels", "money", "short", _money("streamal_spend{J}"), "What open requests can still cost included.", 4),
    Panel("Overview", "Share asked", "stat", "percentunit", {"": "avg(streamal_budget_spent_ratio{J})"}, "Requests per accepted event.", 4),
    Panel("Overview", "Accuracy", "stat", "percentunit", {"": "max(streamal_quality_accuracy_ratio{J})"}, "Of all events, asked or not; corrected for the choice of labels.", 4),
    Panel("Overview", "Accuracy, at least", "stat", "percentunit", {"": "max(streamal_quality_accuracy_low_ratio{J})"}, "The lower end of the 95 % interval.", 4),
    Panel("Overview", "Events", "stat", "reqps", {"": _rate("streamal_events_total")}, "Per second, refused ones too.", 4),
    Panel("Asking", "Why nothing is asked", "causes", "bool_yes_no", CAUSES, "A red bar is a reason, from where it begins. The last row is what no other explains.", 16),
    Panel("Asking", "Since the last request", "stat", "s", {"": "time() - max(streamal_last_request_timestamp_seconds{J})"}, "In the partitions of all workers.", 4),
    Panel("Asking", "Mute partitions", "stat", "short", {"": "sum(streamal_mute_partitions{J})"}, "Where events flow, and nothing is asked for longer than the budget explains.", 4),
    Panel("Spend", "Money", "lines", "short", {f"{part} {legend}": query for part in ("settled", "reserved") for legend, query in _money(f"streamal_spend_{part}{{J}}").items()}, "What closed requests have cost, and the most that open ones can."),
    Panel("Spend", "Left of the day's cap", "lines", "short", {"left": "sum(streamal_budget_left_cost_day{J})", "cap": "max(streamal_budget_limit_cost_day{J})"}, "Empty without budget.cost_per_day."),
    Panel("Spend", "Requests", "lines", "reqps", {"{{lane}}": _rate("streamal_requests_total", "lane")}, "Per second, by the lane that paid."),
    Panel("Spend", "Share asked and its limit", "lines", "percentunit", {"asked": "avg(streamal_budget_spent_ratio{J})", "limit": "max(streamal_budget_share_limit_ratio{J})"}, "A burst may go above for a while; streamal_requests_over_budget may not leave 0."),
    Panel("Spend", "Requests over budget", "stat", "short", {"": "sum(streamal_requests_over_budget{J})"}, "0, or a promise is broken."),
    Panel("Quality", "Accuracy", "lines", "percentunit", _interval("quality_accuracy", "ratio"), "Honest, with its 95 % interval; lags by the label delay."),
    Panel("Quality", "Balanced accuracy", "lines", "percentunit", _interval("quality_balanced_accuracy", "ratio"), "The mean recall of the classes."),
    Panel("Quality", "Worst class", "lines", "percentunit", {"recall": "max(streamal_quality_least_recall_ratio{J})"}, "Recall of the class that is recognised worst."),
    Panel("Quality", "Gain over random", "lines", "percentunit", _interval("gain_over_random", "ratio"), "What choosing adds; needs quality.control."),
    Panel("Quality", "What it cannot see", "lines", "percentunit", {"unanswered": "max(streamal_unanswered_ratio{J})", "never askable": "avg(streamal_never_askable_ratio{J})"}, "Requests that brought no label; events without a chance."),
    Panel("Quality", "Log loss", "lines", "short", _interval("quality_log_loss", "nats"), "In nats, over all events."),
    Panel("Queue", "Open requests", "lines", "short", {"open": "max(streamal_open_requests{J})", "limit": "max(streamal_open_requests_limit{J})"}, "At the limit nothing is asked."),
    Panel("Queue", "Oldest open request", "lines", "s", {"age": "max(streamal_oldest_open_request_seconds{J})"}, "They expire by labels.ttl_s."),
    Panel("Queue", "Label delay", "lines", "s", _quantiles("label_delay_seconds"), "From request to label."),
    Panel("Queue", "Replies", "lines", "reqps", {"{{outcome}}": f"{_rate('streamal_replies_total', 'outcome')} > 0"}, "Per second, by what became of them; only what occurs."),
    Panel("Queue", "Expired", "lines", "reqps", {"expired": _rate("streamal_expiries_total")}, "Requests that nobody answered in time, per second."),
    Panel("Queue", "Dead letters", "lines", "reqps", {"{{reason}}": f"{_rate('streamal_dead_letters_total', 'reason')} > 0"}, "Refused records per second, by reason; only what occurs."),
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
    from grafana_foundation_sdk.models.dashboard import VariableOption, VariableRefresh  # noqa: PLC0415

    source = DataSourceRef(type_val="prometheus", uid="${datasource}")
    first = VariableOption(text="Prometheus", value=DATA_SOURCE)
    sources = dashboard.DatasourceVariable("datasource").label("Data source").type("prometheus").current(first)
    job = (
        dashboard.QueryVariable("job").label("Job").datasource(source).query("label_values(streamal_build_info, job)")
        .refresh(VariableRefresh.ON_TIME_RANGE_CHANGED)
    )  # fmt: skip
    board = (
        dashboard.Dashboard("streamal").uid("streamal").tags(["streamal"]).readonly().refresh("10s").time("now-1h", "now")
    ).with_variable(sources).with_variable(job)  # fmt: skip
    row = ""
    for number, panel in enumerate(PANELS, 1):
        if panel.row != row:
            board = board.with_row(dashboard.Row(panel.row))
            row = panel.row
        board = board.with_panel(_build_panel(panel, source).id(number))
    return board.build()


def _build_panel(panel: Panel, source: Any) -> Any:
    from grafana_foundation_sdk.builders import prometheus  # noqa: PLC0415

    kind = _new_panel(panel.kind).no_value("none")
    made = kind.title(panel.title).description(panel.about).unit(panel.unit).datasource(source)
    made = made.span(panel.width).height(4 if panel.row == "Overview" else 7)
    for letter, (legend, expression) in zip(ascii_uppercase, panel.queries.items(), strict=False):
        query = prometheus.Dataquery().ref_id(letter).expr(_for_job(expression)).legend_format(legend)
        # exemplars: the coordinates of an event, where a curve is odd
        query = query.exemplar("_bucket" in expression)
        made = made.with_target(query.datasource(source))
    return made


def _new_panel(kind: str) -> Any:
    """Return the builder of a panel of this kind."""
    from grafana_foundation_sdk.builders import stat, statetimeline, timeseries  # noqa: PLC0415
    from grafana_foundation_sdk.models import common, dashboard  # noqa: PLC0415

    match kind:
        case "stat":
            return stat.Panel()
        case "money":
            return stat.Panel().text_mode(common.BigValueTextMode.VALUE_AND_NAME).decimals(2)
        case "causes":
            said = {
                str(value): dashboard.ValueMappingResult(text=text, color=colour)
                for value, text, colour in ((0, "no", "transparent"), (1, "yes", "red"))
            }
            return statetimeline.Panel().mappings([dashboard.ValueMap(options=said)]).merge_values(True)
        case _:
            return timeseries.Panel()


def _for_job(expression: str) -> str:
    """Return *expression* for the chosen job.

    >>> _for_job('sum(a{J,b="c"}) / sum(d{J})')
    'sum(a{job="$job",b="c"}) / sum(d{job="$job"})'
    """
    return expression.replace("{J,", '{job="$job",').replace("{J}", '{job="$job"}')
