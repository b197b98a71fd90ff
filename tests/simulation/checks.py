"""The invariants of ``docs/promises.md``, recomputed from what the topics truly hold; the daemon is not believed.

Wire formats and the fold itself are production code (they have tests of their own); who may be asked, what may be
learned and when is decided here anew.
"""

from __future__ import annotations

import datetime as dt
import json
from collections import Counter
from collections.abc import Iterator
from fractions import Fraction
from typing import Any

import msgspec

from streamal.core.codec.dead_letters import DeadLetter
from streamal.core.codec.events import decode_event
from streamal.core.fold import Fold
from streamal.core.pending import resident_bytes
from streamal.core.records import (
    Closing,
    Event,
    Example,
    Expiry,
    NaturalExample,
    Prediction,
    Reason,
    Record,
    Request,
    SchemaSet,
    TopicPartition,
    Training,
    coordinates,
)
from streamal.core.snapshot import decode_snapshot
from tests.simulation.fakes import FINGERPRINT
from tests.simulation.process import Violation
from tests.simulation.scenario import CLASSES, GROUP, TOPICS
from tests.simulation.world import World

SNAPSHOTS_CHECKED = 3
_prediction = msgspec.json.Decoder(Prediction).decode
_request = msgspec.json.Decoder(Request).decode
_training = msgspec.json.Decoder(Training).decode
_letter = msgspec.json.Decoder(DeadLetter).decode


class Facts:
    """All topics, decoded."""

    def __init__(self, world: World) -> None:
        partitions = range(world.scenario.partitions)
        self.partitions = partitions
        self.committed = {place: state.offset for place, state in world.broker.groups[GROUP].offsets.items()}
        self.events = [world.truth(TOPICS.events, p) for p in partitions]
        self.predictions = [
            [_prediction(r.value or b"") for r in world.truth(TOPICS.predictions, p)] for p in partitions
        ]
        self.requests = [
            [(_key(r), None if r.value is None else _request(r.value)) for r in world.truth(TOPICS.requests, p)]
            for p in partitions
        ]
        self.asked = {key: request for rows in self.requests for key, request in rows if request is not None}
        self.log = world.truth(TOPICS.training)
        self.training: list[Training] = [_training(r.value or b"") for r in self.log]
        self.closed = {t.request: t for t in self.training if isinstance(t, Closing)}
        self.letters: list[DeadLetter] = [_letter(r.value or b"") for r in world.truth(TOPICS.dead_letters)]


def check_all(world: World, *, final: bool) -> None:
    """Raise a `Violation` for the first broken promise; *final*: nothing may be left to do either."""
    facts = Facts(world)
    _each_event_once(world, facts, final)
    for partition in facts.partitions:
        _budget(world, facts, partition)
        _open_queue(world, facts, partition)
        _money(world, facts, partition)
    _requests(facts)
    _times(world, facts)
    _joined(world, facts, final)
    _natural(world, facts)
    _new_classes(world, facts)
    _models(world, facts, final)


def require(holds: object, check: str, what: str) -> None:
    """Raise a `Violation` unless *holds*."""
    if not holds:
        raise Violation(check, what)


def _each_event_once(world: World, facts: Facts, final: bool) -> None:
    """I1, I8: below the committed offset one prediction or, for what must be refused, one dead letter; else nothing."""
    predicted = Counter(p.event for rows in facts.predictions for p in rows)
    refused = Counter(coordinates(x.partition, x.offset) for x in facts.letters if x.topic == TOPICS.events)
    killers = {coordinates(x.partition, x.offset) for x in facts.letters if x.reason == Reason.KILLED_THE_WORKER}
    require(killers <= world.lethal, "I1", f"refused as killers without guilt: {killers - world.lethal}")
    world.marks["killer refused"] += len(killers)
    total = 0
    for partition, events in enumerate(facts.events):
        end = facts.committed.get(TopicPartition(TOPICS.events, partition), 0)
        require(not final or not events or end > events[-1].offset, "I16", f"events of {partition} are left over")
        for record in events:
            key, done = coordinates(partition, record.offset), record.offset < end
            bad = key in world.refusable or key in killers
            have, wanted = (predicted[key], refused[key]), (done and not bad, done and bad)
            if key in world.placeholders and done:  # which of both, depends on the schema: see `_rederive`
                wanted = (True, False) if predicted[key] else (False, True)
                world.marks[f"placeholder {'refused' if refused[key] else 'accepted'}"] += 1
            require(have == wanted, "I1", f"{key} has (predictions, letters) {have}, not {wanted}")
            total += done
    require(predicted.total() + refused.total() == total, "I1", "predictions or letters without an event")
    end = facts.committed.get(TopicPartition(TOPICS.labels, 0), 0)
    letters = Counter(x.offset for x in facts.letters if x.topic == TOPICS.labels)
    require(all(times == 1 and offset < end for offset, times in letters.items()), "I1", "a reply refused twice")
    labels = world.truth(TOPICS.labels)
    require(not final or not labels or end > labels[-1].offset, "I16", "replies are left over")


def _budget(world: World, facts: Facts, partition: int) -> None:
    """I2: the budget holds in every prefix; with anything in the bucket the odds are ε or more; I5: stamps go on."""
    budget, partitions = world.scenario.budget, world.scenario.partitions
    burst = budget.burst // partitions + (partition < budget.burst % partitions)
    rows = facts.predictions[partition]
    capped = any(cap is not None for cap in (budget.per_hour, budget.per_day, *budget.money))
    paced = world.scenario.settings.rules.pace_horizon_s is not None
    bounded = capped or paced or budget.quotas or budget.open_max // partitions < len(rows)
    bounded = bounded or budget.open_bytes < 96_000_000
    asked = version = 0
    saved = earned = Fraction(burst)
    for number, prediction in enumerate(rows):
        changed, budget = budget, world.budget_at(partition, number)
        bounded = bounded or budget is not changed  # what is lost to rounding then is for the tests of the budget
        earned += budget.share
        saved = min(Fraction(max(burst, 2 * budget.reserve + 1)), saved + budget.share)
        if budget.audit_every and not bounded and saved >= 1:
            require(prediction.propensity >= 0.999_999 / budget.audit_every, "I2", f"{prediction.event}: out of reach")
        saved -= prediction.asked is not None
        asked += prediction.asked is not None
        require(asked <= earned, "I2", f"over budget at {prediction.event}")
        require(prediction.asked is None or prediction.propensity > 0, "I2", f"{prediction.event}: asked at odds of 0")
        require(prediction.version >= version, "I5", f"the stamp goes back at {prediction.event}")
        version = prediction.version


def _open_queue(world: World, facts: Facts, partition: int) -> None:
    """I9: at no offset of the queue are more requests open than allowed; I2: nor more asked in an hour than allowed."""
    budget, partitions = world.scenario.budget, world.scenario.partitions
    open_max = budget.open_max // partitions + (partition < budget.open_max % partitions)
    hours: Counter[int] = Counter()
    opened: set[str] = set()
    for key, request in facts.requests[partition]:
        if request is None:
            opened.discard(key)
            continue
        opened.add(key)
        sizes = (resident_bytes(r.features, len(r.probabilities)) for r in map(facts.asked.__getitem__, opened))
        require(sum(sizes) <= budget.open_bytes // partitions, "I9", f"the open requests take too much with {key}")
        require(len(opened) <= open_max, "I9", f"{len(opened)} open requests with {key}, {open_max} allowed")
        hours[int(request.asked_at // 3600)] += 1
        world.marks["pending full"] += len(opened) == open_max
    if budget.per_hour is not None:
        most = budget.per_hour // partitions + (partition < budget.per_hour % partitions)
        require(all(count <= most for count in hours.values()), "I2", f"more than {most} requests in an hour")


def _money(world: World, facts: Facts, partition: int) -> None:
    """I2: whatever had been settled when each label was asked, no hour, day or month could cost more than its cap."""
    budget, partitions = world.scenario.budget, world.scenario.partitions
    paid = [(record.offset, t) for record, t in zip(facts.log, facts.training, strict=True) if isinstance(t, Closing)]
    rows = [
        facts.asked[p.event] for p in facts.predictions[partition] if p.asked is not None and p.event in facts.asked
    ]
    versions = {p.event: p.version for p in facts.predictions[partition]}
    for last, request in enumerate(rows):
        known = {t.request: t.cost for offset, t in paid if offset < versions[request.request]}
        for i, form in enumerate(("%Y %j %H", "%Y %j", "%Y %m")):
            same = [other for other in rows[: last + 1] if _when(other, form) == _when(request, form)]
            cap, count = budget.money[i], (budget.per_hour, budget.per_day, None)[i]
            spent = sum(known.get(other.request, other.reserved) for other in same)
            full = cap is not None and spent > cap // partitions + (partition < cap % partitions)
            many = count is not None and len(same) > count // partitions + (partition < count % partitions)
            require(
                not full and not many,
                "I2",
                f"{request.request}: {spent} for {len(same)} in {form}, {partitions} share {cap}",
            )
            world.marks["cap on money reached"] += cap is not None and spent + request.reserved > cap // partitions
            world.marks["refund spent again"] += cap is not None and sum(o.reserved for o in same) > cap
    for training in facts.closed.values():
        if training.request not in facts.asked:
            continue  # trained without a request: that is for I3 to say
        request = facts.asked[training.request]
        require(
            training.reserved == request.reserved == budget.prices.reserved, "I2", "another price than was reserved"
        )
        require(0 <= training.cost <= training.reserved, "I2", f"{training.request} costs {training.cost}")
        free = isinstance(training, Expiry) and budget.prices.refund_expired
        require(training.cost == 0 or not free, "I2", f"{training.request} has expired, and costs something")


def _when(request: Request, form: str) -> str:
    return dt.datetime.fromtimestamp(request.asked_at, dt.UTC).strftime(form)


def _requests(facts: Facts) -> None:
    """I2: a request exactly where the prediction says so, once; I3: tombstones and closing records go together."""
    asked = Counter(key for rows in facts.requests for key, request in rows if request is not None)
    wanted = Counter(p.event for rows in facts.predictions for p in rows if p.asked is not None)
    require(asked == wanted, "I2", f"requests and predictions differ: {(asked - wanted) + (wanted - asked)}")
    buried = Counter(key for rows in facts.requests for key, request in rows if request is None)
    closed = Counter(t.request for t in facts.training if isinstance(t, Closing))
    require(all(times == 1 for times in closed.values()), "I3", f"closed more than once: {closed.most_common(1)}")
    require(closed.keys() <= asked.keys(), "I3", f"trained without a request: {closed.keys() - asked.keys()}")
    require(buried == closed, "I3", f"tombstones and training differ: {(buried - closed) + (closed - buried)}")
    require(sum(isinstance(t, SchemaSet) for t in facts.training) <= 1, "I3", "two schemas")


def _joined(world: World, facts: Facts, final: bool) -> None:
    """I3: what was learned is the first valid reply; what was answered in time has not expired; I16: all is closed."""
    end = facts.committed.get(TopicPartition(TOPICS.labels, 0), 0)
    valid: dict[str, list[Any]] = {}
    too_many = {x.offset for x in facts.letters if x.reason == Reason.CLASSES_TOO_MANY}
    for posted in world.annotators.posted:
        if (
            posted.label is None
            or posted.label in CLASSES
            or (world.scenario.learn_new and posted.offset not in too_many)
        ):
            valid.setdefault(posted.request, []).append(posted)
    for name, request in facts.asked.items():
        closed, replies = facts.closed.get(name), valid.get(name, ())
        if closed is None:
            lost = any(p.seen and p.in_time and p.offset < end for p in replies)
            require(not lost, "I3", f"{name}: an answer was consumed and is in no training record")
            require(not final, "I16", f"{name} was never closed")
        elif isinstance(closed, Expiry):
            require(
                not any(p.seen and p.in_time for p in replies), "I3", f"{name} has expired, but was answered in time"
            )
            require(closed.at >= request.expires_at, "I11", f"{name} has expired too early")
            world.marks["expiry racing a reply"] += any(p.seen for p in replies)
        else:
            # a guess at a name that nobody could know yet may count or not; the first who has seen the request does
            first = next((n for n, p in enumerate(replies) if p.seen), len(replies))
            label = closed.label if isinstance(closed, Example) else None
            allowed = [(str(p.number), p.label) for p in replies[: first + 1]]
            require((closed.reply, label) in allowed, "I3", f"{name}: learned {label!r} by reply {closed.reply}")
            same = not isinstance(closed, Example) or closed.features == request.features
            require(same and closed.asked_at == request.asked_at, "I3", f"{name}: joined with another request")
            late = any(str(p.number) == closed.reply and not p.in_time for p in replies)
            world.marks["expiry racing a reply"] += late


def _natural(world: World, facts: Facts) -> None:
    """I3 for labels that nobody asked for: each is learned once, with its event's features, or refused, or known."""
    end = facts.committed.get(TopicPartition(TOPICS.labels, 0), 0)
    letters = {x.offset for x in facts.letters if x.topic == TOPICS.labels}
    events = {coordinates(p, r.offset): r for p, records in enumerate(facts.events) for r in records}
    learned = {example.reply: example for example in facts.training if isinstance(example, NaturalExample)}
    taught = {e.event for e in learned.values()} | {k for k, t in facts.closed.items() if isinstance(t, Example)}
    require(len(learned) == sum(isinstance(t, NaturalExample) for t in facts.training), "I3", "learned twice")
    times = Counter(example.event for example in learned.values() if example.event is not None)
    remembered = world.scenario.closed_max > len(world.annotators.told)
    require(not remembered or all(n == 1 for n in times.values()), "I3", f"an event learned twice: {times}")
    for told in world.annotators.told:
        if not world.scenario.settings.rules.wire.natural:
            refused = told.offset in letters or told.offset >= end
            require(
                refused and f"n{told.number}" not in learned, "I3", f"natural label {told.number}: not asked for (F67)"
            )
            world.marks["natural labels are off"] += 1
            continue
        example = learned.pop(f"n{told.number}", None)
        if example is None:
            known = told.event is not None and told.event in taught
            require(told.offset >= end or told.offset in letters or known, "I3", f"natural label {told.number} is lost")
            continue
        require((example.event, example.label) == (told.event, told.label), "I3", f"{told.number} says something else")
        require(told.offset not in letters and told.offset < end, "I3", f"{told.number}: learned, and refused")
        if told.event is not None:
            wire, fields = world.scenario.settings.rules.wire, json.loads(events[told.event].value or b"")["features"]
            kept = {name: value for name, value in fields.items() if name in example.features}
            require(example.features == kept and "x" in kept, "I3", f"{told.event}: other features")
            whole = isinstance(decode_event(0, 0, events[told.event].value, wire, None), Event)
            world.marks["natural label of an event with dropped features"] += not whole
    require(not learned, "I3", f"natural examples out of nothing: {learned}")


def _new_classes(world: World, facts: Facts) -> None:
    """I9, F67: an annotator's replies create so many classes a day; no more are refused than is needed for that."""
    limit = world.scenario.settings.rules.classes_per_annotator
    known, created = set(CLASSES), Counter[tuple[str | None, float]]()
    for training in facts.training:
        if isinstance(training, Example | NaturalExample) and training.label not in known:
            known.add(training.label)
            created[training.annotator, training.at // 86_400] += 1
    require(all(times <= limit for times in created.values()), "I9", f"more than {limit} new classes: {created}")
    for letter in facts.letters:
        if letter.reason == Reason.CLASSES_TOO_MANY:
            require(created["simulated", letter.at // 86_400] == limit, "I3", f"{letter.offset}: refused without need")
            world.marks["new classes refused"] += 1


def _times(world: World, facts: Facts) -> None:
    """I11: no time in any record is one that no clock has shown, and within a partition none goes back."""
    latest = world.clock.latest
    for partition in facts.partitions:
        times = [request.asked_at for _, request in facts.requests[partition] if request is not None]
        require(times == sorted(times), "I11", f"requests of {partition} go back in time")
        require(not times or times[-1] <= latest, "I11", f"a request of {partition} comes from the future")
    times = [record.at for record in facts.training]
    require(times == sorted(times), "I11", "training goes back in time")
    require(not times or times[-1] <= latest, "I11", "a training record comes from the future")
    closings = (t for t in facts.training if isinstance(t, Closing))
    require(world.clock.jumps or all(t.at >= t.asked_at for t in closings), "I11", "closed before asked")


def _models(world: World, facts: Facts, final: bool) -> None:
    """I4, I5, I6: every prediction is that of its version; every worker and every snapshot has the log's own model."""
    wanted = {daemon.fold.learned.version.offset for daemon in world.daemons()}
    found: dict[int, Any] = {}
    fold = world.scenario.new_fold()
    log = iter(facts.log)

    def fold_to(version: int) -> bool:
        while fold.learned.version.offset < version and (record := next(log, None)) is not None:
            fold.apply_training(record.offset, record.value)
            if fold.learned.version.offset in wanted:
                found[fold.learned.version.offset] = _digest(fold)
        return fold.learned.version.offset == version

    if 0 in wanted:
        found[0] = _digest(fold)
    for prediction, event in sorted(_predicted(facts), key=lambda pair: pair[0].version):
        require(fold_to(prediction.version), "I5", f"{prediction.event}: there is no version {prediction.version}")
        _rederive(world, fold, prediction, event)
    fold_to(facts.log[-1].offset + 1 if facts.log else 0)
    for daemon in world.daemons():
        have = daemon.fold
        _require_schema(world, have)
        logged = found.get(have.learned.version.offset)
        require(logged == _digest(have), "I4", "a worker's model is not that of the log")
        require(not final or have.books.version == fold.books.version, "I16", "a worker has not folded the whole log")
        open_now = facts.asked.keys() - facts.closed.keys()
        require(not final or have.books.pending.open.keys() == open_now, "I4", "a worker has other open requests")
    _snapshots(world, facts, _digest(fold))
    world.marks["new class"] += len(fold.learned.model.classes) > len(CLASSES)
    world.marks["half-learn"] += fold.learned.model.failures > 0
    world.marks["vector learned"] += any(
        "v" in record.features for record in facts.training if isinstance(record, Example | NaturalExample)
    )
    world.marks["schema inferred"] += not world.scenario.declared and fold.learned.schema is not None


def _require_schema(world: World, fold: Fold) -> None:
    """F32: a placeholder or an outdated schema in the log changes no type; the features that nobody declared stay."""
    schema = fold.learned.schema
    if schema is not None:
        require(schema.kinds.get("x", "number") == "number", "F32", f"x is a {schema.kinds['x']} in the schema")
        kind = schema.kinds.get("v", "vector(3)")
        require(kind == "vector(3)" or not world.scenario.declared, "F32", f"v is a {kind} in the schema")
        require(not world.scenario.outdated or fold.learned.differences, "F32", "nothing is told of the differences")


def _predicted(facts: Facts) -> Iterator[tuple[Prediction, Record]]:
    for partition, rows in enumerate(facts.predictions):
        events = {coordinates(partition, record.offset): record for record in facts.events[partition]}
        for prediction in rows:
            yield prediction, events[prediction.event]


def _rederive(world: World, fold: Fold, prediction: Prediction, record: Record) -> None:
    wire, learned = world.scenario.settings.rules.wire, fold.learned
    event = decode_event(record.partition, record.offset, record.value, wire, learned.schema)
    require(not isinstance(event, tuple) or hasattr(event, "features"), "I5", f"{prediction.event}: it was refusable")
    again = learned.predict(event)  # type: ignore[arg-type]  # a Refusal was ruled out above
    require(again == prediction.probabilities, "I5", f"{prediction.event} is not what version {learned.version} says")
    require(prediction.label == max(again, key=again.__getitem__), "I5", f"{prediction.event}: not the likeliest class")


def _snapshots(world: World, facts: Facts, end: Any) -> None:
    """I4: the log folded on from any snapshot is the log folded from nothing."""
    saved = [data for shelf in world.shelves.values() for data in shelf.saved]
    for data in saved[:: max(1, len(saved) // SNAPSHOTS_CHECKED)]:
        fold = decode_snapshot(data, FINGERPRINT)
        require(fold is not None, "I6", "a snapshot cannot be read")
        assert fold is not None
        for record in facts.log:
            if record.offset >= fold.books.version.offset:
                fold.apply_training(record.offset, record.value)
        require(_digest(fold) == end, "I4", "the model from a snapshot is not that of the log")


def _digest(fold: Fold) -> Any:
    """Return all that must agree between two folds of the same log."""
    part = fold.learned
    estimator = part.model._estimator
    schema = None if part.schema is None else dict(part.schema.kinds)
    learned, closed = dict(part.model.learned), dict(part.quality.closed)
    waiting = [example.label for example, _ in part.early]
    left_out = part.guard.quarantined, list(part.guard.names), part.guard.sick
    model = estimator.chain, part.model.classes[:], learned, part.model.failures, left_out
    return model, schema, waiting, closed, part.version, fold.books.version


def _key(record: Record) -> str:
    return (record.key or b"").decode()
