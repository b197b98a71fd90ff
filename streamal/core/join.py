"""Join: replies → training. Answers meet their open requests, natural labels their events; what is due expires."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from streamal.core.codec.events import decode_event, encode
from streamal.core.codec.replies import decode_reply
from streamal.core.fold import Fold
from streamal.core.pending import answer
from streamal.core.records import (
    Abstention,
    Event,
    Example,
    Expiry,
    NaturalExample,
    NaturalLabel,
    Outcome,
    OutputRecord,
    Reason,
    Record,
    Refusal,
    Reply,
    Request,
    SchemaSet,
    Training,
    WarmStart,
    partition_of,
)
from streamal.core.rules import Rules, Step, refuse
from streamal.core.schema import infer_schema

__all__ = ["join", "named"]


@dataclass(slots=True)
class _Joined:
    """What this step has joined so far: its later replies meet it as if it were committed."""

    records: list[Training] = field(default_factory=list)
    closing: dict[str, str] = field(default_factory=dict)
    """How requests were closed, as `answer` puts it."""
    telling: dict[str, str] = field(default_factory=dict)
    """Likewise the labels of events, bought or natural."""
    classes: set[str] = field(default_factory=set)
    """Classes that the model does not know yet."""


def named(rules: Rules, polled: Sequence[Record]) -> Mapping[int, list[int]]:
    """Return partition → ascending offsets of the events that are named by natural labels among *polled*."""
    found: dict[int, set[int]] = {}
    for record in polled if rules.wire.natural else ():
        if record.topic != rules.topics.labels:
            continue
        label = decode_reply(record.value, rules.wire, None)
        if isinstance(label, NaturalLabel) and label.event is not None:
            partition, _, offset = label.event.partition("-")
            if int(partition) < rules.partitions:
                found.setdefault(int(partition), set()).add(int(offset))
    return {partition: sorted(offsets) for partition, offsets in found.items()}


def join(
    rules: Rules,
    fold: Fold,
    replies: Sequence[Record],
    recalled: Mapping[str, Record],
    now: float,
    answered: float,
    result: Step,
) -> int:
    """Join replies with requests and *recalled* events, expire what is due; return how many training records that is.

    Replies go first: an answer that is there is not thrown away because the trainer was down at its deadline.
    """
    joined = _Joined()
    if fold.learned.start and not fold.books.version.records:
        joined.records.append(WarmStart(fold.learned.start, now))
    for record in replies:
        reply = _readable(fold, decode_reply(record.value, rules.wire, fold.learned.schema), joined.classes)
        if isinstance(reply, NaturalLabel):
            outcome = _tell(rules, fold, reply, recalled, now, joined)
        else:
            outcome = reply if isinstance(reply, Refusal) else _answer(rules, fold, reply, now, joined, result)
        if isinstance(outcome, Refusal):
            refuse(rules, record, outcome, now, result)
            outcome = Outcome.REFUSED
        result.tally["natural_labels" if isinstance(reply, NaturalLabel) else "replies", outcome] += 1
    for request in fold.books.pending.expired(min(now, answered), rules.expiries_per_step):
        if request.request not in joined.closing:
            joined.records.append(_expired(rules, request, now))
            result.tally["expiries", ""] += 1
    samples = fold.books.samples
    if samples is not None and len(samples) >= fold.books.infer_from:
        joined.records.append(SchemaSet(infer_schema(samples, rules.wire.features_max), now))
    for training in joined.records:
        _write(rules, training, result)
    return len(joined.records)


def _readable(
    fold: Fold, reply: Reply | NaturalLabel | Refusal, new_classes: set[str]
) -> Reply | NaturalLabel | Refusal:
    """Return *reply*, or a Refusal if its label is none that the model may learn (F25)."""
    if isinstance(reply, Refusal) or reply.label is None or fold.learned.model.accepts(reply.label, new_classes):
        return reply
    known = ", ".join(list(fold.learned.model.classes)[:10])
    return Refusal(Reason.LABEL_UNKNOWN, f"label {reply.label!r} is not among the classes ({known})")


def _answer(rules: Rules, fold: Fold, reply: Reply, now: float, joined: _Joined, result: Step) -> Outcome:
    """Close the request that *reply* answers, if it is open."""
    outcome = fold.books.pending.outcome(reply, joined.closing)
    if outcome in (Outcome.ACCEPTED, Outcome.ABSTAINED):
        request = fold.books.pending.open[reply.request]
        joined.closing[reply.request] = answer(reply.label)
        joined.records.append(_closed(rules, request, reply, now))
        result.label_delays_s.append(now - request.asked_at)
        if reply.label is not None:
            joined.telling[reply.request] = answer(reply.label)
            _note_class(fold, reply.label, joined)
    return outcome


def _tell(
    rules: Rules, fold: Fold, label: NaturalLabel, recalled: Mapping[str, Record], now: float, joined: _Joined
) -> Outcome | Refusal:
    """Learn from *label*, unless its event was learned already. A request for the event stays open.

    Whom the truth reaches by itself is not left to chance: if it answered requests, it would bias the audit lane.
    """
    features, identity, time = label.features, label.id, label.time
    if label.event is not None:
        outcome = fold.books.pending.natural_outcome(label.event, label.label, joined.telling)
        if outcome is not Outcome.ACCEPTED:
            return outcome
        event = _recalled(rules, fold, recalled.get(label.event))
        if isinstance(event, Refusal):
            return event
        features, identity, time = event.features, event.id, event.time
        joined.telling[label.event] = answer(label.label)
    assert features is not None, "a natural label has an event or features"
    _note_class(fold, label.label, joined)
    joined.records.append(
        NaturalExample(
            label=label.label,
            features=features,
            at=now,
            event=label.event,
            annotator=label.annotator,
            reply=label.reply,
            id=identity,
            time=time,
        )
    )
    return Outcome.ACCEPTED


def _recalled(rules: Rules, fold: Fold, record: Record | None) -> Event | Refusal:
    """Return the event of *record*, which was read back from the log."""
    if record is None:
        return Refusal(Reason.EVENT_MISSING, "no event has these coordinates, or none has them any more (retention)")
    event = decode_event(record.partition, record.offset, record.value, rules.wire, fold.learned.schema)
    if isinstance(event, Refusal):
        return Refusal(Reason.EVENT_REFUSED, f"the event with these coordinates is refused: {event.detail}")
    return event


def _note_class(fold: Fold, label: str, joined: _Joined) -> None:
    if label not in fold.learned.model.classes:
        joined.classes.add(label)


def _closed(rules: Rules, request: Request, reply: Reply, now: float) -> Example | Abstention:
    common = {
        "request": request.request,
        "propensity": request.propensity,
        "lane": request.lane,
        "asked_at": request.asked_at,
        "at": now,
        "annotator": reply.annotator,
        "reply": reply.reply,
        "seconds": reply.seconds,
        "reserved": request.reserved,
        "cost": rules.prices.cost_of_reply(request, reply.label, reply.seconds),
    }
    if reply.label is None:
        return Abstention(**common)  # type: ignore[arg-type]
    return Example(
        label=reply.label,
        features=request.features,
        predicted=request.label,
        id=request.id,
        time=request.time,
        arms=request.arms,
        seen=request.seen,
        confidence=max(request.probabilities.values(), default=0.0),
        probability=request.probabilities.get(reply.label, 0.0),
        **common,  # type: ignore[arg-type]
    )


def _expired(rules: Rules, request: Request, now: float) -> Expiry:
    return Expiry(
        request=request.request,
        propensity=request.propensity,
        lane=request.lane,
        asked_at=request.asked_at,
        at=now,
        reserved=request.reserved,
        cost=rules.prices.cost_of_expiry(request),
    )


def _write(rules: Rules, training: Training, result: Step) -> None:
    """Append to ``training``; a record that closes a request takes it out of the open queue in the same transaction."""
    key = _key(training)
    result.outputs.append(OutputRecord(rules.topics.training, 0, key, encode(training)))
    if not isinstance(training, SchemaSet | WarmStart | NaturalExample):
        result.outputs.append(OutputRecord(rules.topics.requests, partition_of(training.request), key, None))


def _key(training: Training) -> bytes | None:
    """Return the coordinates of the event that *training* is about, if of one."""
    if isinstance(training, SchemaSet | WarmStart):
        return None
    about = training.event if isinstance(training, NaturalExample) else training.request
    return None if about is None else about.encode()
