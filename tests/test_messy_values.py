"""What has types keeps them: JSON, Parquet, data frames, dictionaries; nested values, vectors, broken Unicode."""

from __future__ import annotations

import csv
import io
import json
import math
import random
from collections.abc import Callable, Iterator
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet
from river import datasets, linear_model, preprocessing, tree

from streamal.config import Config
from streamal.errors import ConfigError
from streamal.recordings.reading import Stream, read_stream
from streamal.recordings.rules import ReadingRules
from streamal.replay import replay
from tests.conftest import Cli
from tests.messy import csv_text, json_text, weather, with_column, written
from tests.recorded import easy_stream

ROWS = weather(40)


def from_json(directory: Path, rows: list[dict[str, Any]]) -> Stream:
    return read_stream(written(directory, "s.jsonl", json_text(rows)), "label")


def from_parquet(directory: Path, rows: list[dict[str, Any]]) -> Stream:
    parquet.write_table(pa.Table.from_pylist(rows), directory / "s.parquet")
    return read_stream(directory / "s.parquet", "label")


def from_table(_: Path, rows: list[dict[str, Any]]) -> Stream:
    return read_stream(pa.Table.from_pylist(rows), "label")


def from_rows(_: Path, rows: list[dict[str, Any]]) -> Stream:
    return read_stream(iter(rows), "label")


SOURCES = [from_json, from_parquet, from_table, from_rows]
Source = Callable[[Path, list[dict[str, Any]]], Stream]


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize(
    ("values", "kind", "read"),
    [
        ([1, 2, None], "number", [1.0, 2.0, None]),
        ([1.5, 2, 3], "number", [1.5, 2.0, 3.0]),
        ([True, False, None], "boolean", [True, False, None]),
        (["1.5", "2", "3"], "string", ["1.5", "2", "3"]),
        (["01067", "10115", None], "string", ["01067", "10115", None]),
        (["true", "false", "x"], "string", ["true", "false", "x"]),
        ([[1, 2], [3.5, 4], None], "vector(2)", [[1.0, 2.0], [3.5, 4.0], None]),
        (["a b c d e f g"] * 3, "text", ["a b c d e f g"] * 3),
    ],
)
def test_a_typed_value_is_what_its_type_says(
    tmp_path: Path, source: Source, values: list[Any], kind: str, read: list[Any]
) -> None:
    """In every format that has types: a text of digits is a text."""
    rows = [{"x": value, "z": n, "label": "ab"[n % 2]} for n, value in enumerate(values)]
    stream = source(tmp_path, rows)
    assert stream.kinds["x"] == kind
    assert [row.features.get("x") for row in stream.rows] == read


@pytest.mark.parametrize("source", SOURCES)
def test_missing_is_guessed_only_where_a_text_may_be_anything(tmp_path: Path, source: Source) -> None:
    """NA is missing in a column of texts of Parquet or of a frame; in JSON and in Python it is the text that it is."""
    rows = with_column(ROWS, "wind", lambda n, row: "NA" if n == 3 else row["wind"])
    stream = source(tmp_path, with_column(rows, "label", lambda n, row: "n/a" if n == 5 else row["label"]))
    guesses = source in {from_parquet, from_table}
    assert stream.rows[3].features.get("wind") == (None if guesses else "NA")
    assert ("n/a" in stream.classes) is not guesses
    assert stream.account.count("no_label") == guesses


@pytest.mark.parametrize("source", [from_parquet, from_table])
def test_numbers_as_texts_are_named(tmp_path: Path, source: Source) -> None:
    """They stay texts, as the file says; the line tells how they become numbers."""
    (line,) = source(tmp_path, with_column(ROWS, "temp", lambda _, row: str(row["temp"]))).account.lines()
    assert "column 'temp': numbers as texts" in line
    assert "declare a number" in line


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize(
    ("value", "told"),
    [({"a": 1}, "is an object"), (["a", "b"], "a list"), ([[1.0]], "a list"), ([1.0, None], "a list")],
)
def test_a_nested_value_is_refused_as_live(tmp_path: Path, source: Source, value: Any, told: str) -> None:
    """Its rows are refused, and the field is named; of every row it is an error of one line."""
    rows = [{"x": value if n == 3 else None, "z": n, "label": "ab"[n % 2]} for n in range(10)]
    stream = source(tmp_path, rows)
    assert [row.features["z"] for row in stream.rows] == [n for n in range(10) if n != 3]
    (finding,) = [each for each in stream.account.findings if each.kind == "refused"]
    assert (finding.reason, finding.count, finding.first[0].row) == ("bad_field", 1, 4)
    assert "'x'" in finding.text
    assert told in finding.text
    with pytest.raises(ConfigError, match="'x'") as raised:
        source(tmp_path, with_column(rows, "x", lambda *_: value))
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("name", ["s.jsonl", "s.parquet"])
def test_flatten_makes_dotted_names(cli: Cli, directory: Path, name: str) -> None:
    """Of objects in objects too, and of the label."""
    rows = [
        {"sensor": {"temp": row["temp"], "more": {"humidity": row["humidity"]}}, "answer": {"name": row["label"]}}
        for row in weather(60)
    ]
    if name == "s.jsonl":
        written(directory, name, json_text(rows))
    else:
        parquet.write_table(pa.Table.from_pylist(rows), name)
    ended = cli("replay", name, "--label", "answer.name", "--flatten", "--json")
    assert ended.code == 0, ended.err
    stream = read_stream(name, "answer.name", rules=ReadingRules(flatten=True))
    assert stream.kinds == {"sensor.temp": "number", "sensor.more.humidity": "number"}
    assert stream.classes == ("dry", "wet")
    assert cli("replay", name, "--label", "answer", "--json").code == 2


def test_vectors_of_another_length_are_refused(tmp_path: Path) -> None:
    """The length that most have is that of the column."""
    rows = [{"v": [1.0] * (3 if n == 2 else 2), "label": "ab"[n % 2]} for n in range(9)]
    for source in SOURCES:
        stream = source(tmp_path, rows)
        assert (stream.kinds, len(stream.rows)) == ({"v": "vector(2)"}, 8)
        assert stream.account.count("refused") == 1


def test_binary_texts_of_parquet_are_texts(tmp_path: Path) -> None:
    """As a feature and as a label; bytes that are no UTF-8 are named with their column."""
    rows = [{"x": b"caf\xc3\xa9", "z": 1.0, "label": label} for label in (b"dry", b"wet", b"dry")]
    stream = from_parquet(tmp_path, rows)
    assert stream.classes == ("dry", "wet")
    assert stream.rows[0].features == {"x": "café", "z": 1.0}
    with pytest.raises(ConfigError, match="column 'x' holds what JSON has nothing for"):
        from_parquet(tmp_path, [{**row, "x": b"\xff\xfe"} for row in rows])


def test_half_of_a_surrogate_pair_refuses_its_row(tmp_path: Path, cli: Cli) -> None:
    """In JSON, in a dictionary, as a feature and as a label; no traceback."""
    lines = [r'{"x": "\ud83d", "label": "a"}', r'{"x": "\ud83d\ude00", "label": "b"}', r'{"x": "1", "label": "a"}']
    stream = read_stream(written(tmp_path, "s.jsonl", "\n".join(lines)), "label")
    assert [row.features["x"] for row in stream.rows] == ["\U0001f600", "1"]
    rows = [{"x": "\ud83d", "label": "a"}, {"x": "b", "label": "\udc00"}, {"x": "c", "label": "a"}]
    stream = read_stream(iter(rows), "label")
    assert [row.features["x"] for row in stream.rows] == ["c"]
    assert {each.reason: each.count for each in stream.account.findings} == {"not_utf8": 2}
    ended = cli("replay", written(tmp_path, "t.jsonl", lines[0]), "--label", "label")
    assert (ended.code, "line 1" in ended.line) == (2, True)


@pytest.mark.parametrize(
    ("text", "kept", "reason"),
    [
        ('{"x": 1, "label": "a"}\n{"x": \n{"x": 2, "label": "b"}\n', 2, "not_json"),
        ('{"x": 1, "label": "a"}\n[1]\n', 1, "not_an_object"),
        ('{"x": 1, "label": "a"}\n{"x": ' + "[" * 100_000 + "\n", 1, "too_deep"),
        ('{"x": 1, "label": "a"}\n{"x": 1e999, "label": "a"}\n', 1, "number_out_of_range"),
        ('{"x": 1, "label": "a"}\n{"x": 1, "label": {"a": 1}}\n', 1, "bad_field"),
        ('{"x": 1, "label": "a"}\n{"x": 1, "label": ["a"]}\n', 1, "bad_field"),
        ('{"x": 1, "label": "a"}\n{"x": "t", "label": "a"}\n{"x": 2, "label": "b"}\n', 2, "feature_type"),
    ],
)
def test_a_line_that_no_daemon_would_take_is_refused(tmp_path: Path, text: str, kept: int, reason: str) -> None:
    """With the reason of its dead letter, and the line."""
    stream = read_stream(written(tmp_path, "s.jsonl", text), "label")
    assert len(stream.rows) == kept
    (finding,) = stream.account.findings
    assert (finding.kind, finding.reason, finding.first[0].line) == ("refused", reason, 2)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le"])
@pytest.mark.parametrize("form", ["lines", "array"])
def test_json_in_any_unicode_encoding(tmp_path: Path, encoding: str, form: str) -> None:
    """Lines, or one array of objects."""
    rows = [{"x": 1, "label": "süß"}, {"x": 2, "label": "b"}]
    text = json_text(rows) if form == "lines" else json.dumps(rows, indent=1, ensure_ascii=False)
    name = "s.jsonl" if form == "lines" else "s.json"
    assert read_stream(written(tmp_path, name, text.encode(encoding)), "label").classes == ("b", "süß")


def test_json_in_another_encoding_is_asked_for(tmp_path: Path) -> None:
    """A daemon refuses such a line, so the reader does; --encoding reads it."""
    text = '{"x": 1, "label": "süß"}\n{"x": 2, "label": "b"}\n'.encode("cp1252")
    path = written(tmp_path, "s.jsonl", text)
    stream = read_stream(path, "label")
    assert (stream.classes, stream.account.count("refused")) == (("b",), 1)
    assert "--encoding" in stream.account.lines()[0]
    assert read_stream(path, "label", rules=ReadingRules(encoding="cp1252")).classes == ("b", "süß")


def test_what_stands_beside_the_features_is_none(tmp_path: Path) -> None:
    """The documented event with a label: id and time are no features, and may be the time all the same."""
    rows = [
        {"id": f"e{n}", "time": 1_700_000_000 + n, "features": {"temp": n, "wind": "N"}, "label": "ab"[n % 2]}
        for n in range(10)
    ]
    stream = from_json(tmp_path, rows)
    assert stream.kinds == {"temp": "number", "wind": "string"}
    assert "what stands beside 'features' is no feature: 'id', 'time'" in stream.account.lines()
    assert stream.columns["id"].role == "beside"
    timed = read_stream(tmp_path / "s.jsonl", "label", time="time")
    assert [row.time for row in timed.rows] == [row["time"] for row in rows]


def test_a_null_is_missing_where_nothing_is_declared(tmp_path: Path) -> None:
    """With declared features, it is what features.null says, as live."""
    path = written(tmp_path, "s.jsonl", '{"x": null, "z": 1, "label": "a"}\n{"x": 2, "z": 2, "label": "b"}\n')
    assert [row.features for row in read_stream(path, "label").rows] == [{"z": 1.0}, {"x": 2.0, "z": 2.0}]
    declared = read_stream(path, "label", rules=ReadingRules(declared={"x": "number", "z": "number"}))
    assert [row.features for row in declared.rows] == [{"x": 2.0, "z": 2.0}]
    assert declared.account.findings[0].reason == "null_feature"


# Parquet.


def test_a_directory_of_parquet_is_one_stream(cli: Cli, directory: Path) -> None:
    """File by file in the order of their names; what the names of directories say is a column."""
    for part in range(3):
        place = directory / "stream" / f"day={part + 1}"
        place.mkdir(parents=True)
        parquet.write_table(pa.Table.from_pylist(weather(60)[20 * part : 20 * part + 20]), place / "a.parquet")
        (directory / "stream" / "_SUCCESS").write_text("")
    stream = read_stream("stream", "label")
    assert [row.features["temp"] for row in stream.rows] == [row["temp"] for row in weather(60)]
    assert [row.features["day"] for row in stream.rows[::20]] == [1.0, 2.0, 3.0]
    assert cli("replay", "stream", "--label", "label", "--json").code == 0
    (directory / "empty").mkdir()
    assert "no .parquet file is in it" in cli("replay", "empty", "--label", "label").line


def test_parquet_reads_only_the_columns_that_are_used(tmp_path: Path) -> None:
    """A column of times that Python cannot hold, or of maps, hurts nobody who drops it or declares others."""
    odd = pa.array([[("k", 1)]] * 40, pa.map_(pa.string(), pa.int64()))
    table = pa.Table.from_pylist(ROWS).append_column("odd", odd).append_column("__index_level_0__", pa.array(range(40)))
    path = tmp_path / "s.parquet"
    parquet.write_table(table, path)
    assert read_stream(path, "label", drop=["odd"]).kinds.keys() == {"temp", "humidity", "wind"}
    rules = ReadingRules(declared={"temp": "number"}, drops_undeclared=True)
    stream = read_stream(path, "label", rules=rules)
    assert stream.kinds == {"temp": "number"}
    assert (stream.columns["odd"].role, stream.columns["__index_level_0__"].role) == ("undeclared", "index")
    with pytest.raises(ConfigError, match="'odd'"):
        read_stream(path, "label")


@pytest.mark.parametrize(
    ("array", "kind", "first"),
    [
        (pa.array([Decimal("1.25")] * 4), "number", 1.25),
        (pa.array(["a", "b", "a", None]).dictionary_encode(), "string", "a"),
        (pa.array([1, 2, 3, 4], pa.uint64()), "number", 1.0),
        (pa.array([math.nan, math.inf, 1.0, 2.0]), "number", None),
        (pa.array([timedelta(minutes=1)] * 4), "number", 60.0),
        (pa.array([time(12, 30)] * 4), "string", "12:30:00"),
        (pa.array([date(2024, 3, 1)] * 4), "string", "2024-03-01T00:00:00"),
        (pa.array([[1, 2]] * 4, pa.list_(pa.int32(), 2)), "vector(2)", [1.0, 2.0]),
        (pa.nulls(4), None, None),
    ],
    ids=["decimal", "dictionary", "unsigned", "NaN", "duration", "time", "date", "fixed list", "null"],
)
def test_types_of_parquet(tmp_path: Path, array: Any, kind: str | None, first: Any) -> None:
    """Each is a number, a text, a vector, or nothing at all."""
    table = pa.table({"x": array, "z": [1.0, 2.0, 3.0, 4.0], "label": ["a", "b", "a", "b"]})
    parquet.write_table(table, tmp_path / "s.parquet")
    stream = read_stream(tmp_path / "s.parquet", "label")
    assert stream.kinds.get("x") == kind
    assert stream.rows[0].features.get("x") == first


def test_a_name_that_stands_twice_in_parquet_is_refused(tmp_path: Path) -> None:
    """As in CSV."""
    table = pa.table([pa.array([1.0]), pa.array([2.0]), pa.array(["a"])], names=["x", "x", "label"])
    parquet.write_table(table, tmp_path / "s.parquet")
    with pytest.raises(ConfigError, match="two columns, 1 and 2, are called 'x'"):
        read_stream(tmp_path / "s.parquet", "label")
    with pytest.raises(ConfigError, match="'x' 2 times"):
        read_stream(table, "label")


# Python.


def test_python_values_are_what_json_would_hold(tmp_path: Path) -> None:
    """Scalars of NumPy, moments, bytes, NaN; what JSON has nothing for refuses its row."""
    rows = [
        {"a": np.float32(1.5), "v": np.array([1, 2]), "n": math.nan, "b": np.bool_(True), "label": np.str_("q")},
        {"a": 2, "v": (1, 2.5), "t": datetime.fromisoformat("2024-03-01T12:00"), "label": b"p"},
        {"a": Decimal("2.5"), "label": 1.0},
        {"a": 10**400, "label": "p"},
        {"a": object(), "label": "p"},
    ]
    stream = read_stream(iter(rows), "label")
    assert [row.features for row in stream.rows] == [
        {"a": 1.5, "v": [1.0, 2.0], "b": True},
        {"a": 2.0, "v": [1.0, 2.5], "t": "2024-03-01T12:00:00"},
        {"a": 2.5},
    ]
    assert stream.classes == ("1", "p", "q")
    assert {each.reason: each.count for each in stream.account.findings} == {"number_out_of_range": 1, "bad_field": 1}


def test_rows_of_texts_are_read_as_csv(tmp_path: Path) -> None:
    """What `csv.DictReader` gives has no types."""
    rows = with_column(ROWS, "temp", lambda n, row: "NA" if n == 4 else row["temp"])
    stream = read_stream(csv.DictReader(io.StringIO(csv_text(rows))), "label")
    assert stream.kinds == {"temp": "number", "humidity": "number", "wind": "string"}
    assert "temp" not in stream.rows[4].features


@pytest.mark.parametrize(
    ("source", "told"),
    [
        (5, "is no stream"),
        ({"a": 1}, "is no stream"),
        (b"s.csv", "is no stream"),
        ([1, 2], "row 1 is a int, not a dictionary"),
        ([], "no rows"),
        ([{"x": 1}], "there is no column 'label', but x"),
        ([({"label": 1}, "a")], "has a feature of that name"),
    ],
)
def test_what_is_no_stream_is_one_line(source: Any, told: str) -> None:
    """The type, or the row, is named."""
    with pytest.raises(ConfigError, match=told):
        read_stream(source, "label")


def streams() -> Iterator[Any]:
    rows = [{**row.features, "label": row.label} for row in easy_stream(200).rows]
    yield iter(rows)
    yield rows
    yield pa.Table.from_pylist(rows)
    yield ((row.features, row.label) for row in easy_stream(200).rows)


def test_a_frame_and_rows_are_streams_of_replay() -> None:
    """All of them give the very same replay."""
    expected = replay(easy_stream(200), Config())
    for source in streams():
        assert replay(source, label="label").correct == expected.correct
    with pytest.raises(ConfigError, match="which column of the stream is the label"):
        replay(iter([{"x": 1}]))


def test_a_model_of_river_is_one_of_replay() -> None:
    """An untrained copy of it learns; the object itself stays as it is. It need not be what pickle takes."""
    given = preprocessing.StandardScaler() | linear_model.LogisticRegression()
    config = Config.model_validate(
        {"model": {"pipeline": [{"use": "preprocessing.StandardScaler"}, {"use": "linear_model.LogisticRegression"}]}}
    )
    assert replay(easy_stream(200), model=given).correct == replay(easy_stream(200), config).correct
    assert given["LogisticRegression"].weights == {}
    assert replay(datasets.Phishing().take(100), label="target", model=tree.HoeffdingTreeClassifier()).events == 100
    for wrong, told in ((linear_model.LinearRegression(), "must be a classifier"), (5, "is a int, not a classifier")):
        with pytest.raises(ConfigError, match=told):
            replay(easy_stream(20), model=wrong)  # type: ignore[arg-type]


PARTS = [
    *(
        "1",
        "2.5",
        "NA",
        "",
        "a",
        '"',
        '""',
        ",",
        ";",
        "\n",
        "\r\n",
        "\t",
        "é",
        "true",
        "2024-03-01",
        "1e400",
        "inf",
        "#",
    ),
    *(
        "sep=;",
        "label",
        "x",
        "{",
        "}",
        "[",
        "]",
        ":",
        "null",
        "NaN",
        '"label"',
        "\x00",
        "\ufeff",
        "features",
        "\\ud800",
    ),
    *("1709251200", "1709251200000", "99999999999999999999", "20240301", "-5e300", "2e-320", "-", "'", "nan"),
]


@pytest.mark.parametrize("name", ["s.csv", "s.tsv", "s.jsonl", "s.json", "s.parquet"])
def test_no_file_makes_a_traceback(tmp_path: Path, name: str) -> None:
    """Whatever is in it: rows, or a ConfigError of one line."""
    coin = random.Random(name)
    for _ in range(150):
        body = "".join(coin.choice(PARTS) for _ in range(coin.randrange(60)))
        text = ("x,time,label\n" if coin.random() < 0.7 and name != "s.jsonl" else "") + body
        path = written(tmp_path, name, text.encode(coin.choice(["utf-8", "utf-16", "cp1252"]), "ignore"))
        rules = coin.choice([ReadingRules(), ReadingRules(declared={"x": "number"}, drops_undeclared=True)])
        time, label_time = coin.choice([(None, None), ("time", None), ("time", "time")])
        try:
            read_stream(path, "label", time, label_time, rules=rules)
            told = ""
        except ConfigError as error:
            told = str(error)
        assert "\n" not in told


def test_one_column_may_be_both_times(tmp_path: Path) -> None:
    """The label is then known with its event."""
    path = written(tmp_path, "s.csv", "x,t,label\n1,5,a\n2,6,b\n")
    rows = read_stream(path, "label", time="t", label_time="t").rows
    assert [(row.time, row.label_time) for row in rows] == [(5.0, 5.0), (6.0, 6.0)]


def test_a_table_of_short_rows_alone_is_one_line(tmp_path: Path) -> None:
    """Nothing is left of it."""
    with pytest.raises(ConfigError, match="1 of 1 rows are shorter than the header"):
        read_stream(written(tmp_path, "s.csv", "x,z,label\n1\n"), "label")


@pytest.mark.parametrize("source", SOURCES)
def test_long_numbers_are_classes_of_their_own(tmp_path: Path, source: Source) -> None:
    """2**53 and 2**53 + 1 are one float, and two classes."""
    rows = with_column(weather(20), "label", lambda number, _: 2**53 + number % 2)
    assert source(tmp_path, rows).classes == ("9007199254740992", "9007199254740993")


def test_a_column_that_is_nearly_named_is_proposed(tmp_path: Path) -> None:
    """Quotes of the shell, capitals and characters without a width are overlooked."""
    path = written(tmp_path, "s.csv", csv_text(weather(20)).replace("label", "\u200bLabel", 1))
    with pytest.raises(ConfigError, match=r"did you mean '.u200bLabel'"):
        read_stream(path, "label")


def test_a_bad_element_of_an_array_is_refused_alone(tmp_path: Path) -> None:
    """The other elements are rows."""
    rows: list[Any] = [*weather(20), 5, [1, 2]]
    stream = read_stream(written(tmp_path, "s.json", json.dumps(rows)), "label")
    assert (len(stream.rows), stream.account.count("refused")) == (20, 2)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (
            '[{"a": 1, "label": "x"},\n\n{"a": NaN, "label": "x"}]',
            "line 3: the JSON array is malformed: .*NaN is no JSON",
        ),
        ('[{"a": 1, "label": "x"},\n]', "line 2: the JSON array is malformed: .*trailing comma"),
        ('[{"a": 1, "label": "x"},\n{"a": 1', "line 2: the JSON array is malformed: .*truncated"),
        ('{\n"a": 1,\n"label": "x"}\n', "line 1: an object takes several lines: write each object in one line"),
        ("{}\n", "there is no column 'label', but none at all"),
    ],
)
def test_json_of_another_form_says_what_is_wrong(tmp_path: Path, text: str, told: str) -> None:
    """Where it is, too: an array of a thousand lines is no help."""
    with pytest.raises(ConfigError, match=told):
        read_stream(written(tmp_path, "s.json", text), "label")


def test_an_index_in_json_is_said(tmp_path: Path) -> None:
    """What pandas writes as a field of its own is left out, and not silently."""
    stream = from_json(tmp_path, with_column(weather(20), "Unnamed: 0", lambda number, _: number))
    assert stream.account.lines() == ["field 'Unnamed: 0' is a row number without a name: left out"]


@pytest.mark.parametrize(("text", "is_said"), [("{}.5", True), ("0{}", False), ("N{}", False)])
def test_numbers_in_quotes_are_named_in_json_too(tmp_path: Path, text: str, is_said: bool) -> None:
    """A daemon takes "19.5" for a category; a code stays one without a word."""
    lines = from_json(tmp_path, with_column(weather(20), "x", lambda number, _: text.format(number))).account.lines()
    said = "feature 'x': numbers as texts, such as '0.5', stay texts: send them without quotes"
    assert lines == ([said] if is_said else [])
