"""Gauges of a worker, one claim each: what is there is counted, and what is not known is left out."""

from __future__ import annotations

from fractions import Fraction

import pytest

from streamal.core.budget.sampler import Budget
from streamal.core.codec.events import encode
from streamal.core.codec.features import short
from streamal.core.gauges.declaration import Value, Worker
from streamal.core.gauges.gauges import gauges
from streamal.core.quality.totals import RunningTotals
from streamal.core.records import NaturalExample, OffsetAndMetadata, TopicPartition
from streamal.core.state import PartitionState, TrainerState, decode_states, encode_state
from tests.making import make_fold, make_rules, teach

EVENTS, LABELS = TopicPartition("events", 0), TopicPartition("labels", 0)


def gauge(name: str, worker: Worker) -> Value:
    return gauges(worker)[name]


def test_the_states_are_those_that_were_committed() -> None:
    """A partition's, the trainer's, and none where nothing was noted."""
    states = {
        EVENTS: OffsetAndMetadata(1, encode_state(PartitionState(version=3))),
        TopicPartition("events", 1): OffsetAndMetadata(1, ""),
        LABELS: OffsetAndMetadata(1, encode_state(TrainerState(7, 2))),
    }
    assert decode_states(states, "events") == [PartitionState(version=3), TrainerState(7, 2)]


@pytest.mark.parametrize(("now", "ahead_s"), [(99.5, 0.5), (100.0, 0.0), (100.5, 0.0)])
def test_a_noted_time_is_ahead_of_the_clock_or_not(now: float, ahead_s: float) -> None:
    """By the exact difference, and never less than nothing (F64)."""
    states = {EVENTS: OffsetAndMetadata(1, encode_state(PartitionState(now=100.0)))}
    assert gauge("clock_ahead_seconds", Worker(make_rules(), make_fold(), states, now)) == ahead_s


def test_the_share_of_events_that_nobody_could_ask() -> None:
    """Over all partitions: 3 of 10 and 1 of 30 are a tenth."""
    states = {
        TopicPartition("events", number): OffsetAndMetadata(1, encode_state(PartitionState(seen=seen)))
        for number, seen in enumerate([RunningTotals(10, 0, 3), RunningTotals(30, 0, 1)])
    }
    assert gauge("never_askable_ratio", Worker(make_rules(partitions=2), make_fold(), states, 0.0)) == 0.1


def test_a_natural_label_is_right_only_where_the_model_said_so() -> None:
    """Of two natural labels the model knew one: a half, shown by the trainer alone."""
    fold = make_fold(kinds={"x": "number"})
    teach(fold, [({"x": 1.0}, "a"), ({"x": -1.0}, "b")] * 20)
    predicted = max(found := fold.learned.model.predict({"x": 1.0}), key=found.__getitem__)
    for label in (predicted, "a" if predicted == "b" else "b"):
        offset = fold.books.version.offset
        fold.apply_training(offset, encode(NaturalExample(label, {"x": 1.0}, at=1.0)))
    trainer = {LABELS: OffsetAndMetadata(1, encode_state(TrainerState()))}
    assert gauge("quality_accuracy_natural", Worker(make_rules(), fold, trainer, 0.0)) == 0.5
    assert gauge("quality_accuracy_natural", Worker(make_rules(), fold, {}, 0.0)) is None


def test_a_quota_earns_its_part_of_the_rate() -> None:
    """A third of a rate of a tenth is a thirtieth of a request for each event; the strategy lane has the rest."""
    budget = Budget(
        share=Fraction(1, 10), audit_share=Fraction(0), burst=20, quotas=(("a", Fraction(1, 3)),)
    ).partition_budget(0, 1)
    (quota,) = budget.quotas
    assert Fraction(quota.gain, budget.price) == Fraction(1, 30)
    assert Fraction(budget.gain, budget.price) == Fraction(1, 15)


@pytest.mark.parametrize(
    ("number", "fits"), [(2**63 - 1, True), (2**63, False), (-(2**63), True), (-(2**63) - 1, False)]
)
def test_a_number_as_a_name_has_64_bits(number: int, fits: bool) -> None:
    """What Kafka's other clients call a long, and no bit more."""
    assert short(number) is fits
