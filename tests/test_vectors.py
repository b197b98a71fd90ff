"""Vectors: lists of numbers of one fixed length, from the bytes of an event to the model."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import pytest
from pyarrow import parquet

from streamal.bootstrap import build
from streamal.bootstrap.transports import create_topics
from streamal.config import TopicsConfig, load_config
from streamal.core.codec.events import decode_event, decode_events
from streamal.core.codec.replies import decode_reply
from streamal.core.codec.wire_rules import WireRules
from streamal.core.records import Event, FeatureValue, NaturalLabel, Reason, Record, Refusal
from streamal.core.schema import Schema, infer_schema
from streamal.core.strategies.near_duplicates import Damper
from streamal.core.strategies.points import vectorise
from streamal.core.vectors import name_components
from streamal.edge.sqlite import SqliteTransport
from streamal.errors import ConfigError
from streamal.exchange.label_studio import request_task
from streamal.labeling.web.rendering import Template, render
from streamal.recordings.reading import Recorded, Stream
from streamal.replay.annotators import AnnotatorsRules
from streamal.replay.replay import Player, play
from tests import recorded
from tests.conftest import Cli
from tests.making import World, make_request

NESTED = WireRules(magnitude_max=100.0, vector_length_max=4, features_max=2, natural=True)
FLAT = replace(NESTED, format="flat")
VECTOR = Schema({"e": "vector(3)"})
MIXED = Schema({"e": "vector(3)", "x": "number", "s": "string"})


def record(features: str, rules: WireRules = NESTED, number: int = 0) -> Record:
    value = features if rules.format == "flat" else f'{{"features": {features}}}'
    return Record("events", 0, number, None, value.encode())


@pytest.mark.parametrize("rules", [NESTED, FLAT], ids=["nested", "flat"])
@pytest.mark.parametrize("schema", [None, VECTOR, MIXED, Schema({"e": "vector(3)", "x": "number"})])
def test_a_list_of_numbers_is_one_feature(rules: WireRules, schema: Schema | None) -> None:
    """Whole numbers and decimals alike, live and in a natural label."""
    for text, vector in (("[1, -2.5, 3e1]", [1.0, -2.5, 30.0]), ("[0, 0, 0]", [0.0, 0.0, 0.0])):
        found = decode_events([record(f'{{"e": {text}}}', rules)], rules, schema)
        assert [name_components(event.features) for event in found.accepted] == [name_components({"e": vector})]
        assert found.refused == []
        label = decode_reply(f'{{"features": {{"e": {text}}}, "label": "a"}}'.encode(), NESTED, schema)
        assert isinstance(label, NaturalLabel)
        assert label.features == {"e": vector}


@pytest.mark.parametrize(
    ("text", "reason", "said"),
    [
        ("[1, 2]", Reason.FEATURE_TYPE, "vector(2), not a vector(3)"),
        ("[1, 2, 3, 4]", Reason.FEATURE_TYPE, "vector(4), not a vector(3)"),
        ("[1, 2, 3, 4, 5]", Reason.BAD_FIELD, "has 5 numbers, 4 allowed (limits.vector_length)"),
        ("[]", Reason.BAD_FIELD, "empty list"),
        ('[1, 2, "3"]', Reason.BAD_FIELD, "is a list: a vector is a list of numbers"),
        ("[1, 2, null]", Reason.BAD_FIELD, "is a list: a vector is a list of numbers"),
        ("[1, 2, true]", Reason.BAD_FIELD, "is a list: a vector is a list of numbers"),
        ("[[1, 2, 3]]", Reason.BAD_FIELD, "is a list: a vector is a list of numbers"),
        ("[1, 2, 1e999]", Reason.NUMBER_OUT_OF_RANGE, "beyond any double"),
        ("[1, 2, 101]", Reason.NUMBER_OUT_OF_RANGE, "±100"),
        ("[1, 2, -101]", Reason.NUMBER_OUT_OF_RANGE, "±100"),
        ("7", Reason.FEATURE_TYPE, "is a number, not a vector(3)"),
        ('"a text"', Reason.FEATURE_TYPE, "is a string, not a vector(3)"),
    ],
)
@pytest.mark.parametrize("rules", [NESTED, FLAT], ids=["nested", "flat"])
@pytest.mark.parametrize("schema", [VECTOR, MIXED], ids=["vector", "mixed"])
def test_what_is_no_such_vector_is_refused_by_name(
    text: str, reason: Reason, said: str, rules: WireRules, schema: Schema
) -> None:
    """The dead letter names the field, and says what is wrong with it."""
    [(_, refusal)] = decode_events([record(f'{{"e": {text}}}', rules)], rules, schema).refused
    assert refusal.reason is reason
    assert "feature 'e'" in refusal.detail
    assert said in refusal.detail


def test_a_list_is_no_number_and_no_text() -> None:
    """Where the schema says otherwise the list is refused, or dropped where the name is unknown."""
    for kind in ("number", "string", "boolean", "text"):
        found = decode_event(0, 0, record('{"e": [1, 2]}').value, NESTED, Schema({"e": kind}))
        assert isinstance(found, Refusal)
        assert found == Refusal(Reason.FEATURE_TYPE, f"feature 'e' is a vector(2), not a {kind}")
    kept = decode_event(0, 0, record('{"e": [1, 2], "x": 1}').value, NESTED, Schema({"x": "number"}))
    assert isinstance(kept, Event)
    assert kept.features == {"x": 1.0}


def test_an_identifier_is_never_a_list() -> None:
    """In the flat format a list under the name of the id or the time refuses the event."""
    for name in ("id", "time"):
        found = decode_event(0, 0, f'{{"{name}": [1], "e": [1, 2, 3]}}'.encode(), FLAT, VECTOR)
        assert isinstance(found, Refusal)
        assert found.reason is Reason.BAD_FIELD


def test_a_schema_learns_the_length_with_the_name() -> None:
    """What was inferred accepts the same length, and no other."""
    kinds = infer_schema([{"e": [1.0, 2.0], "x": 1.0}, {"e": [3.0, 4.0]}], 10)
    assert kinds == {"e": "vector(2)", "x": "number"}
    assert Schema(kinds).mismatch({"e": [1.0, 2.0]}) is None
    assert Schema(kinds).mismatch({"e": [1.0, 2.0, 3.0]}) is not None


def test_a_vector_counts_as_one_feature() -> None:
    """``limits.features`` bounds names, ``limits.vector_length`` the numbers of each."""
    assert isinstance(decode_event(0, 0, record('{"e": [1, 2, 3], "f": [1, 2, 3]}').value, NESTED, None), Event)
    refused = decode_event(0, 0, record('{"e": [1], "f": [1], "g": [1]}').value, NESTED, None)
    assert isinstance(refused, Refusal)
    assert refused.reason is Reason.FEATURES_TOO_MANY


def test_the_model_gets_one_array() -> None:
    """Of the declared length; River's own models then meet named numbers."""
    selected = MIXED.select({"e": [1.0, 2.0, 3.0], "x": 4.0, "f": [1.0]})
    assert isinstance(selected["e"], np.ndarray)
    assert name_components(selected) == {"e[0]": 1.0, "e[1]": 2.0, "e[2]": 3.0, "x": 4.0}
    assert VECTOR.select({"e": [1.0]}) == {}


@pytest.mark.parametrize(
    ("declared", "said"),
    [
        ('"vector"', 'say how many numbers the vector has, for example "vector(384)"'),
        ('"vector(0)"', "must be one of number, string, boolean, text, or vector(384)"),
        ('"vector(5)"', "limits.vector_length is 4"),
        ('"integer"', "must be one of number, string, boolean, text, or vector(384)"),
    ],
)
def test_a_declaration_says_the_length(declared: str, said: str) -> None:
    """Within the limit; the error says how to write it."""
    with pytest.raises(ConfigError, match=r"features\.declared") as caught:
        load_config(None, [f"features.declared={{e={declared}}}", "limits.vector_length=4"])
    assert said in str(caught.value)


def test_a_declared_vector_is_a_kind_like_the_others() -> None:
    """As in the documents."""
    config = load_config(None, ['features.declared={embedding="vector(384)"}'])
    assert config.features.declared == {"embedding": "vector(384)"}


def test_json_lines_carry_vectors() -> None:
    """The longest vector of the default limits fits a record."""
    event = json.dumps({"features": {"e": [0.123456789] * 4_096}}).encode()
    assert isinstance(decode_event(0, 0, event, WireRules(), Schema({"e": "vector(4096)"})), Event)


def test_near_duplicates_are_told_by_the_distance_of_vectors() -> None:
    """The same vector is worth nothing, one as far away as the open requests are from each other nearly all."""
    open_: list[dict[str, FeatureValue]] = [{"e": [0.0, 0.0]}, {"e": [1.0, 0.0]}, {"e": [0.0, 4.0]}]
    damper = Damper(0.3, open_)
    assert damper.damp(0.8, {"e": [1.0, 0.0]}) == 0.0
    assert damper.damp(0.8, {"e": [9.0, 9.0]}) == pytest.approx(0.8)
    assert 0.0 < damper.damp(0.8, {"e": [1.1, 0.0]}) < damper.damp(0.8, {"e": [1.4, 0.0]}) < 0.8
    assert damper.damp(0.8, {"e": [1.0, 0.0, 0.0]}) < 0.8, "of another length: apart by one"


def test_past_events_with_vectors_are_points_too() -> None:
    """Equal vectors lie at one point; a long one becomes a few numbers, and distances stay about the same."""
    rng = np.random.default_rng(1)
    near, far = rng.normal(size=(2, 384))
    points = [np.array(list(vectorise({"e": list(v)})[0].values())) for v in (near, near, near + 0.01, far)]
    assert len(points[0]) < 64
    first, same, close, other = points
    assert (first == same).all()
    assert 0.0 < np.linalg.norm(first - close) < 1.0
    assert np.linalg.norm(first - other) == pytest.approx(np.linalg.norm(near - far), rel=0.5)
    assert vectorise({"e": [0.5, -2.0], "x": 1.0})[0].keys() == {"e[0]", "e[1]", "x"}


@pytest.mark.parametrize("strategy", ["density", "probabilistic", "cognitive", "auto", "randomised_variable"])
def test_strategies_that_look_back_cope_with_vectors(strategy: str) -> None:
    """As with any other feature."""
    parts = build(
        load_config(
            None,
            [
                'features.declared={e="vector(3)"}',
                'labels.classes=["a","b"]',
                f"sampling.strategy={strategy}",
                "sampling.damping=0.5",
                *(f"topics.{name}={name.replace('_', '-')}" for name in TopicsConfig.model_fields),
            ],
        )
    )
    world = World(parts.rules, parts.new_fold())
    for start in range(0, 200, 20):
        records = [record(f'{{"e": [{i % 7}, {i % 3}, {i * i % 5}]}}', number=i) for i in range(start, start + 20)]
        world.run(records, float(start))
    assert len(world.written["predictions"]) == 200
    assert 0 < len(world.written["requests"]) <= 40


def test_people_see_how_many_numbers_there_are() -> None:
    """The label page and a task of Label Studio show "3 numbers", an export the numbers themselves."""
    request = msgspec.structs.replace(make_request(0), features={"e": [1.0, 2.0, 3.0], "x": 1.0})
    assert render(request, Template())["table"] == [["e", "3 numbers"], ["x", "1"]]
    assert request_task(request, (), 0.5)["data"]["features"] == {"e": "3 numbers", "x": 1.0}


def vector_stream(count: int, length: int = 8) -> Stream:
    """Return unit vectors around two opposite directions."""
    rng = np.random.default_rng(3)
    rows = []
    for i in range(count):
        which = int(rng.integers(2))
        point = rng.normal(size=length) + (1.0 if which else -1.0)
        rows.append(Recorded({"e": (point / np.linalg.norm(point)).tolist()}, "ab"[which], float(i), None))
    return Stream("vectors", rows, {"e": f"vector({length})"}, ("a", "b"))


@pytest.mark.parametrize("declared", [True, False], ids=["declared", "inferred"])
def test_a_run_with_vectors_is_verified_and_exported(cli: Cli, directory: Path, declared: bool) -> None:
    """Requests, examples, the schema and the natural labels carry them; CSV as JSON text, Parquet as lists."""
    stream = vector_stream(150)
    text = '[labels]\nclasses = ["a", "b"]\n[budget]\nshare = 0.4\n'
    text += "[features]\ninfer_from = 5\n" + ('declared = { e = "vector(8)" }\n' if declared else "")
    (directory / "config.toml").write_text(text)
    config = load_config(directory / "config.toml", [])
    world = recorded.World(config)
    create_topics(config)
    topics = world.topics
    log = SqliteTransport("streamal.db", "streamal", "w", topics.events, topics.labels, synchronous="OFF")
    play(world.daemon(transport=log), Player(log, topics, stream, AnnotatorsRules()), world.clock, 5, lambda _: None)
    rows = recorded.rows_of(log, topics.training)
    log.close()
    assert ([row["features"] for row in rows if row["kind"] == "schema"] == [{"e": "vector(8)"}]) != declared
    examples = [row for row in rows if row["kind"] == "example"]
    assert len(examples) > 30
    assert "BROKEN" not in cli("verify").out
    cli("export", "--examples", "-o", "a.csv")
    cli("export", "--examples", "-o", "a.parquet")
    vectors = [row["features"]["e"] for row in examples]
    with Path("a.csv").open(newline="") as file:
        assert [json.loads(row["features.e"]) for row in csv.DictReader(file)] == vectors
    assert parquet.read_table("a.parquet")["features.e"].to_pylist() == vectors
    [card] = directory.glob("a.csv*.md")
    assert f"| `e` | {len(examples)} |" in card.read_text(), "features are counted, their values are not"


def test_a_step_in_which_every_vector_is_refused_goes_on() -> None:
    """There is nothing to predict then, and the dead letters are written."""
    topics = [f"topics.{name}={name.replace('_', '-')}" for name in TopicsConfig.model_fields]
    parts = build(load_config(None, ['features.declared={e="vector(3)"}', 'labels.classes=["a","b"]', *topics]))
    world = World(parts.rules, parts.new_fold())
    world.run([record('{"e": [1]}')], 0.0)
    assert (len(world.written["predictions"]), len(world.written["dead-letters"])) == (0, 1)
