"""Bytes in, records or refusals out: the fuzz that nothing ever raises (I8), and what is let through is sane (I10)."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from typing import Any

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from streamal.core.codec.dead_letters import DeadLetter, dead_letter
from streamal.core.codec.events import decode_event, decode_events, decode_request, decode_training, encode
from streamal.core.codec.replies import decode_reply
from streamal.core.codec.wire_rules import TEXT_BYTES_MAX, WireRules
from streamal.core.records import Event, NaturalLabel, Reason, Record, Refusal, Reply, Request, Training, coordinates
from streamal.core.schema import Schema
from tests.making import event_ids, event_times, requests, trainings

RULES = WireRules()
SMALL = WireRules(record_bytes_max=200, features_max=3, feature_name_bytes_max=8, magnitude_max=100.0)
ALL_RULES = (
    RULES,
    SMALL,
    replace(RULES, format="flat"),
    replace(RULES, null="missing"),
    replace(RULES, format="flat", null="missing"),
    replace(RULES, natural=True),
)
NATURAL = ALL_RULES[-1]
DEEP = 100_000
HUGE = b"1" + b"0" * 10_000
TOKENS = (
    *(b"NaN", b"Infinity", b"-Infinity", b"nan", b"1e400", b"-1e400", b"1e308", b"-1e308", b"1e-400", b"-0.0", b"01"),
    *(HUGE, b"-" + HUGE, HUGE + b".5", b"1" + b"0" * 400, b"9223372036854775808", b"18446744073709551616", b"1.5"),
    *(
        b"true",
        b"false",
        b"null",
        b'""',
        b'"x"',
        b'"' + b"x" * 5_000 + b'"',
        b"[]",
        b"{}",
        b"[1]",
        b'{"a":1}',
        b"",
        b"-",
    ),
    *(b'"\\ud800"', b'"\\udc00"', b'"\\ud800\\u0041"', b'"\xff"', b'"\xed\xa0\x80"', b'"\\u0000"', b'"\x00"', b'"\n"'),
    *(b"[" * DEEP, b"[" * DEEP + b"]" * DEEP, b'{"a":' * DEEP, b'{"a":' * DEEP + b"1" + b"}" * DEEP, b"}", b"]", b'"'),
)
EVENT_FIELDS = (
    b'{"features":{"x":%s}}',
    b'{"features":%s}',
    b'{"features":{"x":1,"y":%s},"id":"e"}',
    b'{"id":%s,"features":{"x":1}}',
    b'{"time":%s,"features":{"x":1}}',
    b'{"unknown":%s,"features":{"x":1}}',
    b'{%s:1,"features":{"x":1}}',
    b'{"x":%s}',
    b'{"x":1,"id":%s,"time":%s}',
    b"%s",
)
REPLY_FIELDS = (
    b'{"request":%s,"label":"a"}',
    b'{"request":"0-1","label":%s}',
    b'{"request":"0-1","abstain":%s}',
    b'{"request":"0-1","label":"a","annotator":%s}',
    b'{"request":"0-1","label":"a","reply":%s}',
    b'{"request":"0-1","label":"a","seconds":%s}',
    b'{"request":"0-1","label":"a","supersedes":%s}',
    b'{"event":%s,"label":"a"}',
    b'{"features":%s,"label":"a"}',
    b'{"features":{"x":%s},"label":"a"}',
    b'{"features":{"x":1},"label":%s,"id":%s,"time":%s}',
    b'{"request":"0-1","label":"a","unknown":%s}',
    b"%s",
)
EVENT = b'{"id":"e-1","time":1.5,"features":{"x":1.5,"name":"\xc3\xa9t\xc3\xa9","flag":true}}'
REPLY = b'{"request":"0-7","label":"spam","annotator":"ann","reply":"r1","seconds":2.5}'


def check_event(value: bytes | None, rules: WireRules) -> Event | Refusal:
    """Decode *value* and hold the result against everything that an accepted or refused event promises."""
    found = decode_event(3, 7, value, rules, None)
    if isinstance(found, Refusal):
        check_refusal(value, found)
        return found
    assert (found.partition, found.offset) == (3, 7)
    assert 0 < len(found.features) <= rules.features_max
    for name, feature in found.features.items():
        assert len(name.encode()) <= rules.feature_name_bytes_max
        assert type(feature) in (float, str, bool, list)
        vector = feature if isinstance(feature, list) else []
        assert len(vector) <= rules.vector_length_max
        for number in (feature, *vector):
            assert not isinstance(number, float) or (math.isfinite(number) and abs(number) <= rules.magnitude_max)
    for text in (found.id, found.time):
        assert not isinstance(text, str) or len(text) <= TEXT_BYTES_MAX
    assert len(json.dumps([found.id, found.time])) < 20 * TEXT_BYTES_MAX
    return found


def check_reply(value: bytes | None, rules: WireRules) -> Reply | NaturalLabel | Refusal:
    found = decode_reply(value, rules, None)
    if isinstance(found, Refusal):
        check_refusal(value, found)
        return found
    for text in (found.label, found.annotator, found.reply):
        assert text is None or 0 < len(text.encode()) <= TEXT_BYTES_MAX
    if isinstance(found, Reply):
        assert 0 < len(found.request.encode()) <= TEXT_BYTES_MAX
        assert found.seconds is None or 0.0 <= found.seconds <= rules.magnitude_max
    elif found.event is None:
        body = json.dumps({"id": found.id, "time": found.time, "features": found.features}).encode()
        assert check_event(body, replace(rules, format="nested", record_bytes_max=10**9)) == Event(
            3, 7, found.id, found.time, found.features or {}
        )
    else:
        assert rules.natural
        assert coordinates(*map(int, found.event.split("-"))) == found.event
    return found


def check_refusal(value: bytes | None, refusal: Refusal) -> None:
    """Every refusal has a reason of the closed set and fits into a small, readable dead letter."""
    assert isinstance(refusal.reason, Reason)
    assert refusal.detail
    written = dead_letter("events", 3, 7, value, refusal, 12.5)
    assert len(written) <= 2_000
    letter = msgspec.json.decode(written, type=DeadLetter)
    assert (letter.topic, letter.partition, letter.offset, letter.at) == ("events", 3, 7, 12.5)
    assert (letter.reason, letter.bytes) == (refusal.reason, len(value or b""))
    assert len(letter.sha256) == 64


def mutated(valid: bytes) -> st.SearchStrategy[bytes]:
    """*valid* with a few of its bytes replaced by others, or by something nasty."""
    nasty = st.sampled_from([token for token in TOKENS if len(token) < 100]) | st.binary(max_size=4)
    cut = st.tuples(st.integers(0, len(valid)), st.integers(0, 8), nasty)

    def apply(cuts: list[tuple[int, int, bytes]]) -> bytes:
        value = valid
        for at, dropped, put in cuts:
            value = value[:at] + put + value[at + dropped :]
        return value

    return st.lists(cut, min_size=1, max_size=3).map(apply)


# Whatever comes in.


@given(st.binary(max_size=200) | st.none() | mutated(EVENT) | mutated(REPLY), st.sampled_from(ALL_RULES))
@example(b"", RULES)
@example(None, RULES)
def test_no_bytes_raise(value: bytes | None, rules: WireRules) -> None:
    """Random bytes and damaged records come out as a record or as a refusal with a reason (F29, I8)."""
    check_event(value, rules)
    check_reply(value, rules)
    assert isinstance(decode_training(value), Refusal)
    assert isinstance(decode_request(value or b""), Refusal)


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
        lambda inner: (
            st.lists(inner, max_size=4)
            | st.dictionaries(
                st.sampled_from(["features", "id", "time", "x", "request", "label"]) | st.text(max_size=3),
                inner,
                max_size=4,
            )
        ),
        max_leaves=12,
    ),
    st.sampled_from(ALL_RULES),
)
def test_no_json_raises(value: Any, rules: WireRules) -> None:
    """Whatever Python writes as JSON (NaN and lone surrogates included) is a record or a refusal (I8)."""
    text = json.dumps(value).encode()
    check_event(text, rules)
    check_reply(text, rules)


@pytest.mark.parametrize("rules", ALL_RULES)
@pytest.mark.parametrize("template", EVENT_FIELDS)
def test_no_token_in_any_field_of_an_event_raises(template: bytes, rules: WireRules) -> None:
    """Numbers of 10,000 digits, 100,000 levels, NaN, surrogates … in each place of an event: sane or refused (F31)."""
    for token in TOKENS:
        found = check_event(template.replace(b"%s", token), rules)
        if token in (b"NaN", b"Infinity", b"-Infinity", b"1e400", HUGE):
            assert isinstance(found, Refusal) or b"unknown" in template  # what nobody reads is skipped, not parsed


@pytest.mark.parametrize("template", REPLY_FIELDS)
def test_no_token_in_any_field_of_a_reply_raises(template: bytes) -> None:
    """The same for each field of a reply; an unreadable one is never taken for an answer."""
    for token in TOKENS:
        found = check_reply(template.replace(b"%s", token), NATURAL)
        if token in (b"NaN", b"1e400", b"[]", b"{}", b""):
            assert isinstance(found, Refusal) or b"unknown" in template


# The right reason.

REFUSED_EVENTS = [
    (None, RULES, Reason.TOMBSTONE),
    (b"", RULES, Reason.NOT_JSON),
    (b"hello", RULES, Reason.NOT_JSON),
    (b'{"features":{"x":1}} {}', RULES, Reason.NOT_JSON),
    (b'\xef\xbb\xbf{"features":{"x":1}}', RULES, Reason.NOT_JSON),
    (b'{"features":{"x":NaN}}', RULES, Reason.NOT_JSON),
    (b'{"features":{"x":-Infinity}}', RULES, Reason.NOT_JSON),
    (b'{"features":{"x":"\\ud800"}}', RULES, Reason.NOT_JSON),
    (b'{"features":{"x":"\xff"}}', RULES, Reason.NOT_UTF8),
    (b'{"features":{"x":"\xed\xa0\x80"}}', RULES, Reason.NOT_UTF8),
    (b'{"unknown":' + b"[" * DEEP, RULES, Reason.TOO_DEEP),
    (b'{"a":' * DEEP, RULES, Reason.TOO_DEEP),
    (b"[" * DEEP, RULES, Reason.NOT_AN_OBJECT),
    (b"[]", RULES, Reason.NOT_AN_OBJECT),
    (b"null", RULES, Reason.NOT_AN_OBJECT),
    (b"17", replace(RULES, format="flat"), Reason.NOT_AN_OBJECT),
    (b"{}", RULES, Reason.BAD_FIELD),
    (b'{"features":null}', RULES, Reason.BAD_FIELD),
    (b'{"features":[1]}', RULES, Reason.BAD_FIELD),
    (b'{"features":{"x":[]}}', RULES, Reason.BAD_FIELD),
    (b'{"features":{"x":["1"]}}', RULES, Reason.BAD_FIELD),
    (b'{"features":{"x":[[1]]}}', RULES, Reason.BAD_FIELD),
    (b'{"x":{"y":1}}', replace(RULES, format="flat"), Reason.BAD_FIELD),
    (b'{"x":1,"id":true}', replace(RULES, format="flat"), Reason.BAD_FIELD),
    (b'{"x":1,"time":false}', replace(RULES, format="flat"), Reason.BAD_FIELD),
    (b'{"id":true,"features":{"x":1}}', RULES, Reason.BAD_FIELD),
    (b'{"id":1.5,"features":{"x":1}}', RULES, Reason.BAD_FIELD),
    (b'{"id":"' + b"i" * 257 + b'","features":{"x":1}}', RULES, Reason.BAD_FIELD),
    (b'{"id":9223372036854775808,"features":{"x":1}}', RULES, Reason.BAD_FIELD),
    (b'{"time":1e300,"features":{"x":1}}', RULES, Reason.BAD_FIELD),
    (b'{"id":' + HUGE + b',"features":{"x":1}}', RULES, Reason.NUMBER_OUT_OF_RANGE),
    (b'{"features":{"x":1e400}}', RULES, Reason.NUMBER_OUT_OF_RANGE),
    (b'{"features":{"x":' + HUGE + b"}}", RULES, Reason.NUMBER_OUT_OF_RANGE),
    (b'{"features":{"x":1e308}}', RULES, Reason.NUMBER_OUT_OF_RANGE),
    (b'{"features":{"x":-1.0000001e12}}', RULES, Reason.NUMBER_OUT_OF_RANGE),
    (b'{"features":{"x":null}}', RULES, Reason.NULL_FEATURE),
    (b'{"features":{"x":null}}', replace(RULES, null="missing"), Reason.FEATURES_EMPTY),
    (b'{"features":{}}', RULES, Reason.FEATURES_EMPTY),
    (b'{"id":"e","time":1}', replace(RULES, format="flat"), Reason.FEATURES_EMPTY),
    (b'{"id":1}', replace(RULES, format="flat"), Reason.FEATURES_EMPTY),
    (b'{"features":{"a":1,"b":2,"c":3,"d":4}}', SMALL, Reason.FEATURES_TOO_MANY),
    (b'{"features":{"123456789":1}}', SMALL, Reason.FEATURE_NAME),
    (b'{"features":{"\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9":1}}', SMALL, Reason.FEATURE_NAME),
    (b'{"features":{"x":1}}' + b" " * 200, SMALL, Reason.RECORD_TOO_BIG),
]


@pytest.mark.parametrize(("value", "rules", "reason"), REFUSED_EVENTS)
def test_an_event_is_refused_for_its_reason(value: bytes | None, rules: WireRules, reason: Reason) -> None:
    """Each kind of bad event is told apart (F29, F30, F31)."""
    found = check_event(value, rules)
    assert isinstance(found, Refusal)
    assert found.reason is reason


ACCEPTED_EVENTS: list[tuple[bytes, WireRules, dict[str, Any]]] = [
    (b'{"features":{"x":1e12,"y":-1e12}}', RULES, {"x": 1e12, "y": -1e12}),
    (b'{"features":{"x":100.0}}', SMALL, {"x": 100.0}),
    (b'{"features":{"12345678":1}}', SMALL, {"12345678": 1.0}),
    (b'{"features":{"\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9":1}}', SMALL, {"éééé": 1.0}),
    (b'{"features":{"a":1,"b":2,"c":3}}', SMALL, {"a": 1.0, "b": 2.0, "c": 3.0}),
    (b'{"features":{"x":1}}' + b" " * 180, SMALL, {"x": 1.0}),
    (b'{"features":{"x":1,"x":"last"}}', RULES, {"x": "last"}),
    (b'{"features":{"x":true,"y":"1"},"more":[{}]}', RULES, {"x": True, "y": "1"}),
    (b'{"features":{"x":null,"y":2}}', replace(RULES, null="missing"), {"y": 2.0}),
    (b'{"x":1,"y":2}', replace(RULES, format="flat"), {"x": 1.0, "y": 2.0}),
]


@pytest.mark.parametrize(("value", "rules", "features"), ACCEPTED_EVENTS)
def test_what_is_just_within_the_bounds_is_accepted(value: bytes, rules: WireRules, features: dict[str, Any]) -> None:
    """Bounds are inclusive; duplicate keys: the last wins; other fields beside ``features`` are nobody's business."""
    found = check_event(value, rules)
    assert isinstance(found, Event)
    assert found.features == features
    assert [type(value) for value in found.features.values()] == [type(value) for value in features.values()]


@given(event_ids, event_times, st.dictionaries(st.text(max_size=9), st.floats(-1e9, 1e9) | st.booleans(), min_size=1))
def test_flat_and_nested_mean_the_same(
    identity: str | int | None, time: float | str | None, features: dict[str, Any]
) -> None:
    """The flat format is the nested one with other brackets, under names of the operator's choice."""
    features = {f"f{name}": value for name, value in features.items()}
    if isinstance(identity, int):
        identity %= 2**53
    if isinstance(time, float):
        time = math.remainder(time, 1e12)
    flat = json.dumps({"key": identity, **features, "ts": time}).encode()
    nested = json.dumps({"id": identity, "time": time, "features": features}).encode()
    rules = WireRules(format="flat", id="key", time="ts")
    assert check_event(flat, rules) == check_event(nested, RULES)


def test_a_large_number_as_flat_id_is_kept_to_the_digit() -> None:
    """The id of a flat event may be an integer of 63 bits (a snowflake); a fraction is kept as text."""
    rules = WireRules(format="flat")
    ids = [
        decode_event(0, 0, b'{"x":1,"id":%s}' % text, rules, None) for text in (b"7", b"1.5", b"1234567890123456789")
    ]
    assert [found.id for found in ids if isinstance(found, Event)] == [7, "1.5", 1234567890123456789]
    assert [type(found.features["x"]) for found in ids if isinstance(found, Event)] == [float] * 3


def test_the_schema_has_the_last_word() -> None:
    """A type outside the schema refuses the event (F32); so does an event of which the schema knows nothing (F68)."""
    schema = Schema({"x": "number"})
    for value, reason in (
        (b'{"features":{"x":"three"}}', Reason.FEATURE_TYPE),
        (b'{"features":{"y":3}}', Reason.FEATURES_EMPTY),
    ):
        found = decode_event(0, 0, value, RULES, schema)
        assert isinstance(found, Refusal)
        assert found.reason is reason


@pytest.mark.parametrize("rules", ALL_RULES)
def test_the_short_way_of_plain_numbers_decides_as_the_long_one(rules: WireRules) -> None:
    """Many events are decoded as each for itself; under a schema that refuses, as without one but for the schema."""
    schemas = [
        Schema({"x": "number", "y": "number"}),
        Schema({"x": "number"}, unknown="refuse"),
        Schema({"z" * 9: "number"}),
        Schema({"z": "string"}, open=True),
    ]
    for value in (field.replace(b"%s", token) for field in EVENT_FIELDS for token in (*TOKENS, b"1", b"-99.5", b"101")):
        record, plain = Record("events", 0, 7, None, value), decode_event(0, 7, value, rules, None)
        for schema in schemas:
            one = decode_event(0, 7, value, rules, schema)
            accepted, refused, *_ = decode_events([record], rules, schema)
            assert (accepted, refused) == (([], [(record, one)]) if isinstance(one, Refusal) else ([one], []))
            if not schema.drops and isinstance(plain, Event):
                assert one == (schema.mismatch(plain.features) or plain)
    long = b'{"features":{"%s":1}}' % (b"z" * 9)
    events = decode_events([Record("events", 0, 7, None, long)], rules, schemas[2]).accepted
    assert bool(events) == isinstance(decode_event(0, 7, long, rules, schemas[2]), Event)


# Replies.

REFUSED_REPLIES = [
    (None, Reason.TOMBSTONE),
    (b"{}", Reason.REPLY_INCOMPLETE),
    (b'{"label":"a"}', Reason.REPLY_INCOMPLETE),
    (b'{"request":"0-1"}', Reason.REPLY_INCOMPLETE),
    (b'{"request":"0-1","label":null}', Reason.REPLY_INCOMPLETE),
    (b'{"request":"0-1","label":"a","abstain":true}', Reason.REPLY_INCOMPLETE),
    (b'{"request":"0-1","abstain":false}', Reason.REPLY_INCOMPLETE),
    (b'{"event":"0-1","label":"a"}', Reason.NOT_SUPPORTED),
    (b'{"request":"0-1","label":"a","supersedes":"r1"}', Reason.NOT_SUPPORTED),
    (b'{"request":"0-1","label":1.5}', Reason.BAD_FIELD),
    (b'{"request":"0-1","label":""}', Reason.BAD_FIELD),
    (b'{"request":"","label":"a"}', Reason.BAD_FIELD),
    (b'{"request":"0-1","label":"' + b"\xc3\xa9" * 129 + b'"}', Reason.BAD_FIELD),
    (b'{"request":"0-1","label":9223372036854775808}', Reason.BAD_FIELD),
    (b'{"request":"0-1","label":' + HUGE + b"}", Reason.NUMBER_OUT_OF_RANGE),
    (b'{"request":"0-1","label":"a","reply":9223372036854775808}', Reason.BAD_FIELD),
    (b'{"request":"0-1","label":"a","annotator":""}', Reason.BAD_FIELD),
    (b'{"request":"0-1","label":"a","annotator":9223372036854775808}', Reason.BAD_FIELD),
    (b'{"request":"0-1","label":"a","annotator":true}', Reason.BAD_FIELD),
    (b'{"request":"0-1","abstain":null}', Reason.REPLY_INCOMPLETE),
    (b'{"request":"0-1","abstain":false}', Reason.REPLY_INCOMPLETE),
    (b'{"request":"0-1","label":"a","seconds":-1}', Reason.NUMBER_OUT_OF_RANGE),
    (b'{"request":"0-1","label":"a","seconds":1e13}', Reason.NUMBER_OUT_OF_RANGE),
    (b'{"request":"0-1","label":"\\udc00"}', Reason.NOT_JSON),
    (b"[]", Reason.NOT_AN_OBJECT),
]


@pytest.mark.parametrize(("value", "reason"), REFUSED_REPLIES)
def test_a_reply_is_refused_for_its_reason(value: bytes | None, reason: Reason) -> None:
    """Each kind of bad reply is told apart; what is not supported yet says so."""
    found = check_reply(value, RULES)
    assert isinstance(found, Refusal)
    assert found.reason is reason


def test_a_reply_is_read_as_it_is_written() -> None:
    """All fields arrive; truth values and integers are labels too, spelled one way only."""
    assert check_reply(REPLY, RULES) == Reply("0-7", "spam", "ann", "r1", 2.5)
    assert check_reply(b'{"request":"0-7","label":false,"reply":12}', RULES) == Reply("0-7", "false", None, "12", None)
    assert check_reply(b'{"request":"0-7","label":-3}', RULES) == Reply("0-7", "-3", None, None, None)
    assert check_reply(b'{"request":"0-7","abstain":true}', RULES) == Reply("0-7", None, None, None, None)


@pytest.mark.parametrize(
    ("value", "label", "annotator"),
    [
        (b'{"request":"0-0","label":"pos","abstain":null,"annotator":null,"seconds":null}', "pos", None),
        (b'{"request":"0-0","label":"pos","annotator":12}', "pos", "12"),
        (b'{"request":"0-0","label":null,"abstain":true,"reply":null}', None, None),
        (b'{"request":"0-0","label":"pos","abstain":false,"event":null,"features":null}', "pos", None),
    ],
)
def test_replies_of_typed_clients_are_read(value: bytes, label: str | None, annotator: str | None) -> None:
    """They write null for a field without a value, and numbers as names; the annotator is a text."""
    assert check_reply(value, RULES) == Reply("0-0", label, annotator, None, None)


# Our own records.


@given(requests)
def test_a_request_survives_the_wire(request: Request) -> None:
    """decode(encode(request)) is the request, and encoding is deterministic."""
    assert decode_request(encode(request)) == request
    assert encode(request) == encode(request)


@given(trainings)
def test_a_training_record_survives_the_wire(record: Training) -> None:
    """decode(encode(record)) is the record, of the same kind."""
    found = decode_training(encode(record))
    assert (type(found), found) == (type(record), record)


# Dead letters.


@given(st.text(), st.binary(max_size=2_000), st.sampled_from(Reason))
@example("\U0001f600" * 1_000, b"\xff" * 2_000, Reason.BAD_FIELD)
@example("\\" * 1_000, b"\x00" * 2_000, Reason.BAD_FIELD)
@example("\ud800" * 1_000, b"", Reason.BAD_FIELD)
def test_a_dead_letter_is_bounded(detail: str, body: bytes, reason: Reason) -> None:
    """About 1 kB whatever came in (but for escapes): hash, head and reason, never the whole record (F30)."""
    letter = dead_letter("events", 0, 1, body, Refusal(reason, detail), 0.0)
    plain = detail.isprintable() and "\\" not in detail and '"' not in detail
    assert len(letter) <= (1_000 if plain else 2_200)
    assert msgspec.json.decode(letter, type=DeadLetter).bytes == len(body)
