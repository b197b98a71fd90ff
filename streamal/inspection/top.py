"""Panels of the figures of a running daemon, from two readings of its metrics; the command draws them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

__all__ = ["Panel", "Series", "merge", "panels", "quantile", "rate", "sparkline"]

Series = Mapping[tuple[str, str], float]
"""(name without ``streamal_``, the value of its label) -> value."""
_SUMMED = ("lag_events", "lag_labels", "mute_partitions", "requests_over_budget")
"""Gauges that add up over the workers; of every other gauge the largest value counts."""
_BARS = " ▁▂▃▄▅▆▇█"
_COUNTS = ("_total", "_bucket", "_count", "_sum")


class Panel(NamedTuple):
    """A title and rows, name -> text; *alarm* if a row is a reason to act."""

    title: str
    rows: Mapping[str, str]
    alarm: bool = False


def merge(several: Sequence[Series]) -> Series:
    """Return the series of several workers as those of one daemon.

    >>> merge([{("events_total", "accepted"): 2.0, ("lag_events", ""): 1.0}] * 2)
    {('events_total', 'accepted'): 4.0, ('lag_events', ''): 2.0}
    """
    found: dict[tuple[str, str], float] = {}
    for series in several:
        for key, value in series.items():
            add = key[0].endswith(_COUNTS) or key[0] in _SUMMED
            found[key] = found.get(key, 0.0) + value if add else max(found.get(key, -math.inf), value)
    return found


def panels(now: Series, before: Series | None, seconds: float) -> list[Panel]:
    """Return the panels; *before* is the reading of *seconds* ago, None at the first one."""
    kinds = _by_label(now, "replies_total")
    median, p95 = (_duration_text(quantile(now, "label_delay_seconds", q)) for q in (0.5, 0.95))
    alarms = {
        name: f"{value:,.0f}"
        for name, key in (
            ("mute partitions", "mute_partitions"),
            ("requests over the budget", "requests_over_budget"),
            ("model sick", "model_sick"),
        )
        if (value := now.get((key, ""), 0.0))
    }
    model = {"examples": "model_examples", "version": "model_version", "quarantined": "model_quarantined"}
    return [
        Panel("Throughput", {
            "events": f"{_rate_text(now, before, 'events_total', seconds)}   {_sum(now, 'events_total'):,.0f} so far",
            "requests": _rate_text(now, before, "requests_total", seconds),
            "replies": _rate_text(now, before, "replies_total", seconds),
            "waiting": f"{_integer_text(now, 'lag_events')} events, {_integer_text(now, 'lag_labels')} replies",
            "step": f"median {_duration_text(quantile(now, 'step_seconds', 0.5))}, "
            f"99 % {_duration_text(quantile(now, 'step_seconds', 0.99))}",
        }),
        Panel("Budget", _budget_rows(now)),
        Panel("Quality", _quality_rows(now)),
        Panel("Queue", {
            "open": f"{_integer_text(now, 'open_requests')} of {_integer_text(now, 'open_requests_limit')}",
            "oldest": _duration_text(now.get(("oldest_open_request_seconds", ""))),
            "label delay": f"median {median}, 95 % {p95}",
            "replies": ", ".join(f"{name} {count:,.0f}" for name, count in kinds.items()) or "-",
            "expired": f"{_sum(now, 'expiries_total'):,.0f}",
        }),
        Panel("Model and guards", {
            **{name: _integer_text(now, key) for name, key in model.items()},
            "confidence": f"{_percent_text(now.get(('confidence_recent_ratio', '')))} lately, "
            f"{_percent_text(now.get(('confidence_reference_ratio', '')))} before",
            **(alarms or {"alarms": "none"}),
        }, alarm=bool(alarms)),
        Panel("Refused", {
            name.replace("_", " "): f"{count:,.0f}" for name, count in _by_label(now, "dead_letters_total").items()
        } or {"records": "none"}),
    ]  # fmt: skip


def quantile(series: Series, name: str, q: float) -> float | None:
    """Return the upper bound of the histogram's bucket in which the quantile *q* lies, None if it is empty.

    >>> quantile({("x_bucket", "0.1"): 3.0, ("x_bucket", "1.0"): 4.0, ("x_bucket", "+Inf"): 4.0}, "x", 0.5)
    0.1
    """
    buckets = sorted((float(label), value) for (key, label), value in series.items() if key == f"{name}_bucket")
    if not buckets or not buckets[-1][1]:
        return None
    return next(bound for bound, value in buckets if value >= q * buckets[-1][1])


def rate(now: Series, before: Series | None, name: str, seconds: float) -> float | None:
    """Return by how much the counter *name* grows in a second; None at the first reading or after a restart."""
    if before is None or seconds <= 0.0:
        return None
    grown = _sum(now, name) - _sum(before, name)
    return grown / seconds if grown >= 0.0 else None


def sparkline(values: Sequence[float | None]) -> str:
    """Return *values* as a line of bars, from the least to the greatest.

    >>> sparkline([0.0, None, 1.0])
    '▁ █'
    """
    known = [value for value in values if value is not None]
    if not known:
        return ""
    low, span = min(known), max(known) - min(known)
    steps = len(_BARS) - 2
    return "".join(
        " " if value is None else _BARS[1 + (round(steps * (value - low) / span) if span else 0)] for value in values
    )


def _budget_rows(now: Series) -> dict[str, str]:
    spent, limit = now.get(("budget_spent_ratio", "")), now.get(("budget_share_limit_ratio", ""))
    rows = {"spent": f"{_percent_text(spent)} of the events asked, {_percent_text(limit)} allowed"}
    currency = next((label for name, label in now if name == "currency_info"), "")
    spend = now.get(("spend", ""))
    if spend:
        settled, reserved = (now.get((name, ""), 0.0) for name in ("spend_settled", "spend_reserved"))
        rows["money"] = f"{settled:,.2f} {currency} settled, {reserved:,.2f} reserved"
    for (name, _), value in now.items():
        if name.startswith("budget_left_") and not math.isnan(value):
            kind, _, window = name.removeprefix("budget_left_").rpartition("_")
            rows[f"left this {window}"] = f"{value:,.2f} {currency}" if kind == "cost" else f"{value:,.0f} requests"
    rows["asked by"] = ", ".join(f"{lane} {n:,.0f}" for lane, n in _by_label(now, "requests_total").items()) or "-"
    return rows


def _quality_rows(now: Series) -> dict[str, str]:
    accuracy = _interval_text(now, "quality_accuracy_ratio", "quality_accuracy_{}_ratio")
    return {
        "accuracy": accuracy or "not known yet (the trainer knows it after the first labels)",
        "naive": f"{_percent_text(now.get(('quality_accuracy_naive_ratio', '')))} among the labels (biased)",
        "balanced": _interval_text(now, "quality_balanced_accuracy_ratio", "quality_balanced_accuracy_{}_ratio") or "-",
        "worst class": _percent_text(now.get(("quality_least_recall_ratio", ""))),
        "gain over random": _interval_text(now, "gain_over_random_ratio", "gain_over_random_{}_ratio") or "-",
        "unanswered": f"{_percent_text(now.get(('unanswered_ratio', '')))} of the closed requests",
    }


def _interval_text(now: Series, name: str, ends: str) -> str:
    value = now.get((name, ""))
    if value is None:
        return ""
    low, high = (now.get((ends.format(end), ""), math.nan) for end in ("low", "high"))
    return f"{100 * value:.1f} % [{100 * low:.1f}, {100 * high:.1f}]"


def _by_label(now: Series, name: str) -> dict[str, float]:
    """Return label -> count of a counter, the largest first; those at 0 are left out."""
    found = {label: value for (key, label), value in now.items() if key == name and value}
    return dict(sorted(found.items(), key=lambda pair: -pair[1]))


def _sum(series: Series, name: str) -> float:
    return sum(value for (key, _), value in series.items() if key == name)


def _rate_text(now: Series, before: Series | None, name: str, seconds: float) -> str:
    found = rate(now, before, name, seconds)
    return "-" if found is None else f"{found:,.1f}/s"


def _integer_text(now: Series, name: str) -> str:
    value = now.get((name, ""))
    return "-" if value is None else f"{value:,.0f}"


def _percent_text(value: float | None) -> str:
    return "-" if value is None or math.isnan(value) else f"{100 * value:.2f} %"


def _duration_text(seconds: float | None) -> str:
    """Return a duration for people.

    >>> _duration_text(0.025), _duration_text(90.0), _duration_text(7200.0)
    ('25 ms', '1.5 min', '2.0 h')
    """
    if seconds is None:
        return "-"
    for unit, name in ((86_400.0, "d"), (3_600.0, "h"), (60.0, "min"), (1.0, "s")):
        if seconds >= unit:
            return f"{seconds / unit:.1f} {name}" if math.isfinite(seconds) else "longer than all buckets"
    return f"{1_000 * seconds:.0f} ms"
