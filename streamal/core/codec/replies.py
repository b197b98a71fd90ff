"""The bytes on ``labels`` to replies and natural labels. As in `events`, nothing raises for bad input."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

import msgspec

from streamal.core.codec.features import (
    FIELD_REASONS,
    checked,
    decode_features,
    keep_known,
    parse,
    parse_raw,
    short,
)
from streamal.core.codec.wire_rules import TEXT_BYTES_MAX, WireRules
from streamal.core.labels import class_name
from streamal.core.records import NaturalLabel, Reason, Refusal, Reply
from streamal.core.schema import Schema

__all__ = ["decode_reply"]

_COORDINATES = re.compile(r"(0|[1-9][0-9]{0,8})-(0|[1-9][0-9]{0,17})", re.ASCII)
"""Exactly as `coordinates` writes them: two spellings of one event would be two events."""


class _Reply(msgspec.Struct):
    request: str | None = None
    event: str | None = None
    features: dict[str, float | str | bool | list[float] | None] | None = None
    label: str | bool | int | float | None = None
    abstain: bool | None = None
    annotator: str | int | None = None
    reply: str | int | None = None
    seconds: float | None = None
    supersedes: str | int | None = None
    id: str | int | None = None
    time: float | str | None = None


class _RawReply(_Reply):
    features: dict[str, msgspec.Raw] | None = None  # type: ignore[assignment]  # the same field, not decoded yet


_decode = msgspec.json.Decoder(_Reply).decode
_decode_raw = msgspec.json.Decoder(_RawReply).decode


def decode_reply(value: bytes | None, rules: WireRules, schema: Schema | None) -> Reply | NaturalLabel | Refusal:
    """Return the reply or natural label in *value*, or why it is refused. Never raises.

    ``{"request", "label"}`` is the reply to a request. Without "request", ``{"event", "label"}`` is the natural label
    of an event of the log, and ``{"features", "label"}`` brings the features along; both need ``labels.natural``. A
    label may be a JSON string, a truth value or a whole number; `class_name` spells it. A field that is null counts as
    absent, as typed clients write it, and an annotator may be a number.

    >>> decode_reply(b'{"request": "0-7", "label": true}', WireRules(), None).label
    'true'
    >>> decode_reply(b'{"features": {"x": 1}, "label": "a"}', WireRules(natural=True), None).features
    {'x': 1.0}
    """
    parsed = _parse(value, rules, schema)
    if isinstance(parsed, Refusal):
        return parsed
    refusal = _flaw(parsed, rules)
    if refusal is not None:
        return refusal
    reply = None if parsed.reply is None else str(parsed.reply)
    annotator = None if parsed.annotator is None else str(parsed.annotator)
    label = None if parsed.label is None else class_name(parsed.label)
    if parsed.request is not None:
        return Reply(parsed.request, label, annotator, reply, parsed.seconds)
    assert label is not None, "a flaw otherwise"
    if parsed.event is not None:
        return NaturalLabel(parsed.event, None, label, annotator, reply)
    assert parsed.features is not None, "a flaw otherwise"
    features = checked(parsed.id, parsed.time, keep_known(parsed.features, rules, schema), rules, schema)
    if isinstance(features, Refusal):
        return features
    refusal = None if schema is None else schema.mismatch(features)
    if refusal is not None:
        return refusal
    return NaturalLabel(None, features, label, annotator, reply, parsed.id, parsed.time)


def _parse(value: bytes | None, rules: WireRules, schema: Schema | None) -> _Reply | Refusal:
    """Return the fields of a reply; if one is not well-formed, look again whether it is a feature to be dropped."""
    parsed: _Reply | Refusal = parse(value, _decode, rules.record_bytes_max)
    if not isinstance(parsed, Refusal) or parsed.reason not in FIELD_REASONS:
        return parsed
    raw: _RawReply | Refusal = parse_raw(value, _decode_raw, rules.record_bytes_max)
    if isinstance(raw, Refusal):
        return raw
    if raw.features is None:
        return parsed
    features = decode_features(raw.features, schema)
    if isinstance(features, Refusal):
        return features
    return _Reply(**{**msgspec.structs.asdict(raw), "features": features})


def _flaw(parsed: _Reply, rules: WireRules) -> Refusal | None:
    """Return the first rule of `_FLAWS` that a well-formed reply breaks."""
    for is_broken, reason, text in _FLAWS:
        if is_broken(parsed, rules):
            return Refusal(reason, text)
    return None


def _is_unsized(name: str, parsed: _Reply) -> bool:
    """Return whether the field *name* is empty, or longer than `TEXT_BYTES_MAX`."""
    text = getattr(parsed, name)
    return text is not None and not 0 < len(str(text).encode()) <= TEXT_BYTES_MAX


_FLAWS: Sequence[tuple[Callable[[_Reply, WireRules], bool], Reason, str]] = (
    (
        lambda reply, _: reply.supersedes is not None,
        Reason.NOT_SUPPORTED,
        "corrections (field 'supersedes') are not supported yet",
    ),
    (
        lambda reply, _: reply.request is None and reply.event is None and reply.features is None,
        Reason.REPLY_INCOMPLETE,
        "field 'request' is missing (or 'event', or 'features')",
    ),
    (
        lambda reply, _: reply.request is None and (reply.label is None or reply.abstain is True),
        Reason.REPLY_INCOMPLETE,
        "a reply without 'request' must have a 'label'",
    ),
    (
        lambda reply, _: (reply.label is None) != (reply.abstain is True),
        Reason.REPLY_INCOMPLETE,
        "exactly one of 'label' and 'abstain': true is needed",
    ),
    (
        # F67: with features of its own it needs no event, no request and no budget
        lambda reply, rules: reply.request is None and not rules.natural,
        Reason.NOT_SUPPORTED,
        "natural labels (a label without 'request') are off; set labels.natural = true",
    ),
    (
        lambda reply, _: reply.request is None and reply.event is not None and not _COORDINATES.fullmatch(reply.event),
        Reason.BAD_FIELD,
        "field 'event' must be the coordinates of a prediction, like \"0-1845\"",
    ),
    (
        lambda reply, _: not all(short(field) for field in (reply.label, reply.annotator, reply.reply)),
        Reason.BAD_FIELD,
        f"label, annotator and reply must have at most {TEXT_BYTES_MAX} characters, or 63 bits",
    ),
    *(
        (
            lambda reply, _, name=name: _is_unsized(name, reply),
            Reason.BAD_FIELD,
            f"field {name!r} must have 1 to {TEXT_BYTES_MAX} bytes",
        )
        for name in ("request", "label", "annotator", "reply")
    ),
    (
        lambda reply, _: isinstance(reply.label, float) and not reply.label.is_integer(),
        Reason.BAD_FIELD,
        "field 'label' is a number with decimals; write the class as a text",
    ),
    (
        lambda reply, _: reply.label is not None and not class_name(reply.label),
        Reason.BAD_FIELD,
        "field 'label' is blank",
    ),
    (
        lambda reply, rules: reply.seconds is not None and not 0 <= reply.seconds <= rules.magnitude_max,
        Reason.NUMBER_OUT_OF_RANGE,
        "field 'seconds' is negative or too large",
    ),
)
"""What may be wrong with a well-formed reply: (whether it is, the reason, the explanation); the first one counts."""
