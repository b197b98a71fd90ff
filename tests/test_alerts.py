"""Each alert fires when it should and is silent when all is well, by Prometheus' own tester; each has a runbook."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from streamal.edge.metrics import METRICS
from tests.prometheus_tools import promtool, tool

ROOT = Path(__file__).parents[1]
RULES = ROOT / "docker/prometheus/rules.yml"
ALERTS: dict[str, dict[str, Any]] = {
    rule["alert"]: rule
    for group in yaml.safe_load(RULES.read_text())["groups"]
    for rule in group["rules"]
    if "alert" in rule
}
RUNBOOK = (ROOT / "docs/runbook.md").read_text()

Series = dict[str, str]

ACCEPTED, EVENTS = 'streamal_events_total{job="streamal",outcome="accepted"}', 'streamal_events_total{job="streamal"}'
REQUESTS, LIMIT = 'streamal_requests_total{job="streamal",lane="strategy"}', "streamal_budget_share_limit_ratio"
ANSWERED = 'streamal_replies_total{job="streamal",outcome="accepted"}'
LETTERS = 'streamal_dead_letters_total{job="streamal",reason="not_json"}'
ON = '{job="streamal"}'
EXAMPLES = f"streamal_model_examples{ON}"
ONE, TWO = '{job="streamal",instance="1"}', '{job="streamal",instance="2"}'

MORE_LABELS = {
    "StreamalBudgetNearlySpent": {"window": "cost_day"},
    "StreamalStaleModel": {"instance": "2"},
    "StreamalSnapshotFailing": {"outcome": "failed"},
}
CASES: dict[str, tuple[Series, Series]] = {
    "StreamalDown": ({f"up{ON}": "0x300"}, {f"up{ON}": "1x300"}),
    "StreamalStuck": (
        {f"streamal_last_step_timestamp_seconds{ON}": "60x300"},
        {f"streamal_last_step_timestamp_seconds{ON}": "0+60x300"},
    ),
    "StreamalMute": ({f"streamal_mute_partitions{ON}": "1x300"}, {f"streamal_mute_partitions{ON}": "0x300"}),
    "StreamalFlood": (
        {ACCEPTED: "0+6000x300", REQUESTS: "0+1300x300", f"{LIMIT}{ON}": "0.1x300"},
        {ACCEPTED: "0+6000x300", REQUESTS: "0+610x300", f"{LIMIT}{ON}": "0.1x300"},
    ),
    "StreamalBudgetNearlySpent": (
        {f"streamal_budget_left_cost_day{ON}": "2x300", f"streamal_budget_limit_cost_day{ON}": "25x300"},
        {
            f"streamal_budget_left_cost_day{ONE}": "2x300",  # one worker's part; the other has much left
            f"streamal_budget_left_cost_day{TWO}": "9x300",
            f"streamal_budget_limit_cost_day{ONE}": "25x300",
            f"streamal_budget_limit_cost_day{TWO}": "25x300",
        },
    ),
    "StreamalBudgetOverspent": (
        {f"streamal_requests_over_budget{ON}": "1x300"},
        {f"streamal_requests_over_budget{ON}": "0x300"},
    ),
    "StreamalClock": (
        {f"streamal_clock_ahead_seconds{ONE}": "3600x300", f"streamal_clock_jump_seconds{TWO}": "-3600x300"},
        {f"streamal_clock_ahead_seconds{ONE}": "0.01x300", f"streamal_clock_jump_seconds{TWO}": "0x300"},
    ),
    "StreamalLabelsNotComingBack": (
        {f"streamal_open_requests{ON}": "40x300", ANSWERED: "7x300"},
        {f"streamal_open_requests{ON}": "40x300", ANSWERED: "0+1x300"},
    ),
    "StreamalQueueFull": (
        {f"streamal_open_requests{ON}": "9900x300", f"streamal_open_requests_limit{ON}": "10000x300"},
        {f"streamal_open_requests{ON}": "900x300", f"streamal_open_requests_limit{ON}": "10000x300"},
    ),
    "StreamalQualityFell": (
        {f"streamal_quality_accuracy_high_ratio{ON}": "0.79x300", EXAMPLES: "500x300"},
        {f"streamal_quality_accuracy_high_ratio{ON}": "0.81x300", EXAMPLES: "500x300"},
    ),
    "StreamalWorseThanRandom": (
        {f"streamal_gain_over_random_high_ratio{ON}": "-0.01x300", EXAMPLES: "500x300"},
        {f"streamal_gain_over_random_high_ratio{ON}": "0.01x300", EXAMPLES: "500x300"},
    ),
    "StreamalDrift": (
        {
            f"streamal_confidence_recent_ratio{ON}": "0.7x300",
            f"streamal_confidence_reference_ratio{ON}": "0.9x300",
            EXAMPLES: "500x300",
        },
        {
            f"streamal_confidence_recent_ratio{ON}": "0.85x300",
            f"streamal_confidence_reference_ratio{ON}": "0.9x300",
            EXAMPLES: "500x300",
        },
    ),
    "StreamalLag": (
        {f"streamal_lag_events{ON}": "90000x300", EVENTS: "0+6000x300"},
        {f"streamal_lag_events{ON}": "9000x300", EVENTS: "0+6000x300"},
    ),
    "StreamalStaleModel": (
        {f"streamal_model_version{ONE}": "5000x300", f"streamal_model_version{TWO}": "4000x300"},
        {f"streamal_model_version{ONE}": "5000x300", f"streamal_model_version{TWO}": "4990x300"},
    ),
    "StreamalModelSick": ({f"streamal_model_sick{ON}": "1x300"}, {f"streamal_model_sick{ON}": "0x300"}),
    "StreamalDeadLetters": (
        {LETTERS: "0+600x300", EVENTS: "0+6000x300", ANSWERED: "0x300"},
        {LETTERS: "0+60x300", EVENTS: "0+6000x300", ANSWERED: "0x300"},
    ),
    "StreamalEventsDoNotFit": (
        {f"streamal_misfit_events_ratio{ON}": "0.9x300"},
        {f"streamal_misfit_events_ratio{ON}": "0.1x300"},
    ),
    "StreamalSnapshotFailing": (
        {'streamal_snapshots_total{job="streamal",outcome="failed"}': "0+1x300"},
        {'streamal_snapshots_total{job="streamal",outcome="failed"}': "3x300"},
    ),
    "StreamalTransactionsFail": (
        {
            'streamal_steps_total{job="streamal",outcome="uncommitted"}': "0+30x300",
            'streamal_steps_total{job="streamal",outcome="committed"}': "0+30x300",
        },
        {
            'streamal_steps_total{job="streamal",outcome="uncommitted"}': "0+1x300",
            'streamal_steps_total{job="streamal",outcome="committed"}': "0+300x300",
        },
    ),
}  # fmt: skip


def test_the_rules_and_the_scrape_are_sound() -> None:
    """Promtool has nothing to say against rules and configuration; every metric in a rule is one of ours."""
    assert promtool("check", "rules", "--lint-fatal", RULES)[0] == 0
    assert promtool("check", "config", "--syntax-only", RULES.parent / "prometheus.yml")[0] == 0
    ours = {
        f"{metric.exported_name}{suffix}"
        for metric in METRICS
        for suffix in (("_bucket", "_sum", "_count") if metric.type == "histogram" else ("",))
    }
    for rule in ALERTS.values():
        assert set(re.findall(r"\bstreamal_\w+", rule["expr"])) <= ours, rule["alert"]


@pytest.mark.parametrize("firing", [True, False], ids=["fires", "is silent"])
def test_each_alert(tmp_path: Path, firing: bool) -> None:
    """Fed with the series of a fault an alert fires, and it alone; fed with those of a good day none does."""
    assert CASES.keys() == ALERTS.keys()
    series, expectations = [], []
    for name, (bad, good) in CASES.items():
        job = f"streamal-{name}"  # all in one test, which is much quicker; each has a job of its own
        for each, values in (bad if firing else good).items():
            series.append({"series": each.replace('job="streamal"', f'job="{job}"'), "values": values})
        labels = {"severity": ALERTS[name]["labels"]["severity"], "job": job, **MORE_LABELS.get(name, {})}
        expected = [{"exp_labels": labels, "exp_annotations": ALERTS[name]["annotations"]}]
        expectations.append({"eval_time": "4h", "alertname": name, "exp_alerts": expected if firing else []})
    tests = [{"interval": "1m", "input_series": series, "alert_rule_test": expectations}]
    path = tmp_path / "tests.yml"
    whole = {"rule_files": [str(RULES)], "evaluation_interval": "5m", "tests": tests}
    path.write_text(json.dumps(whole))  # JSON is YAML
    code, said = promtool("test", "rules", path)
    assert code == 0, said


def test_a_model_that_is_only_beginning_alarms_nobody(tmp_path: Path) -> None:
    """Below 200 examples neither a low accuracy nor a loss against random labels is news, however long it lasts."""
    series = {f"streamal_quality_accuracy_high_ratio{ON}": "0.6x300", EXAMPLES: "0+1x180"}
    series[f"streamal_gain_over_random_high_ratio{ON}"] = "-0.1x300"
    names = ("StreamalQualityFell", "StreamalWorseThanRandom")
    test = {
        "interval": "1m",
        "input_series": [{"series": name, "values": values} for name, values in series.items()],
        "alert_rule_test": [{"eval_time": "3h", "alertname": name, "exp_alerts": []} for name in names],
    }
    path = tmp_path / "tests.yml"
    path.write_text(json.dumps({"rule_files": [str(RULES)], "evaluation_interval": "5m", "tests": [test]}))
    code, said = promtool("test", "rules", path)
    assert code == 0, said


def test_the_tester_can_fail(tmp_path: Path) -> None:
    """An alert that does not fire where one is expected is an error: the tests above can fail."""
    wrong = {
        "interval": "1m",
        "input_series": [{"series": f"streamal_mute_partitions{ON}", "values": "1x300"}],
        "alert_rule_test": [{"eval_time": "4h", "alertname": "StreamalMute", "exp_alerts": []}],
    }
    path = tmp_path / "tests.yml"
    path.write_text(json.dumps({"rule_files": [str(RULES)], "evaluation_interval": "5m", "tests": [wrong]}))
    assert promtool("test", "rules", path)[0] != 0


@pytest.mark.parametrize("name", ALERTS)
def test_each_alert_has_a_runbook(name: str) -> None:
    """A section of its own, which says what it means, what to look at and what to do; the alert links it."""
    section = re.search(rf"^## {name}\n(.*?)(?=^## |\Z)", RUNBOOK, flags=re.MULTILINE | re.DOTALL)
    assert section is not None
    assert {"**Means.**", "**Look.**", "**Do.**"} <= set(re.findall(r"\*\*\w+\.\*\*", section[1]))
    assert ALERTS[name]["annotations"]["runbook_url"].endswith(f"docs/runbook.md#{name.lower()}")


def test_alertmanager_takes_its_configuration() -> None:
    """Amtool has nothing to say against it."""
    import subprocess

    path = ROOT / "docker/alertmanager/alertmanager.yml"
    subprocess.run([tool("amtool"), "check-config", path], check=True, capture_output=True)
