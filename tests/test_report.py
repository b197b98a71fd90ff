"""`streamal report`: cost, purchase, advice and curve, from the topics alone."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from streamal.core.codec.events import encode
from streamal.core.quality.estimates import Estimate
from streamal.core.records import Abstention, Example, Expiry, Lane
from streamal.edge.sqlite import SqliteLog
from streamal.inspection.report import Point, advise
from tests.conftest import Cli, Ended
from tests.making import make_request


def curve(accuracy: list[float], width: float, before: int = 0, each: int = 100) -> list[Point]:
    points = []
    for i, value in enumerate(accuracy):
        points.append(Point(before + each * (i + 0.5), float(i), Estimate(value, value - width / 2, value + width / 2)))
    return points


@pytest.mark.parametrize(
    ("accuracy", "width", "verdict", "said"),
    [
        ([0.6 + 0.05 * math.log(i + 1) for i in range(10)], 0.02, "raise", "would add about"),
        ([0.9 - 0.02 * i for i in range(10)], 0.02, "raise", "drifts away"),
        ([0.9 + 0.003 * math.log(i + 1) for i in range(10)], 0.001, "hold", "not by 1 point"),
        ([0.9] * 10, 0.002, "stop", "audit lane only"),
        ([0.9] * 10, 0.02, "lower", "hardly add 1 point"),
        ([0.9] * 10, 0.3, "hold", "cannot be told"),
    ],
)
def test_the_rule_of_the_advice(accuracy: list[float], width: float, verdict: str, said: str) -> None:
    """Each branch of the documented rule, by a curve that takes it; the reason is one sentence with its figures."""
    advice = advise(curve(accuracy, width), 0, 1_000)
    assert advice.verdict == verdict
    assert said in advice.reason
    assert "95 % interval" in advice.reason
    assert advice.gain is not None
    assert advice.gain.low <= advice.gain.value <= advice.gain.high


def test_few_labels_are_not_judged() -> None:
    """Below 120 labels, or with fewer than three points, the advice is to hold."""
    assert advise(curve([0.9] * 10, 0.001), 0, 119).verdict == "hold"
    assert advise(curve([0.9] * 2, 0.001), 0, 500).gain is None


def test_the_gain_is_that_of_the_learning_curve() -> None:
    """For accuracy = a + b·log(n) the gain of as many labels again is b·log(2), and its interval covers that."""
    random, covered = np.random.default_rng(3), 0
    for _ in range(100):
        noisy = [0.6 + 0.04 * math.log(100 * (i + 0.5)) + 0.02 * random.standard_normal() for i in range(12)]
        gain = advise(curve(noisy, 2 * 1.96 * 0.02), 0, 1_200).gain
        assert gain is not None
        covered += gain.low <= 0.04 * math.log(2) <= gain.high
    assert covered >= 88


# As a user.


@pytest.fixture
def reported(cli: Cli, demo: tuple[Path, Ended]) -> tuple[Cli, Path]:
    return cli, demo[0] / "streamal-demo" / "config.toml"


def at(config: Path) -> tuple[str, ...]:
    return ("-c", str(config), "--set", f"transport.path={json.dumps(str(config.parent / 'streamal.db'))}")


def test_the_whole_stream_is_reported(reported: tuple[Cli, Path], demo: tuple[Path, Ended]) -> None:
    """Requests and labels are the replay's own, and the naive figure stands beside; later prices make no bill."""
    cli, config = reported
    ended = cli("report", *at(config), "--days", "400", "--json", "--set", "budget.cost_per_label=0.5")
    assert ended.code == 0, ended.err
    told, replayed = json.loads(ended.out), json.loads(demo[1].out)
    assert sum(told["requests"].values()) == replayed["requests"]
    assert told["outcomes"]["labels"] == replayed["labels"]
    assert sum(told["outcomes"].values()) == replayed["requests"]
    assert (told["cost"], told["reserved"]) == (0.0, 0.0)
    assert sum(told["annotators"].values()) == told["outcomes"]["labels"] + told["outcomes"]["abstentions"]
    assert told["now"]["low"] < told["now"]["value"] < told["now"]["high"]
    assert told["before"] is None
    assert told["naive"] == pytest.approx(replayed["naive_accuracy"])
    assert told["advice"]["verdict"] in {"raise", "hold", "lower", "stop"}
    assert len(told["curve"]) >= 3


def test_a_period_is_cut_out(reported: tuple[Cli, Path]) -> None:
    """Two periods that touch add up to both; the accuracy before the second one is known."""
    cli, config = reported
    spans = [("2002-01-01", "2002-09-01"), ("2002-09-01", "2003-01-01"), ("2002-01-01", "2003-01-01")]
    told = [json.loads(cli("report", *at(config), "--since", s, "--until", u, "--json").out) for s, u in spans]
    counts = [sum(each["requests"].values()) for each in told]
    assert counts[0] + counts[1] == counts[2] > counts[0] > 0
    assert told[1]["before"] is not None


def test_the_report_for_people(reported: tuple[Cli, Path], directory: Path) -> None:
    """A curve, a table, and the advice with its reason as the last line; --svg draws the curve into a file."""
    cli, config = reported
    ended = cli("report", *at(config), "--days", "400", "--svg", "curve.svg")
    assert ended.code == 0, ended.err
    assert "accuracy now" in ended.out
    assert "labels" in ended.out
    assert ended.out.splitlines()[-1].split(":")[0] in {"RAISE", "HOLD", "LOWER", "STOP"}
    assert (directory / "curve.svg").read_text().startswith("<?xml")


def empty_log(directory: Path) -> SqliteLog:
    (directory / "config.toml").write_text("")
    log = SqliteLog("streamal.db", create=True)
    for topic in ("events", "labels", "predictions", "requests", "training", "dead-letters"):
        log.create(f"streamal.{topic}", 1)
    return log


def test_the_cost_is_what_was_settled(cli: Cli, directory: Path) -> None:
    """To the micro-unit, from the records: a label's work, an expiry refunded; open ones are only reserved."""
    log = empty_log(directory)
    paid: dict[str, Any] = {"propensity": 0.5, "lane": Lane.AUDIT, "asked_at": 1.0, "at": 2.0, "reserved": 500_000}
    for closing in (
        Example(request="0-0", label="a", features={}, predicted="a", **paid, cost=123_456),
        Abstention(request="0-1", **paid, cost=500_000),
        Expiry(request="0-2", **paid, cost=0),
    ):
        log.append("streamal.training", 0, None, encode(closing))
    for offset in range(5):
        request = msgspec.structs.replace(make_request(offset, asked_at=1.0), reserved=500_000)
        log.append("streamal.requests", 0, request.request.encode(), encode(request))
    log.close()
    told = json.loads(cli("report", "--json").out)
    assert (told["cost"], told["reserved"]) == (0.623456, 1.0)
    shown = cli("report").out
    assert "0.62 EUR" in shown
    assert "1.00 EUR" in shown


def test_an_empty_log_is_reported(cli: Cli, directory: Path) -> None:
    """Before anything was asked there is nothing to tell, and it says so."""
    empty_log(directory).close()
    ended = cli("report")
    assert ended.code == 0, ended.err
    assert "HOLD: 0 labels are too few" in ended.out


@pytest.mark.parametrize("since", ["yesterday", "nan"])
def test_a_wrong_time_is_one_line(cli: Cli, directory: Path, since: str) -> None:
    """It ends with 2 and names the option."""
    (directory / "config.toml").write_text("")
    ended = cli("report", "--since", since)
    assert ended.code == 2
    assert "--since" in ended.line
