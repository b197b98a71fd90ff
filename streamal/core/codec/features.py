"""The features of an event or of a natural label: read one by one, dropped, held against all bounds.

A refusal names the feature, the type of its value, and the bound. It never shows a value that may be long.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from streamal.core.codec.wire_rules import TEXT_BYTES_MAX, WireRules
from streamal.core.records import EventId, FeatureValue, Reason, Refusal
from streamal.core.schema import Schema, quote

__all__ = [
    "FIELD_REASONS",
    "checked",
    "decode_features",
    "decode_scalar",
    "keep_known",
    "parse",
    "parse_raw",
    "short",
]

FIELD_REASONS = frozenset({Reason.BAD_FIELD, Reason.NUMBER_OUT_OF_RANGE})
"""Why a record that is a JSON object may not be what was expected: one of its fields is at fault."""

_LIST = "a list"
_JSON_TYPES: Mapping[str, str] = {"[": _LIST, "{": "an object", "n": "null", '"': "a text"}
_MAY_BE_MISSING = (b"n", b'"')
"""How null and a text begin: they may stand for a missing value, and then it does not matter who knows the name."""
decode_scalar = msgspec.json.Decoder(int | float | str | bool | None).decode
_decode_feature = msgspec.json.Decoder(float | str | bool | list[float] | None).decode


def decode_features(features: Mapping[str, msgspec.Raw], schema: Schema | None) -> dict[str, Any] | Refusal:
    """Return each of *features* decoded, or a Refusal that names the first that cannot be a feature.

    None stands for a feature that the *schema* does not know and drops: whatever it holds, it refuses nothing (F68).
    """
    found: dict[str, Any] = {}
    for name, raw in features.items():
        if schema is not None and name not in schema.kinds:
            if schema.drops:
                found[name] = None
                continue
            if not schema.open and bytes(memoryview(raw)[:1]) not in _MAY_BE_MISSING:
                return Refusal(Reason.FEATURE_UNKNOWN, f"feature {quote(name)} is not in the schema")
        try:
            found[name] = _decode_feature(raw)
        except (msgspec.MsgspecError, UnicodeError) as error:
            return _malformed(name, raw, str(error))
    return found


def _malformed(name: str, raw: msgspec.Raw, error: str) -> Refusal:
    """Return the refusal of the feature *name*, which cannot be decoded because of *error*."""
    kind = _JSON_TYPES.get(bytes(memoryview(raw)[:1]).decode(errors="replace"))
    if kind is None:
        return Refusal(Reason.NUMBER_OUT_OF_RANGE, f"feature {quote(name)} is a number beyond any double")
    if kind == _LIST and "out of range" in error:
        text = f"feature {quote(name)} is a list with a number beyond any double"
        return Refusal(Reason.NUMBER_OUT_OF_RANGE, text)
    allowed = "a feature is a number, a text, a truth value or a vector"
    if kind == _LIST:
        allowed = "a vector is a list of numbers"
    return Refusal(Reason.BAD_FIELD, f"feature {quote(name)} is {kind}: {allowed} ({error})")


def keep_known(raw: dict[str, Any], rules: WireRules, schema: Schema | None) -> dict[str, Any]:
    """Return *raw* without the features that *schema* drops; what annotators are shown stays if it is well-formed."""
    if schema is None or not schema.drops or raw.keys() <= schema.kinds.keys():
        return raw
    kinds, shown = schema.kinds, rules.shown
    return {
        name: value
        for name, value in raw.items()
        if name in kinds or (name in shown and value is not None and _bounds({name: value}, rules) is None)
    }


def checked(
    identity: EventId, time: float | str | None, raw: dict[str, Any], rules: WireRules, schema: Schema | None
) -> dict[str, FeatureValue] | Refusal:
    """Return the features in *raw*, which the *schema* was asked to keep, or the bound that they break."""
    if not short(identity) or not short(time):
        return Refusal(Reason.BAD_FIELD, f"id and time must have at most {TEXT_BYTES_MAX} characters, or 63 bits")
    if rules.missing:
        raw = {
            name: value
            for name, value in raw.items()
            if not (isinstance(value, str) and value.strip() in rules.missing)
        }
    refusal = _bounds(raw, rules)
    if refusal is not None:
        return refusal
    if rules.format == "flat":
        # the id of a flat event may be a large integer, so its numbers were not read as floats
        raw = {name: float(feature) if feature.__class__ is int else feature for name, feature in raw.items()}
    if rules.null == "missing":
        raw = {name: feature for name, feature in raw.items() if feature is not None}
    if not raw:
        return Refusal(Reason.FEATURES_EMPTY, "no feature left: there is none, or none that the schema knows")
    if schema is not None and schema.drops and schema.kinds.keys().isdisjoint(raw):
        return Refusal(Reason.FEATURES_EMPTY, "no feature left that the schema knows")
    return raw


def parse(value: Any, decode: Any, record_bytes_max: int) -> Any:
    """Return what *decode* makes of *value*, or a Refusal that says why it can't."""
    if value is None:
        return Refusal(Reason.TOMBSTONE, "the record has no value")
    if len(value) > record_bytes_max:
        return Refusal(Reason.RECORD_TOO_BIG, f"{len(value)} bytes, {record_bytes_max} allowed (limits.record_bytes)")
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


def parse_raw(value: bytes | None, decode: Any, record_bytes_max: int) -> Any:
    """Return what `parse` returns where *decode* leaves fields as they are: it does not look whether they are UTF-8."""

    def decode_text(text: bytes) -> Any:
        text.decode()
        return decode(text)

    return parse(value, decode_text, record_bytes_max)


def _validation_reason(text: str) -> Reason:
    if "out of range" in text:
        return Reason.NUMBER_OUT_OF_RANGE
    if text.startswith("Expected `object`") and " - at" not in text:
        return Reason.NOT_AN_OBJECT
    return Reason.BAD_FIELD


def _bounds(features: Mapping[str, Any], rules: WireRules) -> Refusal | None:
    """Return the first bound that otherwise well-formed *features* break."""
    if len(features) > rules.features_max:
        text = f"{len(features)} features, {rules.features_max} allowed (limits.features)"
        return Refusal(Reason.FEATURES_TOO_MANY, text)
    magnitude_max, name_max = rules.magnitude_max, rules.feature_name_bytes_max
    for name, value in features.items():
        if len(name) > name_max or (not name.isascii() and len(name.encode()) > name_max):
            text = f"the name {quote(name)} has {len(name.encode())} bytes, {name_max} allowed"
            return Refusal(Reason.FEATURE_NAME, f"{text} (limits.feature_name_bytes)")
        kind = type(value)
        if kind is float or kind is int:
            if not -magnitude_max <= value <= magnitude_max:
                text = f"feature {quote(name)} is beyond ±{magnitude_max:g}, the bound of a number (limits.magnitude)"
                return Refusal(Reason.NUMBER_OUT_OF_RANGE, text)
        elif kind is list:
            refusal = _vector_bounds(name, value, rules)
            if refusal is not None:
                return refusal
        elif value is None and rules.null == "refuse":
            return Refusal(Reason.NULL_FEATURE, f"feature {quote(name)} is null; leave it out, or set features.null")
    return None


def _vector_bounds(name: str, vector: list[float], rules: WireRules) -> Refusal | None:
    """Return the first bound that the otherwise well-formed *vector* breaks."""
    if not vector:
        return Refusal(Reason.BAD_FIELD, f"feature {quote(name)} is an empty list; leave it out")
    if len(vector) > rules.vector_length_max:
        text = f"feature {quote(name)} has {len(vector)} numbers, {rules.vector_length_max} allowed"
        return Refusal(Reason.BAD_FIELD, f"{text} (limits.vector_length)")
    if max(vector) > rules.magnitude_max or min(vector) < -rules.magnitude_max:
        text = f"feature {quote(name)} has a number beyond ±{rules.magnitude_max:g}, the bound of a number"
        return Refusal(Reason.NUMBER_OUT_OF_RANGE, f"{text} (limits.magnitude)")
    return None


def short(field: str | float | None) -> bool:
    """Return whether *field* is small; integers too, since Python refuses to print those of 4,300 digits."""
    if isinstance(field, str):
        return len(field) <= TEXT_BYTES_MAX
    return field is None or -(2**63) <= field < 2**63
