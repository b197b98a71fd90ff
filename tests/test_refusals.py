"""What a refused value costs: one dead letter, never the stream; the log says once which field it is and what to do."""

from __future__ import annotations

import json
from typing import Any

import pytest

from streamal.core.codec.events import decode_event, decode_events
from streamal.core.codec.replies import decode_reply
from streamal.core.codec.wire_rules import WireRules
from streamal.core.gauges.refusals import RefusalEpisodes
from streamal.core.records import Event, NaturalLabel, Reason, Record, Refusal
from streamal.core.rules import Refused
from streamal.core.schema import Schema
from tests.recorded import World, easy_stream, make_config, predictions_of, rows_of

WITHOUT_SCHEMA: dict[str, Any] = {"declared": {}, "infer_from": 5}
NUMBERS = {"x1": "number", "x2": "number"}


def world_of(features: dict[str, Any], **sections: dict[str, Any]) -> World:
    return World(make_config(features=features, budget={"share": 1, "burst": 100}, **sections))


def said(world: World, event: str) -> list[dict[str, object]]:
    return [fields for name, fields in world.log.said if name == event]


# The type of a feature.


@pytest.mark.parametrize("place", [0, 3])
def test_a_placeholder_costs_no_stream(place: int) -> None:
    """The first value, or any other single one, does not make a number a text; later it costs one dead letter (F32)."""
    world = world_of(WITHOUT_SCHEMA)
    daemon = world.daemon(events_per_step=1)
    daemon.start()
    rows = easy_stream(60).rows
    for number, row in enumerate(rows):
        world.event({**row.features, "x1": "n/a"} if number in (place, 40) else row.features)
    world.drain(daemon)
    assert daemon.fold.learned.schema is not None
    assert daemon.fold.learned.schema.kinds == NUMBERS
    assert [row["reason"] for row in rows_of(world.broker, world.topics.dead_letters)] == ["feature_type"]
    assert len(predictions_of(world.broker, world.config)) == 59


def test_a_type_is_declared_later() -> None:
    """A wrong type in the log's schema is overruled by a declaration; the daemon says so when it starts."""
    world = world_of(WITHOUT_SCHEMA)
    daemon = world.daemon(events_per_step=1)
    daemon.start()
    for _ in range(10):
        world.event({"x1": "n/a", "x2": 0.5})
    world.drain(daemon)
    assert daemon.fold.learned.schema is not None
    assert daemon.fold.learned.schema.kinds["x1"] == "string"
    daemon.close()
    world.config = make_config(features={"declared": NUMBERS})
    again = world.daemon()
    again.start()
    [differs] = said(world, "schema_differs")
    assert differs["differences"] == ["'x1' is a string in the log, declared as number"]
    world.event({"x1": 0.5, "x2": 0.5})
    before = len(predictions_of(world.broker, world.config))
    world.drain(again)
    assert len(predictions_of(world.broker, world.config)) == before + 1


# Named texts are missing values.


@pytest.mark.parametrize("schema", [None, Schema(NUMBERS), Schema({"x1": "number", "x2": "string"})])
@pytest.mark.parametrize("layout", ["nested", "flat"])
def test_named_texts_are_missing(schema: Schema | None, layout: Any) -> None:
    """In events and natural labels; the other features are used, and other texts are what they were."""
    rules = WireRules(format=layout, missing=frozenset({"n/a", "-"}), natural=True)
    features: dict[str, object] = {"x1": 1.0, "x2": "n/a"}
    body = features if layout == "flat" else {"features": features}
    event = decode_event(0, 0, json.dumps(body).encode(), rules, schema)
    assert isinstance(event, Event)
    assert event.features == {"x1": 1.0}
    natural = decode_reply(json.dumps({"features": {"x1": 1.0, "x2": " - "}, "label": "a"}).encode(), rules, schema)
    assert isinstance(natural, NaturalLabel)
    assert natural.features == {"x1": 1.0}
    refused = decode_event(0, 0, json.dumps({**body, "features": {"x1": "N/A"}}).encode(), rules, Schema(NUMBERS))
    assert layout == "flat" or isinstance(refused, Refusal)


def test_an_event_with_nothing_but_missing_values_is_refused() -> None:
    """There is nothing to predict from."""
    rules = WireRules(missing=frozenset({"n/a"}))
    refused = decode_event(0, 0, b'{"features": {"x1": "n/a", "x2": "n/a"}}', rules, Schema(NUMBERS))
    assert isinstance(refused, Refusal)
    assert refused.reason is Reason.FEATURES_EMPTY


def test_a_missing_value_is_no_misfit() -> None:
    """Whoever names texts for missing values expects features to be absent."""
    world = world_of({"missing": ["n/a"]})
    daemon = world.daemon()
    daemon.start()
    for _ in range(10):
        world.event({"x1": "n/a", "x2": 0.5})
    world.drain(daemon)
    assert len(predictions_of(world.broker, world.config)) == 10
    assert world.meter.counts["misfit_events", ""] == 0


def test_the_quick_way_and_the_long_way_agree_on_missing_values() -> None:
    """A batch of numbers with a placeholder among them."""
    rules = WireRules(missing=frozenset({"n/a"}))
    values = [b'{"features": {"x1": 1, "x2": 2}}', b'{"features": {"x1": "n/a", "x2": 2}}']
    records = [Record("events", 0, offset, None, value) for offset, value in enumerate(values)]
    decoded = decode_events(records, rules, Schema(NUMBERS))
    assert [event.features for event in decoded.accepted] == [{"x1": 1.0, "x2": 2.0}, {"x2": 2.0}]


# The line in the log.


def test_one_line_says_which_field_and_what_to_do() -> None:
    """Not one for each event: the field, the reason, the first event, the keys that help."""
    world = world_of({})
    daemon = world.daemon(events_per_step=7)
    daemon.start()
    for number in range(200):
        world.event({"x1": "n/a", "x2": 1.0} if number % 2 else {"x1": 1.0, "x2": 1.0})
    world.event({"x1": 1.0, "x2": [1]})
    world.drain(daemon)
    first, second = said(world, "inputs_refused")
    assert (first["reason"], first["what"], first["at"]) == (
        "feature_type",
        "feature 'x1' is a string, not a number",
        "0-1",
    )
    assert "features.missing" in str(first["hint"])
    assert "features.declared" in str(first["hint"])
    assert "'x2'" in str(second["what"])


def test_a_refused_reply_is_told_without_its_label() -> None:
    """No label stands in a log; the dead letter has it, with the class that was meant."""
    world = world_of({})
    daemon = world.daemon()
    daemon.start()
    world.event({"x1": 1.0, "x2": 1.0})
    world.drain(daemon)
    for _ in range(5):
        world.reply("0-0", "YES, a secret")
    world.drain(daemon)
    [line] = said(world, "inputs_refused")
    assert line["topic"] == world.topics.labels
    assert "labels.classes" in str(line["hint"])
    assert "secret" not in str(line)


def refused_at(at: str, detail: str, reason: Reason = Reason.FEATURE_TYPE) -> Refused:
    return Refused("events", at, Refusal(reason, detail))


def test_an_episode_ends_after_a_while() -> None:
    """A thousand inputs without a refusal of its kind: then the next is told again."""
    episodes, refused = RefusalEpisodes(), refused_at("0-0", "feature 'x' is a string, not a number")
    told = [(refused, refused.refusal.detail)]
    assert episodes.update(10, [refused, refused], "x") == told
    assert episodes.update(1_000, [refused], "x") == []
    assert episodes.update(1_000, [], "x") == []
    assert episodes.update(1, [refused], "x") == told


def test_names_that_a_producer_makes_up_stand_in_no_log() -> None:
    """A feature outside the schema is told by its reason alone, once for all of them."""
    episodes = RefusalEpisodes()
    for number in range(1_000):
        strange = refused_at(f"0-{number}", f"feature 'y{number}' is not in the schema", Reason.FEATURE_UNKNOWN)
        assert episodes.update(1, [strange], "x") == ([] if number else [(strange, "")])
    sly = refused_at("0-0", "feature 'x' is secret' is not in the schema", Reason.NULL_FEATURE)
    assert episodes.update(1, [sly], ["y"]) == [(sly, "")]


def test_refusals_without_a_feature_are_told_by_their_reason() -> None:
    """The explanation of broken JSON has a place in it, another one each time."""
    episodes = RefusalEpisodes()
    broken = [refused_at(f"0-{number}", f"malformed (byte {number})", Reason.NOT_JSON) for number in range(5)]
    assert episodes.update(5, broken, "x") == [(broken[0], "")]


@pytest.mark.parametrize("reason", Reason)
def test_every_reason_has_a_hint(reason: Reason) -> None:
    """It says what to do, in one line."""
    hint = RefusalEpisodes.hint(reason)
    assert hint
    assert "\n" not in hint
