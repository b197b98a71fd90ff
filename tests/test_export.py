"""`export`: the training log for other tools, whole, in each of three formats."""

from __future__ import annotations

import csv
import hashlib
import json
import os
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyarrow import parquet

from streamal.bootstrap.transports import create_topics
from streamal.edge.sqlite import SqliteLog, SqliteTransport
from streamal.replay.annotators import AnnotatorsRules
from streamal.replay.replay import Player, play
from tests.conftest import Cli, environment
from tests.recorded import World, easy_stream, make_config, rows_of

CONFIG = make_config(labels={"ttl_s": 30.0})


@pytest.fixture
def training(directory: Path) -> list[dict[str, Any]]:
    """The training log of a database in the directory: examples, abstentions, expiries."""
    world = World(CONFIG)
    create_topics(CONFIG)
    log = SqliteTransport("streamal.db", "streamal", "w", world.topics.events, world.topics.labels, synchronous="OFF")
    daemon = world.daemon(transport=log)
    rules = AnnotatorsRules(delay_s=3.0, abstain=0.2, silence=0.2)
    play(daemon, Player(log, world.topics, easy_stream(300), rules), world.clock, 5, lambda _: None)
    world.clock.time += 100.0
    daemon.tick()
    found = rows_of(log, world.topics.training)
    log.close()
    (directory / "config.toml").write_text("")
    assert {row["kind"] for row in found} == {"example", "abstention", "expiry"}
    return found


def test_json_lines_are_the_records(cli: Cli, training: list[dict[str, Any]]) -> None:
    """Every record with its offset, as it stands in the log."""
    rows = [json.loads(line) for line in cli("export").out.splitlines()]
    assert [row["offset"] for row in rows] == list(range(len(training)))
    assert all(record.items() <= row.items() for record, row in zip(training, rows, strict=True))


def test_examples_alone(cli: Cli, training: list[dict[str, Any]]) -> None:
    """--examples leaves out how the other requests were closed."""
    rows = [json.loads(line) for line in cli("export", "--examples").out.splitlines()]
    assert [row["request"] for row in rows] == [row["request"] for row in training if row["kind"] == "example"]


def test_csv_has_a_column_for_each_feature(cli: Cli, training: list[dict[str, Any]], directory: Path) -> None:
    """What is read back is what was written, empty where a record has no such field."""
    assert cli("export", "-o", "labels.csv").code == 0
    with (directory / "labels.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["request"] for row in rows] == [row["request"] for row in training]
    for row, record in zip(rows, training, strict=True):
        assert row["label"] == record.get("label", "")
        assert row["features.x1"] == str(record["features"]["x1"] if "features" in record else "")


def test_parquet_round_trips(cli: Cli, training: list[dict[str, Any]], directory: Path) -> None:
    """Numbers stay numbers, and what a record lacks is null."""
    assert cli("export", "-o", "labels.parquet").code == 0
    rows = parquet.read_table(directory / "labels.parquet").to_pylist()
    assert [row["propensity"] for row in rows] == [record["propensity"] for record in training]
    assert [row["features.x2"] for row in rows] == [record.get("features", {}).get("x2") for record in training]


def test_parquet_copes_with_mixed_columns(cli: Cli, training: list[dict[str, Any]], directory: Path) -> None:
    """A field that is a number here and a text there, as a producer's id may be, becomes a column of texts."""
    log = SqliteLog("streamal.db")
    for identity in (7, "seven"):
        example = next(row for row in training if row["kind"] == "example")
        log.append("streamal.training", 0, None, json.dumps({**example, "id": identity}).encode())
    log.close()
    ended = cli("export", "--examples", "-o", "labels.parquet")
    assert ended.code == 0, ended.err
    assert [row["id"] for row in parquet.read_table(directory / "labels.parquet").to_pylist()][-2:] == ["7", "seven"]


@pytest.mark.parametrize("arguments", [("export",), ("export", "-f", "csv"), ("status",), ("verify", "--no-rederive")])
def test_a_reader_may_leave_early(training: list[dict[str, Any]], directory: Path, arguments: tuple[str, ...]) -> None:
    """`… | head -1` ends with 0 and without a traceback."""
    (directory / "config.toml").write_text('[labels]\nclasses = ["no", "yes"]\nttl_s = 30\n')
    reading, writing = os.pipe()
    command = [sys.executable, "-m", "streamal", *arguments]
    running = subprocess.Popen(command, cwd=directory, env=environment(), stdout=writing, stderr=subprocess.PIPE)
    os.close(writing)
    os.close(reading)
    assert running.communicate(timeout=120)[1] == b""
    assert running.returncode == 0


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("-o", "labels.xlsx"), "labels.xlsx"),
        (("-f", "parquet"), "--output"),
        (("-o", "gone/labels.csv"), "gone/labels.csv"),
        (("-f", "label-studio", "-o", "."), "--output"),
        (("--set", "transport.path=gone.db"), "gone.db"),
    ],
)
def test_a_mistake_is_one_line(cli: Cli, training: list[dict[str, Any]], arguments: tuple[str, ...], told: str) -> None:
    """Exit code 2, and what was wrong is named."""
    ended = cli("export", *arguments)
    assert ended.code == 2
    assert told in ended.line


def test_the_data_card_counts_what_the_file_holds(cli: Cli, training: list[dict[str, Any]], directory: Path) -> None:
    """Beside the file: its digest, period, strategy, propensities, annotators and classes, none of them made up."""
    assert cli("export", "-o", "labels.jsonl").code == 0
    card = (directory / "labels.jsonl.card.md").read_text()
    assert hashlib.sha256((directory / "labels.jsonl").read_bytes()).hexdigest() in card
    kinds = Counter(row["kind"] for row in training)
    classes = Counter(row["label"] for row in training if row["kind"] == "example")
    for name, count in {**kinds, **classes}.items():
        assert f"| `{name}` | {count:,} |" in card
    assert "randomised_variable" in card
    least = min(row["propensity"] for row in training if row["kind"] == "example")
    assert f"The least is {least:.6g}" in card
    silent = 1 - kinds["example"] / kinds.total()
    assert f"| without a label | {silent:.1%} of the closed requests" in card


def test_label_studio_json_has_a_task_for_each_closed_request(
    cli: Cli, training: list[dict[str, Any]], directory: Path
) -> None:
    """A label is an annotation, an abstention a skip, an expiry a task that nobody has annotated."""
    assert cli("export", "-o", "tasks.json").code == 0
    tasks = json.loads((directory / "tasks.json").read_text())
    assert [task["data"]["request"] for task in tasks] == [row["request"] for row in training]
    for task, row in zip(tasks, training, strict=True):
        found = [(a["was_cancelled"], [r["value"]["choices"] for r in a["result"]]) for a in task["annotations"]]
        assert (
            found
            == {
                "example": [(False, [[row.get("label")]])],
                "abstention": [(True, [])],
                "expiry": [],
            }[row["kind"]]
        )


@pytest.fixture
def asked(directory: Path) -> World:
    """A database in the directory with open requests 0-0 … and no replies."""
    world = World(make_config(budget={"share": 1, "burst": 50, "audit_share": 0.5}))
    create_topics(CONFIG)
    names = world.topics
    log = SqliteTransport("streamal.db", "streamal", "w", names.events, names.labels, synchronous="OFF")
    daemon = world.daemon(transport=log)
    for number in range(30):
        log.append(names.events, 0, None, json.dumps({"features": {"x1": number / 30, "x2": 0.5}}).encode())
    daemon.start()
    world.drain(daemon)
    log.close()
    (directory / "config.toml").write_text('[labels]\nclasses = ["no", "yes"]\n')
    return world


def open_requests(world: World) -> list[str]:
    log = SqliteLog("streamal.db")
    found = [row["request"] for row in rows_of(log, world.topics.requests) if row is not None]
    log.close()
    return found


def replies() -> list[dict[str, Any]]:
    log = SqliteLog("streamal.db")
    found = rows_of(log, "streamal.labels")
    log.close()
    return found


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    if path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    elif path.suffix == ".csv":
        with path.open("w", newline="") as file:
            writer = csv.DictWriter(file, ["request", "label", "abstain", "annotator", "seconds"])
            writer.writeheader()
            writer.writerows(rows)
    elif path.suffix == ".parquet":
        columns = {name: [row.get(name) for row in rows] for name in ("request", "label", "abstain", "seconds")}
        parquet.write_table(pa.table(columns), path)
    else:
        chosen = {"from_name": "label", "type": "choices"}
        path.write_text(json.dumps([{
            "data": {"request": row["request"]},
            "annotations": [{
                "id": number, "updated_at": "t", "was_cancelled": "label" not in row, "lead_time": row.get("seconds"),
                "result": [{**chosen, "value": {"choices": [row["label"]]}}] if "label" in row else [],
            }],
        } for number, row in enumerate(rows)]))  # fmt: skip
    return path


@pytest.mark.parametrize("name", ["a.jsonl", "a.csv", "a.parquet", "a.json"])
def test_an_import_answers_each_request_once(cli: Cli, asked: World, directory: Path, name: str) -> None:
    """In every format; a dry run writes nothing, a second import nothing more."""
    wanted = open_requests(asked)[:5]
    rows: list[dict[str, Any]] = [{"request": request, "label": "yes", "seconds": 2.5} for request in wanted[:4]]
    file = write(directory / name, [*rows, {"request": wanted[4], "abstain": True}])
    dry = json.loads(cli("import", file, "--dry-run", "--json").out)
    assert (dry["answers"], dry["written"], replies()) == (5, 0, [])
    assert json.loads(cli("import", file, "--json").out)["written"] == 5
    assert [(row["request"], row.get("label"), row.get("abstain")) for row in replies()] == [
        *((request, "yes", None) for request in wanted[:4]),
        (wanted[4], None, True),
    ]
    assert [row.get("seconds") for row in replies()][:4] == [2.5] * 4
    again = json.loads(cli("import", file, "--json").out)
    assert (again["there already"], again["written"], len(replies())) == (5, 0, 5)


def test_an_export_is_imported_as_nothing_new(cli: Cli, training: list[dict[str, Any]], directory: Path) -> None:
    """Whoever reads back what was exported, in whatever format, answers nothing twice; expiries are no answers."""
    (directory / "config.toml").write_text('[labels]\nclasses = ["no", "yes"]\n')
    before, kinds = len(replies()), Counter(row["kind"] for row in training)
    for name in ("a.jsonl", "a.csv", "a.parquet", "a.json"):
        assert cli("export", "-o", name).code == 0
        ended = json.loads(cli("import", name, "--json").out)
        assert ended["there already"] == kinds["example"] + kinds["abstention"]
        assert ended["no answers"] == kinds["expiry"]
        assert len(replies()) == before


def test_a_wrong_row_is_named_and_nothing_is_written(cli: Cli, asked: World, directory: Path) -> None:
    """Each refused row with its number and its reason; the good ones wait until all are."""
    first, second = open_requests(asked)[:2]
    lines = [
        {"request": first, "label": "yes"},
        {"request": "0-999", "label": "yes"},
        {"request": second, "label": "maybe"},
        {"request": second},
        {"request": first, "label": "no"},
        {"label": "yes"},
        {"request": second, "label": "no", "seconds": -1},
        ["no object"],
    ]
    (directory / "a.jsonl").write_text("\n".join([*map(json.dumps, lines), "{"]))
    ended = cli("import", "a.jsonl")
    assert ended.code == 1
    told = [re.findall(r"row (\d+): (.*)", line)[0] for line in ended.err.splitlines()]
    assert [number for number, _ in told] == ["2", "3", "4", "5", "6", "7", "8", "9"]
    assert "0-999" in told[0][1]
    assert "maybe" in told[1][1]
    assert "row 1" in told[3][1]
    assert replies() == []


@pytest.mark.parametrize(
    ("name", "text"), [("a.csv", "label\nyes\n"), ("a.json", "{}"), ("a.parquet", "x"), ("a.xlsx", ""), ("a.json", "[")]
)
def test_a_file_that_cannot_be_read_is_one_line(cli: Cli, asked: World, directory: Path, name: str, text: str) -> None:
    """Exit code 2, and the file is named."""
    (directory / name).write_text(text)
    ended = cli("import", name)
    assert ended.code == 2
    assert name in ended.line


@pytest.mark.parametrize(
    ("lines", "told"),
    [
        (['{0},"yes', "{1},no", "{2},no"], "line 2, row 1: a quote"),
        (["{0},no", '{1},"yes', '{2},no"', "{3},no"], "row 2: label 'yes\\n"),
        (["{0},no", "{1}"], "row 2: 1 of 2 rows are shorter than the header"),
        (["{0},no", "{1},no,x,y"], "line 3 has more fields than the header"),
        (["{0},no", "{1},NA"], "row 2: exactly one of"),
        (["{0},no", "{1},YES"], "row 2: label 'YES' is not among the classes (no, yes): 'yes' was probably meant"),
        (["{0},no", "{1},1_0", "{1},no"], "row 2: label '1_0' is not among the classes"),
    ],
    ids=["unclosed", "paired", "short", "long", "missing", "case", "underscore"],
)
def test_an_untidy_table_of_replies_writes_nothing(
    cli: Cli, asked: World, directory: Path, lines: list[str], told: str
) -> None:
    """Its row is named; a stray quote makes no class of six lines."""
    rows = ["request,label", *(line.format(*open_requests(asked)) for line in lines)]
    (directory / "a.csv").write_text("\n".join(rows) + "\n")
    ended = cli("import", "a.csv")
    assert ended.code in {1, 2}
    assert told in ended.err, ended.err
    assert replies() == []


def test_blanks_around_a_request_do_not_count(cli: Cli, asked: World, directory: Path) -> None:
    """As around a label: a spreadsheet or a person has put them there."""
    (directory / "a.csv").write_text(f"request,label\n {open_requests(asked)[0]} , yes \n")
    ended = cli("import", "a.csv", "--json")
    assert (ended.code, json.loads(ended.out)["written"]) == (0, 1), ended.err


@pytest.mark.parametrize(
    ("name", "encode", "delimiter"),
    [
        ("a.CSV", "utf-8-sig", ","),
        ("a.csv", "utf-16", ";"),
        ("a.tsv", "utf-8", "\t"),
        ("a.csv", "cp1252", ";"),
        ("a.jsonl", "utf-16", None),
    ],
)
def test_replies_come_in_any_dialect(
    cli: Cli, asked: World, directory: Path, name: str, encode: str, delimiter: str | None
) -> None:
    """As a recording does, and labels are the same classes."""
    first, second = open_requests(asked)[:2]
    rows = [{"request": first, "label": " yes "}, {"request": second, "label": "no", "annotator": "Zoë"}]
    if delimiter is None:
        text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    else:
        lines = [("request", "label", "annotator"), *((r["request"], r["label"], r.get("annotator", "")) for r in rows)]
        text = "\n".join(map(delimiter.join, lines))
    (directory / name).write_bytes(text.encode(encode))
    ended = cli("import", name, "--json")
    assert ended.code == 0, ended.err
    assert json.loads(ended.out)["written"] == 2
    assert [row.get("annotator") for row in replies()] == [None, "Zoë"]
