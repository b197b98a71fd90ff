"""`streamal top`: the figures of a running daemon, from its admin port."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from streamal.edge.http import AdminServer, Page
from streamal.edge.metrics import METRICS, PrometheusMeter
from streamal.edge.scrape import scrape
from streamal.errors import ConfigError, ServiceUnavailable
from streamal.inspection.top import merge, panels, quantile, rate
from tests.conftest import Cli


def make_meter() -> PrometheusMeter:
    """Return a meter with a figure in every gauge, each another one."""
    meter = PrometheusMeter("EUR")
    for number, metric in enumerate(METRICS):
        if metric.type == "gauge":
            meter.gauge(metric.name, 0.0 if "mute" in metric.name or "sick" in metric.name else number / 100)
    meter.gauge("requests_over_budget", 0)
    meter.count("events", "accepted", 1_000)
    meter.count("requests", "audit", 30)
    meter.count("requests", "strategy", 70)
    meter.count("dead_letters", "not_json", 3)
    for delay_s in (0.05, 40.0, 40.0, 5_000.0):
        meter.observe("label_delay_seconds", delay_s)
    return meter


@pytest.fixture
def daemon() -> Iterator[tuple[PrometheusMeter, str]]:
    """A meter and the address at which it can be scraped."""
    meter = make_meter()
    server = AdminServer("127.0.0.1", 0, {"/metrics": lambda _: Page(200, meter.content_type, meter.render())})
    yield meter, f"http://127.0.0.1:{server.start()}/metrics"
    server.stop()


def test_every_figure_of_the_panels_is_a_metric_that_there_is(daemon: tuple[PrometheusMeter, str]) -> None:
    """With all metrics there, no row is empty, and the figures are theirs."""
    shown = {p.title: p.rows for p in panels(merge([scrape(daemon[1], 1.0).values]), None, 0.0)}
    gauges = {metric.name: number / 100 for number, metric in enumerate(METRICS)}
    empty = {name for rows in shown.values() for name, text in rows.items() if text.startswith("-")}
    assert empty == {"events", "requests", "replies"}  # speeds need a second look, and nobody has replied
    quality = [100 * gauges[f"quality_accuracy{end}"] for end in ("", "_low", "_high")]
    assert shown["Quality"]["accuracy"] == "{:.1f} % [{:.1f}, {:.1f}]".format(*quality)
    assert shown["Queue"]["label delay"] == "median 1.0 min, 95 % 4.0 h"
    assert shown["Refused"] == {"not json": "3"}
    assert shown["Budget"]["asked by"] == "strategy 70, audit 30"
    assert shown["Budget"]["left this hour"].endswith("requests") or "EUR" in shown["Budget"]["left this hour"]
    assert shown["Model and guards"]["alarms"] == "none"
    lately, before = (100 * gauges[f"confidence_{name}_ratio"] for name in ("recent", "reference"))
    assert shown["Model and guards"]["confidence"] == f"{lately:.2f} % lately, {before:.2f} % before"


def test_speeds_are_differences_and_a_restart_is_none(daemon: tuple[PrometheusMeter, str]) -> None:
    """Events since the last look, per second; a counter that fell begins anew."""
    before = scrape(daemon[1], 1.0).values
    daemon[0].count("events", "accepted", 50)
    now = scrape(daemon[1], 1.0).values
    assert rate(now, before, "events_total", 2.0) == 25.0
    assert rate(before, now, "events_total", 2.0) is None
    assert quantile(now, "step_seconds", 0.5) is None


def test_an_alarm_is_marked() -> None:
    """A mute partition of any worker turns its panel red."""
    series = merge([{("mute_partitions", ""): 0.0}, {("mute_partitions", ""): 1.0}])
    alarms = [panel for panel in panels(series, None, 0.0) if panel.alarm]
    assert [panel.rows["mute partitions"] for panel in alarms] == ["1"]


def test_once_prints_and_ends(cli: Cli, daemon: tuple[PrometheusMeter, str]) -> None:
    """For pipes: the panels as text, or as JSON."""
    ended = cli("top", "--once", "--url", daemon[1])
    assert ended.code == 0, ended.err
    assert "Throughput" in ended.out
    assert "1,000 so far" in ended.out
    assert json.loads(cli("top", "--json", "--url", daemon[1]).out)["Refused"] == {"not json": "3"}


def test_without_a_daemon_it_says_so(cli: Cli, directory: Path) -> None:
    """One line with the address, and 1; a wrong option is 2."""
    (directory / "config.toml").write_text("[server]\nport = 9\n")
    ended = cli("top", "--once")
    assert ended.code == 1
    assert "127.0.0.1:9/metrics" in ended.line
    assert cli("top", "--once", "--set", "server.port=0").code == 2
    with pytest.raises(ConfigError):
        scrape("file:///etc/passwd", 0.0)
    server = AdminServer("127.0.0.1", 0, {"/metrics": lambda _: Page(200, "text/plain", b"x 1\n")})
    url = f"http://127.0.0.1:{server.start()}"
    try:
        for path, told in (("/metrics", "has no series"), ("/other", "404")):
            with pytest.raises(ServiceUnavailable, match=told):
                scrape(url + path, 0.0)
    finally:
        server.stop()
