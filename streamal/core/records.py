"""The records: what travels on the topics, one frozen, slotted type each. The words are those of docs/words.md.

Coordinates ``"partition-offset"`` are the identity of an event, and of its prediction, request and example.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Any, ClassVar, Literal, NamedTuple

import msgspec

from streamal.core.quality.totals import RunningTotals

__all__ = [
    "Abstention",
    "Closing",
    "Event",
    "EventId",
    "Example",
    "Expiry",
    "FeatureValue",
    "Lane",
    "NaturalExample",
    "NaturalLabel",
    "OffsetAndMetadata",
    "Outcome",
    "OutputRecord",
    "Prediction",
    "Quarantine",
    "Reason",
    "Record",
    "Refusal",
    "Reply",
    "Request",
    "Scalar",
    "SchemaSet",
    "TopicPartition",
    "Training",
    "Version",
    "WarmStart",
    "coordinates",
    "partition_of",
]

EventId = str | int | None
"""The producer's own name for an event; carried along, never interpreted."""
Scalar = float | str | bool
"""A finite number, a text, or a truth value."""
FeatureValue = Scalar | list[float]
"""A feature's value: a scalar, or a vector, which is one or more finite numbers."""


class Reason(StrEnum):
    """Why an input was refused: a closed set, so that it can label a metric."""

    TOMBSTONE = "tombstone"
    RECORD_TOO_BIG = "record_too_big"
    NOT_UTF8 = "not_utf8"
    NOT_JSON = "not_json"
    NOT_AN_OBJECT = "not_an_object"
    TOO_DEEP = "too_deep"
    BAD_FIELD = "bad_field"
    NUMBER_OUT_OF_RANGE = "number_out_of_range"
    NULL_FEATURE = "null_feature"
    FEATURE_TYPE = "feature_type"
    FEATURE_NAME = "feature_name"
    FEATURE_UNKNOWN = "feature_unknown"
    FEATURES_TOO_MANY = "features_too_many"
    FEATURES_EMPTY = "features_empty"
    LABEL_UNKNOWN = "label_unknown"
    CLASSES_TOO_MANY = "classes_too_many"
    EVENT_MISSING = "event_missing"
    EVENT_REFUSED = "event_refused"
    REPLY_INCOMPLETE = "reply_incomplete"
    NOT_SUPPORTED = "not_supported"
    UNREADABLE = "unreadable"
    KILLED_THE_WORKER = "killed_the_worker"


class Outcome(StrEnum):
    """What became of a reply; exactly one for each."""

    ACCEPTED = "accepted"
    ABSTAINED = "abstained"
    DUPLICATE = "duplicate"
    CONFLICTING = "conflicting"
    LATE = "late"
    UNKNOWN = "unknown"
    REFUSED = "refused"


class Lane(StrEnum):
    """Which part of the budget paid for a request."""

    AUDIT = "audit"
    STRATEGY = "strategy"


class Refusal(NamedTuple):
    """Bad input, as a value: counted, explained, dead-lettered, never raised."""

    reason: Reason
    detail: str


class Event(msgspec.Struct, frozen=True, gc=False):
    """An accepted event; *features* are finite, bounded and (once there is a schema) of the declared types.

    Where the events of a step are read at once, a vector is an array: it takes a quarter of the memory of a list.
    """

    partition: int
    offset: int
    id: EventId
    time: float | str | None
    features: dict[str, Any]


class Version(NamedTuple):
    """How far ``training`` was folded: *offset* of the last folded record + 1, and how many *records* that is.

    Offsets have gaps, so the number cannot be had from the offset.
    """

    offset: int
    records: int

    def after(self, offset: int) -> Version:
        """Return the version after one more record, at *offset*."""
        return Version(offset + 1, self.records + 1)


class Prediction(msgspec.Struct, frozen=True, omit_defaults=True):
    """One per accepted event, on ``predictions``."""

    event: str
    label: str | None
    probabilities: dict[str, float]
    version: int
    propensity: float
    """Probability with which this event was to be asked, both lanes together; asked or not."""
    uncertainty: float
    asked: Lane | None = None
    id: EventId = None
    time: float | str | None = None


class Request(msgspec.Struct, frozen=True, omit_defaults=True):
    """The question, on ``requests``: all an annotator needs, and why it was asked."""

    request: str
    features: dict[str, FeatureValue]
    label: str | None
    """The model's guess."""
    probabilities: dict[str, float]
    version: int
    lane: Lane
    strategy: str
    uncertainty: float
    propensity: float
    asked_at: float
    expires_at: float
    id: EventId = None
    time: float | str | None = None
    arms: tuple[float, ...] = ()
    """Under `auto`, for the audit lane: with what propensity each strategy would have asked."""
    reserved: int = 0
    """The most that its label can cost, in millionths of the currency."""
    seen: RunningTotals = RunningTotals()
    """The totals of its partition up to its event, that one included."""


class Reply(NamedTuple):
    """What an annotator says to a request: *label* is None for an abstention."""

    request: str
    label: str | None
    annotator: str | None
    reply: str | None
    seconds: float | None


class NaturalLabel(NamedTuple):
    """A label that nobody asked for: the truth came by itself (a click, a charge-back).

    Either it names its *event* by coordinates, or it is self-contained and brings the *features* along.
    """

    event: str | None
    features: dict[str, FeatureValue] | None
    label: str
    annotator: str | None
    reply: str | None
    id: EventId = None
    time: float | str | None = None


class Example(msgspec.Struct, frozen=True, omit_defaults=True, tag_field="kind", tag="example"):
    """A request joined with its accepted reply: what the model learns from."""

    kind: ClassVar[Literal["example"]] = "example"
    closes_request: ClassVar[Literal[True]] = True
    has_reply: ClassVar[bool] = True

    request: str
    label: str
    features: dict[str, FeatureValue]
    predicted: str | None
    propensity: float
    lane: Lane
    asked_at: float
    at: float
    """When the trainer accepted it, by the daemon's clock."""
    annotator: str | None = None
    reply: str | None = None
    seconds: float | None = None
    id: EventId = None
    time: float | str | None = None
    arms: tuple[float, ...] = ()
    """As in its request."""
    reserved: int = 0
    """What was reserved for it when it was asked, and what it cost in the end, in millionths of the currency."""
    cost: int = 0
    seen: RunningTotals = RunningTotals()
    confidence: float = msgspec.field(default_factory=float)
    """The top probability of the prediction. The factory has 0.0 written too."""
    probability: float = msgspec.field(default_factory=float)
    """The probability that the prediction gave to the label."""

    @property
    def about(self) -> str:
        """The coordinates of the event that this record is about."""
        return self.request


class Abstention(msgspec.Struct, frozen=True, omit_defaults=True, tag_field="kind", tag="abstention"):
    """The annotator does not know; the request is closed, the label stays paid for, nothing is learned."""

    kind: ClassVar[Literal["abstention"]] = "abstention"
    closes_request: ClassVar[Literal[True]] = True
    has_reply: ClassVar[bool] = True
    label: ClassVar[None] = None

    request: str
    propensity: float
    lane: Lane
    asked_at: float
    at: float
    annotator: str | None = None
    reply: str | None = None
    seconds: float | None = None
    reserved: int = 0
    cost: int = 0

    @property
    def about(self) -> str:
        """The coordinates of the event that this record is about."""
        return self.request


class Expiry(msgspec.Struct, frozen=True, omit_defaults=True, tag_field="kind", tag="expiry"):
    """No reply came in time; the trainer decides it once, with this record."""

    kind: ClassVar[Literal["expiry"]] = "expiry"
    closes_request: ClassVar[Literal[True]] = True
    has_reply: ClassVar[bool] = False
    label: ClassVar[None] = None
    annotator: ClassVar[None] = None
    reply: ClassVar[None] = None
    seconds: ClassVar[None] = None

    request: str
    propensity: float
    lane: Lane
    asked_at: float
    at: float
    reserved: int = 0
    cost: int = 0

    @property
    def about(self) -> str:
        """The coordinates of the event that this record is about."""
        return self.request


class NaturalExample(msgspec.Struct, frozen=True, omit_defaults=True, tag_field="kind", tag="natural"):
    """A natural label with the features of its event: learned, but neither paid for nor measured by."""

    kind: ClassVar[Literal["natural"]] = "natural"
    closes_request: ClassVar[Literal[False]] = False

    label: str
    features: dict[str, FeatureValue]
    at: float
    event: str | None = None
    annotator: str | None = None
    reply: str | None = None
    id: EventId = None
    time: float | str | None = None

    @property
    def about(self) -> str | None:
        """The coordinates of the event that this record is about, if it names one."""
        return self.event


class SchemaSet(msgspec.Struct, frozen=True, tag_field="kind", tag="schema"):
    """From here on the features are these: name -> "number" | "string" | "boolean" | "vector(length)"."""

    kind: ClassVar[Literal["schema"]] = "schema"
    closes_request: ClassVar[Literal[False]] = False
    about: ClassVar[None] = None

    features: dict[str, str]
    at: float


class WarmStart(msgspec.Struct, frozen=True, tag_field="kind", tag="warm"):
    """The first record, if the model did not begin from nothing: the digest of what every worker begins with."""

    kind: ClassVar[Literal["warm"]] = "warm"
    closes_request: ClassVar[Literal[False]] = False
    about: ClassVar[None] = None

    sha256: str
    at: float


class Quarantine(msgspec.Struct, frozen=True, tag_field="kind", tag="quarantine"):
    """An operator's order: no model learns the example at offset *of* of ``training``, since it kills the workers."""

    kind: ClassVar[Literal["quarantine"]] = "quarantine"
    closes_request: ClassVar[Literal[False]] = False
    about: ClassVar[None] = None

    of: int
    at: float
    why: str


Closing = Example | Abstention | Expiry
"""A record that closes its request."""
Training = Closing | NaturalExample | SchemaSet | WarmStart | Quarantine


class TopicPartition(NamedTuple):
    """A partition of a topic."""

    topic: str
    partition: int


class Record(msgspec.Struct, frozen=True, gc=False):
    """A record as read: offsets grow within a partition but have gaps (aborted records, commit markers)."""

    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None


class OutputRecord(msgspec.Struct, frozen=True, gc=False):
    """A record to be written; a value of None is a tombstone."""

    topic: str
    partition: int
    key: bytes | None
    value: bytes | None


class OffsetAndMetadata(NamedTuple):
    """The next offset to consume of a partition, and the state that was committed with it ("" at first)."""

    offset: int
    metadata: str


def coordinates(partition: int, offset: int) -> str:
    """Return the identity of the event at *offset* of *partition*.

    >>> coordinates(0, 1845)
    '0-1845'
    """
    return f"{partition}-{offset}"


def partition_of(request: str) -> int:
    """Return the partition in the coordinates of an event, which are those of its *request* too.

    >>> partition_of("3-1845")
    3
    """
    return int(request.partition("-")[0])
