"""One step is a pure function: split it anywhere, repeat it, and it decides the same (I11, I14, F36)."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamal.core.codec.events import decode_request, decode_training
from streamal.core.codec.wire_rules import WireRules
from streamal.core.join import Replies
from streamal.core.records import (
    Example,
    Lane,
    OffsetAndMetadata,
    OutputRecord,
    Prediction,
    Record,
    Request,
    SchemaSet,
    TopicPartition,
)
from streamal.core.rules import Step
from streamal.core.state import STATE_BYTES_MAX, PartitionState, TrainerState, decode_state, encode_state
from streamal.core.step import step
from streamal.core.strategies import STRATEGIES
from streamal.core.strategies.base import Memory
from streamal.core.strategies.uncertainty import MEASURES
from tests.making import (
    LABELS,
    World,
    ask,
    digest,
    event_record,
    make_fold,
    make_request,
    make_rules,
    reply_record,
    teach,
)

E0, E1 = TopicPartition("events", 0), TopicPartition("events", 1)
KINDS = {"x": "number"}
Worker = Mapping[TopicPartition, OffsetAndMetadata]


def fresh(partitions: int = 1) -> dict[TopicPartition, OffsetAndMetadata]:
    return {TopicPartition("events", partition): OffsetAndMetadata(0, "") for partition in range(partitions)}


def garbage(offset: int) -> Record:
    return Record("events", 0, offset, None, b"{")


def predictions(outputs: Sequence[OutputRecord]) -> list[Prediction]:
    return [
        msgspec.json.decode(output.value or b"", type=Prediction) for output in outputs if output.topic == "predictions"
    ]


def state_of(committed: Mapping[TopicPartition, OffsetAndMetadata], place: TopicPartition = E0) -> PartitionState:
    state = decode_state(committed[place].metadata, PartitionState)
    assert state is not None
    return state


events = st.lists(st.sampled_from([{"x": 0.0}, {"x": 3.5}, {"x": -9.0}, {"x": "no"}, {"y": 1.0}, {}]), max_size=60)


# Infer.


def test_each_event_comes_out_once() -> None:
    """I1: one prediction for an accepted event, one dead letter (keyed by topic too) for a refused one."""
    world = World(make_rules(partitions=2), make_fold(kinds=KINDS))
    polled = [
        event_record(3),
        garbage(5),
        event_record(6, partition=1),
        event_record(9),
        Record("events", 1, 8, None, None),
    ]
    result = world.run(polled, 10.0)
    assert [prediction.event for prediction in predictions(result.outputs)] == ["0-3", "0-9", "1-6"]
    assert [output.key for output in world.written["dead-letters"]] == [b"events/0-5", b"events/1-8"]
    assert {place: committed.offset for place, committed in result.offsets.items()} == {E0: 10, E1: 9}
    assert result.tally["events", "accepted"] == 3
    assert result.tally["events", "refused"] == 2
    assert (result.tally["dead_letters", "not_json"], result.tally["dead_letters", "tombstone"]) == (1, 1)
    keys = [output.key for output in result.outputs if output.topic == "predictions"]
    assert keys == [b"0-3", b"0-9", b"1-6"]
    assert [output.partition for output in result.outputs if output.topic == "predictions"] == [0, 0, 1]


def test_predictions_without_any_preference_are_counted() -> None:
    """All of an untrained model are; those of a trained one are not."""
    fold = make_fold(kinds=KINDS)
    polled = [event_record(offset) for offset in range(3)]
    assert step(make_rules(), fold, fresh(), polled, 10.0).tally["uniform_predictions", ""] == 3
    teach(fold, [({"x": 0.0}, "a"), ({"x": 5.0}, "b")])
    assert step(make_rules(), fold, fresh(), polled, 10.0).tally["uniform_predictions", ""] == 0


def test_a_request_says_all_that_its_prediction_says() -> None:
    """Features, guess, propensity, deadline, the producer's id and time: an annotator needs nothing else."""
    rules = make_rules(share="1", audit_share="1", ttl_s=60.0)
    body = json.dumps({"id": "e-1", "time": "2024-05-01", "features": {"x": 1, "s": "text"}}).encode()
    fold = make_fold(kinds={**KINDS, "s": "string"})
    teach(fold, [({"x": 0.0}, "a"), ({"x": 5.0}, "b"), ({"x": 1.0}, "a")])
    result = step(rules, fold, fresh(), [Record("events", 0, 4, None, body)], 10.0)
    (prediction,) = predictions(result.outputs)
    (output,) = [output for output in result.outputs if output.topic == "requests"]
    request = decode_request(output.value or b"")
    assert isinstance(request, Request)
    assert (output.key, output.partition) == (b"0-4", 0)
    assert request.features == {"x": 1.0, "s": "text"}
    assert (request.asked_at, request.expires_at, request.strategy) == (10.0, 70.0, "variable")
    assert prediction.asked is request.lane is Lane.AUDIT
    for name in ("id", "time", "label", "probabilities", "version", "uncertainty", "propensity"):
        assert getattr(request, name) == getattr(prediction, name)
    assert request.request == prediction.event == "0-4"
    assert prediction.version == 3
    assert prediction.label == max(prediction.probabilities, key=lambda label: prediction.probabilities[label])


@pytest.mark.parametrize("measure", MEASURES)
def test_the_uncertainty_is_the_configured_one(measure: str) -> None:
    """And 1 while no class is known, when there is no label to predict either."""
    rules = replace(make_rules(), uncertainty=measure)
    fold = make_fold(kinds=KINDS)
    teach(fold, [({"x": float(i % 5)}, "ab"[i % 2]) for i in range(20)])
    (prediction,) = predictions(step(rules, fold, fresh(), [event_record(0)], 0.0).outputs)
    assert prediction.uncertainty == MEASURES[measure](prediction.probabilities)
    (prediction,) = predictions(step(rules, make_fold(classes=()), fresh(), [event_record(0)], 0.0).outputs)
    assert (prediction.uncertainty, prediction.label, prediction.probabilities) == (1.0, None, {})


def test_refused_events_earn_no_budget() -> None:
    """The share is one of accepted events: a flood of garbage buys no request."""
    rules = make_rules(share="0.5", audit_share="0", burst=1, strategy="random")
    world = World(rules, make_fold(kinds=KINDS))
    world.run([garbage(offset) for offset in range(500)], 0.0)
    counters = state_of(world.committed).counters
    assert counters is not None
    assert counters[:4] == (0, 2, 0, 0)  # two halves: the burst of one
    plain = World(rules, make_fold(kinds=KINDS))
    one = world.run([event_record(offset) for offset in range(500, 540)], 0.0)
    two = plain.run([event_record(offset) for offset in range(500, 540)], 0.0)
    assert one.outputs == two.outputs


def test_events_that_nobody_could_ask_are_counted() -> None:
    """A closed lane makes a hole in the estimate: it is shown."""
    rules = make_rules(share="0.5", audit_share="0", burst=1, per_hour=1)
    result = step(rules, make_fold(kinds=KINDS), fresh(), [event_record(i) for i in range(50)], 0.0)
    silent = [prediction for prediction in predictions(result.outputs) if prediction.propensity <= 0.0]
    assert result.tally["events_without_propensity", ""] == len(silent) >= 48


# Splitting.


@settings(max_examples=60)
@given(
    events, st.lists(st.integers(0, 60), max_size=4), st.sampled_from(sorted(STRATEGIES)), st.sampled_from([3, 1_000])
)
def test_a_step_can_be_split_anywhere(
    bodies: list[dict[str, Any]], cuts: list[int], strategy: str, open_max: int
) -> None:
    """I14: for a fixed fold step(a + b) is step(a), then step(b): each topic and committed state, bounds included.

    All but the bound on memory: of a request that the fold does not know yet it assumes the largest size.
    """
    rules = make_rules(share="0.4", strategy=strategy, open_max=open_max, open_bytes=10**12)
    fold = make_fold(kinds=KINDS)
    teach(fold, [({"x": float(i % 5)}, "ab"[i % 2]) for i in range(20)])
    polled = [event_record(offset, body) for offset, body in enumerate(bodies)]
    whole = step(rules, fold, fresh(), polled, 5.0)
    committed, outputs, memories = fresh(), [], dict[TopicPartition, Memory]()
    edges = [0, *sorted(min(at, len(polled)) for at in cuts), len(polled)]
    for number, start in enumerate(edges[:-1]):
        result = step(rules, fold, committed, polled[start : edges[number + 1]], 5.0, memories=memories)
        outputs += result.outputs
        committed.update(result.offsets)
        memories.update(result.memories)
    assert by_topic(outputs) == by_topic(whole.outputs)
    assert committed == {**fresh(), **whole.offsets}


def by_topic(outputs: Sequence[OutputRecord]) -> list[OutputRecord]:
    """Return *outputs* topic by topic; within each the order matters."""
    return sorted(outputs, key=lambda output: output.topic)


@given(events, st.integers(0, 60))
def test_partitions_do_not_touch_each_other(bodies: list[dict[str, Any]], cut: int) -> None:
    """However the records of two partitions are mixed in a poll, each gets what it would get alone."""
    rules, fold = make_rules(share="0.4", partitions=2), make_fold(kinds=KINDS)
    polled = [event_record(offset, body, partition=offset % 2) for offset, body in enumerate(bodies)]
    together = step(rules, fold, fresh(2), polled, 5.0)
    for place in (E0, E1):
        mine = [record for record in polled if record.partition == place.partition]
        alone = step(rules, fold, fresh(2), mine, 5.0)
        assert together.offsets.get(place) == alone.offsets.get(place)
    assert set(together.offsets) <= {E0, E1}


def test_a_step_changes_nothing() -> None:
    """The fold is only read, inference, join, expiry and refusals included: an aborted step leaves no trace (F9)."""
    fold = make_fold(kinds=KINDS, learn_new=True)
    teach(fold, [({"x": float(i % 5)}, "ab"[i % 2]) for i in range(20)])
    ask(fold, *(make_request(offset) for offset in range(6)))
    rules = make_rules(share="1")
    committed = {**fresh(), LABELS: OffsetAndMetadata(0, "")}
    polled = [
        *(event_record(offset) for offset in range(40)),
        garbage(40),
        *(reply_record(i, f"0-{i}", label) for i, label in enumerate(("a", None, "new", "other"))),
        reply_record(9, "0-99", "a"),
    ]
    before, untouched = digest(fold), dict(committed)
    first = step(rules, fold, committed, polled, 1e6)
    assert (digest(fold), committed) == (before, untouched)
    assert step(rules, fold, committed, polled, 1e6) == first
    assert first.tally["expiries", ""] == 2


# Time.


def test_time_never_goes_back_within_a_partition() -> None:
    """F36: a clock that jumps back is overruled by the committed state, one that jumps forward is believed."""
    world = World(make_rules(share="1", ttl_s=10.0), make_fold(kinds=KINDS))
    asked_at = []
    for offset, now in enumerate((100.0, 50.0, -1e9, 100.5)):
        result = world.run([event_record(offset)], now)
        requests = [decode_request(o.value or b"") for o in result.outputs if o.topic == "requests" and o.value]
        asked_at += [request.asked_at for request in requests if isinstance(request, Request)]
    assert asked_at == [100.0, 100.0, 100.0, 100.5]
    assert state_of(world.committed).now == 100.5


def test_the_trainer_is_not_behind_the_log() -> None:
    """F36, F37: a new trainer with a slow clock writes no time before those that are in the log already."""
    world = World(make_rules(), make_fold(kinds=KINDS))
    ask(world.fold, make_request(0, asked_at=500.0), make_request(1, asked_at=500.0))
    result = world.run([reply_record(0, "0-0", "a")], 550.0)
    assert result.label_delays_s == [50.0]
    world.run([reply_record(1, "0-1", "a")], 3.0)
    first, second = (decode_training(output.value) for output in world.written["training"])
    assert isinstance(first, Example)
    assert isinstance(second, Example)
    assert first.at == second.at == 550.0


def test_a_request_from_the_future_takes_nobody_along() -> None:
    """F64: what a worker with a wrong clock has asked moves neither the trainer's time nor the deadlines of others."""
    world = World(make_rules(ttl_s=100.0), make_fold(kinds=KINDS))
    ask(world.fold, make_request(0, asked_at=0.0), make_request(1, asked_at=3e7))
    result = world.run([reply_record(0, "0-1", "a")], 50.0)
    (example,) = (decode_training(output.value) for output in world.written["training"])
    assert isinstance(example, Example)
    assert (example.at, example.asked_at) == (50.0, 3e7)
    assert result.label_delays_s == [0.0]
    assert list(world.fold.books.pending.open) == ["0-0"]


@pytest.mark.parametrize("time", [253_402_300_799.0, -62_135_596_800.0, "9999-12-31T23:59:59Z", None])
def test_an_event_from_the_year_9999_changes_nothing(time: float | str | None) -> None:
    """F36: a producer's timestamps are carried along and never obeyed: same decisions, nothing expires."""
    worlds = [World(make_rules(share="0.5", per_hour=5), make_fold(kinds=KINDS)) for _ in range(2)]
    for world, stamp in zip(worlds, (time, 0.0), strict=True):
        ask(world.fold, make_request(77))
        value = json.dumps({"features": {"x": 1.0}, "time": stamp}).encode()
        world.run([Record("events", 0, offset, None, value) for offset in range(30)], 7.0)
    one, two = worlds
    assert one.committed == two.committed
    assert one.fold.books.pending.open.keys() == two.fold.books.pending.open.keys()
    assert [p.asked for p in predictions(one.written["predictions"])] == [
        p.asked for p in predictions(two.written["predictions"])
    ]


def test_nothing_expires_that_may_have_been_answered() -> None:
    """Deadlines after the time up to which all replies were polled have to wait."""
    fold = make_fold(kinds=KINDS)
    ask(fold, make_request(0, ttl_s=10.0), make_request(1, ttl_s=20.0))
    committed = {LABELS: OffsetAndMetadata(0, "")}
    rules = make_rules()
    assert step(rules, fold, committed, [], 100.0, Replies(polled_until=9.0)) == Step([], {}, Counter(), [], {}, [])
    assert step(rules, fold, committed, [], 100.0, Replies(polled_until=10.0)).tally["expiries", ""] == 1
    assert step(rules, fold, committed, [], 100.0).tally["expiries", ""] == 2
    assert step(rules, fold, committed, [], 15.0, Replies(polled_until=math.inf)).tally["expiries", ""] == 1


# The schema.


def test_the_schema_is_born_in_the_log() -> None:
    """Prior before; after ``infer_from`` requests the trainer writes it; early examples are learned by all alike."""
    rules = make_rules(share="1")
    world = World(rules, make_fold(infer_from=6))
    world.run([event_record(offset) for offset in range(4)], 1.0)
    world.run([reply_record(0, "0-0", "a"), reply_record(1, "0-1", "b")], 2.0)
    assert world.fold.learned.schema is None
    (prediction,) = predictions(world.run([event_record(4)], 3.0).outputs)
    assert prediction.probabilities == {"a": 0.5, "b": 0.5}
    world.run([event_record(5, {"x": 2.0, "late": True})], 4.0)
    world.run([], 5.0)
    written = [decode_training(output.value) for output in world.written["training"]]
    assert [type(record) for record in written] == [Example, Example, SchemaSet]
    assert written[-1] == SchemaSet({"late": "boolean", "x": "number"}, 5.0)
    assert world.fold.learned.schema is not None
    assert world.fold.learned.model.learned == {"a": 1, "b": 1}
    assert world.run([], 6.0) == Step([], {}, Counter(), [], {}, [])
    result = world.run([event_record(6, {"x": "text"})], 7.0)
    assert result.tally["dead_letters", "feature_type"] == 1


def test_an_inferred_schema_is_as_small_as_an_event() -> None:
    """``limits.features`` bounds it, however many names the first requests bring."""
    world = World(make_rules(share="1", wire=WireRules(features_max=3)), make_fold(infer_from=5))
    for offset in range(5):
        world.run([event_record(offset, {"x": 1.0, f"n{offset}": 1.0})], 1.0)
    world.run([], 2.0)
    assert world.fold.learned.schema is not None
    assert list(world.fold.learned.schema.kinds) == ["n0", "n1", "x"]


def test_only_the_trainer_writes_to_training() -> None:
    """A worker without ``labels`` neither expires nor infers, whatever is due."""
    fold = make_fold(infer_from=1)
    ask(fold, make_request(0))
    result = step(make_rules(), fold, fresh(), [event_record(0)], 1e6)
    assert {output.topic for output in result.outputs} <= {"predictions", "requests"}
    assert set(result.offsets) == {E0}


# The commits.


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_the_metadata_is_small(strategy: str) -> None:
    """F16: under 1,000 bytes after many steps, for every strategy, an awkward share and large times."""
    rules = make_rules(share="0.0123456789012345", audit_share="0.3333333333333333", strategy=strategy, per_hour=9)
    world = World(rules, make_fold(kinds=KINDS))
    for number in range(20):
        offset = 10**15 + number * 100
        world.run([event_record(offset + i) for i in range(100)], 1.7e9 + number / 7)
    assert 0 < len(world.committed[E0].metadata.encode()) < STATE_BYTES_MAX


def test_the_trainer_notes_how_far_training_goes() -> None:
    """With its offset: the version folded, the records after this commit (F8), and the replies that were unknown."""
    world = World(make_rules(), make_fold(kinds=KINDS))
    ask(world.fold, *(make_request(offset) for offset in range(3)))
    world.run([reply_record(10, "0-0", "a"), reply_record(12, "0-1", "a"), reply_record(14, "0-9", "a")], 1.0)
    assert world.committed[LABELS] == OffsetAndMetadata(15, encode_state(TrainerState(0, 2, 0, 1)))
    world.run([], 1e3)
    assert world.committed[LABELS] == OffsetAndMetadata(
        15, encode_state(TrainerState(world.fold.books.version.offset - 2, 3, 0, 1))
    )
    assert world.fold.books.version.records == 3


def test_a_model_older_than_the_last_prediction_is_not_asked() -> None:
    """I5: a new owner must have folded up to the noted version; that it has is asserted, in production too."""
    committed = {E0: OffsetAndMetadata(4, encode_state(PartitionState(version=9)))}
    with pytest.raises(AssertionError, match="folds up to the noted version"):
        step(make_rules(), make_fold(kinds=KINDS), committed, [event_record(4)], 0.0)


def test_an_idle_step_commits_nothing() -> None:
    """Nothing polled, nothing due: no transaction."""
    world = World(make_rules(), make_fold(kinds=KINDS))
    ask(world.fold, make_request(0))
    assert world.run([], 5.0) == Step([], {}, Counter(), [], {}, [])
