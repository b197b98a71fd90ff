"""A line of JSON means the same in a file and live: what the reader keeps, a daemon accepts, with the same values."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest

from streamal.core.codec.events import decode_event
from streamal.core.codec.wire_rules import WireRules
from streamal.core.records import Event, Refusal
from streamal.core.schema import Schema
from streamal.recordings.account import Account
from streamal.recordings.reading import read_stream
from streamal.recordings.rules import ReadingRules

NUMBERS = ["1", "-2.5", "1e3", "0", "1.0", "7", "12345678901"]
TEXTS = ['"n"', '"west"', '" w "', '""', '"n/a"', '"NA"', '"1.5"', '"ü"', '"true"']
TRUTHS = ["true", "false"]
VECTORS = ["[1, 2]", "[0.5, -1]"]
ODD = [
    *("NaN", "Infinity", "-Infinity", "null", "1e999", "1" + "0" * 400, "1e13", "-1e15", "[]", "[1, 2, 3]", "[null]"),
    *('["a"]', '{"a": 1}', "{}", '"\\ud83d"', '"\\udc00x"', "tru", "01", "+1", ".5", '"', "[1, true]", "[[1]]", "'x'"),
    *("12345678901234567890123", "0x10", "[1e999, 1]", "[1e13, 1]", '"\\x"', "[NaN, 1]"),
]
FEATURES = {"temp": NUMBERS, "wind": TEXTS, "ok": TRUTHS, "vec": VECTORS}
DECLARED = {"temp": "number", "wind": "string", "ok": "boolean", "vec": "vector(2)"}


def lines(count: int, seed: int, odd_share: float, *, nested: bool) -> list[bytes]:
    """Return *count* made-up lines; some values are of another type, or no JSON at all."""
    coin = random.Random(seed)
    found = []
    for _ in range(count):
        fields = {}
        for name, values in FEATURES.items():
            draw = coin.random()
            if draw < odd_share:
                fields[name] = coin.choice(ODD)
            elif draw < 2 * odd_share:
                fields[name] = coin.choice(coin.choice(list(FEATURES.values())))
            elif draw < 0.95:
                fields[name] = coin.choice(values)
        if coin.random() < odd_share:
            fields[coin.choice(["more", "x" * 300])] = coin.choice([*ODD, "1", '"t"'])
        features = "{" + ", ".join(f'"{name}": {value}' for name, value in fields.items()) + "}"
        line = f'{{"features": {features}, "label": "a"}}' if nested else features[:-1] + ', "label": "a"}'
        line = line.replace("{, ", "{")
        found.append(line.encode()[:-1] if coin.random() < 0.002 else line.encode())
    found[3] += b"\xff"
    return found


def read(path: Path, rules: ReadingRules) -> tuple[list[dict[str, Any]], Account, dict[str, str]]:
    stream = read_stream(path, "label", rules=rules)
    return [row.features for row in stream.rows], stream.account, dict(stream.kinds)


def live(found: list[bytes], wire: WireRules, schema: Schema) -> tuple[list[dict[str, Any]], dict[str, int]]:
    """Return the features of the events that a daemon accepts, and its reasons for refusing the others."""
    kept, reasons = [], dict[str, int]()
    for offset, line in enumerate(found):
        event = decode_event(0, offset, line, wire, schema)
        if isinstance(event, Event):
            kept.append(event.features)
        else:
            assert isinstance(event, Refusal)
            reasons[event.reason.value] = reasons.get(event.reason.value, 0) + 1
    return kept, reasons


@pytest.mark.parametrize("missing", [(), ("n/a", "NA")], ids=["", "missing"])
@pytest.mark.parametrize("null", ["refuse", "missing"])
@pytest.mark.parametrize("unknown", ["drop", "refuse"])
def test_a_declared_schema_decides_alike(tmp_path: Path, unknown: Any, null: Any, missing: tuple[str, ...]) -> None:
    """Of 10,000 lines the same ones are accepted, as many are refused and counted, and every value is equal."""
    found = lines(10_000 // 8, len(unknown) + 10 * len(null) + 100 * len(missing), 0.03, nested=True)
    path = tmp_path / "s.jsonl"
    path.write_bytes(b"\n".join(found))
    wire = WireRules(null=null, missing=frozenset(missing))
    kept, account, _ = read(path, ReadingRules(declared=DECLARED, drops_undeclared=unknown == "drop", wire=wire))
    expected, reasons = live(found, wire, Schema(DECLARED, unknown))
    assert kept == expected
    assert account.count("refused") == sum(reasons.values()) > 100
    # of a line that breaks two rules, either may be the reason
    found_reasons = {each.reason: each.count for each in account.findings if each.kind == "refused"}
    assert sum(abs(found_reasons.get(reason, 0) - count) for reason, count in reasons.items()) < 30


@pytest.mark.parametrize("seed", range(4))
def test_the_schema_of_the_recording_decides_alike(tmp_path: Path, seed: int) -> None:
    """Where nothing is declared, a daemon with the kinds that the reader found accepts just what the reader kept."""
    found = lines(2_500, seed, 0.02, nested=bool(seed % 2))
    path = tmp_path / "s.jsonl"
    path.write_bytes(b"\n".join(found))
    kept, account, kinds = read(path, ReadingRules())
    assert {name: kinds[name] for name in DECLARED} == DECLARED
    assert account.rows == 2_500
    assert account.kept == len(kept) > 1_500
    wire = WireRules(null="missing")
    events = [json.dumps({"features": features}).encode() for features in kept]
    again, reasons = live(events, wire, Schema(kinds, "refuse"))
    assert [dict(features) for features in again] == [features for features in kept if features]
    assert set(reasons) <= {"features_empty"}


@pytest.mark.parametrize("value", ["NaN", "Infinity", "-Infinity", '"n/a"', '"1.5"', "[1]", '{"a": 1}', "true"])
def test_what_is_no_number_is_refused_in_a_column_of_numbers(tmp_path: Path, value: str) -> None:
    """Counted, with the line; and the column stays one of numbers."""
    path = tmp_path / "s.jsonl"
    path.write_text("".join(f'{{"x": {value if n == 7 else n}, "y": "{"ab"[n % 2]}"}}\n' for n in range(20)))
    stream = read_stream(path, "y")
    assert stream.kinds == {"x": "number"}
    assert [row.features["x"] for row in stream.rows] == [n for n in range(20) if n != 7]
    (finding,) = stream.account.findings
    assert (finding.kind, finding.count, finding.first[0].line) == ("refused", 1, 8)


def test_features_missing_are_missing_in_a_file_too(tmp_path: Path) -> None:
    """`features.missing` and --na name texts that stand for nothing."""
    path = tmp_path / "s.jsonl"
    path.write_text('{"x": "n/a", "z": 1, "y": "a"}\n{"x": 2, "z": "-", "y": "b"}\n{"x": 3, "z": 3, "y": "a"}\n')
    rules = ReadingRules(na=["-"], wire=WireRules(missing=frozenset({"n/a"})))
    stream = read_stream(path, "y", rules=rules)
    assert [row.features for row in stream.rows] == [{"z": 1.0}, {"x": 2.0}, {"x": 3.0, "z": 3.0}]
    assert stream.account.count("missing") == 2
