"""`look`: what a recording holds, what in it is suspicious, and the configuration to begin with."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from streamal.bootstrap.rules import wire_rules
from streamal.config import Config, load_config
from streamal.core.coins import HashedUniform
from streamal.exchange.csv_events import CsvEvents, CsvOptions
from streamal.exchange.lines import Line
from streamal.recordings.account import Column
from streamal.recordings.profile import profile
from streamal.replay import Recorded, Stream, read_stream
from streamal.replay.replay import stream_config
from tests.conftest import Cli
from tests.recorded import World, predictions_of, rows_of

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
        "ordered": lambda row: f"2023-11-0{1 + row % 9}T00:00:00",
        "seen": lambda row: 1.7e9 + row + 60.0 + row % 7,
    }
    assert suspected(stream_of(columns, roles={"when": "time"})) == [("future", "paid"), ("future", "seen")]
    assert suspected(stream_of(columns)) == [("time", "paid"), ("time", "ordered"), ("time", "seen")]


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
    assert second.startswith("suspicious: ")
    assert f"and {len(ODD) - 2} more (`streamal look` says more)" in second


def test_a_long_class_is_not_the_whole_line() -> None:
    """The two lines stay lines."""
    (line, *_) = profile(stream_of({}, lambda row: label_of(row) * 100)).lines()
    assert len(line) < 150


def test_a_part_of_the_rows_is_enough_to_judge_columns() -> None:
    """Classes are counted in all of them."""
    stream = stream_of({"copy": label_of}, rows=1_000)
    found = profile(stream, rows_max=100)
    assert sum(found.classes.values()) == 1_000
    assert [each.column for each in found.suspicions] == ["copy"]


def test_stream_and_profile_are_short_in_a_notebook() -> None:
    """One line each as text; the profile is a table as HTML, in which a value is only text."""
    stream = stream_of({"mark": lambda row: "<b>" if row % 2 else "c"})
    assert repr(stream) == "Stream(s: 200 events, 2 features, classes no, yes)"
    found = profile(stream)
    assert repr(found).startswith("Profile(s: 200 events, features: 1 number, 1 string; classes: ")
    assert "&lt;b&gt;" in found._repr_html_()
    assert "<b>" not in found._repr_html_()


# The command.


def write_csv(path: Path, columns: Mapping[str, Callable[[int], Any]], rows: int = ROWS) -> Path:
    """Write a table with x, *columns* and the label; None is a blank."""
    made = {"x": lambda row: f"{noise(row):.6f}", **columns, "label": label_of}
    lines = [",".join("" if (value := of(row)) is None else str(value) for of in made.values()) for row in range(rows)]
    path.write_text("\n".join([",".join(made), *lines, ""]))
    return path


def write_json(path: Path, record: Callable[[int], Mapping[str, Any]], rows: int = ROWS) -> Path:
    path.write_text("".join(f"{json.dumps(record(row))}\n" for row in range(rows)))
    return path


def gap(row: int) -> Any:
    return "NA" if row % 9 == 0 else f"{noise(row, 'g'):.3f}"


def test_a_file_is_looked_at(cli: Cli, directory: Path) -> None:
    """Columns, classes, what was left out, what is suspicious, and the configuration."""
    write_csv(directory / "s.csv", {"gap": gap, "code": lambda row: f"k{row}", "wind": lambda row: "NESW"[row % 4]})
    ended = cli("look", "s.csv", "--label", "label")
    assert (ended.code, ended.err) == (0, "")
    for words in ("200 rows, 200 of them events", "N, E, S", "* 23 cells missing, spelt 'NA' 23", "████"):
        assert words in ended.out, words
    assert "! 'code' looks like an identifier: 200 different values in 200 rows" in ended.out
    assert "No declared feature, so dropped by the daemon: 'code' looks like" in ended.out
    told = json.loads(cli("look", "s.csv", "--label", "label", "--json").out)
    assert [column["name"] for column in told["columns"]] == ["x", "gap", "code", "wind", "label"]
    assert told["config"] in ended.out


def test_a_regression_target_is_said(cli: Cli, directory: Path) -> None:
    """No configuration makes classes of it, and none is written."""
    write_csv(directory / "s.csv", {"y": lambda row: f"{noise(row, 'y'):.5f}"})
    ended = cli("look", "s.csv", "--label", "y")
    assert ended.code == 0
    assert "a regression target, no classes" in ended.out
    refused = cli("look", "s.csv", "--label", "y", "--write", "config.toml")
    assert (refused.code, (directory / "config.toml").exists()) == (2, False)
    assert "no configuration fits: the label has 200 different numbers" in refused.err


def test_an_existing_file_is_updated(cli: Cli, directory: Path) -> None:
    """Its comments and its other keys stay; one that is no configuration is refused before anything is read."""
    write_csv(directory / "s.csv", {})
    (directory / "config.toml").write_text("# ours\n[budget]\nshare = 0.05  # agreed\n")
    arguments = ("look", "s.csv", "--label", "label", "--config", "config.toml", "--write", "config.toml")
    assert cli(*arguments).out.endswith("Written: config.toml\n")
    text = (directory / "config.toml").read_text()
    assert "share = 0.05  # agreed" in text
    assert load_config(directory / "config.toml").labels.classes == ("no", "yes")
    (directory / "config.toml").write_text("[budget]\nshar = 1\n")
    assert "shar" in cli(*arguments).line


def accepts(config: Config, lines: Sequence[bytes]) -> World:
    """Return a world whose daemon has accepted all *lines*."""
    world = World(config)
    for line in lines:
        world.broker.append(world.topics.events, 0, None, line)
    world.drain(daemon := world.daemon())
    daemon.close()
    assert not rows_of(world.broker, world.topics.dead_letters)
    assert len(predictions_of(world.broker, config)) == len(lines)
    return world


RECORDS: Mapping[str, Callable[[int], Mapping[str, Any]]] = {
    "nested": lambda row: {"id": row, "features": {"x": noise(row)}, "label": label_of(row)},
    "flat": lambda row: {"id": f"e{row}", "at": 1.7e9 + row, "x": noise(row), "label": label_of(row)},
    "with nulls": lambda row: {"features": {"x": noise(row), "y": None if row % 5 else 1.0}, "label": label_of(row)},
}


@pytest.mark.parametrize("name", RECORDS)
def test_what_it_writes_a_daemon_accepts_for_the_same_lines(name: str, cli: Cli, directory: Path) -> None:
    """JSON lines as they stand in the file, flat or nested, with nulls: no dead letter, and every feature is used."""
    path = write_json(directory / "s.jsonl", RECORDS[name])
    time = ("--time", "at") if name == "flat" else ()
    assert cli("look", path, "--label", "label", *time, "--write", "config.toml").code == 0
    config = load_config(directory / "config.toml")
    assert set(config.features.declared) == ({"x", "y"} if name == "with nulls" else {"x"})
    accepts(config, path.read_bytes().splitlines())


def test_a_daemon_accepts_a_table_with_spelt_out_gaps(cli: Cli, directory: Path) -> None:
    """As `send` sends it, and as a producer writes its cells as they are: "NA" in a column of numbers is missing."""
    path = write_csv(directory / "s.csv", {"gap": gap})
    assert cli("look", path, "--label", "label", "--write", "config.toml").code == 0
    config = load_config(directory / "config.toml")
    assert (config.features.declared["gap"], config.features.missing) == ("number", ("NA",))
    rules = wire_rules(config)
    reader = CsvEvents(rules, config.features.declared, CsvOptions("s.csv", drop=frozenset({"label"})))
    lines = [Line(number, line) for number, line in enumerate(path.read_bytes().splitlines(), 1)]
    events = reader.feed(lines)
    assert len(events.ready) == ROWS
    accepts(config, [event.value for event in events.ready])
    cells = [dict(zip(("x", "gap"), line.split(","), strict=False)) for line in path.read_text().splitlines()[1:]]
    typed = [{name: text if text == "NA" else float(text) for name, text in row.items()} for row in cells]
    accepts(config, [json.dumps({"features": row}).encode() for row in typed])


def test_what_tune_writes_begins_with_the_same(cli: Cli, directory: Path) -> None:
    """The sections that `tune` starts from are those of the recording: types, gaps, and how they are spelt."""
    path = write_csv(directory / "s.csv", {"gap": gap})
    fitted = stream_config(Config(), read_stream(str(path), "label"))
    assert (fitted.features.declared["gap"], fitted.features.missing, fitted.features.null) == (
        "number",
        ("NA",),
        "missing",
    )
    own = stream_config(Config.model_validate({"features": {"missing": ["?"]}}), read_stream(str(path), "label"))
    assert own.features.missing == ("?",)


def test_the_tables_of_an_export_are_recognised(cli: Cli, directory: Path) -> None:
    """Its features have their own names; what streamal has written beside them is no feature."""
    own: dict[str, Callable[[int], Any]] = {
        "offset": float,
        "kind": lambda _: "example",
        "request": lambda row: f"0-{row}",
        "predicted": label_of,
    }
    own |= {"propensity": noise, "at": float, "features.label": lambda row: "ab"[row % 2]}
    write_csv(directory / "s.csv", {**own, "features.temp": lambda row: f"{noise(row, 't'):.3f}"})
    (directory / "s.csv").write_text((directory / "s.csv").read_text().replace("x,", "features.x,", 1))
    told = json.loads(cli("look", "s.csv", "--label", "label", "--json").out)
    features = [column["name"] for column in told["columns"] if column["role"] == "feature"]
    assert features == ["x", "features.label", "temp"]
    assert "it is an export of streamal: only features.… are features" in " ".join(told["left_out"])
    config = ("--set", 'features.declared={temp="number"}')
    told = json.loads(cli("look", "s.csv", "--label", "label", "--json", *config).out)
    assert [column["name"] for column in told["columns"] if column["role"] == "feature"] == ["temp"]


def test_a_replay_begins_with_what_is_there(cli: Cli, directory: Path) -> None:
    """Two lines on standard error, and none with --json: that output is for programs."""
    write_csv(directory / "s.csv", {"code": lambda row: f"k{row}"})
    first, second, *_ = cli("replay", "s.csv", "--label", "label").err.splitlines()
    assert first.startswith("streamal: 200 events, features: 1 number, 1 string; classes: ")
    assert second.startswith("streamal: suspicious: 'code' looks like an identifier: 200 different values in 200 rows")
    assert "200 events" not in cli("replay", "s.csv", "--label", "label", "--json").err


def test_a_regression_target_is_said_beside_json_too(cli: Cli, directory: Path) -> None:
    """Who asks for JSON reads standard error as well."""
    rows = [f"{number % 7},{number + 0.5}" for number in range(40)]
    (directory / "s.csv").write_text("\n".join(["a,label", *rows]) + "\n")
    assert "a regression target, no classes" in cli("replay", "s.csv", "--label", "label", "--json").err
