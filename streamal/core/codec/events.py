"""Bytes to records and back. Nothing raises for bad input: it comes out as a `Refusal` with an enumerated reason.

All checks happen while decoding: size first (so that nothing large is parsed), then JSON, shape and types by
msgspec (which refuses NaN, 1e999 and bad UTF-8), then magnitudes, names and the schema. Duplicate keys: the
last wins, as in most JSON readers (RFC 8259 §4 leaves it open).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

import msgspec

from streamal.core.codec.features import (
    FIELD_REASONS,
    checked,
    decode_features,
    decode_scalar,
    keep_known,
    parse,
    parse_raw,
)
from streamal.core.codec.wire_rules import WireRules
from streamal.core.records import Event, EventId, FeatureValue, Reason, Record, Refusal, Request, Training
from streamal.core.schema import Schema
from streamal.core.vectors import as_arrays, has_vectors

__all__ = [
    "DecodedEvents",
    "EventFields",
    "decode_event",
    "decode_events",
    "decode_fields",
    "decode_request",
    "decode_training",
    "encode",
]


class _Nested(msgspec.Struct):
    features: dict[str, float | str | bool | list[float] | None]
    id: str | int | None = None
    time: float | str | None = None


class _NestedRaw(msgspec.Struct):
    features: dict[str, msgspec.Raw]
    id: str | int | None = None
    time: float | str | None = None


class EventFields(NamedTuple):
    """The fields of an event; *dropped* names were not kept, because the schema does not know them."""

    id: EventId
    time: float | str | None
    features: dict[str, FeatureValue]
    dropped: int


_NO_NAMES: frozenset[str] = frozenset()
_UNREADABLE = (msgspec.MsgspecError, UnicodeError, RecursionError)
_decode_nested = msgspec.json.Decoder(_Nested).decode
_decode_nested_raw = msgspec.json.Decoder(_NestedRaw).decode
_decode_flat = msgspec.json.Decoder(dict[str, int | float | str | bool | list[float] | None]).decode
_decode_flat_raw = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_decode_request = msgspec.json.Decoder(Request).decode
_decode_training = msgspec.json.Decoder(Training).decode
_encode = msgspec.json.Encoder(enc_hook=lambda array: array.tolist()).encode


def decode_event(
    partition: int, offset: int, value: bytes | None, rules: WireRules, schema: Schema | None
) -> Event | Refusal:
    """Return the event in *value*, or why it is refused. Never raises.

    Under a *schema* that drops, features that it does not know are dropped before anything is checked of them. Without
    a schema (before one was learned) every well-formed feature is accepted.

    >>> decode_event(0, 7, b'{"features": {"x": 1}}', WireRules(), None).features
    {'x': 1.0}
    >>> decode_event(0, 7, b'{"features": {"x": 1, "y": null}}', WireRules(), Schema({"x": "number"})).features
    {'x': 1.0}
    >>> decode_event(0, 7, b'{"features": {"x": NaN}}', WireRules(), None).reason.value
    'not_json'
    """
    fields = decode_fields(value, rules, schema)
    if isinstance(fields, Refusal):
        return fields
    refusal = schema.mismatch(fields.features) if schema is not None else None
    return refusal or Event(partition, offset, fields.id, fields.time, fields.features)


class DecodedEvents(NamedTuple):
    """The events of some records.

    Attributes:
        accepted: those that may be predicted.
        refused: records that are no acceptable events, and why.
        dropped: how many features of accepted events were dropped.
        misfits: accepted events that had a feature dropped, or lack a required one.
    """

    accepted: list[Event]
    refused: list[tuple[Record, Refusal]]
    dropped: int = 0
    misfits: int = 0


def decode_events(records: Iterable[Record], rules: WireRules, schema: Schema | None) -> DecodedEvents:
    """Return the events in *records*, as `decode_event` does, and those that are refused; each in their order.

    Vectors are arrays here: so many lists of numbers would leave the processor's cache before they are used.

    The plainest kind, known numbers and vectors within bounds, is checked by msgspec while it decodes, and its names
    are compared at once. Every other event goes the long way, which also says what is wrong.
    """
    accepted: list[Event] = []
    refused: list[tuple[Record, Refusal]] = []
    known = schema.numbers if schema is not None and _is_quick(rules, schema) else _NO_NAMES
    with_vectors = schema is not None and bool(schema.vectors)
    required = _NO_NAMES if schema is None else schema.required
    decode, bytes_max = (
        rules.vectors if with_vectors else rules.numbers,
        rules.record_bytes_max,
    )
    dropped = misfits = 0
    for record in records:
        value = record.value
        if known and value is not None and len(value) <= bytes_max:
            try:
                parsed = decode(value)
            except _UNREADABLE:
                pass
            else:
                features = parsed.features
                if with_vectors and schema is not None:
                    features = schema.as_numeric(features, rules.magnitude_max)
                if features and known.issuperset(features):
                    accepted.append(Event(record.partition, record.offset, parsed.id, parsed.time, features))
                    if required and len(features) < len(required):
                        misfits += 1
                    continue
        fields = decode_fields(value, rules, schema)
        refusal = fields if isinstance(fields, Refusal) or schema is None else schema.mismatch(fields.features)
        if isinstance(refusal, Refusal):
            refused.append((record, refusal))
            continue
        assert isinstance(fields, EventFields)
        features = as_arrays(fields.features) if has_vectors(fields.features) else fields.features
        accepted.append(Event(record.partition, record.offset, fields.id, fields.time, features))
        dropped += fields.dropped
        misfits += bool(fields.dropped) or not required.issubset(fields.features)
    return DecodedEvents(accepted, refused, dropped, misfits)


def _is_quick(rules: WireRules, schema: Schema) -> bool:
    """Whether an event of the schema's own names, and all of them numbers, cannot break any other bound."""
    within = len(schema.numbers) <= rules.features_max and schema.name_bytes_max <= rules.feature_name_bytes_max
    return bool(schema.numbers) and rules.format != "flat" and within


def decode_fields(value: bytes | None, rules: WireRules, schema: Schema | None) -> EventFields | Refusal:
    """Return the fields of the event in *value*, within all bounds, or why they are refused.

    One pass is enough for an event whose features are all well-formed. Another one then looks at each for itself.
    """
    flat = rules.format == "flat"
    parsed = parse(value, _decode_flat if flat else _decode_nested, rules.record_bytes_max)
    if isinstance(parsed, Refusal):
        if parsed.reason not in FIELD_REASONS:
            return parsed
        parsed = _decode_each(value, rules, schema)
        if isinstance(parsed, Refusal):
            return parsed
    if flat:
        shaped = _from_flat(parsed, rules)
        if isinstance(shaped, Refusal):
            return shaped
        identity, time, raw = shaped
    else:
        identity, time, raw = parsed.id, parsed.time, parsed.features
    known = keep_known(raw, rules, schema)
    features = checked(identity, time, known, rules, schema)
    return features if isinstance(features, Refusal) else EventFields(identity, time, features, len(raw) - len(known))


def _decode_each(value: bytes | None, rules: WireRules, schema: Schema | None) -> Any:
    """Return *value* decoded, although a field of it is not well-formed, or a Refusal that names the field.

    None stands for a feature that is going to be dropped.
    """
    flat = rules.format == "flat"
    parsed = parse_raw(value, _decode_flat_raw if flat else _decode_nested_raw, rules.record_bytes_max)
    if isinstance(parsed, Refusal):
        return parsed
    own = {name: parsed.pop(name) for name in (rules.id, rules.time) if name in parsed} if flat else {}
    features = decode_features(parsed if flat else parsed.features, schema)
    if isinstance(features, Refusal):
        return features
    if not flat:
        return _Nested(features, parsed.id, parsed.time)
    for name, raw in own.items():
        field = parse(bytes(raw), decode_scalar, rules.record_bytes_max)
        if isinstance(field, Refusal):
            return Refusal(field.reason, f"field {name!r}: {field.detail}")
        features[name] = field
    return features


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


def _from_flat(
    parsed: dict[str, Any], rules: WireRules
) -> tuple[EventId, float | str | None, dict[str, Any]] | Refusal:
    identity = parsed.pop(rules.id, None)
    time = parsed.pop(rules.time, None)
    if isinstance(identity, bool | list) or isinstance(time, bool | list):
        return Refusal(Reason.BAD_FIELD, f"fields {rules.id!r} and {rules.time!r} must be a text or a number")
    return str(identity) if isinstance(identity, float) else identity, time, parsed


def _own(value: bytes | None, decode: Any) -> Any:
    return parse(value, decode, record_bytes_max=2**31)
