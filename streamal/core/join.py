"""Join: replies → training. Replies meet their open requests, natural labels their events; what is due expires."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import NamedTuple, assert_never

from streamal.core.codec.events import decode_event, encode
from streamal.core.codec.replies import decode_reply
from streamal.core.fold import Fold
from streamal.core.labels import explain_unknown
from streamal.core.pending import closing_of
from streamal.core.records import (
    Abstention,
    Event,
    Example,
    Expiry,
    NaturalExample,
    NaturalLabel,
    OffsetAndMetadata,
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
from streamal.core.rules import Refused, Rules, Tally, dead_letter_of, refused_of
from streamal.core.schema import infer_schema
from streamal.core.state import TrainerState, decode_state, encode_state

__all__ = ["Joined", "Replies", "decode_replies", "join", "referenced_offsets"]

_NONE: Mapping[str, Record] = {}


class Replies(NamedTuple):
    """The polled replies, and what has to be known to join them.

    Attributes:
        decoded: each record of ``labels``, and what it says.
        events: coordinates -> record of the events that natural labels reference, as far as the log still has them.
        polled_until: all replies that were written before this time are here or were joined before; no request with a
            later deadline expires.
    """

    decoded: Sequence[tuple[Record, Reply | NaturalLabel | Refusal]] = ()
    events: Mapping[str, Record] = _NONE
    polled_until: float = math.inf


class Joined(NamedTuple):
    """What `join` made of the replies.

    Attributes:
        outputs: training records, tombstones of the requests that they close, and dead letters, to be written.
        label_delays_s: how long the accepted replies took, from request to join.
        commit: the next offset of ``labels``, with the trainer's new state; None if nothing has changed.
        refused: the replies and natural labels that were refused.
    """

    outputs: list[OutputRecord]
    tally: Tally
    label_delays_s: list[float]
    commit: OffsetAndMetadata | None
    refused: list[Refused]


def decode_replies(rules: Rules, fold: Fold, polled: Sequence[Record]) -> Replies:
    """Return the replies among *polled*, decoded; without the events that they reference."""
    wire, schema = rules.wire, fold.learned.schema
    replies = (record for record in polled if record.topic == rules.topics.labels)
    return Replies([(record, decode_reply(record.value, wire, schema)) for record in replies])


def referenced_offsets(rules: Rules, replies: Replies) -> Mapping[int, list[int]]:
    """Return partition → ascending offsets of the events that natural labels among *replies* reference."""
    found: dict[int, set[int]] = {}
    for _, reply in replies.decoded:
        if isinstance(reply, NaturalLabel) and reply.event is not None:
            partition, _, offset = reply.event.partition("-")
            if int(partition) < rules.partitions:
                found.setdefault(int(partition), set()).add(int(offset))
    return {partition: sorted(offsets) for partition, offsets in found.items()}


def join(rules: Rules, fold: Fold, before: OffsetAndMetadata, replies: Replies, now: float) -> Joined:
    """Join *replies* with their requests and events, and close what has expired.

    Replies go first: one that is there is not thrown away because the trainer was down at its deadline. What has
    expired depends on *now* alone, not on the times that workers with a wrong clock have noted.
    """
    until, now = min(now, replies.polled_until), max(now, fold.books.now)
    joining = _JoinPass(rules, fold, replies.events, now)
    if fold.learned.start and not fold.books.version.records:
        joining.training.append(WarmStart(fold.learned.start, now))
    for record, reply in replies.decoded:
        joining.apply(record, reply)
    joining.expire(until)
    samples = fold.books.samples
    if samples is not None and len(samples) >= fold.books.infer_from:
        joining.training.append(SchemaSet(infer_schema(samples, rules.wire.features_max), now))
    letters = (dead_letter_of(rules, *each, now) for each in joining.refused)
    outputs = [*letters, *_outputs(rules, joining.training)]
    commit = None
    if replies.decoded or joining.training:
        offset = replies.decoded[-1][0].offset + 1 if replies.decoded else before.offset
        version, quarantined = fold.books.version, fold.learned.guard.quarantined
        unknown = (decode_state(before.metadata, TrainerState) or TrainerState()).unknown
        unknown += joining.tally["replies", Outcome.UNKNOWN]
        state = TrainerState(version.offset, version.records + len(joining.training), quarantined, unknown)
        commit = OffsetAndMetadata(offset, encode_state(state))
    refused = [refused_of(*each) for each in joining.refused]
    return Joined(outputs, joining.tally, joining.label_delays_s, commit, refused)


class _JoinPass:
    """The replies of one step: a later one meets what an earlier one has joined as if it were committed."""

    def __init__(self, rules: Rules, fold: Fold, events: Mapping[str, Record], now: float) -> None:
        self.training: list[Training] = []
        self.refused: list[tuple[Record, Refusal]] = []
        self.tally: Tally = Counter()
        self.label_delays_s: list[float] = []
        self._rules, self._fold, self._events, self._now = rules, fold, events, now
        self._closings: dict[str, str] = {}
        """How this step has closed requests, as `closing_of` writes it."""
        self._labels: dict[str, str] = {}
        """Likewise the labels that this step has learned of events, bought or natural."""
        self._new_classes: dict[str, str | None] = {}
        """The classes that this step creates, and the annotators whose replies do."""

    def apply(self, record: Record, reply: Reply | NaturalLabel | Refusal) -> None:
        """Join one reply, which *record* holds, or refuse it."""
        if not isinstance(reply, Refusal):
            reply = self._require_known_class(reply)
        outcome: Outcome | Refusal
        match reply:
            case Reply():
                counter, outcome = "replies", self._close_request(reply)
            case NaturalLabel():
                counter, outcome = "natural_labels", self._learn_natural(reply)
            case Refusal():
                counter, outcome = "replies", reply
            case _:
                assert_never(reply)
        if isinstance(outcome, Refusal):
            self.refused.append((record, outcome))
            self.tally["dead_letters", outcome.reason] += 1
            outcome = Outcome.REFUSED
        self.tally[counter, outcome] += 1

    def expire(self, until: float) -> None:
        """Close the requests with a deadline up to *until*, the earliest first, as many as one step may."""
        for request in self._fold.books.pending.due(until, self._rules.expiries_per_step):
            if request.request not in self._closings:
                self.training.append(_expiry(self._rules, request, self._now))
                self.tally["expiries", ""] += 1

    def _require_known_class(self, reply: Reply | NaturalLabel) -> Reply | NaturalLabel | Refusal:
        """Return *reply*, or a Refusal if its label is none that the model may learn (F25: classes are bounded)."""
        model = self._fold.learned.model
        if reply.label is None or reply.label in model.classes or reply.label in self._new_classes:
            return reply
        if model.accepts(reply.label, self._new_classes.keys()):
            return self._require_few_classes(reply)
        return Refusal(Reason.LABEL_UNKNOWN, explain_unknown(reply.label, model.classes))

    def _require_few_classes(self, reply: Reply | NaturalLabel) -> Reply | NaturalLabel | Refusal:
        """Return *reply*, whose label is a new class, or a Refusal if its annotator has created enough today (F67)."""
        created = self._fold.books.new_classes.count(reply.annotator, self._now)
        created += sum(annotator == reply.annotator for annotator in self._new_classes.values())
        limit = self._rules.classes_per_annotator
        if created < limit:
            return reply
        return Refusal(
            Reason.CLASSES_TOO_MANY,
            f"label {reply.label!r} would be a new class, and this annotator's replies have created {limit} today: "
            "declare it in labels.classes, or raise limits.classes_per_annotator",
        )

    def _close_request(self, reply: Reply) -> Outcome:
        """Close the request of *reply*, if it is open."""
        pending = self._fold.books.pending
        outcome = pending.outcome(reply, self._closings)
        if outcome in (Outcome.ACCEPTED, Outcome.ABSTAINED):
            request = pending.open[reply.request]
            self._closings[reply.request] = closing_of(reply.label)
            self.training.append(_closing(self._rules, request, reply, self._now))
            self.label_delays_s.append(max(0.0, self._now - request.asked_at))
            if reply.label is not None:
                self._labels[reply.request] = closing_of(reply.label)
                self._note_class(reply)
        return outcome

    def _learn_natural(self, label: NaturalLabel) -> Outcome | Refusal:
        """Learn *label*, unless its event was learned already. A request for the event stays open.

        Natural labels are no random sample. If they closed requests, they would bias the audit lane's estimate.
        """
        features, identity, time = label.features, label.id, label.time
        if label.event is not None:
            outcome = self._fold.books.pending.natural_outcome(label.event, label.label, self._labels)
            if outcome is not Outcome.ACCEPTED:
                return outcome
            event = self._read_event(label.event)
            if isinstance(event, Refusal):
                return event
            features, identity, time = event.features, event.id, event.time
            self._labels[label.event] = closing_of(label.label)
        assert features is not None, "a natural label has an event or features"
        self._note_class(label)
        self.training.append(
            NaturalExample(
                label=label.label,
                features=features,
                at=self._now,
                event=label.event,
                annotator=label.annotator,
                reply=label.reply,
                id=identity,
                time=time,
            )
        )
        return Outcome.ACCEPTED

    def _read_event(self, key: str) -> Event | Refusal:
        """Return the event with the coordinates *key*, which was read back from the log."""
        record = self._events.get(key)
        if record is None:
            return Refusal(Reason.EVENT_MISSING, "no event has these coordinates, or has them any more (retention)")
        wire, schema = self._rules.wire, self._fold.learned.schema
        event = decode_event(record.partition, record.offset, record.value, wire, schema)
        if isinstance(event, Refusal):
            return Refusal(Reason.EVENT_REFUSED, f"the event with these coordinates is refused: {event.detail}")
        return event

    def _note_class(self, reply: Reply | NaturalLabel) -> None:
        """Note the class that *reply*, which is accepted, creates, if it does."""
        if reply.label is not None and reply.label not in self._fold.learned.model.classes:
            self._new_classes.setdefault(reply.label, reply.annotator)


def _closing(rules: Rules, request: Request, reply: Reply, now: float) -> Example | Abstention:
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


def _expiry(rules: Rules, request: Request, now: float) -> Expiry:
    return Expiry(
        request=request.request,
        propensity=request.propensity,
        lane=request.lane,
        asked_at=request.asked_at,
        at=now,
        reserved=request.reserved,
        cost=rules.prices.cost_of_expiry(request),
    )


def _outputs(rules: Rules, training: Sequence[Training]) -> list[OutputRecord]:
    """Return *training* as records of its topic; one that closes a request comes with the request's tombstone."""
    outputs = []
    for record in training:
        key = None if record.about is None else record.about.encode()
        outputs.append(OutputRecord(rules.topics.training, 0, key, encode(record)))
        if record.closes_request:
            outputs.append(OutputRecord(rules.topics.requests, partition_of(record.request), key, None))
    return outputs
