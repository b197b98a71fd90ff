"""A share that is changed between two starts: the budget holds across the change, and nobody cries wolf (F63)."""

from __future__ import annotations

import pytest

from streamal.bootstrap import build
from streamal.config import Config
from streamal.core.records import Lane
from streamal.inspection.status import status
from streamal.inspection.verify.checks import Check
from streamal.inspection.verify.verify import verify
from streamal.ports import Log
from streamal.replay.annotators import AnnotatorsRules
from streamal.replay.replay import play
from tests.recorded import FrozenLog, World, easy_stream, make_config

EVENTS = 3_000


def configured(share: str) -> Config:
    return make_config(budget={"share": share})


@pytest.fixture(scope="module")
def world() -> World:
    """Return the topics after 3,000 events at a share of 0.10, with some 300 requests, and 1,000 more at 0.05."""
    world = World(configured("0.10"))
    run(world, EVENTS)
    world.config = configured("0.05")
    run(world, 1_000)
    return world


def run(world: World, events: int) -> None:
    """Play *events* through a daemon that starts with the configuration of *world*."""
    play(world.daemon(), world.player(easy_stream(events), AnnotatorsRules()), world.clock, 50, lambda _: None)


def over_budget(world: World, config: Config) -> float | None:
    """Return the figure of the alert, as `status` has it under *config*."""
    parts = build(config)
    return status(parts.new_fold(), parts.rules, world.broker.committed("streamal"), 0.0).gauges["requests_over_budget"]


def check_budget(log: Log, config: Config) -> Check:
    """Return the check of the budget, under *config*; all other promises hold."""
    parts = build(config)
    checks = verify(log, parts.rules, parts.budget, "streamal", parts.new_fold, rederive=False)
    assert [check.promise for check in checks if check.broken and not check.promise.startswith("requests <=")] == []
    return next(check for check in checks if check.promise.startswith("requests <="))


def test_half_the_share_is_no_alarm_and_breaks_nothing(world: World) -> None:
    """309 requests of 3,000 events are right at 0.10; at 0.05 what comes after them counts, and `verify` says so."""
    assert over_budget(world, world.config) == 0
    check = check_budget(world.broker, world.config)
    assert (check.broken, check.looked_at) == (0, 1_000)
    assert check.not_judged == {"the share changed after these predictions": EVENTS}


def test_before_the_first_step_a_new_share_judges_nothing() -> None:
    """Who looks between the change and the start of the daemon finds the old share in the state."""
    world = World(configured("0.10"))
    run(world, 600)
    for share in ("0.05", "0.001", "0.2"):
        assert over_budget(world, configured(share)) == 0
        assert check_budget(world.broker, configured(share)).broken == 0


def test_too_many_requests_after_the_change_are_found(world: World) -> None:
    """What the new share does not pay is BROKEN, from the first request too many on."""
    log = FrozenLog(world.broker, world.config)
    predictions = log.of(world.topics.predictions)
    for number in range(len(predictions) - 120, len(predictions)):
        log.change(world.topics.predictions, number, asked=Lane.STRATEGY)
    parts = build(world.config)
    checks = verify(log, parts.rules, parts.budget, "streamal", parts.new_fold, rederive=False)
    assert 0 < next(check.broken for check in checks if check.promise.startswith("requests <=")) < 120
