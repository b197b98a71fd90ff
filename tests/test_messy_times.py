"""Times as files have them: units are told apart, disorder is sorted, and one wild time is not believed."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyarrow import parquet

from streamal.errors import ConfigError
from streamal.recordings.reading import Stream, read_stream
from tests.conftest import Cli
from tests.messy import csv_text, weather, with_column, written

START = datetime(2024, 3, 1, tzinfo=UTC)
STEP = timedelta(hours=3)
ROWS = weather(40)


def moment(number: int) -> datetime:
    return START + number * STEP


def seconds(number: int) -> float:
    return moment(number).timestamp()


def read(directory: Path, times: list[Any], rows: int = 40) -> Stream:
    text = csv_text(with_column(ROWS[:rows], "when", lambda number, _: times[number]))
    return read_stream(written(directory, "s.csv", text), "label", time="when")


WRITTEN = {
    "seconds": lambda n: f"{seconds(n):.0f}",
    "seconds with decimals": lambda n: f"{seconds(n):.3f}",
    "milliseconds": lambda n: f"{seconds(n) * 1e3:.0f}",
    "microseconds": lambda n: f"{seconds(n) * 1e6:.0f}",
    "nanoseconds": lambda n: f"{int(seconds(n)) * 10**9}",
    "ISO": lambda n: moment(n).isoformat(),
    "ISO without a zone": lambda n: moment(n).replace(tzinfo=None).isoformat(),
    "ISO with a blank": lambda n: moment(n).strftime("%Y-%m-%d %H:%M:%S"),
    "ISO with Z": lambda n: moment(n).strftime("%Y-%m-%dT%H:%M:%SZ"),
    "ISO with UTC": lambda n: moment(n).strftime("%Y-%m-%d %H:%M:%S UTC"),
    "ISO with an offset": lambda n: (moment(n) + timedelta(hours=2)).strftime("%Y-%m-%dT%H:%M:%S+02:00"),
    "ISO with a short offset": lambda n: (moment(n) + timedelta(hours=2)).strftime("%Y-%m-%d %H:%M:%S +0200"),
    "ISO without separators": lambda n: moment(n).strftime("%Y%m%dT%H%M%S"),
    "minutes": lambda n: moment(n).strftime("%Y-%m-%d %H:%M"),
    "slashes": lambda n: moment(n).strftime("%Y/%m/%d %H:%M"),
    "digits": lambda n: moment(n).strftime("%Y%m%d%H%M%S"),
    "digits to the minute": lambda n: moment(n).strftime("%Y%m%d%H%M"),
    "week dates": lambda n: moment(8 * n).strftime("%G-W%V-%u"),
    "ordinal dates": lambda n: moment(8 * n).strftime("%Y-%j"),
    "dates": lambda n: moment(8 * n).strftime("%Y-%m-%d"),
    "dates of digits": lambda n: moment(8 * n).strftime("%Y%m%d"),
}


@pytest.mark.parametrize("how", WRITTEN)
def test_a_moment_is_the_same_however_it_is_written(tmp_path: Path, how: str) -> None:
    """In seconds since 1970."""
    stream = read(tmp_path, [WRITTEN[how](number) for number in range(40)])
    days = "date" in how
    assert [row.time for row in stream.rows] == [seconds(8 * n if days else n) for n in range(40)]
    assert not any(finding.is_loss for finding in stream.account.findings)


@pytest.mark.parametrize("how", ["milliseconds", "microseconds", "nanoseconds", "digits", "dates of digits"])
def test_a_unit_that_was_guessed_is_said(tmp_path: Path, how: str) -> None:
    """One line for the column."""
    (line,) = read(tmp_path, [WRITTEN[how](number) for number in range(40)]).account.lines()
    assert line.startswith("column 'when' is read ")


def test_times_in_another_unit_give_the_same_replay(cli: Cli, directory: Path) -> None:
    """Seconds or milliseconds, of events and of labels that come a day later."""
    found = []
    for unit in (1, 1000):
        rows = [
            {"when": int(seconds(n)) * unit, "known": int(seconds(n + 8)) * unit, **row}
            for n, row in enumerate(weather(200))
        ]
        written(directory, "s.csv", csv_text(rows))
        ended = cli("replay", "s.csv", "--label", "label", "--time", "when", "--label-time", "known", "--json")
        found.append({k: v for k, v in json.loads(ended.out).items() if k not in {"events_per_second", "account"}})
    assert found[0] == found[1]
    assert found[0]["labels"] > 10


@pytest.mark.parametrize(
    "numbers", [[0, 1, 2, 3, 4], [0, 1, 2.5, 3, 1e6], [86_400 * n for n in range(5)]], ids=["count", "wide", "days"]
)
def test_a_count_that_begins_at_0_is_in_seconds(tmp_path: Path, numbers: list[float]) -> None:
    """A stream may have a clock of its own."""
    assert [row.time for row in read(tmp_path, numbers, 5).rows] == numbers


@pytest.mark.parametrize("order", ["newest first", "shuffled", "one late"])
def test_rows_out_of_order_are_sorted_and_that_is_said(tmp_path: Path, order: str) -> None:
    """Each row keeps its own time, features and label."""
    numbers = {"newest first": range(39, -1, -1), "shuffled": [n * 7 % 40 for n in range(40)]}
    order_of = list(numbers.get(order, [*range(1, 20), 0, *range(20, 40)]))
    rows = with_column(ROWS, "when", lambda number, _: seconds(number))
    path = written(tmp_path, "s.csv", csv_text([rows[number] for number in order_of]))
    stream = read_stream(path, "label", time="when")
    assert [(row.features["temp"], row.time) for row in stream.rows] == [(r["temp"], r["when"]) for r in rows]
    assert stream.account.count("sorted") == {"newest first": 39, "one late": 1}.get(
        order, stream.account.count("sorted")
    )
    assert any("sorted by their times" in line for line in stream.account.lines())


def test_of_a_file_that_is_newest_first_equal_times_turn_round_too(tmp_path: Path) -> None:
    """Of two rows of one second the lower one came first."""
    rows = [{"x": n, "when": 100 - n // 2, "label": "ab"[n % 2]} for n in range(10)]
    stream = read_stream(written(tmp_path, "s.csv", csv_text(rows)), "label", time="when")
    assert [row.features["x"] for row in stream.rows] == list(range(9, -1, -1))


@pytest.mark.parametrize("wild", [0, 253_370_764_800, -5e9, 1.7e12], ids=["1970", "year 9999", "year 1811", "ms"])
def test_one_far_off_time_is_named_and_not_believed(tmp_path: Path, wild: float) -> None:
    """The row stays where it is, as late as the row before it."""
    times = [wild if number == 20 else seconds(number) for number in range(40)]
    stream = read(tmp_path, times)
    assert [row.time for row in stream.rows] == [seconds(19 if number == 20 else number) for number in range(40)]
    assert stream.account.count("time") == 1
    assert any("line 22, row 21" in line and "not believed" in line for line in stream.account.lines())


def test_a_pause_is_no_error(tmp_path: Path) -> None:
    """Nine rows of a pilot a year earlier than the others are believed."""
    times = [seconds(number) - (31_536_000 if number < 9 else 0) for number in range(40)]
    stream = read(tmp_path, times)
    assert [row.time for row in stream.rows] == times
    assert stream.account.findings == ()


@pytest.mark.parametrize(
    "times",
    [
        [seconds(n) * (1000 if n % 5 == 0 else 1) for n in range(40)],
        [0 if n % 8 == 0 else seconds(n) for n in range(40)],
        [moment(n).isoformat() if n % 2 else seconds(n) for n in range(40)],
    ],
    ids=["units", "zeros", "kinds"],
)
def test_times_of_two_kinds_are_refused(tmp_path: Path, times: list[Any]) -> None:
    """Both are shown, with their rows."""
    with pytest.raises(ConfigError, match=r"line \d+, row \d+: .*(line \d+|no time of the years)") as told:
        read(tmp_path, times)
    assert "\n" not in str(told.value)


@pytest.mark.parametrize("text", ["yesterday", "03/01/2024", "2024-13-01", "12:30", "True", "2024-02-30T00:00"])
def test_what_is_no_time_is_one_line(tmp_path: Path, text: str) -> None:
    """All of a column: the first one is shown. One in forty: it is named, and as late as the row before."""
    with pytest.raises(ConfigError, match=r"line 2, row 1: column 'when' is .* a time is in seconds"):
        read(tmp_path, [text] * 40)
    stream = read(tmp_path, [text if number == 7 else seconds(number) for number in range(40)])
    assert stream.rows[7].time == seconds(6)
    assert stream.account.count("time") == 1


def test_a_row_without_a_time_is_as_late_as_the_row_before(tmp_path: Path) -> None:
    """A blank, or a spelling of missing; and it is said."""
    stream = read(tmp_path, ["NA" if number in {0, 5} else seconds(number) for number in range(40)])
    assert [stream.rows[n].time for n in (0, 5)] == [seconds(1), seconds(4)]
    assert "2 rows without a time: as late as the row before" in stream.account.lines()


UNITS = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}


@pytest.mark.parametrize("zone", [None, "Europe/Zurich"])
@pytest.mark.parametrize("unit", UNITS)
def test_moments_of_parquet_are_seconds(tmp_path: Path, unit: str, zone: str | None) -> None:
    """In every unit, with a zone or without: as a time, and as a feature a text in ISO 8601."""
    counts = [int(seconds(number)) * UNITS[unit] for number in range(40)]
    table = pa.Table.from_pylist(ROWS).append_column("when", pa.array(counts, pa.timestamp(unit, zone)))
    path = tmp_path / "s.parquet"
    parquet.write_table(table, path)
    assert [row.time for row in read_stream(path, "label", time="when").rows] == [seconds(n) for n in range(40)]
    stream = read_stream(path, "label")
    assert stream.rows[1].features["when"] == "2024-03-01T03:00:00"
    assert any("moments are read as texts" in line for line in stream.account.lines())


def test_times_that_python_cannot_hold_are_one_line(tmp_path: Path) -> None:
    """As a time they are refused, as a feature missing; a column that is dropped is not even read."""
    counts = [253_402_300_800_000 + number for number in range(40)]
    table = pa.Table.from_pylist(ROWS).append_column("when", pa.array(counts, pa.timestamp("ms")))
    path = tmp_path / "s.parquet"
    parquet.write_table(table, path)
    with pytest.raises(ConfigError, match=r"row 1: column 'when' is .* no time of the years 1 to 9999"):
        read_stream(path, "label", time="when")
    stream = read_stream(path, "label")
    assert "when" not in stream.kinds
    assert any("40 moments beyond the years that Python knows" in line for line in stream.account.lines())
    assert read_stream(path, "label", drop=["when"]).account.findings == ()


def test_dates_of_parquet_are_seconds(tmp_path: Path) -> None:
    """The midnight with which they begin, in UTC."""
    days = [moment(8 * number).date() for number in range(40)]
    table = pa.Table.from_pylist(ROWS).append_column("when", pa.array(days))
    path = tmp_path / "s.parquet"
    parquet.write_table(table, path)
    assert [row.time for row in read_stream(path, "label", time="when").rows] == [seconds(8 * n) for n in range(40)]


def test_seconds_and_milliseconds_in_one_column_are_refused(tmp_path: Path) -> None:
    """Half of the rows would else be of January 1970, and come first."""
    with pytest.raises(ConfigError, match=r"s.csv: column 'when' has times of two units: line 2, row 1: .* in milli"):
        read(tmp_path, [f"{seconds(n) * (1 if n % 2 else 1_000):.0f}" for n in range(40)])


@pytest.mark.parametrize(
    ("first", "what"), [(1970, "years"), (202_301, "months"), (45_352, "days of a spreadsheet"), (0, "")]
)
def test_numbers_of_a_calendar_are_named(tmp_path: Path, first: int, what: str) -> None:
    """A year, a month or a day of Excel is read as seconds, as a count from anywhere is: the account says so."""
    notes = [f.text for f in read(tmp_path, [f"{first + n % 12}" for n in range(40)]).account.findings]
    assert any(f"if they are {what}, write the times" in note for note in notes) is bool(what)


def test_several_events_may_come_in_second_0(tmp_path: Path) -> None:
    """In a count from 0 a 0 is a time, however many rows have it."""
    stream = read(tmp_path, [f"{n // 8}" for n in range(40)])
    assert [row.time for row in stream.rows] == [n // 8 for n in range(40)]


@pytest.mark.parametrize(
    ("time", "late", "told"),
    [
        ("when", 60.0, ""),
        ("when", -60.0, "column 'known': 40 of 40 labels are known before their event: is it the right column?"),
        (None, 60.0, "column 'known' has times of labels, but events have none"),
    ],
)
def test_times_of_labels_that_mean_nothing_are_said(tmp_path: Path, time: str | None, late: float, told: str) -> None:
    """Else a replay tells labels at once, or never."""
    rows = with_column(with_column(ROWS, "known", lambda n, _: seconds(n) + late), "when", lambda n, _: seconds(n))
    stream = read_stream(written(tmp_path, "s.csv", csv_text(rows)), "label", time, "known", [] if time else ["when"])
    assert [line.startswith(told) for line in stream.account.lines()] == ([True] if told else [])
