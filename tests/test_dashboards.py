"""The dashboard: built from the code, and every query of it has data from a real run, by a real Prometheus."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from streamal.edge import grafana
from streamal.edge.grafana import CAUSES, PANELS
from tests.conftest import Cli, environment
from tests.prometheus_tools import exemplars, free_port, prometheus, promtool, query, tool, wait_until

ROOT = Path(__file__).parents[1]
COMMITTED = ROOT / "docker/grafana/dashboards/streamal.json"
TOKEN = "a-token-of-the-test-run"

CONFIG = """\
[transport]
poll_timeout_s = 0.05
[labels]
ttl_s = 1.5
[budget]
share = 0.5
audit_share = 0.5
burst = 50
cost_per_label = 0.08
cost_per_day = 500
per_day = 100000
[quality]
control = true
[snapshots]
every_s = 1.0
[server]
port = {port}
"""


def test_the_committed_dashboard_is_the_built_one(cli: Cli, directory: Path) -> None:
    """`streamal dashboards build` writes, byte for byte, what docker/ provisions."""
    ended = cli("dashboards", "build", "--out", "board.json")
    assert ended.code == 0
    assert (directory / "board.json").read_text() == COMMITTED.read_text()
    assert cli("dashboards", "build").out == COMMITTED.read_text()
    assert cli("dashboards", "build", "--out", "no/such/place.json").code == 2


def test_the_dashboard_is_grafanas_current_kind() -> None:
    """The pinned SDK makes schema 39 or newer (an older line of it has the higher version number on PyPI)."""
    board = json.loads(COMMITTED.read_text())
    assert board["schemaVersion"] >= 39
    panels = [panel for panel in board["panels"] if panel["type"] != "row"]
    assert [panel["title"] for panel in panels] == [panel.title for panel in PANELS]
    assert next(panel["title"] for panel in board["panels"]) == "Overview"
    assert {target["datasource"]["uid"] for panel in panels for target in panel["targets"]} == {"${datasource}"}
    source = (ROOT / "docker/grafana/provisioning/datasources/prometheus.yml").read_text()
    assert f"uid: {grafana.DATA_SOURCE}\n" in source


def test_the_dashboard_is_an_operators() -> None:
    """Nobody edits what is provisioned; source and job are chosen; what was saved comes first, with its currency."""
    board = json.loads(COMMITTED.read_text())
    assert board["editable"] is False
    sources, job = board["templating"]["list"]
    assert (sources["type"], sources["current"]["value"]) == ("datasource", grafana.DATA_SOURCE)
    assert (job["name"], job["refresh"]) == ("job", 2)  # on a change of the time range
    assert PANELS[0].title == "Saved"
    for panel in PANELS:
        assert len(panel.queries) <= 26
        if panel.kind == "money" or "streamal_spend" in "".join(panel.queries.values()):
            assert all("{{currency}}" in legend for legend in panel.queries), panel.title
        if "{{reason}}" in panel.queries or "streamal_replies_total" in "".join(panel.queries.values()):
            assert all(expression.endswith("> 0") for expression in panel.queries.values())  # no twenty zero series


class Watched(NamedTuple):
    """A Prometheus that has scraped a run."""

    url: str
    port: int


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    """A daemon, a simulated world beside it, and a Prometheus that scrapes it with the token."""
    tool("prometheus")
    place, port = tmp_path_factory.mktemp("watched"), free_port()
    (place / "config.toml").write_text(CONFIG.format(port=port))
    command, env = [sys.executable, "-m", "streamal"], environment(STREAMAL_SERVER__TOKEN=TOKEN, PYTHONPATH=str(ROOT))
    (place / "token").write_text(TOKEN)
    config = (
        "global: {scrape_interval: 500ms, evaluation_interval: 500ms}\n"
        f"scrape_configs: [{{job_name: streamal, authorization: {{credentials_file: {place / 'token'}}}, "
        f'static_configs: [{{targets: ["127.0.0.1:{port}"]}}]}}]\n'
    )
    with (place / "run.log").open("wb") as log:
        running = subprocess.Popen([*command, "run"], cwd=place, env=env, stdout=log, stderr=log)
        try:
            with prometheus(place, config) as url:
                wait_until(lambda: query(url, 'up{job="streamal"} == 1'), 60)
                simulate = "simulate river:Phishing --label target --rate 400 --delay 0.2 --silence 0.05 --linger 2"
                subprocess.run([*command, *simulate.split()], cwd=place, env=env, check=True, capture_output=True)
                yield Watched(url, port)
        finally:
            running.terminate()
            running.wait(timeout=120)


def test_every_query_has_data(watched: Watched) -> None:
    """No panel stays empty: each query of each returns a number that is one."""
    empty = []
    for panel in json.loads(COMMITTED.read_text())["panels"]:
        for target in panel.get("targets", ()):
            expression = target["expr"].replace("$job", "streamal").replace("$__rate_interval", "30s")
            found = query(watched.url, expression)
            if expression.endswith(" > 0") and not found:  # only what occurs
                continue
            if not found or any(series["value"][1] == "NaN" for series in found):
                empty.append((panel["title"], target["legendFormat"], expression, found))
    assert not empty


def test_the_overview_is_right(watched: Watched) -> None:
    """Spent is what the requests cost, saved is what the other events would have cost, accuracy is a share."""
    job = '{job="streamal"}'
    asked = float(query(watched.url, f"sum(streamal_requests_total{job})")[0]["value"][1])
    shown = {
        panel.title: next(iter(panel.queries.values())).replace("{J}", job)
        for panel in PANELS
        if panel.row == "Overview"
    }
    value = {
        title: float(query(watched.url, expression.replace("$__rate_interval", "30s"))[0]["value"][1])
        for title, expression in shown.items()
    }
    expired = float(query(watched.url, f"sum(streamal_expiries_total{job})")[0]["value"][1])
    assert value["Spent on labels"] == pytest.approx(0.08 * (asked - expired))
    assert value["Saved"] == pytest.approx((1250 / asked - 1) * value["Spent on labels"])
    assert 0.5 < value["Accuracy, at least"] < value["Accuracy"] <= 1.0


def test_why_nothing_is_asked(watched: Watched) -> None:
    """Each cause is 0 or 1; after a stream in which nothing went wrong the only one is that no events come."""
    [panel] = [each for each in json.loads(COMMITTED.read_text())["panels"] if each["title"] == "Why nothing is asked"]
    expressions = {
        target["legendFormat"]: target["expr"].replace("$job", "streamal").replace("$__rate_interval", "5s")
        for target in panel["targets"]
    }
    assert expressions.keys() == CAUSES.keys()

    def causes() -> dict[str, str]:
        return {name: query(watched.url, expression)[0]["value"][1] for name, expression in expressions.items()}

    wait_until(lambda: causes()["no events come"] == "1", 60)
    assert {name: value for name, value in causes().items() if value != "0"} == {"no events come": "1"}


@pytest.mark.parametrize(
    ("cause", "series"),
    [
        ("a cap is used up", {"streamal_budget_left_cost_day": 0.05, "streamal_cost_per_label": 0.08}),
        ("a cap is used up", {"streamal_budget_left_requests_hour": 0}),
        ("the queue is full", {"streamal_open_requests": 10, "streamal_open_requests_limit": 10}),
        ("annotators are too slow", {"streamal_open_requests": 10, "streamal_open_requests_pace_limit": 9}),
        ("a clock is wrong", {"streamal_clock_ahead_seconds": 90, "streamal_clock_jump_seconds": 0}),
        ("mute: something else", {"streamal_mute_partitions": 2}),
        (
            "the share is used up",
            {
                "streamal_events_without_propensity_total": "0+60x20",
                'streamal_events_total{outcome="accepted"}': "0+60x20",
                "streamal_budget_spent_ratio": 0.1,
                "streamal_budget_share_limit_ratio": 0.1,
            },
        ),
    ],
)
def test_each_cause_is_named(tmp_path: Path, cause: str, series: dict[str, float | str]) -> None:
    """Given the figures of one cause, the panel shows this one and no other; by Prometheus' own tester."""
    events = {'streamal_events_total{outcome="accepted"}': "0+60x20"}
    given = [
        {
            "series": f'{name[:-1]},job="j"}}' if name.endswith("}") else f'{name}{{job="j"}}',
            "values": value if isinstance(value, str) else f"{value}x20",
        }
        for name, value in {**events, **series}.items()
    ]
    expected = [
        {
            "expr": expression.replace("{J,", '{job="j",')
            .replace("{J}", '{job="j"}')
            .replace("$__rate_interval", "5m"),
            "eval_time": "15m",
            "exp_samples": [{"labels": "{}", "value": int(name == cause)}],
        }
        for name, expression in CAUSES.items()
    ]
    path = tmp_path / "tests.yml"
    path.write_text(json.dumps({"tests": [{"interval": "1m", "input_series": given, "promql_expr_test": expected}]}))
    code, said = promtool("test", "rules", path)
    assert code == 0, said


def test_exemplars_name_events(watched: Watched) -> None:
    """Prometheus takes OpenMetrics, and with it the coordinates of an event beside a slow step."""
    found = exemplars(watched.url, "streamal_step_seconds_bucket")
    names = {one["labels"]["coordinates"] for series in found for one in series["exemplars"]}
    assert names
    assert all(name.startswith("0-") for name in names)


def test_no_alert_would_fire(watched: Watched) -> None:
    """On a good run the expression of no alert holds, but for those that need hours of data."""
    import yaml

    rules = yaml.safe_load((ROOT / "docker/prometheus/rules.yml").read_text())["groups"][1]["rules"]
    for rule in rules:
        expression = rule["expr"].replace("streamal:quality_target:ratio", "vector(0.5)")
        assert not query(watched.url, expression), rule["alert"]
