"""`verify` passes a good history and names the promise that a tampered one breaks: each checker has its mutant."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from streamal.bootstrap import build
from streamal.core.codec.events import encode
from streamal.core.records import Lane, OffsetAndMetadata, Prediction, TopicPartition, coordinates
from streamal.inspection.verify.verify import verify
from streamal.replay.annotators import AnnotatorsRules
from streamal.replay.replay import play
from tests.recorded import FrozenLog, World, easy_stream, make_config, predictions_of, rows_of

PAID: dict[str, float] = {"share": 0.2, "per_day": 1_000, "cost_per_label": 0.05, "cost_per_month": 100}
CONFIG = make_config(budget=PAID, labels={"ttl_s": 50.0, "natural": True})
PARTS = build(CONFIG)


def history() -> FrozenLog:
    """Return the topics after 400 events with every kind of answer, and some input that was refused."""
    world = World(CONFIG)
    for value in (b"no event", b'{"features": {"x1": null}}'):
        world.broker.append(world.topics.events, 0, None, value)
        world.broker.append(world.topics.labels, 0, None, value)
    world.reply("0-9999", "yes")
    daemon = world.daemon()
    annotators = AnnotatorsRules(delay_s=5.0, error=0.05, abstain=0.1, silence=0.1)
    play(daemon, world.player(easy_stream(400), annotators), world.clock, 5, lambda _: None)
    unasked = [each.event for each in predictions_of(world.broker, CONFIG) if each.asked is None][:4]
    bought = [row["request"] for row in rows_of(world.broker, world.topics.training) if row["kind"] == "example"]
    for number, event in enumerate([*unasked, *unasked[:2], bought[-1]]):
        world.tell({"event": event}, "yes")
        world.tell({"features": {"x1": number % 2, "x2": 0.5}}, "no")
    world.clock.time += 100.0
    world.drain(daemon)
    return FrozenLog(world.broker, CONFIG)


@pytest.fixture(scope="module")
def good() -> FrozenLog:
    return history()


@pytest.fixture
def log(good: FrozenLog) -> FrozenLog:
    copy = object.__new__(FrozenLog)
    copy.topics, copy.counts = good.topics, good.counts
    copy.records = {place: list(records) for place, records in good.records.items()}
    copy.begins, copy.ends, copy.offsets = {}, {}, dict(good.offsets)
    return copy


def broken(log: FrozenLog, *, rederive: bool = True) -> dict[str, list[str]]:
    """Return promise -> where it is broken first."""
    checks = verify(log, PARTS.rules, PARTS.budget, "streamal", PARTS.new_fold, rederive)
    return {check.promise: check.where for check in checks if check.broken}


def first(log: FrozenLog, topic: str, /, **fields: object) -> int:
    """Return the number of the first record of *topic* with these *fields*."""
    rows = [json.loads(record.value or b"{}") for record in log.of(topic)]
    return next(n for n, row in enumerate(rows) if fields.items() <= row.items())


def test_a_good_history_passes(good: FrozenLog) -> None:
    """Nothing is broken, and no check passes by having looked at nothing."""
    checks = verify(good, PARTS.rules, PARTS.budget, "streamal", PARTS.new_fold)
    assert {check.promise: check.where for check in checks if check.broken} == {}
    assert all(check.looked_at for check in checks)
    assert len(checks) == 13


def test_the_slow_check_can_be_left_out(log: FrozenLog) -> None:
    """Without it an altered probability passes if no label comes after it, and there is one check less."""
    rows = [json.loads(record.value or b"{}") for record in log.of(log.topics.predictions)]
    last, other = rows[-1], {"no": "yes", "yes": "no"}
    assert "asked" not in last, "a request would carry the sum of the probabilities up to it"
    label = last["label"]
    log.change(log.topics.predictions, len(rows) - 1, probabilities={label: 0.6, other[label]: 0.4})
    assert broken(log, rederive=False) == {}


ONCE = "each consumed event has exactly one prediction or one dead letter"
BUDGET = "requests <= share"
VERSION = "the model version of predictions never goes back"
ASKED = "one request for each event whose prediction says so"
QUEUE = "a request is off the queue exactly if"
SAID = "each example and abstention is the first valid reply"
KEPT = "each request with a valid reply is closed"
NATURAL = "each natural label is learned once"
READABLE = "every record of training is streamal's own"
MONEY = "no hour, day or month costs more than its cap"
COUNT = "no clock hour or calendar day has more requests than its cap"
DERIVED = "every prediction can be re-derived"

Tamper = Callable[[FrozenLog], Any]


def unasked(log: FrozenLog) -> int:
    """Return the number of the last prediction that was not asked."""
    asked = [json.loads(record.value or b"").get("asked") for record in log.of(log.topics.predictions)]
    return len(asked) - 1 - asked[::-1].index(None)


def remove(log: FrozenLog, topic: str, number: int) -> None:
    del log.of(topic)[number]


def twice(log: FrozenLog, topic: str, number: int) -> None:
    record = log.of(topic)[number]
    log.append(topic, 0, record.key, record.value)


def request_unasked(log: FrozenLog) -> None:
    request = json.loads(log.of(log.topics.requests)[0].value or b"")
    prediction = next(
        p for p in map(json.loads, (r.value or b"" for r in log.of(log.topics.predictions))) if "asked" not in p
    )
    value = json.dumps({**request, "request": prediction["event"]}).encode()
    log.append(log.topics.requests, 0, prediction["event"].encode(), value)


def training_without_reply(log: FrozenLog) -> None:
    key = log.of(log.topics.training)[first(log, log.topics.training, kind="example")].key or b""
    log.records[TopicPartition(log.topics.labels, 0)] = [
        record for record in log.of(log.topics.labels) if record.key != key
    ]


def lost_reply(log: FrozenLog) -> None:
    number = first(log, log.topics.training, kind="example")
    key = log.of(log.topics.training)[number].key
    remove(log, log.topics.training, number)
    log.records[TopicPartition(log.topics.requests, 0)] = [
        record for record in log.of(log.topics.requests) if not (record.key == key and record.value is None)
    ]


def expiry_of_nothing(log: FrozenLog) -> None:
    number = first(log, log.topics.training, kind="expiry")
    value = {**json.loads(log.of(log.topics.training)[number].value or b""), "request": "0-9999"}
    log.append(log.topics.training, 0, b"0-9999", json.dumps(value).encode())
    log.append(log.topics.requests, 0, b"0-9999", None)


def natural(log: FrozenLog, *, named: bool) -> int:
    """Return the number of the first training record of a natural label that names its event, or brings features."""
    rows = enumerate(log.of(log.topics.training))
    return next(n for n, r in rows if b'"natural"' in (r.value or b"") and (r.key is not None) == named)


def overspent(log: FrozenLog) -> None:
    numbers = [n for n, r in enumerate(log.of(log.topics.predictions)) if b'"asked"' not in (r.value or b"")]
    for number in numbers[:60]:
        log.change(log.topics.predictions, number, asked="strategy")


def version_back(log: FrozenLog) -> None:
    log.change(log.topics.predictions, len(log.of(log.topics.predictions)) - 1, version=1)


def unread_events(log: FrozenLog) -> None:
    place = TopicPartition(log.topics.events, 0)
    log.offsets[place] = OffsetAndMetadata(log.offsets[place].offset - 3, log.offsets[place].metadata)


def prediction_of_nothing(log: FrozenLog) -> None:
    twice(log, log.topics.predictions, unasked(log))
    log.change(log.topics.predictions, -1, event="0-9998")


COUNTED = "requests and examples carry the counts"

VIOLATIONS: dict[str, tuple[Tamper, set[str]]] = {
    "prediction twice": (lambda log: twice(log, log.topics.predictions, 0), {ONCE, VERSION}),
    "prediction missing": (lambda log: remove(log, log.topics.predictions, unasked(log)), {ONCE}),
    "prediction without event": (prediction_of_nothing, {ONCE}),
    "prediction ahead of the commit": (unread_events, {ONCE}),
    "dead letter of an event missing": (
        lambda log: remove(log, log.topics.dead_letters, first(log, log.topics.dead_letters, topic=log.topics.events)),
        {ONCE},
    ),
    "dead letter of an event twice": (
        lambda log: twice(log, log.topics.dead_letters, first(log, log.topics.dead_letters, topic=log.topics.events)),
        {ONCE},
    ),
    "dead letter without event": (
        lambda log: log.change(
            log.topics.dead_letters,
            first(log, log.topics.dead_letters, topic=log.topics.events, offset=1),
            offset=9_999,
        ),
        {ONCE},
    ),
    "dead letter of a reply missing": (
        lambda log: remove(log, log.topics.dead_letters, first(log, log.topics.dead_letters, topic=log.topics.labels)),
        {KEPT},
    ),
    "dead letter of a reply twice": (
        lambda log: twice(log, log.topics.dead_letters, first(log, log.topics.dead_letters, topic=log.topics.labels)),
        {KEPT},
    ),
    "request twice": (lambda log: twice(log, log.topics.requests, 0), {ASKED}),
    "request unasked": (request_unasked, {ASKED, QUEUE, COUNTED}),
    "request missing": (
        lambda log: log.change(log.topics.predictions, first(log, log.topics.predictions, version=0), asked="audit"),
        {ASKED},
    ),
    "request of another lane": (
        lambda log: log.change(
            log.topics.requests,
            0,
            lane="audit" if b'"strategy"' in (log.of(log.topics.predictions)[0].value or b"") else "strategy",
        ),
        {ASKED},
    ),
    "closed twice": (
        lambda log: twice(log, log.topics.training, first(log, log.topics.training, kind="abstention")),
        {QUEUE},
    ),
    "tombstone without training": (
        lambda log: twice(
            log, log.topics.requests, next(n for n, r in enumerate(log.of(log.topics.requests)) if r.value is None)
        ),
        {QUEUE},
    ),
    "tombstone missing": (
        lambda log: remove(
            log, log.topics.requests, next(n for n, r in enumerate(log.of(log.topics.requests)) if r.value is None)
        ),
        {QUEUE},
    ),
    "expiry of what was never asked": (expiry_of_nothing, {QUEUE}),
    "abstention of somebody else": (
        lambda log: log.change(
            log.topics.training, first(log, log.topics.training, kind="abstention"), annotator="mallory"
        ),
        {SAID},
    ),
    "example without reply": (training_without_reply, {SAID}),
    "example with another propensity": (
        lambda log: log.change(log.topics.training, first(log, log.topics.training, kind="example"), propensity=0.99),
        {SAID},
    ),
    "example with other counts": (
        lambda log: log.change(
            log.topics.training, first(log, log.topics.training, kind="example"), seen=[1, 500_000, 0]
        ),
        {COUNTED},
    ),
    "request with other counts": (lambda log: log.change(log.topics.requests, 0, seen=[9, 500_000, 0]), {COUNTED}),
    "reply lost": (lost_reply, {KEPT, DERIVED}),
    "self-contained label learned twice": (
        lambda log: twice(log, log.topics.training, natural(log, named=False)),
        {NATURAL},
    ),
    "natural label lost": (
        lambda log: remove(log, log.topics.training, natural(log, named=True)),
        {NATURAL},
    ),
    "natural label with other features": (
        lambda log: log.change(log.topics.training, natural(log, named=True), features={"x1": 9.0}),
        {NATURAL},
    ),
    "natural label that nobody gave": (
        lambda log: log.change(log.topics.training, natural(log, named=True), annotator="mallory"),
        {NATURAL},
    ),
    "budget overspent": (overspent, {BUDGET, ASKED}),
    "label dearer than reserved": (
        lambda log: log.change(log.topics.training, first(log, log.topics.training, kind="example"), cost=60_000),
        {MONEY},
    ),
    "more reserved than there was": (
        lambda log: log.change(log.topics.training, first(log, log.topics.training, kind="example"), reserved=10**9),
        {MONEY},
    ),
    "version goes back": (version_back, {VERSION, DERIVED}),
    "probability altered": (
        lambda log: log.change(log.topics.predictions, -1, probabilities={"no": 0.25, "yes": 0.75}),
        {DERIVED},
    ),
    "label altered": (lambda log: log.change(log.topics.predictions, unasked(log), label="maybe"), {DERIVED}),
}


@pytest.mark.parametrize("name", VIOLATIONS)
def test_a_violation_is_named(log: FrozenLog, name: str) -> None:
    """What was tampered with breaks the promises it should, those alone, and says where."""
    tamper, promises = VIOLATIONS[name]
    tamper(log)
    found = broken(log)
    assert {promise for promise in promises if any(each.startswith(promise) for each in found)} == promises
    assert len(found) == len(promises), found
    assert all(found.values())


def not_judged(log: FrozenLog) -> dict[str, int]:
    """Return reason -> how many cases could not be judged."""
    found: Counter[str] = Counter()
    for check in verify(log, PARTS.rules, PARTS.budget, "streamal", PARTS.new_fold):
        assert not check.broken, check
        found.update(check.not_judged)
    return dict(found)


@pytest.mark.parametrize("part", [0.01, 0.3, 0.9, 1.0])
@pytest.mark.parametrize("role", ["events", "labels", "predictions", "dead_letters"])
def test_what_retention_has_deleted_is_not_judged(log: FrozenLog, role: str, part: float) -> None:
    """Nothing is broken because it was deleted, and how much that is is counted (F60)."""
    topic = getattr(log.topics, role)
    before = int(log.end(topic, 0) * part) if part < 1 else log.end(topic, 0)
    deleted = log.trim(topic, before)
    found = not_judged(log)
    if deleted > 3:
        assert sum(found.values()) >= deleted, found


def test_what_is_left_is_judged_after_retention(log: FrozenLog) -> None:
    """With half of the events, labels and predictions gone, each violation in the other half is still named."""
    for role in ("events", "labels", "predictions"):
        topic = getattr(log.topics, role)
        log.trim(topic, log.end(topic, 0) // 2)
    assert broken(log) == {}
    closings = [json.loads(record.value or b"") for record in log.of(log.topics.training)]
    last = max(n for n, row in enumerate(closings) if row["kind"] == "example")
    log.change(log.topics.training, last, annotator="mallory")
    remove(log, log.topics.predictions, unasked(log))
    found = [promise[:40] for promise in broken(log, rederive=False)]
    assert found == [ONCE[:40], SAID[:40]]


@pytest.mark.parametrize("taken", ["requests", "requests and tombstones"])
def test_compaction_is_no_broken_promise(log: FrozenLog, taken: str) -> None:
    """It takes closed requests, and their tombstones a day later (F60)."""
    records = log.of(log.topics.requests)
    closed = {record.key for record in records if record.value is None}
    log.records[TopicPartition(log.topics.requests, 0)] = [
        r for r in records if r.key not in closed or (r.value is None and taken == "requests")
    ]
    assert len(log.of(log.topics.requests)) < len(records)
    assert broken(log) == {}


def test_replies_to_guessed_coordinates_are_a_note() -> None:
    """Thirty replies that came before their request were unknown: nothing is broken, and they are counted (F60)."""
    world = World(CONFIG)
    daemon = world.daemon()
    daemon.start()
    for offset in range(400):
        world.reply(f"0-{offset}", "yes", annotator="mallory")
    world.drain(daemon)
    annotators = AnnotatorsRules(delay_s=5.0)
    play(daemon, world.player(easy_stream(400), annotators), world.clock, 5, lambda _: None)
    log = FrozenLog(world.broker, CONFIG)
    asked = sum(prediction.asked is not None for prediction in predictions_of(log, CONFIG))
    assert asked > 30
    assert not_judged(log)["replies came before their request, and were unknown then"] == asked
    lost_reply(log)
    assert [promise[:30] for promise in broken(log, rederive=False)] == [KEPT[:30]]


@pytest.mark.parametrize(("more", "promise"), [({"per_day": 60}, COUNT), ({"cost_per_month": 3.5}, MONEY)])
def test_a_cap_that_did_not_hold_is_named(good: FrozenLog, more: dict[str, Any], promise: str) -> None:
    """By the rules of a tighter cap the same history is over it, from its first request too many on."""
    tight = make_config(budget={**PAID, **more}, labels={"ttl_s": 50.0, "natural": True})
    parts = build(tight)
    checks = verify(good, parts.rules, parts.budget, "streamal", parts.new_fold, rederive=False)
    broken = {check.promise: check.broken for check in checks if check.broken}
    assert len(broken) == 1, broken
    assert next(iter(broken)).startswith(promise)
    asked = sum(prediction.asked is not None for prediction in predictions_of_log(good))
    assert 0 < next(iter(broken.values())) < asked


@pytest.mark.parametrize(("partition", "asked_max"), [(0, 3), (1, 2)])
def test_each_partition_has_its_part_of_the_burst(partition: int, asked_max: int) -> None:
    """Five requests for two partitions are three and two: the whole burst in one partition breaks the promise."""
    config = make_config(budget={"share": 0.01, "burst": 5}, transport={"partitions": 2})
    parts = build(config)
    for asked in (asked_max, asked_max + 1):
        broker = World(config).broker
        for offset in range(asked):
            prediction = Prediction(coordinates(partition, offset), "yes", {"yes": 1.0}, 0, 1.0, 0.0, Lane.STRATEGY)
            broker.append(config.topics.predictions, partition, None, encode(prediction))
        checks = verify(broker, parts.rules, parts.budget, "streamal", parts.new_fold, rederive=False)
        where = next(check.where for check in checks if check.promise.startswith(BUDGET))
        assert where == ([] if asked == asked_max else [coordinates(partition, asked_max)])


def predictions_of_log(log: FrozenLog) -> list[Prediction]:
    return [msgspec.json.decode(record.value or b"", type=Prediction) for record in log.of(log.topics.predictions)]


def test_a_wrong_label_breaks_the_promise_about_replies(log: FrozenLog) -> None:
    """An example whose label nobody gave is found, and so are the predictions that it should have led to."""
    number = first(log, log.topics.training, kind="example", label="yes")
    key = log.change(log.topics.training, number, label="no")
    found = broken(log)
    assert [where for promise, where in found.items() if promise.startswith(SAID)] == [[key]]
    assert any(promise.startswith(DERIVED) for promise in found)


def test_a_foreign_training_record_is_not_ours(log: FrozenLog) -> None:
    """A record of training that streamal cannot have written is named by its offset."""
    log.append(log.topics.training, 0, None, b"whatever")
    assert list(broken(log, rederive=False)) == [READABLE]


@pytest.mark.parametrize("topic", ["predictions", "dead_letters"])
def test_foreign_records_are_no_reason_to_crash(log: FrozenLog, topic: str) -> None:
    """What somebody else wrote to our topics is reported, or left alone, and every other check still runs."""
    log.append(getattr(log.topics, topic), 0, None, b"junk")
    assert set(broken(log)) == (
        {"each consumed event has exactly one prediction or one dead letter, no other has any"}
        if topic == "predictions"
        else set()
    )
