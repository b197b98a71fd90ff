"""The figures of a running daemon in panels, from two looks at its metrics; the command draws them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

__all__ = ["Panel", "Series", "merged", "panels", "quantile", "rate", "sparkline"]

Series = Mapping[tuple[str, str], float]
"""(name without ``streamal_``, the value of its label) -> value."""
_SUMMED = ("lag_events", "lag_labels", "mute_partitions", "requests_over_budget")
"""Gauges that are each worker's own; of all others every worker tells the same, or the largest counts."""
_BARS = " ▁▂▃▄▅▆▇█"
_COUNTS = ("_total", "_bucket", "_count", "_sum")


class Panel(NamedTuple):
    """A title and its rows, name -> text; *alarm* if one of them is a reason to act."""

    title: str
    rows: Mapping[str, str]
    alarm: bool = False


def merged(several: Sequence[Series]) -> Series:
    """Return the series of several workers as those of one daemon.

    >>> merged([{("events_total", "accepted"): 2.0, ("lag_events", ""): 1.0}] * 2)
    {('events_total', 'accepted'): 4.0, ('lag_events', ''): 2.0}
    """
    found: dict[tuple[str, str], float] = {}
    for series in several:
        for key, value in series.items():
            add = key[0].endswith(_COUNTS) or key[0] in _SUMMED
            found[key] = found.get(key, 0.0) + value if add else max(found.get(key, -math.inf), value)
    return found


def panels(now: Series, before: Series | None, seconds: float) -> list[Panel]:
    """Return the panels; *before* is what was seen *seconds* ago, None at the first look."""
    kinds = _by_label(now, "replies_total")
    delay = {name: _age(quantile(now, "label_delay_seconds", q)) for name, q in (("median", 0.5), ("95 %", 0.95))}
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
            "events": f"{_speed(now, before, 'events_total', seconds)}   {_sum(now, 'events_total'):,.0f} so far",
            "requests": _speed(now, before, "requests_total", seconds),
            "replies": _speed(now, before, "replies_total", seconds),
            "waiting": f"{_whole(now, 'lag_events')} events, {_whole(now, 'lag_labels')} replies",
            "step": f"median {_age(quantile(now, 'step_seconds', 0.5))}, "
            f"99 % {_age(quantile(now, 'step_seconds', 0.99))}",
        }),
        Panel("Budget", _budget(now)),
        Panel("Quality", _quality(now)),
        Panel("Queue", {
            "open": f"{_whole(now, 'open_requests')} of {_whole(now, 'open_requests_limit')}",
            "oldest": _age(now.get(("oldest_open_request_seconds", ""))),
            "label delay": ", ".join(f"{name} {text}" for name, text in delay.items()),
            "replies": ", ".join(f"{name} {count:,.0f}" for name, count in kinds.items()) or "-",
            "expired": f"{_sum(now, 'expiries_total'):,.0f}",
        }),
        Panel("Model and guards", {
            **{name: _whole(now, key) for name, key in model.items()},
            "confidence": f"{_percent(now.get(('confidence_recent_ratio', '')))} lately, "
            f"{_percent(now.get(('confidence_reference_ratio', '')))} before",
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
    """Return by how much the counter *name* grows in a second; None at the first look, or after a restart."""
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


def _budget(now: Series) -> dict[str, str]:
    spent, limit = now.get(("budget_spent_ratio", "")), now.get(("budget_share_limit_ratio", ""))
    rows = {"spent": f"{_percent(spent)} of the events asked, {_percent(limit)} allowed"}
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


def _quality(now: Series) -> dict[str, str]:
    accuracy = _interval(now, "quality_accuracy_ratio", "quality_accuracy_{}_ratio")
    return {
        "accuracy": accuracy or "not known yet (the trainer tells it, after the first labels)",
        "naive": f"{_percent(now.get(('quality_accuracy_naive_ratio', '')))} among the labels (biased)",
        "balanced": _interval(now, "quality_balanced_accuracy_ratio", "quality_balanced_accuracy_{}_ratio") or "-",
        "worst class": _percent(now.get(("quality_least_recall_ratio", ""))),
        "gain over random": _interval(now, "gain_over_random_ratio", "gain_over_random_{}_ratio") or "-",
        "unanswered": f"{_percent(now.get(('unanswered_ratio', '')))} of the closed requests",
    }


def _interval(now: Series, name: str, ends: str) -> str:
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


def _speed(now: Series, before: Series | None, name: str, seconds: float) -> str:
    found = rate(now, before, name, seconds)
    return "-" if found is None else f"{found:,.1f}/s"


def _whole(now: Series, name: str) -> str:
    value = now.get((name, ""))
    return "-" if value is None else f"{value:,.0f}"


def _percent(value: float | None) -> str:
    return "-" if value is None or math.isnan(value) else f"{100 * value:.2f} %"


def _age(seconds: float | None) -> str:
    """Return a duration for people.

    >>> _age(0.025), _age(90.0), _age(7200.0)
    ('25 ms', '1.5 min', '2.0 h')
    """
    if seconds is None:
        return "-"
    for unit, name in ((86_400.0, "d"), (3_600.0, "h"), (60.0, "min"), (1.0, "s")):
        if seconds >= unit:
            return f"{seconds / unit:.1f} {name}" if math.isfinite(seconds) else "longer than all buckets"
    return f"{1_000 * seconds:.0f} ms"
