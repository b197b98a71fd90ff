"""The scrape: declared, bounded, named as Prometheus wants it."""

from __future__ import annotations

import ast
import math
import random
import re
import string
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

import streamal
from streamal.core.records import Lane, Outcome, Reason
from streamal.edge.metrics import METRICS, OTHER, Metric, NullMeter, PrometheusMeter
from streamal.ports import Meter
from tests.prometheus_tools import promtool

PACKAGE = Path(streamal.__file__).parent
BY_NAME = {metric.name: metric for metric in METRICS}
COUNTERS = [metric for metric in METRICS if metric.type == "counter"]
KINDS = [(metric.name, kind) for metric in COUNTERS for kind in (metric.kinds or ("",))]


def scrape(meter: PrometheusMeter) -> dict[tuple[str, str], float]:
    """Return (series name, label value or "") -> value."""
    return {
        (sample.name, ",".join(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(meter.render().decode())
        for sample in family.samples
    }


def filled() -> PrometheusMeter:
    """Return a meter in which every metric has a value."""
    meter = PrometheusMeter(currency="EUR")
    for metric in METRICS:
        if metric.type == "gauge":
            meter.gauge(metric.name, 0.5)
        elif metric.type == "histogram":
            meter.observe(metric.name, 0.5)
    return meter


def test_forged_kinds_do_not_grow_the_scrape() -> None:
    """After 10,000 random kinds for every counter the scrape has the very same series (F49)."""
    meter, chance = filled(), random.Random(49)
    before, size = scrape(meter).keys(), len(meter.render())
    for _ in range(10_000):
        kind = "".join(chance.choices(string.printable, k=12))
        for metric in COUNTERS:
            meter.count(metric.name, kind, 1)
    after = scrape(meter)
    assert after.keys() == before
    assert len(meter.render()) < size + 6 * len(before)
    assert after["streamal_dead_letters_total", OTHER] == 10_000
    assert after["streamal_dead_letters_total", Reason.NOT_JSON] == 0


@given(st.lists(st.tuples(st.sampled_from(KINDS), st.integers(0, 1_000)), max_size=50))
def test_counters_add_up(counts: list[tuple[tuple[str, str], int]]) -> None:
    """Each series is the sum of what was counted for it, and those not counted are there with 0."""
    meter, expected = PrometheusMeter(), Counter[tuple[str, str]]()
    for (name, kind), amount in counts:
        meter.count(name, kind, amount)
        expected[BY_NAME[name].exported_name, kind] += amount
    shown = {series: value for series, value in scrape(meter).items() if series[0].endswith("_total")}
    assert {series: shown[series] for series in expected} == expected
    assert sum(shown.values()) == expected.total()
    assert len(shown) == len(KINDS) + sum(bool(metric.label) for metric in COUNTERS)


def test_the_enums_are_the_label_values() -> None:
    """Every Outcome, Reason and Lane has a series of its own."""
    assert set(BY_NAME["replies"].kinds) == set(Outcome)
    assert set(BY_NAME["dead_letters"].kinds) == set(Reason)
    assert set(BY_NAME["requests"].kinds) == set(Lane)


def test_a_gauge_without_a_value_is_not_exported() -> None:
    """No accuracy is not an accuracy of 0: the series comes with the first value and goes with NaN."""
    meter, series = PrometheusMeter(), ("streamal_quality_accuracy_ratio", "")
    assert series not in scrape(meter)
    meter.gauge("quality_accuracy", math.nan)
    assert series not in scrape(meter)
    meter.gauge("quality_accuracy", 0.75)
    assert scrape(meter)[series] == 0.75
    meter.gauge("quality_accuracy", math.nan)
    assert series not in scrape(meter)
    meter.gauge("quality_accuracy", 0.5)
    assert scrape(meter)[series] == 0.5


def test_histograms_reach_from_a_tenth_of_a_second_to_a_month() -> None:
    """A label's delay of two weeks falls into a bucket of its own."""
    meter = PrometheusMeter()
    meter.observe("label_delay_seconds", 14 * 86_400)
    shown = scrape(meter)
    assert shown["streamal_label_delay_seconds_bucket", str(7 * 86_400.0)] == 0
    assert shown["streamal_label_delay_seconds_bucket", "1.2096e+06"] == 1
    assert shown["streamal_label_delay_seconds_sum", ""] == 14 * 86_400
    assert (BY_NAME["label_delay_seconds"].buckets[0], BY_NAME["label_delay_seconds"].buckets[-1]) == (0.1, 2_592_000)


def test_what_runs_and_what_it_pays_in_are_told() -> None:
    """The build and the currency are info metrics; without a currency there is none."""
    assert scrape(filled())["streamal_build_info", streamal.__version__] == 1
    assert scrape(filled())["streamal_currency_info", "EUR"] == 1
    assert not any(name == "streamal_currency_info" for name, _ in scrape(PrometheusMeter()))


@pytest.mark.parametrize("metric", METRICS, ids=lambda metric: metric.name)
def test_names_follow_the_rules(metric: Metric) -> None:
    """One prefix, snake case, `_total` on counters only, base units at the end, a help text, no reserved label."""
    name = metric.exported_name
    assert re.fullmatch(r"streamal(_[a-z0-9]+)+", name)
    assert name.endswith("_total") == (metric.type == "counter")
    assert name.endswith("_info") == (metric.type == "info")
    assert not re.search(r"_(counter|gauge|histogram|summary|ms|milliseconds|minutes|percent|bucket|count|sum)\b", name)
    if re.search("timestamp|oldest|delay|step_", name) and metric.type != "counter":
        assert name.endswith("_seconds")
    assert metric.help.endswith(".")
    assert len(metric.help) < 100
    assert metric.label not in ("le", "quantile", "job", "instance")
    assert OTHER not in metric.kinds
    assert bool(metric.buckets) == (metric.type == "histogram")
    assert list(metric.buckets) == sorted(set(metric.buckets))


def test_the_scrape_is_what_was_declared() -> None:
    """Every declared metric is exported under its name and help, and nothing else is (no `_created` either)."""
    help_texts = dict(re.findall(r"^# HELP (\S+) (.*)$", filled().render().decode(), flags=re.MULTILINE))
    assert help_texts == {metric.exported_name: metric.help for metric in METRICS}
    assert PrometheusMeter.content_type.startswith("text/plain; version=0.0.4")


def test_promtool_has_no_complaint() -> None:
    """Where Prometheus' own linter is installed, it agrees."""
    assert promtool("check", "metrics", stdin=filled().render()) == (0, "")
    code, said = promtool("check", "metrics", stdin=b"# HELP x_ms No.\n# TYPE x_ms counter\nx_ms 1\n")
    assert (code, "abbreviated" in said, "_total" in said) == (3, True, True)


def said(path: Path) -> Iterator[tuple[str, str | None]]:
    """Yield (name, kind if it is a literal) of every `meter.…("name", …)` and `tally["name", kind]` in a file."""
    for node in ast.walk(ast.parse(path.read_text())):
        match node:
            case ast.Call(
                func=ast.Attribute(attr="count", value=ast.Attribute(attr="_meter")),
                args=[ast.Constant(value=str(name)), ast.Constant(value=str(kind)), _],
            ):
                yield name, kind
            case ast.Call(
                func=ast.Attribute(attr="gauge" | "observe", value=ast.Attribute(attr="_meter")),
                args=[ast.Constant(value=str(name)), *_],
            ):
                yield name, None
            case ast.Subscript(
                value=ast.Name(id="tally" | "counts") | ast.Attribute(attr="tally"),
                slice=ast.Tuple(elts=[name_node, kind_node]),
            ):
                for each in ast.walk(name_node):
                    if isinstance(each, ast.Constant):
                        yield str(each.value), kind_node.value if isinstance(kind_node, ast.Constant) else None  # type: ignore[misc]


@pytest.mark.parametrize("module", ["daemon/daemon.py", "core/infer.py", "core/join.py"])
def test_whatever_is_counted_is_declared(module: str) -> None:
    """Every literal name and kind that the loop and the core use is in the table."""
    names = list(said(PACKAGE / module))
    assert names
    for name, kind in names:
        assert name in BY_NAME, name
        assert kind is None or kind in (BY_NAME[name].kinds or ("",)), (name, kind)


def test_an_undeclared_name_is_a_programmers_error() -> None:
    """A misspelt name is noticed by the first test that runs the code."""
    meter = PrometheusMeter()
    with pytest.raises(AssertionError, match="is not in METRICS"):
        meter.count("evnets", "accepted", 1)
    with pytest.raises(AssertionError, match="is not in METRICS"):
        meter.gauge("events", 1)
    with pytest.raises(AssertionError, match="is not in METRICS"):
        meter.observe("events", 1)


def test_rendering_and_counting_go_side_by_side() -> None:
    """A scrape while the daemon counts, shows and hides raises nothing and loses nothing."""
    meter = filled()

    def work() -> None:
        for number in range(2_000):
            meter.count("events", "accepted", 1)
            meter.gauge("quality_accuracy", math.nan if number % 2 else 0.5)

    thread = threading.Thread(target=work)
    thread.start()
    while thread.is_alive():
        meter.render()
    assert scrape(meter)["streamal_events_total", "accepted"] == 2_000


def test_a_null_meter_takes_everything() -> None:
    """The replay's meter forgets any name."""
    meter: Meter = NullMeter()
    meter.count("x", "y", 1)
    meter.gauge("x", 1)
    meter.observe("x", 1)
