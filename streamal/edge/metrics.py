"""The metrics that Prometheus scrapes: one table declares each of them with all its label values.

The table decides names, units and help texts (https://prometheus.io/docs/practices/naming), never what is counted.
The gauges of the core are declared beside their values (`streamal.core.gauges`). F49, forged values as metric labels:
a label value comes out of a closed set, and anything else is counted as ``other``. So 100,000 forged classes do not
become 100,000 series.
"""

from __future__ import annotations

import math
from enum import StrEnum
from typing import Literal, NamedTuple

from prometheus_client import (
    CONTENT_TYPE_PLAIN_0_0_4,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    Info,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.openmetrics import exposition as openmetrics

from streamal import __version__
from streamal.core.budget.money import WINDOWS
from streamal.core.gauges.gauges import GAUGES
from streamal.core.records import Lane, Outcome, Reason

__all__ = ["METRICS", "OTHER", "Metric", "NullMeter", "PrometheusMeter"]

OTHER = "other"
"""The label value of everything that is not declared."""

_STEP_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
"""A step waits for a transaction: milliseconds on SQLite, up to the transaction timeout on Kafka."""
_OPENMETRICS = "application/openmetrics-text"
_EXEMPLAR_CHARACTERS_MAX = 100
"""OpenMetrics allows 128 for an exemplar, its label's name included; a client raises for more."""
_HOUR, _DAY = 3_600.0, 86_400.0
_DELAY_BUCKETS = (
    *(0.1, 1.0, 5.0, 15.0, 60.0, 300.0, 900.0),
    *(_HOUR, 4 * _HOUR, 12 * _HOUR),
    *(_DAY, 3 * _DAY, 7 * _DAY, 14 * _DAY, 30 * _DAY),
)
"""A program replies at once, a person after minutes or days, a charge-back comes after weeks."""


class Metric(NamedTuple):
    """One declared metric.

    Attributes:
        name: its name in the daemon.
        help: one line for the person who reads the scrape.
        unit: the base unit, where *name* does not end with it.
        label: the name of its only label, "" for none.
        kinds: all values of the label.
        buckets: upper bounds of a histogram.
    """

    name: str
    type: Literal["counter", "gauge", "histogram", "info"]
    help: str
    unit: str = ""
    label: str = ""
    kinds: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()

    @property
    def exported_name(self) -> str:
        """Return the name that Prometheus sees.

        >>> Metric("events", "counter", "").exported_name, Metric("spent", "gauge", "", unit="ratio").exported_name
        ('streamal_events_total', 'streamal_spent_ratio')
        """
        ending = {"counter": "_total", "info": "_info"}.get(self.type, "")
        return f"streamal_{self.name}{'_' if self.unit else ''}{self.unit}{ending}"


def _values(kinds: type[StrEnum]) -> tuple[str, ...]:
    return tuple(kind.value for kind in kinds)


METRICS: tuple[Metric, ...] = (
    Metric("events", "counter", "Events consumed.", label="outcome", kinds=("accepted", "refused")),
    Metric("features_dropped", "counter", "Features of accepted events that the schema does not know."),
    Metric("misfit_events", "counter", "Accepted events that had a feature dropped, or lack a declared one."),
    Metric("requests", "counter", "Labels asked for.", label="lane", kinds=_values(Lane)),
    Metric("events_without_propensity", "counter", "Accepted events that had no chance of being asked."),
    Metric("uniform_predictions", "counter", "Predictions without any preference: an untrained or a broken model."),
    Metric("replies", "counter", "Replies consumed.", label="outcome", kinds=_values(Outcome)),
    Metric("natural_labels", "counter", "Labels that nobody asked for.", label="outcome", kinds=_values(Outcome)),
    Metric("expiries", "counter", "Requests closed because nobody answered in time."),
    Metric("dead_letters", "counter", "Refused records.", label="reason", kinds=_values(Reason)),
    Metric("folded", "counter", "Training records folded into the model by this process."),
    Metric("steps", "counter", "Transactions tried.", label="outcome", kinds=("committed", "uncommitted")),
    Metric("snapshots", "counter", "Snapshots written.", label="outcome", kinds=("saved", "failed")),
    *(Metric(gauge.name, "gauge", gauge.help, gauge.unit) for gauge in GAUGES),
    Metric("open_requests_limit", "gauge", "Open requests at which nothing more is asked."),
    Metric("budget_share_limit", "gauge", "Share of events that may be asked.", unit="ratio"),
    *(Metric(f"budget_limit_cost_{window}", "gauge", f"The cap on money of a {window}.") for window in WINDOWS),
    Metric("budget_limit_requests_hour", "gauge", "The cap on requests of a clock hour."),
    Metric("budget_limit_requests_day", "gauge", "The cap on requests of a calendar day."),
    Metric("cost_per_label", "gauge", "The most that one label can cost."),
    Metric(
        "clock_jump_seconds", "gauge", "How far the clock has jumped; 0 if it did not, or if that is believed by now."
    ),
    Metric("last_snapshot_timestamp_seconds", "gauge", "When the last snapshot was saved."),
    Metric("last_step_timestamp_seconds", "gauge", "When the last step ended."),
    Metric("last_fold_timestamp_seconds", "gauge", "When this process last folded training: the model is that fresh."),
    Metric("lag_events", "gauge", "Events that wait, in the partitions owned."),
    Metric("lag_labels", "gauge", "Replies that wait, if this worker is the trainer."),
    Metric("step_seconds", "histogram", "Duration of a step, its commit included.", buckets=_STEP_BUCKETS),
    Metric("commit_seconds", "histogram", "Duration of a transaction alone.", buckets=_STEP_BUCKETS),
    Metric("label_delay_seconds", "histogram", "From request to its label.", buckets=_DELAY_BUCKETS),
    Metric("build", "info", "What runs.", label="version"),
    Metric("currency", "info", "The currency of streamal_spend.", label="currency"),
)
"""All metrics; docs/reference/metrics.md lists the same."""


class NullMeter:
    """A meter that does nothing: for replays and tests."""

    def count(self, name: str, kind: str, amount: float, at: str = "") -> None:
        """Do nothing."""

    def gauge(self, name: str, value: float) -> None:
        """Do nothing."""

    def observe(self, name: str, value: float, at: str = "") -> None:
        """Do nothing."""


class PrometheusMeter:
    """The metrics of `METRICS` in a registry of their own; one thread writes, another may `render` meanwhile.

    A name that is not declared is a programmer's error; a kind that is not declared is ``other``.
    """

    content_type = CONTENT_TYPE_PLAIN_0_0_4

    def __init__(self, currency: str = "") -> None:
        """Declare everything; counters start at 0, so that ``rate()`` sees the first increment.

        Args:
            currency: what `spend` is counted in, "" if labels cost nothing.
        """
        # `_created` series would double the counters' and tell only when the process started
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self._registry = CollectorRegistry()
        self._counters: dict[str, dict[str, Counter]] = {}
        self._gauges: dict[str, Gauge] = {}
        self._shown: set[str] = set()
        self._histograms: dict[str, Histogram] = {}
        infos = {"build": __version__, "currency": currency}
        for metric in METRICS:
            match metric.type:
                case "counter":
                    self._counters[metric.name] = self._counter(metric)
                case "gauge":
                    self._gauges[metric.name] = Gauge(metric.exported_name, metric.help, registry=None)
                case "histogram":
                    histogram = Histogram(
                        metric.exported_name, metric.help, buckets=metric.buckets, registry=self._registry
                    )
                    self._histograms[metric.name] = histogram
                case "info" if infos[metric.name]:
                    info = Info(metric.exported_name.removesuffix("_info"), metric.help, registry=self._registry)
                    info.info({metric.label: infos[metric.name]})

    def count(self, name: str, kind: str, amount: float, at: str = "") -> None:
        """Add *amount* >= 0 to the counter *name* for *kind* ("" if it has no label); *at* names an exemplar."""
        assert name in self._counters, f"counter {name!r} is not in METRICS"
        children = self._counters[name]
        children.get(kind, children[OTHER]).inc(amount, _exemplar(at))

    def gauge(self, name: str, value: float) -> None:
        """Set the gauge *name*. Its series begins with the first value and ends with NaN.

        So a worker that is not the trainer exports no accuracy, rather than an accuracy of 0.
        """
        assert name in self._gauges, f"gauge {name!r} is not in METRICS"
        gauge = self._gauges[name]
        gauge.set(value)
        if math.isnan(value):
            if name in self._shown:
                self._shown.discard(name)
                self._registry.unregister(gauge)
        elif name not in self._shown:
            self._shown.add(name)
            self._registry.register(gauge)

    def observe(self, name: str, value: float, at: str = "") -> None:
        """Add an observation to the histogram *name*; *at* are the coordinates of an exemplar."""
        assert name in self._histograms, f"histogram {name!r} is not in METRICS"
        self._histograms[name].observe(value, _exemplar(at))

    def figures(self) -> dict[str, float]:
        """Return exported name -> value of the gauges that have one, and of the counters over all kinds."""
        found: dict[str, float] = {}
        for metric in self._registry.collect():
            if metric.type in ("gauge", "counter"):
                for sample in metric.samples:
                    found[sample.name] = found.get(sample.name, 0.0) + sample.value
        return found

    def render(self) -> bytes:
        """Return all series in Prometheus' text format; its content type is `content_type`."""
        return generate_latest(self._registry)

    def render_for(self, accept: str) -> tuple[str, bytes]:
        """Return (content type, all series) for a client's *accept* header; OpenMetrics has the exemplars."""
        if _OPENMETRICS in accept:
            return openmetrics.CONTENT_TYPE_LATEST, openmetrics.generate_latest(self._registry)  # type: ignore[no-untyped-call]
        return self.content_type, self.render()

    def _counter(self, metric: Metric) -> dict[str, Counter]:
        """Return kind -> child, resolved once; a counter without a label has one child for every kind."""
        if not metric.label:
            return {OTHER: Counter(metric.exported_name, metric.help, registry=self._registry)}
        counter = Counter(metric.exported_name, metric.help, [metric.label], registry=self._registry)
        return {kind: counter.labels(kind) for kind in (*metric.kinds, OTHER)}


def _exemplar(at: str) -> dict[str, str] | None:
    """Return *at* as an exemplar; of the key of a dead letter, whose topic may be long, only as much as fits."""
    if len(at) > _EXEMPLAR_CHARACTERS_MAX:
        at = at.rpartition("/")[2]
    return {"coordinates": at} if at else None
