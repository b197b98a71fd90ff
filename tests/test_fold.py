"""What a worker knows is a fold of the logs: the schema's birth, foreign records, snapshots, figures (I4, I6)."""

from __future__ import annotations

import gc
import pickle

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from river import linear_model

from streamal.core.budget.counters import BudgetCounters
from streamal.core.codec.events import encode
from streamal.core.fold import Fold
from streamal.core.gauges.declaration import Worker
from streamal.core.gauges.gauges import gauges
from streamal.core.gauges.model import MODEL
from streamal.core.gauges.quality import QUALITY
from streamal.core.gauges.requests import REQUESTS
from streamal.core.records import (
    Event,
    Example,
    Expiry,
    Lane,
    OffsetAndMetadata,
    Scalar,
    SchemaSet,
    TopicPartition,
    Version,
)
from streamal.core.snapshot import decode_snapshot, encode_snapshot
from streamal.core.state import PartitionState, TrainerState, encode_state
from streamal.errors import InconsistentLog
from tests.making import ask, make_fold, make_request, make_rules, teach

EXAMPLES: list[tuple[dict[str, Scalar], str]] = [({"x": float(i % 5), "y": float(-i)}, "ab"[i % 2]) for i in range(30)]
PROBES = [Event(0, i, None, None, {"x": float(i), "y": float(i - 3)}) for i in range(6)]


def predictions(fold: Fold) -> list[dict[str, float]]:
    return [fold.learned.predict(probe) for probe in PROBES]


# The schema.


def test_before_the_schema_predictions_are_the_prior() -> None:
    """No feature reaches the model; early examples count in nothing yet, but make their classes known."""
    fold = make_fold(classes=(), learn_new=True)
    assert fold.learned.predict(PROBES[0]) == {}
    teach(fold, EXAMPLES[:3])
    assert fold.learned.predict(PROBES[0]) == {"a": 0.5, "b": 0.5}
    assert (dict(fold.learned.model.learned), len(fold.learned.early)) == ({}, 3)


def test_early_examples_are_learned_with_the_schema() -> None:
    """The model after the schema record is the one that had the schema from the start."""
    early, declared = make_fold(), make_fold(kinds={"x": "number", "y": "number"})
    teach(early, EXAMPLES[:20])
    early.apply_training(20, encode(SchemaSet({"x": "number", "y": "number"}, 1.0)))
    teach(early, EXAMPLES[20:])
    teach(declared, EXAMPLES)
    assert predictions(early) == predictions(declared)
    assert (early.learned.early, early.books.samples) == ([], None)
    assert early.learned.model.learned == declared.learned.model.learned == {"a": 15, "b": 15}


def test_a_schema_record_extends_the_schema() -> None:
    """Names are added, never lost; a declared type stays (F32)."""
    fold = make_fold(kinds={"x": "number", "y": "string"})
    fold.apply_training(0, encode(SchemaSet({"y": "number", "z": "string"}, 1.0)))
    assert fold.learned.schema is not None
    assert fold.learned.schema.kinds == {"x": "number", "y": "string", "z": "string"}


def test_samples_are_bounded() -> None:
    """Features of the first ``infer_from`` requests are kept until there is a schema, no more (I9)."""
    fold = make_fold(infer_from=3)
    ask(fold, *(make_request(offset) for offset in range(10)), make_request(0))
    assert [sample["x"] for sample in fold.books.samples or ()] == [0.0, 1.0, 2.0]
    declared = make_fold(kinds={"x": "number"})
    ask(declared, make_request(0))
    assert declared.books.samples is None


def test_unknown_features_never_reach_the_model() -> None:
    """Dropped when learning and when predicting: an estimator's state cannot be grown from outside."""
    narrow, wide = (make_fold(kinds={"x": "number"}, estimator=linear_model.LogisticRegression()) for _ in range(2))
    teach(narrow, [({"x": features["x"]}, label) for features, label in EXAMPLES])
    teach(wide, EXAMPLES)
    assert predictions(narrow) == predictions(wide)


# The version and the time.


def test_the_version_follows_the_offsets() -> None:
    """Offset of the last folded record + 1, whatever the gaps; how many records is counted apart."""
    fold = make_fold(kinds={"x": "number"})
    for offset in (0, 3, 4, 90):
        fold.apply_training(offset, encode(Expiry(f"0-{offset}", 0.5, Lane.AUDIT, 0.0, 1.0)))
    assert fold.books.version == Version(91, 4)


def test_the_time_of_the_fold_never_goes_back() -> None:
    """I11: the latest of all times that were written, of requests and of training; reading again changes nothing."""
    fold = make_fold(kinds={"x": "number"})
    ask(fold, make_request(0, asked_at=50.0), make_request(1, asked_at=20.0))
    assert (fold.books.now, fold.books.asked_at) == (0.0, 50.0)
    fold.apply_training(0, encode(Expiry("0-0", 0.5, Lane.AUDIT, 0.0, 40.0)))
    assert (fold.books.now, fold.books.asked_at) == (40.0, 50.0)
    fold.apply_training(1, encode(Expiry("0-1", 0.5, Lane.AUDIT, 0.0, 60.0)))
    assert fold.books.now == 60.0
    assert fold.books.positions == {0: 2}


# What is not ours.


@pytest.mark.parametrize(
    "value",
    [None, b"", b"{}", b'{"kind":"example"}', b'{"kind":"other","at":1}', b'{"request":"0-1","label":"a"}', b"\xff"],
)
def test_a_foreign_record_in_training_stops_the_worker(value: bytes | None) -> None:
    """A model folded without it would not be the others' model: InconsistentLog, exit 2, and the offset named."""
    fold = make_fold(kinds={"x": "number"})
    with pytest.raises(InconsistentLog, match=r"training offset 7: .*only streamal may write"):
        fold.apply_training(7, value)
    assert fold.books.version == Version(0, 0)


@pytest.mark.parametrize("value", [b"", b"{}", b"null", b"\xff", b'{"request":"0-1"}'])
def test_a_foreign_record_in_requests_stops_the_worker(value: bytes) -> None:
    """The open queue decides what is learned, so the same holds there."""
    with pytest.raises(InconsistentLog, match=r"requests 3-7: .*only streamal may write"):
        make_fold().apply_request(3, 7, b"3-1", value)


# Snapshots.


@settings(deadline=None)
@given(st.integers(0, len(EXAMPLES)))
def test_a_thawed_fold_goes_on_as_the_original(cut: int) -> None:
    """I4, I6: frozen anywhere and thawed, the rest of the log gives the same predictions."""
    whole, first = (make_fold(kinds={"x": "number", "y": "number"}) for _ in range(2))
    teach(whole, EXAMPLES)
    teach(first, EXAMPLES[:cut])
    thawed = decode_snapshot(encode_snapshot(first, "make"), "make")
    assert thawed is not None
    assert (thawed.books.version, thawed.learned.version) == (first.books.version, first.learned.version)
    teach(thawed, EXAMPLES[cut:])
    assert predictions(thawed) == predictions(whole)


def test_another_make_is_not_thawed() -> None:
    """F41: another configuration, River, Python or hash seed: the log is folded afresh instead."""
    data = encode_snapshot(make_fold(), "one")
    assert decode_snapshot(data, "one") is not None
    assert decode_snapshot(data, "two") is None
    assert decode_snapshot(data[:-20], "one") is None
    assert decode_snapshot(b"", "one") is None
    assert decode_snapshot(pickle.dumps((1, "one", "no fold")), "one") is None
    assert decode_snapshot(pickle.dumps("something"), "one") is None


@pytest.mark.parametrize("enabled", [True, False])
def test_thawing_leaves_the_collector_as_it_was(enabled: bool) -> None:
    """It is off while millions of objects are made; a caller that runs without it is not surprised."""
    was = gc.isenabled()
    try:
        gc.enable() if enabled else gc.disable()
        assert decode_snapshot(b"broken", "make") is None
        assert gc.isenabled() == enabled
        assert decode_snapshot(encode_snapshot(make_fold(), "make"), "make") is not None
        assert gc.isenabled() == enabled
    finally:
        gc.enable() if was else gc.disable()


# The gauges.

FOLDED = (*REQUESTS, *MODEL, *QUALITY)


def test_the_gauges_of_a_new_worker() -> None:
    """Nothing known yet is None, not 0: a gauge that would lie is left out."""
    found = gauges(Worker(make_rules(), make_fold(), {}, 10.0), FOLDED)
    assert {name for name, value in found.items() if value is None} == {
        "budget_spent_ratio",
        "last_request_timestamp_seconds",
        "open_requests_pace_limit",
        "unanswered_ratio",
        "quality_accuracy",
        "quality_accuracy_low",
        "quality_accuracy_high",
        "quality_accuracy_naive",
        "quality_accuracy_natural",
        "quality_balanced_accuracy",
        "quality_balanced_accuracy_low",
        "quality_balanced_accuracy_high",
        "quality_least_recall",
        "quality_log_loss",
        "quality_log_loss_low",
        "quality_log_loss_high",
        "gain_over_random",
        "gain_over_random_low",
        "gain_over_random_high",
        "never_askable_ratio",
    }
    assert (found["features"], found["oldest_open_request_seconds"]) == (0, 0.0)


def test_the_gauges_add_up() -> None:
    """Over all owned partitions; quality is the trainer's alone, so that no two workers show it."""
    fold = make_fold(kinds={"x": "number", "y": "number"})
    teach(fold, EXAMPLES)
    ask(fold, make_request(0, asked_at=4.0), make_request(1, asked_at=2.0))
    states = [
        PartitionState(counters=BudgetCounters(100, 0, 3, 7)),
        PartitionState(counters=BudgetCounters(60, 0, 2, 4)),
        PartitionState(),
    ]
    rules = make_rules(partitions=3)
    events = {
        TopicPartition("events", partition): OffsetAndMetadata(0, encode_state(state))
        for partition, state in enumerate(states)
    }
    labels = {TopicPartition("labels", 0): OffsetAndMetadata(0, encode_state(TrainerState()))}
    worker = gauges(Worker(rules, fold, events, 10.0))
    trainer = gauges(Worker(rules, fold, {**events, **labels}, 10.0))
    assert worker["budget_spent_ratio"] == 16 / 160
    assert (worker["open_requests"], worker["oldest_open_request_seconds"]) == (2, 8.0)
    assert (worker["model_version"], worker["model_examples"], worker["model_failures"]) == (30, 30, 0)
    assert (worker["features"], worker["unanswered_ratio"]) == (2, 0.0)
    assert worker["quality_accuracy"] is None
    assert trainer["quality_accuracy"] == trainer["quality_accuracy_naive"] == 0.0
    assert gauges(Worker(rules, fold, {}, 0.0))["oldest_open_request_seconds"] == 0.0


def test_a_prediction_that_was_none_counts_as_wrong() -> None:
    """Asked before any class was known: the label proves that nothing was predicted."""
    fold = make_fold(kinds={"x": "number"})
    fold.apply_training(0, encode(Example("0-1", "a", {"x": 1.0}, None, 0.5, Lane.AUDIT, 0.0, 1.0)))
    assert fold.learned.quality.total.naive() == 0.0
