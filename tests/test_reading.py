"""Recorded streams: the same data gives the same rows in every format; what cannot be read is one line."""

from __future__ import annotations

import gzip
import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyarrow import parquet

from streamal.errors import ConfigError
from streamal.replay import Stream, read_stream

ROWS: list[dict[str, Any]] = [
    {"when": 10.0, "size": 1.5, "count": 3, "colour": "red", "late": 12.0, "y": "a"},
    {"when": 11.0, "size": None, "count": 4, "colour": "blue", "late": 20.0, "y": "b"},
    {"when": 12.0, "size": -2.0, "count": 5, "colour": None, "late": None, "y": "a"},
]


def write_csv(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    lines = [",".join(rows[0]), *(",".join("" if v is None else str(v) for v in row.values()) for row in rows)]
    path.write_text("\n".join(lines) + "\n")


def write_csv_gz(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    plain = path.with_suffix("")
    write_csv(plain, rows)
    path.write_bytes(gzip.compress(plain.read_bytes()))


def write_jsonl(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def write_jsonl_gz(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    path.write_bytes(gzip.compress("\n\n".join(json.dumps(row) for row in rows).encode()))


def write_parquet(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    parquet.write_table(pa.Table.from_pylist(list(rows)), path)


WRITERS: dict[str, Callable[[Path, Sequence[dict[str, Any]]], None]] = {
    ".csv": write_csv,
    ".csv.gz": write_csv_gz,
    ".jsonl": write_jsonl,
    ".jsonl.gz": write_jsonl_gz,
    ".parquet": write_parquet,
}


def written(directory: Path, ending: str, rows: Sequence[dict[str, Any]] = ROWS) -> str:
    path = directory / f"stream{ending}"
    WRITERS[ending](path, rows)
    return str(path)


@pytest.mark.parametrize("ending", WRITERS)
def test_every_format_gives_the_same_rows(tmp_path: Path, ending: str) -> None:
    """Numbers are numbers, strings strings, blanks missing features, times and label times seconds."""
    stream = read_stream(written(tmp_path, ending), "y", time="when", label_time="late")
    assert [tuple(row) for row in stream.rows] == [
        ({"size": 1.5, "count": 3.0, "colour": "red"}, "a", 10.0, 12.0),
        ({"count": 4.0, "colour": "blue"}, "b", 11.0, 20.0),
        ({"size": -2.0, "count": 5.0}, "a", 12.0, None),
    ]
    assert stream.kinds == {"size": "number", "count": "number", "colour": "string"}
    assert stream.classes == ("a", "b")


@pytest.mark.parametrize("ending", [".jsonl", ".parquet"])
def test_truth_values_are_booleans(tmp_path: Path, ending: str) -> None:
    """A column of true and false is of its own kind; a label of that kind is spelt in lower case."""
    stream = read_stream(written(tmp_path, ending, [{"b": True, "y": True}, {"b": None, "y": False}]), "y")
    assert stream.kinds == {"b": "boolean"}
    assert [(row.features, row.label) for row in stream.rows] == [({"b": True}, "true"), ({}, "false")]


@pytest.mark.parametrize(
    ("labels", "classes"), [([1, 2], ("1", "2")), ([1.0, 2.0], ("1", "2")), (["x", "y"], ("x", "y"))]
)
def test_labels_are_text(tmp_path: Path, labels: list[object], classes: tuple[str, ...]) -> None:
    """Whole numbers are spelt without a point, as a reply would spell them."""
    rows: list[dict[str, Any]] = [{"x": 1.0, "y": label} for label in labels]
    assert read_stream(written(tmp_path, ".jsonl", rows), "y").classes == classes
    assert read_stream(written(tmp_path, ".parquet", rows), "y").classes == classes


def test_a_mixed_column_is_of_strings(tmp_path: Path) -> None:
    """One word among the numbers makes the column categorical, every value as it was written."""
    stream = read_stream(written(tmp_path, ".csv", [{"x": 1, "y": "a"}, {"x": "two", "y": "b"}]), "y")
    assert stream.kinds == {"x": "string"}
    assert [row.features["x"] for row in stream.rows] == ["1", "two"]


def test_long_strings_are_texts(tmp_path: Path) -> None:
    """A column with more than five words in the mean is free text, for the default pipeline to split."""
    rows = [{"t": "one two three four five six seven", "y": "a"}] * 2
    assert read_stream(written(tmp_path, ".csv", rows), "y").kinds == {"t": "text"}


def test_nan_is_a_blank(tmp_path: Path) -> None:
    """Parquet from a data frame says NaN where it means nothing: the column stays one of numbers."""
    stream = read_stream(written(tmp_path, ".parquet", [{"x": math.nan, "y": "a"}, {"x": 2.0, "y": "b"}]), "y")
    assert stream.kinds == {"x": "number"}
    assert [row.features for row in stream.rows] == [{}, {"x": 2.0}]


def test_nested_events_are_flattened(tmp_path: Path) -> None:
    """The form of the topic events, with a label beside the features, is understood."""
    rows: list[dict[str, Any]] = [{"features": {"x": 1.0}, "y": "a"}, {"features": {"x": 2.0}, "y": "b"}]
    assert [row.features for row in read_stream(written(tmp_path, ".jsonl", rows), "y").rows] == [
        {"x": 1.0},
        {"x": 2.0},
    ]


def test_a_byte_order_mark_is_not_part_of_a_name(tmp_path: Path) -> None:
    """Spreadsheets write one at the start of a CSV file."""
    path = tmp_path / "s.csv"
    path.write_bytes(b"\xef\xbb\xbfy,x\na,1\n")
    assert read_stream(str(path), "y").kinds == {"x": "number"}


def test_times_may_be_iso_and_never_decrease(tmp_path: Path) -> None:
    """ISO 8601, in UTC unless it says otherwise; rows out of order are sorted, and that is said."""
    times = ["2020-01-01T00:00:10", "2020-01-01T00:00:05Z", "2020-01-01T02:00:20+02:00"]
    rows = [{"t": time, "x": 1, "y": "a"} for time in times]
    start = 1_577_836_800.0
    found = read_stream(written(tmp_path, ".csv", rows), "y", time="t")
    assert [row.time for row in found.rows] == [start + 5, start + 10, start + 20]
    assert found.account.count("sorted") == 1


def test_without_times_one_event_comes_each_second(tmp_path: Path) -> None:
    """The stream's clock then counts rows."""
    assert [row.time for row in read_stream(written(tmp_path, ".csv"), "y").rows] == [0.0, 1.0, 2.0]


def test_columns_can_be_dropped_and_rows_limited(tmp_path: Path) -> None:
    """--drop takes features away, --limit all but the first rows."""
    stream = read_stream(written(tmp_path, ".csv"), "y", drop=["when", "late", "size"], limit=2)
    assert stream.kinds == {"count": "number", "colour": "string"}
    assert len(stream.rows) == 2


def test_rows_without_a_label_are_left_out(tmp_path: Path) -> None:
    """Nobody could say whether their prediction was right."""
    rows: list[dict[str, Any]] = [{"x": 1, "y": "a"}, {"x": 2, "y": None}, {"x": 3, "y": "b"}]
    assert [row.features["x"] for row in read_stream(written(tmp_path, ".csv", rows), "y").rows] == [1.0, 3.0]


@pytest.mark.parametrize(("name", "rows", "classes"), [("Phishing", 1_250, 2), ("ImageSegments", 2_310, 7)])
def test_the_data_sets_of_river_can_be_read(name: str, rows: int, classes: int) -> None:
    """``river:NAME`` needs no file; the target goes under the label's name."""
    stream: Stream = read_stream(f"river:{name}", "target")
    assert (len(stream.rows), len(stream.classes)) == (rows, classes)
    assert "target" not in stream.kinds
    assert set(stream.kinds.values()) == {"number"}


@pytest.mark.parametrize(
    ("name", "content", "label", "told"),
    [
        ("gone.csv", None, "y", "no such file"),
        ("s.xlsx", b"x", "y", r"must end in \.csv"),
        ("s.csv", b"x,y\n1,a\n", "z", "no column 'z', but x, y"),
        ("s.csv", b"x,y\n", "y", "no rows"),
        ("s.csv", b"", "y", "no rows"),
        ("s.csv", b"x,y\n1,\n2,\n", "y", "blank in every row"),
        ("s.csv", b"x,y\n1,a\n2,b,c\n", "y", "line 3 has more fields than the header"),
        ("s.csv", b"x,y\n\x81,a\n", "y", "--encoding"),
        ("s.csv.gz", b"no gzip", "y", "gzip"),
        ("s.csv.gz", gzip.compress(b"x,y\n" + bytes(range(65, 90)) * 99, mtime=0)[:40], "y", "ended before|decompress"),
        ("s.csv.gz", gzip.compress(b"x,y\n1,a\n", mtime=0)[:10] + b"\xff" * 20, "y", "decompress"),
        ("s.jsonl", b'{"x": \n', "y", "line 1: Input data was truncated"),
        ("s.jsonl", b"[1]\n", "y", "row 1: every row must be a JSON object"),
        ("s.jsonl", b"[" * 100_000, "y", "line 1"),
        ("s.parquet", b"PAR1", "y", "s.parquet"),
        ("river:Nothing", None, "y", "try river:Phishing"),
        ("river:Phishing", None, "https", "has a feature of that name"),
    ],
)
def test_what_cannot_be_read_is_one_line(
    tmp_path: Path, name: str, content: bytes | None, label: str, told: str
) -> None:
    """A ConfigError that names the source and what is wrong with it, whatever is in the file."""
    if content is not None:
        (tmp_path / name).write_bytes(content)
    source = name if name.startswith("river:") else str(tmp_path / name)
    with pytest.raises(ConfigError, match=told) as raised:
        read_stream(source, label)
    assert name in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(("option", "column"), [("time", "colour"), ("label_time", "colour"), ("time", "nope")])
def test_a_column_that_holds_no_times_is_named(tmp_path: Path, option: str, column: str) -> None:
    """The line names the column, and the row where there is one."""
    with pytest.raises(ConfigError, match=column):
        read_stream(written(tmp_path, ".csv"), "y", **{option: column})  # type: ignore[arg-type]


def test_nan_is_a_blank_and_a_huge_integer_no_number(tmp_path: Path) -> None:
    """A cell that says NaN does not turn a column of numbers into strings, and nothing overflows."""
    (tmp_path / "s.csv").write_text("x,y\n1,a\nNaN,b\n3,a\n")
    stream = read_stream(str(tmp_path / "s.csv"), "y")
    assert stream.kinds == {"x": "number"}
    assert [row.features for row in stream.rows] == [{"x": 1.0}, {}, {"x": 3.0}]
    (tmp_path / "s.jsonl").write_text('{"x": 1%s, "y": "a"}\n' % ("0" * 400))
    with pytest.raises(ConfigError, match="line 1: feature 'x' is a number beyond any double"):
        read_stream(str(tmp_path / "s.jsonl"), "y")


def test_a_stream_from_before_1970_begins_at_0(tmp_path: Path) -> None:
    """The daemon's clock knows no negative times, so the whole stream is shifted; distances stay."""
    (tmp_path / "s.csv").write_text("t,l,x,y\n-100,-90,1,a\n-40,0,2,b\n")
    stream = read_stream(str(tmp_path / "s.csv"), "y", time="t", label_time="l")
    assert [(row.time, row.label_time) for row in stream.rows] == [(0.0, 10.0), (60.0, 100.0)]
