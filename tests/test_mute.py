"""Never mute, never flood: seen from the committed states alone, said once, shown by `status` and the gauges."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamal.bootstrap import transports
from streamal.config import load_config
from streamal.core.budget.counters import BudgetCounters
from streamal.core.budget.sampler import Budget
from streamal.core.gauges.declaration import Worker
from streamal.core.gauges.gauges import gauges
from streamal.core.gauges.mute import ASKING, MuteCheck, check_mute
from streamal.core.records import OffsetAndMetadata, TopicPartition
from streamal.core.rules import Rules
from streamal.core.state import PartitionState, decode_state, encode_state
from streamal.replay.annotators import AnnotatorsRules
from streamal.replay.replay import play
from tests.conftest import Cli
from tests.making import World as Steps
from tests.making import event_record, make_fold, make_rules
from tests.recorded import World, easy_stream, make_config

RULES = make_rules(share="0.1", audit_share="0.3")  # one audit in 34 events


def committed(*states: PartitionState) -> Mapping[TopicPartition, OffsetAndMetadata]:
    return {
        TopicPartition("events", number): OffsetAndMetadata(1, encode_state(state))
        for number, state in enumerate(states)
    }


def check(rules: Rules, committed: Mapping[TopicPartition, OffsetAndMetadata]) -> MuteCheck:
    return check_mute(Worker(rules, make_fold(), committed, 0.0))


def spent(requests: int, accepted: int, unasked: int = 0, now: float = 0.0, asked_at: int = 0) -> PartitionState:
    return PartitionState(
        now=now, counters=BudgetCounters(accepted, 0, 0, requests), unasked=unasked, asked_at=asked_at
    )


@pytest.mark.parametrize(("unasked", "mute"), [(0, ()), (680, ()), (681, (0,)), (10_000, (0,))])
def test_a_wait_that_chance_does_not_explain_is_mute(unasked: int, mute: tuple[int, ...]) -> None:
    """Longer than twenty mean distances of the audit lane, which e^-20 of all waits are."""
    seen = check(RULES, committed(spent(5, 10_000, unasked)))
    assert (seen.mute, seen.unasked, seen.unasked_max) == (mute, unasked, 680)


def test_without_an_audit_lane_twenty_mean_distances_are_normal() -> None:
    """At a tenth of the events: 200 without a request."""
    rules = make_rules(share="0.1", audit_share="0")
    assert check(rules, committed(spent(5, 10_000, 200))).mute == ()
    assert check(rules, committed(spent(5, 10_000, 201))).mute == (0,)


def test_a_cap_per_hour_may_be_silent_for_its_hour() -> None:
    """What the budget explains is no alarm; two hours are more than it explains."""
    rules = make_rules(per_hour=2)
    assert check(rules, committed(spent(5, 10_000, 5_000, now=9_000.0, asked_at=5_500))).mute == ()
    assert check(rules, committed(spent(5, 10_000, 5_000, now=9_000.0, asked_at=1_500))).mute == (0,)


def test_of_two_caps_the_longer_one_counts() -> None:
    """A day that is used up may be silent for its day, though an hour has a cap too."""
    budget = Budget(Fraction(1, 10), Fraction(3, 10), burst=20, per_hour=2, per_day=5).partition_budget(0, 1)
    rules = replace(make_rules(), budgets=(budget,))
    assert check(rules, committed(spent(5, 10_000, 5_000, now=200_000.0, asked_at=90_000))).mute == ()


def test_a_request_says_when_it_was_asked() -> None:
    """A cap that has closed the lanes only just now is no alarm, however long ago the first request was."""
    rules = make_rules(share="1", audit_share="0.5", per_hour=2)
    world = Steps(rules, make_fold(kinds={"x": "number"}))
    world.run([event_record(number) for number in range(3)], now=0.0)
    world.run([event_record(number) for number in range(3, 1_000)], now=7 * 3_600.0)
    world.run([event_record(number) for number in range(1_000, 1_010)], now=8 * 3_600.0 - 1.0)
    state = decode_state(world.committed[TopicPartition("events", 0)].metadata, PartitionState)
    assert state is not None
    assert (state.asked_at, state.unasked > 500) == (7 * 3_600, True)
    assert check(rules, world.committed).mute == ()


def test_a_request_beyond_the_budget_is_counted() -> None:
    """Share * events + burst, exactly, in each partition for itself."""
    assert check(RULES, committed(spent(30, 100))).over == 0
    assert check(RULES, committed(spent(33, 100))).over == 3
    rules = make_rules(share="0.1", partitions=2)
    assert check(rules, committed(spent(22, 100), spent(0, 100))).over == 2


def test_nothing_owned_is_nothing_seen() -> None:
    """A worker without partitions, or before its first event, is not mute."""
    assert set(gauges(Worker(RULES, make_fold(), {}, 0.0), ASKING).values()) == {0}
    assert (
        check(
            RULES,
            {
                TopicPartition("events", 0): OffsetAndMetadata(0, ""),
                TopicPartition("labels", 0): OffsetAndMetadata(0, ""),
            },
        ).mute
        == ()
    )


@settings(deadline=None)
@given(
    st.sampled_from(["0.01", "0.1", "0.5", "1"]),
    st.sampled_from(["0.1", "0.3", "1"]),
    st.sampled_from(["random", "fixed", "variable", "randomised_variable", "split", "entropy"]),
    st.lists(st.integers(1, 60), min_size=1, max_size=8),
)
def test_no_budget_is_ever_mute_or_over(share: str, audit: str, strategy: str, steps: list[int]) -> None:
    """Whatever the strategy thinks of the events: the audit lane alone keeps a partition from being mute."""
    rules = make_rules(share=share, audit_share=audit, strategy=strategy, ttl_s=1e9)
    world, offset = Steps(rules, make_fold(kinds={"x": "number"})), 0
    for count in steps:
        world.run([event_record(number) for number in range(offset, offset + count)], now=0.0)
        offset += count
        seen = check(rules, world.committed)
        assert (seen.mute, seen.over) == ((), 0)


def test_the_share_of_both_lanes_is_the_budget() -> None:
    """What the counters are held to is the share of the configuration, not a rounding of it."""
    budget = Budget(Fraction("0.07"), Fraction("0.3"), 5)
    rules = replace(RULES, budgets=(budget.partition_budget(0, 1),))
    for accepted in (0, 1, 99, 100, 12_345):
        most = int(Fraction("0.07") * accepted) + 5
        assert check(rules, committed(spent(most, accepted))).over == 0
        assert check(rules, committed(spent(most + 1, accepted))).over == 1


def test_a_worker_that_falls_mute_says_so_once() -> None:
    """Nobody answers, the queue is full: a line in the log, a gauge, and a line when it asks again."""
    config = make_config(budget={"share": 1, "audit_share": 0.5}, limits={"open_requests": 4})
    world = World(config)
    daemon = world.daemon()
    play(daemon, world.player(easy_stream(60), AnnotatorsRules(silence=1.0)), world.clock, 1, lambda _: None)
    assert [event for event, _ in world.log.said].count("mute") == 1
    assert world.log.fields("mute")["partitions"] == [0]
    assert world.log.fields("mute")["open_requests_full"] is True
    assert world.meter.gauges["mute_partitions"] == 1
    assert world.meter.gauges["events_since_request"] > world.meter.gauges["events_since_request_limit"] == 40
    assert world.meter.gauges["requests_over_budget"] == 0
    for request in list(daemon.fold.books.pending.open):
        world.reply(request, "yes")
    world.drain(daemon)
    for _ in range(6):
        world.event({"x1": 0.5, "x2": 0.5})
        world.drain(daemon)
    assert [event for event, _ in world.log.said].count("asks_again") == 1


def test_status_says_that_it_is_mute(streamal: Cli, directory: Path) -> None:
    """From the topics alone, and how many examples were quarantined."""
    config = '[features]\ndeclared = { x1 = "number" }\n[labels]\nclasses = ["no", "yes"]\n[server]\nenabled = false\n'
    (directory / "config.toml").write_text(config)

    loaded = load_config(directory / "config.toml")

    transports.create_topics(loaded)
    log = transports.open_transport(loaded)
    log.append("streamal.events", 0, None, json.dumps({"features": {"x1": 1.0}}).encode())
    log.poll({"streamal.events": 1, "streamal.labels": 1}, 0.0)
    state = encode_state(spent(3, 500, unasked=700))
    log.commit(
        [],
        {
            TopicPartition("streamal.events", 0): OffsetAndMetadata(1, state),
            TopicPartition("streamal.labels", 0): OffsetAndMetadata(0, "[0,0,7]"),
        },
    )
    log.close()
    ended = streamal("status", "--json", cwd=directory)
    shown = json.loads(ended.out)
    assert shown["asking"] == "mute in partitions 0"
    assert (shown["events_since_request"], shown["events_since_request_limit"]) == (700, 680)
    assert shown["model_quarantined"] == 7
