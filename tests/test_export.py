"""`export`: the training log for other tools, whole, in each of three formats."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from pyarrow import parquet

from streamal.cli.parts import create_topics
from streamal.edge.sqlite import SqliteLog, SqliteTransport
from streamal.replay.annotators import AnnotatorsRules
from streamal.replay.replaying import Player, play
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
    assert running.communicate(timeout=60)[1] == b""
    assert running.returncode == 0


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("-o", "labels.xlsx"), "labels.xlsx"),
        (("-f", "parquet"), "--output"),
        (("-o", "gone/labels.csv"), "gone/labels.csv"),
        (("--set", "transport.path=gone.db"), "gone.db"),
    ],
)
def test_a_mistake_is_one_line(cli: Cli, training: list[dict[str, Any]], arguments: tuple[str, ...], told: str) -> None:
    """Exit code 2, and what was wrong is named."""
    ended = cli("export", *arguments)
    assert ended.code == 2
    assert told in ended.line
