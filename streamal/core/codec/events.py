"""Bytes to records and back. Nothing raises for bad input: it comes out as a `Refusal` with an enumerated reason.

All checks happen while decoding: size first (so that nothing large is parsed), then JSON, shape and types by
msgspec (which refuses NaN, 1e999 and bad UTF-8), then magnitudes, names and the schema. Duplicate keys: the
last wins, as in most JSON readers (RFC 8259 §4 leaves it open).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal, NamedTuple

import msgspec

from streamal.core.records import Event, EventId, Reason, Record, Refusal, Request, Scalar, Training
from streamal.core.schema import Schema

__all__ = [
    "TEXT_BYTES_MAX",
    "DecodedEvents",
    "WireRules",
    "checked",
    "decode_event",
    "decode_events",
    "decode_request",
    "decode_training",
    "encode",
    "parse",
    "short",
]

TEXT_BYTES_MAX = 256
"""Bound of ids, annotators and class names: they are kept in memory while a request is open."""

_Text = Annotated[str, msgspec.Meta(max_length=TEXT_BYTES_MAX)]
_Integer = Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]
_Time = Annotated[float, msgspec.Meta(ge=-(2.0**63), lt=2.0**63)]


@dataclass(frozen=True, slots=True)
class WireRules:
    """What an input may look like.

    Attributes:
        format: "flat": an event is a flat object whose fields are the features, except *id* and *time*; "nested": its
            features are an object of their own.
        id, time: names of these fields in a flat event.
        null: whether an event with a null feature is refused, or the feature counts as absent ("missing").
        record_bytes_max, features_max, feature_name_bytes_max: sizes, in bytes and names.
        magnitude_max: |number| beyond it is refused; a finite 1e308 kills River's scaler as surely as a NaN.
        natural: whether a label that nobody asked for may name its event.
    """

    format: Literal["nested", "flat"] = "nested"
    id: str = "id"
    time: str = "time"
    null: Literal["refuse", "missing"] = "refuse"
    record_bytes_max: int = 1_048_576
    features_max: int = 1_000
    feature_name_bytes_max: int = 256
    magnitude_max: float = 1e12
    natural: bool = False
    numbers: Callable[[bytes], Any] = field(init=False, repr=False, compare=False)
    """Decodes an event whose features are numbers within the bounds; raises for any other, whatever is wrong."""

    def __post_init__(self) -> None:
        number = Annotated[float, msgspec.Meta(ge=-self.magnitude_max, le=self.magnitude_max)]
        shape = msgspec.defstruct(
            "Numbers",
            [
                ("features", dict[str, number]),
                ("id", _Text | _Integer | None, None),
                ("time", _Text | _Time | None, None),
            ],
        )
        object.__setattr__(self, "numbers", msgspec.json.Decoder(shape).decode)


class _Nested(msgspec.Struct):
    features: dict[str, float | str | bool | None]
    id: str | int | None = None
    time: float | str | None = None


_NO_NAMES: frozenset[str] = frozenset()
_UNREADABLE = (msgspec.MsgspecError, UnicodeError, RecursionError)
_decode_nested = msgspec.json.Decoder(_Nested).decode
_decode_flat = msgspec.json.Decoder(dict[str, int | float | str | bool | None]).decode
_decode_request = msgspec.json.Decoder(Request).decode
_decode_training = msgspec.json.Decoder(Training).decode
_encode = msgspec.json.Encoder().encode


def decode_event(
    partition: int, offset: int, value: bytes | None, rules: WireRules, schema: Schema | None
) -> Event | Refusal:
    """Return the event in *value*, or why it is refused. Never raises.

    Without a *schema* (before one was learned) every well-formed feature is accepted.

    >>> decode_event(0, 7, b'{"features": {"x": 1}}', WireRules(), None).features
    {'x': 1.0}
    >>> decode_event(0, 7, b'{"features": {"x": NaN}}', WireRules(), None).reason.value
    'not_json'
    """
    parsed = parse(value, _decode_flat if rules.format == "flat" else _decode_nested, rules.record_bytes_max)
    if isinstance(parsed, Refusal):
        return parsed
    if rules.format == "flat":
        shaped = _from_flat(parsed, rules)
        if isinstance(shaped, Refusal):
            return shaped
        identity, time, raw = shaped
    else:
        identity, time, raw = parsed.id, parsed.time, parsed.features
    features = checked(identity, time, raw, rules, schema)
    return features if isinstance(features, Refusal) else Event(partition, offset, identity, time, features)


class DecodedEvents(NamedTuple):
    """The events of some records.

    Attributes:
        accepted: those that may be predicted.
        refused: records that are no acceptable events, and why.
        mismatched: events that only the schema refuses.
    """

    accepted: list[Event]
    refused: list[tuple[Record, Refusal]]
    mismatched: list[Event]


def decode_events(records: Iterable[Record], rules: WireRules, schema: Schema | None) -> DecodedEvents:
    """Return the events in *records*, as `decode_event` does, and those that are refused; each in their order.

    The plainest kind, known numbers within bounds, is wholly checked by msgspec while it decodes, and its names are
    compared at once. Every other event goes the long way, which also says what is wrong.
    """
    accepted: list[Event] = []
    refused: list[tuple[Record, Refusal]] = []
    mismatched: list[Event] = []
    known = schema.numbers if schema is not None and _is_quick(rules, schema) else _NO_NAMES
    decode, bytes_max = rules.numbers, rules.record_bytes_max
    for record in records:
        value = record.value
        if known and value is not None and len(value) <= bytes_max:
            try:
                parsed = decode(value)
            except _UNREADABLE:
                pass
            else:
                features = parsed.features
                if features and known.issuperset(features):
                    accepted.append(Event(record.partition, record.offset, parsed.id, parsed.time, features))
                    continue
        event = decode_event(record.partition, record.offset, value, rules, None)
        if isinstance(event, Refusal):
            refused.append((record, event))
            continue
        refusal = schema.mismatch(event.features) if schema is not None else None
        if refusal is None:
            accepted.append(event)
        else:
            mismatched.append(event)
            refused.append((record, refusal))
    return DecodedEvents(accepted, refused, mismatched)


def _is_quick(rules: WireRules, schema: Schema) -> bool:
    """Whether an event of the schema's own names, and all of them numbers, cannot break any other bound."""
    within = len(schema.numbers) <= rules.features_max and schema.name_bytes_max <= rules.feature_name_bytes_max
    return bool(schema.numbers) and rules.format != "flat" and within


def checked(
    identity: EventId, time: float | str | None, raw: dict[str, Any], rules: WireRules, schema: Schema | None
) -> dict[str, Scalar] | Refusal:
    """Return the features in *raw*, within all bounds and of the schema's types, or why they are refused."""
    refusal = _bounds(identity, time, raw, rules)
    if refusal is not None:
        return refusal
    if rules.format == "flat":
        # the id of a flat event may be a large integer, so its numbers were not read as floats
        raw = {name: float(feature) if feature.__class__ is int else feature for name, feature in raw.items()}
    if rules.null == "missing":
        raw = {name: feature for name, feature in raw.items() if feature is not None}
    if not raw:
        return Refusal(Reason.FEATURES_EMPTY, "no feature left in the event")
    refusal = schema.mismatch(raw) if schema is not None else None
    return raw if refusal is None else refusal


def decode_request(value: bytes) -> Request | Refusal:
    """Return a request of our own writing; a Refusal means that somebody else wrote to the topic."""
    request: Request | Refusal = _own(value, _decode_request)
    return request


def decode_training(value: bytes | None) -> Training | Refusal:
    """Return a record of the training log; a Refusal means that somebody else wrote to the topic."""
    record: Training | Refusal = _own(value, _decode_training)
    return record


def encode(record: msgspec.Struct) -> bytes:
    """Return *record* as JSON, keys in the order of the fields: the same record gives the same bytes."""
    return _encode(record)


def parse(value: bytes | None, decode: Any, record_bytes_max: int) -> Any:
    """Return what *decode* makes of *value*, or a Refusal that says why it can't."""
    if value is None:
        return Refusal(Reason.TOMBSTONE, "the record has no value")
    if len(value) > record_bytes_max:
        return Refusal(Reason.RECORD_TOO_BIG, f"{len(value)} bytes, {record_bytes_max} allowed")
    try:
        return decode(value)
    except msgspec.ValidationError as error:
        return Refusal(_validation_reason(str(error)), str(error))
    except msgspec.DecodeError as error:
        return Refusal(Reason.NOT_JSON, str(error))
    except UnicodeError as error:
        return Refusal(Reason.NOT_UTF8, str(error))
    except RecursionError:
        return Refusal(Reason.TOO_DEEP, "the object is nested too deeply")


def _validation_reason(text: str) -> Reason:
    if "out of range" in text:
        return Reason.NUMBER_OUT_OF_RANGE
    if text.startswith("Expected `object`") and " - at" not in text:
        return Reason.NOT_AN_OBJECT
    return Reason.BAD_FIELD


def _from_flat(
    parsed: dict[str, Any], rules: WireRules
) -> tuple[EventId, float | str | None, dict[str, Any]] | Refusal:
    identity = parsed.pop(rules.id, None)
    time = parsed.pop(rules.time, None)
    if isinstance(identity, bool) or isinstance(time, bool):
        return Refusal(Reason.BAD_FIELD, f"fields {rules.id!r} and {rules.time!r} must not be truth values")
    return str(identity) if isinstance(identity, float) else identity, time, parsed


def _bounds(identity: EventId, time: float | str | None, features: dict[str, Any], rules: WireRules) -> Refusal | None:
    """Return the first bound that an otherwise well-formed event breaks."""
    if len(features) > rules.features_max:
        return Refusal(Reason.FEATURES_TOO_MANY, f"{len(features)} features, {rules.features_max} allowed")
    if not short(identity) or not short(time):
        return Refusal(Reason.BAD_FIELD, f"id and time must have at most {TEXT_BYTES_MAX} characters, or 63 bits")
    magnitude_max, name_max = rules.magnitude_max, rules.feature_name_bytes_max
    for name, value in features.items():
        if len(name) > name_max or (not name.isascii() and len(name.encode()) > name_max):
            return Refusal(Reason.FEATURE_NAME, f"a feature's name has {len(name.encode())} bytes, {name_max} allowed")
        kind = type(value)
        if kind is float or kind is int:
            if not -magnitude_max <= value <= magnitude_max:
                return Refusal(Reason.NUMBER_OUT_OF_RANGE, f"feature {name!r} is beyond ±{magnitude_max:g}")
        elif value is None and rules.null == "refuse":
            return Refusal(Reason.NULL_FEATURE, f"feature {name!r} is null; leave it out, or set features.null")
    return None


def short(field: str | float | None) -> bool:
    """Return whether *field* is small; integers too, since Python refuses to print those of 4,300 digits."""
    if isinstance(field, str):
        return len(field) <= TEXT_BYTES_MAX
    return field is None or -(2**63) <= field < 2**63


def _own(value: bytes | None, decode: Any) -> Any:
    return parse(value, decode, record_bytes_max=2**31)
