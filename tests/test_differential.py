"""JSON lines mean the same in a file and live: the reader of recordings and the daemon agree on every record."""

from __future__ import annotations

import json
from pathlib import Path
from random import Random
from typing import Any

import pytest

from streamal.bootstrap import build
from streamal.bootstrap.rules import reading_rules, wire_rules
from streamal.config import Config
from streamal.core.codec.events import decode_event
from streamal.core.model.checks import synthetic_examples
from streamal.core.records import Event, Refusal
from streamal.core.schema import Schema
from streamal.recordings.reading import read_stream
from streamal.replay.replay import stream_config

RECORDS = 10_000
KINDS = {"temp": "number", "hum": "number", "wind": "string", "rain": "boolean", "note": "text", "e": "vector(2)"}
FITTING = {
    "temp": ["1", "-2.5", "0", "-0.0", "1e3", "123456789", "9007199254740993", "0.1"],
    "hum": ["50", "99.5", "1e-300", "7"],
    "wind": ['"north"', '"n/a"', '" - "', '""', '"\\u00e9"', '"1.5"'],
    "rain": ["true", "false"],
    "note": ['"some words"', '"NA"', '"n/a"', '"x"'],
    "e": ["[0.5, 1]", "[1, 2]", "[-0.0, 1e3]"],
}
ANY = [
    *("1", "-1.5", '"n/a"', '"N/A"', '"-"', '"text"', "true", "null", "NaN", "Infinity", "-Infinity", "1e999", "1e13"),
    *(
        "-1e308",
        "1" + 40 * "0",
        "1" + 400 * "0",
        5_000 * "9",
        "[1, 2]",
        "[1, 2, 3]",
        "[]",
        '["a"]',
        "[1, null]",
        "[1e13, 0]",
    ),
    *("[[1]]", '{"a": 1}', "{}", '"\\ud83d"', '"\\ud83d\\ude00"', "01", "'a'", "undefined", "[1e999, 1]", "[true, 1]"),
]
OTHERS = ["extra", "temp ", "Temp", "ü", "a.b", "long " * 60, "x1"]
WHOLE = [
    *("", "null", "[]", "{}", "7", '"text"', '{"features": []}', '{"features": {}, "label": "wet"}', "{", "[" * 3_000),
    *('{"features": {"temp": 1}, "label": "wet"', '{"label": "wet"}', '{"features": null, "label": "wet"}'),
]
CONFIGS: dict[str, dict[str, Any]] = {
    "nulls are refused": {"declared": KINDS},
    "nulls are missing": {"declared": KINDS, "null": "missing"},
    "texts are missing": {"declared": KINDS, "missing": ["n/a", "-"]},
    "unknown names are refused": {"declared": KINDS, "unknown": "refuse", "missing": ["N/A"]},
    "numbers alone": {"declared": {"temp": "number", "hum": "number"}},
    "numbers alone, texts are missing": {"declared": {"temp": "number", "hum": "number"}, "missing": ["n/a"]},
    "flat": {"declared": KINDS},
    "flat, texts are missing": {"declared": KINDS, "missing": ["n/a", "-"], "null": "missing"},
    "open": {"declared": {"temp": "number", "wind": "string"}, "open": True},
}


def line(rng: Random, layout: str = "nested") -> str:
    """Return a line, well-formed in most cases; its values fit the declared kinds in most cases too."""
    if rng.random() < 0.03:
        return rng.choice(WHOLE)
    features = [(name, rng.choice(values)) for name, values in FITTING.items() if rng.random() < 0.8]
    more = range(rng.choice((0, 0, 0, 0, 1, 2)))
    features += [(rng.choice([*KINDS, *OTHERS]), rng.choice(ANY)) for _ in more]
    rng.shuffle(features)
    inner = ", ".join(f"{json.dumps(name)}: {value}" for name, value in features)
    label = rng.choice(['"wet"', '"dry"'])
    if layout == "flat":
        return f'{{"label": {label}{inner and ", "}{inner}}}'
    fields = [f'"features": {{{inner}}}', f'"label": {label}']
    rng.shuffle(fields)
    return f"{{{', '.join(fields)}}}"


@pytest.mark.parametrize("records", [RECORDS // len(CONFIGS) + 1, pytest.param(RECORDS, marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", CONFIGS)
def test_a_line_means_the_same_in_a_file_and_live(directory: Path, name: str, records: int) -> None:
    """Of 10,000 generated records each is accepted by both with the same features and prediction, or by neither."""
    rng = Random(f"differential {name}")
    layout = "flat" if name.startswith("flat") else "nested"
    lines = [line(rng, layout) for _ in range(records)]
    (directory / "stream.jsonl").write_text("\n".join(text or "null" for text in lines) + "\n", newline="\n")
    config = Config.model_validate(
        {"features": CONFIGS[name], "labels": {"classes": ["dry", "wet"]}, "events": {"format": layout}}
    )
    features = config.features
    schema, wire = Schema(features.declared, features.unknown, features.open), wire_rules(config)
    live = {
        number: decode_event(0, number, (text or "null").encode(), wire, schema) for number, text in enumerate(lines)
    }
    stream = read_stream(directory / "stream.jsonl", "label", rules=reading_rules(config))
    read = {int(row.time): row.features for row in stream.rows}
    model = build(config).new_fold().learned.model
    for made_up, label in synthetic_examples(features.declared, ["dry", "wet"], 50, seed=1):
        model.learn(schema.select(made_up), label)
    refused = 0
    for number, event in live.items():
        if isinstance(event, Refusal):
            assert number not in read, (lines[number], event)
            refused += 1
        else:
            assert number in read, lines[number]
            assert read[number] == event.features, lines[number]
            again = Event(0, number, None, None, read[number])
            assert model.predict(schema.select(again.features)) == model.predict(schema.select(event.features))
    assert records * 0.05 < refused < records * 0.6
    assert stream.account.count("refused") == refused


@pytest.mark.parametrize("missing", [[], ["n/a", "-"]])
@pytest.mark.parametrize("layout", ["nested", "flat"])
def test_what_the_reader_hands_over_is_accepted_live(directory: Path, layout: str, missing: list[str]) -> None:
    """Without declared features too: a daemon that is configured as the replay is takes each row as it was read."""
    rng = Random(f"handed over {layout} {missing}")
    lines = [line(rng, layout) for _ in range(RECORDS // 10)]
    (directory / "stream.jsonl").write_text("\n".join(lines) + "\n", newline="\n")
    config = Config.model_validate({"features": {"missing": missing}, "events": {"format": layout}})
    stream = read_stream(directory / "stream.jsonl", "label", rules=reading_rules(config))
    config = stream_config(config, stream)
    features = config.features
    schema, wire = Schema(features.declared, features.unknown, features.open), wire_rules(config)
    assert stream.kinds.items() >= {"temp": "number", "hum": "number", "rain": "boolean", "e": "vector(2)"}.items()
    assert len(stream.rows) > RECORDS / 20
    for number, row in enumerate(stream.rows):
        body = row.features if layout == "flat" else {"features": row.features}
        event = decode_event(0, number, json.dumps(body).encode(), wire, schema)
        assert isinstance(event, Event) == bool(row.features), (row, event)  # of an empty row the account says so
        assert isinstance(event, Refusal) or event.features == row.features
    assert stream.account.count("no_features") >= sum(not row.features for row in stream.rows)
