"""Features that nobody declared: dropped before anything of them is checked, counted; many are an alarm (F68)."""

from __future__ import annotations

import json
import tracemalloc
from dataclasses import replace
from typing import Any

import pytest

from streamal.bootstrap.rules import wire_rules
from streamal.core.codec.events import decode_event, decode_events
from streamal.core.codec.replies import decode_reply
from streamal.core.codec.wire_rules import WireRules
from streamal.core.records import Event, NaturalLabel, Reason, Record, Refusal
from streamal.core.schema import Schema
from tests.recorded import World, make_config, predictions_of, rows_of

NESTED, FLAT = WireRules(magnitude_max=100.0, feature_name_bytes_max=8, natural=True), WireRules(format="flat")
NUMBERS, MIXED = Schema({"x": "number"}), Schema({"x": "number", "s": "string"})
UNDECLARED = [
    "2",
    "null",
    "1764209364000",
    '["a"]',
    '{"city": "a"}',
    "9007199254740993",
    "1e999",
    "-1" + 400 * "0",
    '"' + 2_000 * "x" + '"',
    "true",
    "[" * 50 + "]" * 50,
]
"""Values of a field that nobody declared, as they are written."""


def event(schema: Schema | None, text: str, rules: WireRules = NESTED) -> Event | Refusal:
    """Return what *text*, the features of an event, is decoded to."""
    value = text if rules.format == "flat" else f'{{"features": {text}}}'
    return decode_event(0, 7, value.encode(), rules, schema)


def refusal(schema: Schema | None, text: str, rules: WireRules = NESTED) -> tuple[Reason, str]:
    found = event(schema, text, rules)
    assert isinstance(found, Refusal)
    return found.reason, found.detail


@pytest.mark.parametrize("rules", [NESTED, FLAT], ids=["nested", "flat"])
@pytest.mark.parametrize("schema", [NUMBERS, MIXED], ids=["numbers", "mixed"])
@pytest.mark.parametrize("value", UNDECLARED, ids=lambda value: value[:12])
def test_whatever_an_undeclared_field_holds_refuses_nothing(value: str, schema: Schema, rules: WireRules) -> None:
    """It is dropped, wherever it stands, and counted."""
    for text in (f'{{"x": 1, "other": {value}}}', f'{{"other": {value}, "x": 1}}'):
        found = event(schema, text, rules)
        assert isinstance(found, Event)
        assert found.features == {"x": 1.0}
        body = text if rules.format == "flat" else f'{{"features": {text}}}'
        decoded = decode_events([Record("events", 0, 7, None, body.encode())], rules, schema)
        assert (decoded.accepted, decoded.dropped, decoded.misfits) == ([found], 1, 1)


def test_a_long_name_and_many_names_refuse_nothing() -> None:
    """Bounds hold for what is kept; the size of the record bounds the rest."""
    many = {f"n{number}": number for number in range(5_000)} | {"x": 1.0, "y" * 300: 1.0}
    found = event(NUMBERS, json.dumps(many))
    assert isinstance(found, Event)
    assert found.features == {"x": 1.0}


@pytest.mark.parametrize(
    ("schema", "text", "reason", "said"),
    [
        (NUMBERS, '{"x": [1]}', Reason.FEATURE_TYPE, ("'x'", "vector(1)", "number")),
        (NUMBERS, '{"x": ["a"]}', Reason.BAD_FIELD, ("'x'", "a list")),
        (NUMBERS, '{"x": {"a": 1}}', Reason.BAD_FIELD, ("'x'", "an object")),
        (NUMBERS, '{"x": null}', Reason.NULL_FEATURE, ("'x'", "null", "features.null")),
        (NUMBERS, '{"x": 101}', Reason.NUMBER_OUT_OF_RANGE, ("'x'", "number", "±100", "limits.magnitude")),
        (NUMBERS, '{"x": 1e999}', Reason.NUMBER_OUT_OF_RANGE, ("'x'", "number")),
        (NUMBERS, '{"x": "1"}', Reason.FEATURE_TYPE, ("'x'", "string", "number")),
        (NUMBERS, '{"y": 1, "z": null}', Reason.FEATURES_EMPTY, ("schema",)),
        (None, '{"tags": ["a"]}', Reason.BAD_FIELD, ("'tags'", "a list")),
        (None, '{"a": 1, "at": {}}', Reason.BAD_FIELD, ("'at'", "an object")),
        (replace(NUMBERS, unknown="refuse"), '{"x": 1, "y": [1]}', Reason.FEATURE_UNKNOWN, ("'y'", "schema")),
        (replace(NUMBERS, open=True), '{"x": 1, "y": ["a"]}', Reason.BAD_FIELD, ("'y'", "a list")),
        (None, '{"' + "n" * 500 + '": 1}', Reason.FEATURE_NAME, ("nnn…'", "8", "limits.feature_name_bytes")),
    ],
)
def test_a_refusal_names_the_field_its_type_and_the_bound(
    schema: Schema | None, text: str, reason: Reason, said: tuple[str, ...]
) -> None:
    """What the dead letter tells is enough to find the producer's mistake."""
    found, detail = refusal(schema, text)
    assert found is reason
    assert [word for word in said if word not in detail] == []
    assert len(detail.encode()) <= 256


def test_fields_of_streamal_are_checked_all_the_same() -> None:
    """An id that is a list refuses the event, with or without undeclared features that are lists too."""
    for features in ('{"x": 1}', '{"x": 1, "y": [1]}'):
        value = f'{{"id": [1], "features": {features}}}'.encode()
        found = decode_event(0, 7, value, NESTED, NUMBERS)
        assert isinstance(found, Refusal)
        assert found.reason is Reason.BAD_FIELD
        assert "id" in found.detail
    assert refusal(NUMBERS, '{"x": 1, "y": [1], "id": [1]}', FLAT)[0] is Reason.BAD_FIELD


def test_what_is_no_json_is_refused_wherever_it_stands() -> None:
    """Also inside a field that would be dropped: bad syntax, bad UTF-8, a depth that no parser should follow."""
    for junk, reason in ((b"[1,,2]", Reason.NOT_JSON), (b'["\xff"]', Reason.NOT_UTF8), (b"[" * 100_000, None)):
        found = decode_event(0, 7, b'{"features": {"x": 1, "junk": %s}}' % junk, NESTED, NUMBERS)
        assert isinstance(found, Refusal)
        assert reason is None or found.reason is reason


def test_natural_labels_drop_alike() -> None:
    """The features that a label brings are held against the schema as those of an event."""
    for features in ('{"x": 1, "y": [1]}', '{"x": 1, "y": "text"}'):
        found = decode_reply(f'{{"features": {features}, "label": "a"}}'.encode(), NESTED, NUMBERS)
        assert isinstance(found, NaturalLabel)
        assert found.features == {"x": 1.0}
    found = decode_reply(b'{"features": {"x": [1]}, "label": "a"}', NESTED, NUMBERS)
    assert isinstance(found, Refusal)
    assert "'x' is a vector(1), not a number" in found.detail


def test_what_the_label_page_shows_stays_in_the_request() -> None:
    """An image that only annotators need is no feature of the model; one that is not well-formed is dropped."""
    config = make_config(label_page={"template": {"image": ["photo"]}}, features={"declared": {"x1": "number"}})
    rules = wire_rules(config)
    schema = Schema({"x1": "number"})
    for photo, kept in (("https://images.example.com/1.png", True), (None, False), (["a"], False), (1e300, False)):
        value = json.dumps({"features": {"x1": 1.0, "photo": photo, "other": "text"}}).encode()
        found = decode_event(0, 0, value, rules, schema)
        assert isinstance(found, Event)
        assert found.features == ({"x1": 1.0, "photo": photo} if kept else {"x1": 1.0})
        assert schema.select(found.features) == {"x1": 1.0}


def test_dropped_features_take_no_memory() -> None:
    """A megabyte in a field that nobody declared is gone when the event is decoded."""
    records = [
        Record("events", 0, offset, None, b'{"features": {"x": 1, "junk": "%s"}}' % (b"j" * 500_000))
        for offset in range(40)
    ]
    tracemalloc.start()
    events = decode_events(records, WireRules(), NUMBERS).accepted
    held = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert len(events) == 40
    assert held < 100_000


def world_of(**features: Any) -> World:
    return World(make_config(features={"declared": {"x1": "number", "x2": "number"}, **features}))


def test_the_daemon_drops_counts_and_sounds_the_alarm() -> None:
    """A producer that renames a field: predictions go on, the share of such events is shown, one line says so."""
    world = world_of()
    daemon = world.daemon(gauges_every_s=0.0)
    for number in range(600):
        world.event({"x1": number / 600, "x2": 0.5})
    world.drain(daemon)
    assert world.meter.gauges["misfit_events_ratio"] == 0.0
    for number in range(600):
        world.event({"x1": number / 600, "x_2": [0.5]})
    world.event({"y1": 1.0})
    world.drain(daemon)
    assert world.meter.counts["features_dropped", ""] == 600
    assert world.meter.counts["misfit_events", ""] == 600
    assert world.meter.gauges["misfit_events_ratio"] > 0.5
    assert len(predictions_of(world.broker, world.config)) == 1_200
    assert [row["reason"] for row in rows_of(world.broker, "streamal.dead-letters")] == ["features_empty"]
    assert [line for line, _ in world.log.said].count("events_do_not_fit") == 1
    for number in range(2_000):
        world.event({"x1": number / 600, "x2": 0.5})
    world.drain(daemon)
    assert [line for line, _ in world.log.said].count("events_fit_again") == 1


@pytest.mark.parametrize(("null", "misfits"), [("refuse", 1), ("missing", 0)])
def test_an_event_that_lacks_a_declared_feature_is_counted(null: str, misfits: int) -> None:
    """Unless nulls count as missing: then whoever configures it expects features to be absent."""
    world = world_of(null=null)
    daemon = world.daemon()
    world.event({"x1": 1.0})
    world.event({"x1": 1.0, "x2": 1.0})
    world.drain(daemon)
    assert world.meter.counts.get(("misfit_events", ""), 0) == misfits
