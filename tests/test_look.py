"""`look`: what a recording holds, what in it is suspicious, and the configuration to begin with."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pytest

from streamal.core.coins import HashedUniform
from streamal.recordings.account import Column
from streamal.recordings.profile import profile
from streamal.replay import Recorded, Stream

ROWS = 200
COIN = HashedUniform(4, "look")


def noise(row: int, name: str = "x") -> float:
    return COIN.uniform(f"{row} {name}")


def label_of(row: int) -> str:
    """Return the label of a row; the number x tells it in nine of ten rows."""
    return "yes" if (noise(row) > 0.5) != (noise(row, "slip") < 0.1) else "no"


def stream_of(
    columns: Mapping[str, Callable[[int], Any]],
    label: Callable[[int], str] = label_of,
    roles: Mapping[str, Any] | None = None,
    rows: int = ROWS,
) -> Stream:
    """Return rows with x, and with *columns*: name -> row -> value, None where there is none."""
    made = {"x": noise, **columns}
    recorded = [
        Recorded(
            {name: value for name, of in made.items() if (value := of(row)) is not None}, label(row), 1.7e9 + row, None
        )
        for row in range(rows)
    ]
    kinds = {}
    for name, of in made.items():
        value = next(of(row) for row in range(rows) if of(row) is not None)
        kinds[name] = {str: "string", bool: "boolean"}.get(type(value), "number")
    described = {
        name: Column(name, "feature", kind, sum(name not in row.features for row in recorded))
        for name, kind in kinds.items()
    }
    described |= {name: Column(name, role) for name, role in {"label": "label", **(roles or {})}.items()}
    return Stream("s", recorded, kinds, tuple(sorted({row.label for row in recorded})), columns=described)


def suspected(stream: Stream) -> list[tuple[str, str]]:
    """Return (kind, column) of each suspicion."""
    return [(suspicion.kind, suspicion.column) for suspicion in profile(stream).suspicions]


def test_an_ordinary_stream_is_above_suspicion() -> None:
    """Numbers, categories, truth values, missing values and counts of things are nothing odd."""
    columns: dict[str, Callable[[int], Any]] = {
        "wind": lambda row: "NESW"[row % 4],
        "open": lambda row: noise(row, "b") > 0.5,
        "gap": lambda row: noise(row, "g") if noise(row, "m") > 0.3 else None,
        "cents": lambda row: float(int(noise(row, "c") * 1e6)),
        "hour": lambda row: float(row % 24),
    }
    assert suspected(stream_of(columns)) == []


ODD: Sequence[tuple[str, str, Callable[[int], Any]]] = [
    ("identifier", "code", lambda row: f"k{row * 7919 % 9973}"),
    ("identifier", "number of row", float),
    ("identifier", "customer_id", lambda row: float(row * 7919 % 9973)),
    ("constant", "site", lambda _: "A"),
    ("label", "copy", label_of),
    ("label", "coded", lambda row: {"yes": 3.0, "no": 5.0}[label_of(row)]),
    ("label", "score", lambda row: noise(row, "s") + (label_of(row) == "yes")),
    ("label", "closed_by", lambda row: f"agent {row % 5}" if label_of(row) == "yes" else None),
    ("future", "final_state", lambda row: "ab"[row % 2]),
    ("missing", "rare", lambda row: noise(row, "r") if row % 4 == 0 else None),
]


@pytest.mark.parametrize(("kind", "name", "of"), ODD, ids=[name for _, name, _ in ODD])
def test_each_odd_column_is_suspected(kind: str, name: str, of: Callable[[int], Any]) -> None:
    """Of the kind that it is, and no other column with it; nobody has to believe it."""
    assert suspected(stream_of({name: of})) == [(kind, name)]


def test_a_moment_after_the_event_is_the_future() -> None:
    """In ISO 8601 or in seconds, if the events have times; one before it is none."""
    columns: dict[str, Callable[[int], Any]] = {
        "paid": lambda row: f"2023-11-{20 + row % 9}T00:00:00",
        "ordered": lambda row: f"2023-11-{1 + row % 9}T00:00:00",
        "seen": lambda row: 1.7e9 + row + 60.0 + row % 7,
    }
    assert suspected(stream_of(columns, roles={"when": "time"})) == [("future", "paid"), ("future", "seen")]
    assert suspected(stream_of({"paid": columns["paid"]})) == []


@pytest.mark.parametrize(
    ("label", "kind", "words"),
    [
        (lambda row: f"{noise(row, 'l'):.4f}", "target", "different numbers in 200 events: a regression target"),
        (lambda row: f"text {row}", "classes", "200 different values in 200 events"),
        (lambda _: "a", "classes", "every label is 'a'"),
        (lambda row: "rare" if row == 7 else label_of(row), "classes", "1 of 3 classes are rare"),
        (lambda row: "Yes" if row % 9 == 0 else label_of(row), "classes", "'yes', 'Yes' are 2 classes that differ"),
        (lambda row: "ab"[row // 100], "order", "sorted by their label"),
    ],
)
def test_odd_labels_are_said(label: Callable[[int], str], kind: str, words: str) -> None:
    """With what was counted, and what to do."""
    found = [each for each in profile(stream_of({}, label)).suspicions if each.kind == kind]
    assert any(words in each.text for each in found), found
    assert all(each.advice for each in found)


def test_a_column_of_few_values_is_not_judged() -> None:
    """Ten rows prove nothing."""
    assert suspected(stream_of({"code": lambda row: f"k{row}"}, rows=10)) == []


def test_a_profile_counts_what_is_there() -> None:
    """Missing, distinct and the commonest values of each column; classes with the commonest first."""
    found = profile(stream_of({"wind": lambda row: "NNES"[row % 4] if row % 5 else None}))
    (wind,) = (column for column in found.columns if column.name == "wind")
    assert (wind.role, wind.kind, wind.missing, wind.distinct, wind.examples[0]) == ("feature", "string", 40, 3, "N")
    assert list(found.classes.values()) == sorted(found.classes.values(), reverse=True)
    assert json.loads(json.dumps(found.as_dict()))["kept"] == ROWS


def test_two_lines_stand_before_a_replay() -> None:
    """What is there, and what is suspicious of it; one if nothing is."""
    (line,) = profile(stream_of({"wind": lambda row: "NESW"[row % 4]})).lines()
    assert line.startswith("200 events, features: 1 number, 1 string; classes: ")
    columns = {name: of for _, name, of in ODD}
    first, second = profile(stream_of(columns)).lines()
    assert first.startswith("200 events")
    assert second.startswith("look at ")
    assert f"and {len(ODD) - 2} more (`streamal look` says more)" in second


def test_a_part_of_the_rows_is_enough_to_judge_columns() -> None:
    """Classes are counted in all of them."""
    stream = stream_of({"copy": label_of}, rows=1_000)
    found = profile(stream, rows_max=100)
    assert sum(found.classes.values()) == 1_000
    assert [each.column for each in found.suspicions] == ["copy"]
