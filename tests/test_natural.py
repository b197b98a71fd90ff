"""Labels that nobody asked for: joined with their events, learned, and kept out of the bill and the quality figure."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from streamal.bootstrap import build
from streamal.core.codec.events import encode
from streamal.core.codec.replies import decode_reply
from streamal.core.codec.wire_rules import WireRules
from streamal.core.records import NaturalExample, NaturalLabel, Outcome, Reason, Refusal
from streamal.edge.sqlite import SqliteLog
from streamal.inspection.verify.verify import verify
from streamal.ports import read_events
from tests.making import make_fold
from tests.recorded import World, make_config, predictions_of, rows_of

CONFIG = make_config(labels={"natural": True}, budget={"share": 0.5, "burst": 1})
POINT = {"x1": 0.25, "x2": 0.75}


@pytest.fixture
def world() -> World:
    return World(CONFIG)


def learned(world: World) -> list[dict[str, object]]:
    return [row for row in rows_of(world.broker, "streamal.training") if row["kind"] == "natural"]


def reasons(world: World) -> list[str]:
    return [row["reason"] for row in rows_of(world.broker, "streamal.dead-letters")]


def test_a_natural_label_is_learned_with_its_events_features(world: World) -> None:
    """Only coordinates and a label came; the rest is read back from the log, however long ago that was."""
    daemon = world.daemon()
    event = world.broker.append(
        world.topics.events, 0, None, json.dumps({"id": 7, "time": 2.5, "features": POINT}).encode()
    )
    for number in range(50):
        world.event({"x1": number / 50, "x2": 0.0})
    world.drain(daemon)
    world.tell({"event": f"0-{event}"}, "yes", annotator="bank", reply="r1")
    world.drain(daemon)
    (example,) = learned(world)
    assert example["features"] == POINT
    assert (example["event"], example["label"], example["id"], example["time"]) == ("0-0", "yes", 7, 2.5)
    assert (example["annotator"], example["reply"]) == ("bank", "r1")
    assert daemon.fold.learned.model.learned == {"yes": 1}


def test_a_self_contained_reply_is_learned_as_it_is(world: World) -> None:
    """Features and label together need no event and no request."""
    daemon = world.daemon()
    world.tell({"features": POINT}, "yes")
    world.tell({"features": POINT}, "yes")
    world.drain(daemon)
    assert [row["features"] for row in learned(world)] == [POINT, POINT]
    assert daemon.fold.learned.model.learned == {"yes": 2}


def test_forged_labels_with_features_of_their_own_teach_nothing() -> None:
    """F67: without labels.natural a hundred of them are a hundred dead letters, and genuine replies go on."""
    world = World(make_config(budget={"share": 1.0, "audit_share": 1.0}))
    daemon = world.daemon()
    for number in range(100):
        world.tell({"features": POINT}, f"[/junk{number}]")
    world.drain(daemon)
    assert reasons(world) == ["not_supported"] * 100
    assert rows_of(world.broker, "streamal.training") == []
    world.event(POINT)
    world.drain(daemon)
    world.reply("0-0", "yes")
    world.drain(daemon)
    assert daemon.fold.learned.model.learned == {"yes": 1}
    assert set(daemon.fold.learned.model.classes) == {"yes", "no"}


@pytest.mark.parametrize("about", [{"event": "0-0"}, {"features": POINT}])
def test_natural_labels_have_to_be_opted_in(about: dict[str, object]) -> None:
    """Without labels.natural both forms are refused, and the dead letter names the key that would let them in."""
    world = World(make_config())
    daemon = world.daemon()
    world.event(POINT)
    world.tell(about, "yes")
    world.drain(daemon)
    assert learned(world) == []
    (letter,) = rows_of(world.broker, "streamal.dead-letters")
    assert letter["reason"] == "not_supported"
    assert "labels.natural = true" in letter["detail"]


def test_an_event_is_learned_once(world: World) -> None:
    """In one step or in two: the same label again is a duplicate, another one a conflict."""
    daemon = world.daemon()
    world.event(POINT)
    for label in ("yes", "yes", "no"):
        world.tell({"event": "0-0"}, label)
    world.drain(daemon)
    world.tell({"event": "0-0"}, "no")
    world.drain(daemon)
    assert [row["label"] for row in learned(world)] == ["yes"]
    counts = {kind: times for (name, kind), times in world.meter.counts.items() if name == "natural_labels"}
    assert counts == {"accepted": 1, "duplicate": 1, "conflicting": 2}


def test_a_bought_label_comes_first_or_last_but_is_learned_once() -> None:
    """After the bought label a natural one is a duplicate; before it, the bought one is not learned again."""
    world = World(make_config(labels={"natural": True}, budget={"share": 1.0, "audit_share": 1.0}))
    daemon = world.daemon()
    world.event(POINT)
    world.event(POINT)
    world.drain(daemon)
    assert list(daemon.fold.books.pending.open) == ["0-0", "0-1"]
    world.reply("0-0", "yes")
    world.drain(daemon)
    world.tell({"event": "0-0"}, "yes")
    world.tell({"event": "0-1"}, "yes")
    world.drain(daemon)
    assert list(daemon.fold.books.pending.open) == ["0-1"], (
        "whom the truth reaches is no accident: the question stays open"
    )
    world.reply("0-1", "yes")
    world.drain(daemon)
    assert [row["kind"] for row in rows_of(world.broker, "streamal.training")] == ["example", "natural", "example"]
    assert daemon.fold.learned.model.learned == {"yes": 2}


@pytest.mark.parametrize(
    ("reply_first", "kinds"), [(True, ["example"]), (False, ["natural", "example"])], ids=["reply", "natural label"]
)
def test_a_reply_and_a_natural_label_of_one_step_are_learned_once(reply_first: bool, kinds: list[str]) -> None:
    """The second one meets the first as if it were committed, whichever comes first."""
    world = World(make_config(labels={"natural": True}, budget={"share": 1.0, "audit_share": 1.0}))
    daemon = world.daemon()
    world.event(POINT)
    world.drain(daemon)
    if not reply_first:
        world.tell({"event": "0-0"}, "yes")
    world.reply("0-0", "yes")
    if reply_first:
        world.tell({"event": "0-0"}, "yes")
    world.drain(daemon)
    assert [row["kind"] for row in rows_of(world.broker, "streamal.training")] == kinds
    assert daemon.fold.learned.model.learned == {"yes": 1}


def test_a_bought_label_that_contradicts_a_natural_one_is_learned_too() -> None:
    """Who is right the daemon cannot know; the paid answer is never thrown away."""
    world = World(make_config(labels={"natural": True}, budget={"share": 1.0, "audit_share": 1.0}))
    daemon = world.daemon()
    world.event(POINT)
    world.drain(daemon)
    world.tell({"event": "0-0"}, "yes")
    world.reply("0-0", "no")
    world.drain(daemon)
    assert daemon.fold.learned.model.learned == {"yes": 1, "no": 1}


def test_natural_labels_are_kept_out_of_the_bill_and_the_quality(world: World) -> None:
    """Neither spend nor the honest estimate moves; what they say of the model stands apart, tested before learned."""
    daemon = world.daemon()
    for number in range(40):
        world.event({"x1": number % 2, "x2": 0.5})
    world.drain(daemon)
    before = (
        world.meter.gauges["spend"],
        world.meter.gauges["budget_spent_ratio"],
        daemon.fold.learned.quality.total.count,
    )
    for number in range(40):
        world.tell({"event": f"0-{number}"}, "yes" if number % 2 else "no")
    world.clock.time += 10.0
    world.drain(daemon)
    after = (
        world.meter.gauges["spend"],
        world.meter.gauges["budget_spent_ratio"],
        daemon.fold.learned.quality.total.count,
    )
    assert after == before
    assert world.meter.gauges["natural_examples"] == world.meter.gauges["model_examples"] == 40
    assert 0.8 < world.meter.gauges["quality_accuracy_natural"] < 1.0, "the first could not be known"


@pytest.mark.parametrize(
    ("about", "reason"),
    [
        ({"event": "0-999"}, "event_missing"),
        ({"event": "7-0"}, "event_missing"),
        ({"event": "0-1"}, "event_refused"),
        ({"event": "0-00"}, "bad_field"),
        ({"event": "0 - 0"}, "bad_field"),
        ({"event": "\u0660-0"}, "bad_field"),
        ({"event": ""}, "bad_field"),
        ({"event": "0-" + "9" * 30}, "bad_field"),
        ({"features": {}}, "features_empty"),
        ({"features": {"x1": None}}, "null_feature"),
        ({"features": {"x1": 1e300}}, "number_out_of_range"),
        ({"features": {"x1": "one"}}, "feature_type"),
    ],
)
def test_what_cannot_be_joined_is_refused_with_the_reason(world: World, about: dict[str, object], reason: str) -> None:
    """No event, no event any more, or none that would have been accepted: a dead letter says so, and nothing stops."""
    daemon = world.daemon()
    world.event(POINT)
    world.event({"x1": "not a number"})
    world.tell(about, "yes")
    world.tell({"event": "0-0"}, "no")
    world.drain(daemon)
    assert reasons(world) == [*(["feature_type"]), reason]
    assert [row["label"] for row in learned(world)] == ["no"]


@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        ({"event": "0-0"}, Reason.REPLY_INCOMPLETE),
        ({"event": "0-0", "abstain": True}, Reason.REPLY_INCOMPLETE),
        ({"features": POINT, "abstain": True}, Reason.REPLY_INCOMPLETE),
        ({"label": "yes"}, Reason.REPLY_INCOMPLETE),
        ({"event": "0-0", "label": ""}, Reason.BAD_FIELD),
    ],
)
def test_half_a_natural_label_is_refused(reply: dict[str, object], reason: Reason) -> None:
    """There is no natural abstention, and no label of nothing."""
    found = decode_reply(json.dumps(reply).encode(), WireRules(natural=True), None)
    assert isinstance(found, Refusal)
    assert found.reason is reason


def test_a_request_counts_more_than_what_is_sent_along() -> None:
    """A tool that sends the whole request back with its answer answers it."""
    reply = {"request": "0-7", "event": "0-7", "features": POINT, "label": "yes", "id": 3, "time": 1.0}
    found = decode_reply(json.dumps(reply).encode(), WireRules(natural=True), None)
    assert not isinstance(found, Refusal | NaturalLabel)
    assert (found.request, found.label) == ("0-7", "yes")


def test_a_class_that_may_not_be_learned_is_refused(world: World) -> None:
    """The rules for classes are those of bought labels."""
    daemon = world.daemon()
    world.event(POINT)
    world.tell({"event": "0-0"}, "perhaps")
    world.tell({"features": POINT}, "perhaps")
    world.drain(daemon)
    assert reasons(world) == ["label_unknown", "label_unknown"]


def test_before_the_schema_natural_labels_wait() -> None:
    """What they are made of is not known yet; they are learned as soon as it is."""
    config = make_config(features={"declared": {}, "infer_from": 3}, budget={"share": 1.0}, labels={"natural": True})
    world = World(config)
    daemon = world.daemon()
    world.tell({"features": POINT}, "yes")
    world.drain(daemon)
    assert daemon.fold.learned.model.learned == {}
    for number in range(4):
        world.event({"x1": number, "x2": 1.0})
    world.drain(daemon)
    world.reply("0-0", "no")
    world.drain(daemon)
    assert daemon.fold.learned.schema is not None
    assert daemon.fold.learned.model.learned == {"yes": 1, "no": 1}


def test_a_restart_remembers_what_was_told(world: World) -> None:
    """The memory is a fold of the training log: another worker knows the duplicate too, and has the same model."""
    daemon = world.daemon()
    for number in range(6):
        world.event({"x1": number / 6, "x2": 0.5})
    world.tell({"event": "0-0"}, "yes")
    world.tell({"features": POINT}, "no")
    world.drain(daemon)
    again = world.daemon()
    again.start()
    world.tell({"event": "0-0"}, "yes")
    world.event(POINT)
    world.drain(again)
    assert len(learned(world)) == 2
    assert again.fold.learned.model.learned == daemon.fold.learned.model.learned == {"yes": 1, "no": 1}
    parts = build(CONFIG)
    checks = verify(world.broker, parts.rules, parts.budget, CONFIG.transport.group, parts.new_fold)
    assert {check.promise: check.where for check in checks if check.broken} == {}
    assert len(predictions_of(world.broker, CONFIG)) == 7


def test_the_memory_of_natural_labels_is_bounded() -> None:
    """Like that of closed requests: a flood of them does not fill the memory."""
    fold = make_fold(closed_max=10, kinds={"x": "number"})
    for number in range(1_000):
        example = NaturalExample("a", {"x": 1.0}, 1.0, event=f"0-{number}")
        fold.apply_training(number, encode(example))
    numbers, pending = (989, 990, 999), fold.books.pending
    assert [fold.learned.natural_labels.has(f"0-{number}", "a") for number in numbers] == [False, True, True]
    outcomes = [pending.natural_outcome(f"0-{number}", "a", {}) for number in numbers]
    assert outcomes == [Outcome.ACCEPTED, Outcome.DUPLICATE, Outcome.DUPLICATE]


def test_an_event_that_retention_has_deleted_is_missing(tmp_path: Path) -> None:
    """Its label is refused with that reason; its neighbours, asked for in the same breath, are found."""
    log = SqliteLog(tmp_path / "streamal.db", create=True, synchronous="OFF")
    log.create("events", 1)
    for number in range(10):
        log.append("events", 0, None, b"%d" % number)
    log.trim("events", 0, 5)
    assert sorted(read_events(log, "events", {0: [1, 4, 5, 9]})) == ["0-5", "0-9"]
    assert read_events(log, "events", {0: [2]}) == {}
    log.close()


def test_a_reply_is_decoded_once(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether it closes a request or references an event: what is read back and what is joined is the same object."""
    decoded: list[bytes | None] = []

    def count(value: bytes | None, *rules: Any) -> Any:
        decoded.append(value)
        return decode_reply(value, *rules)

    monkeypatch.setattr("streamal.core.join.decode_reply", count)
    daemon = world.daemon()
    world.event(POINT)
    world.drain(daemon)
    world.tell({"event": "0-0"}, "yes")
    world.drain(daemon)
    assert len(learned(world)) == len(decoded) == 1
