"""Topics that were made anew and offsets without a state end a worker before it breaks a promise (F61, F62)."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from streamal.core.records import OffsetAndMetadata, TopicPartition
from streamal.daemon.daemon import Daemon
from streamal.edge.memory import _Log
from streamal.errors import InconsistentLog
from tests.conftest import Cli
from tests.recorded import ListSnapshots, World, make_config, predictions_of, rows_of

CONFIG = make_config(budget={"share": 1.0}, labels={"ttl_s": 50.0}, snapshots={"every_s": 1.0})
EVENTS, LABELS, REQUESTS = (
    TopicPartition(topic, 0) for topic in (CONFIG.topics.events, CONFIG.topics.labels, CONFIG.topics.requests)
)


def worked() -> tuple[World, ListSnapshots, list[str]]:
    """Return a world with an answer and open requests, the snapshots of the worker, which has ended, and the open."""
    world, snapshots = World(CONFIG), ListSnapshots()
    daemon = started(world, snapshots)
    for number in range(42):
        world.event({"x1": number, "x2": 0.5})
    world.drain(daemon)
    world.reply(next(iter(daemon.fold.books.pending.open)), "yes")
    world.drain(daemon)
    daemon.close()
    assert snapshots.saved
    assert len(daemon.fold.books.pending) > 30
    return world, snapshots, list(daemon.fold.books.pending.open)


def started(world: World, snapshots: ListSnapshots | None = None) -> Daemon:
    daemon = world.daemon(snapshots, attempts_max=3)
    daemon.start()
    return daemon


def make_anew(world: World, place: TopicPartition, records: int = 0) -> None:
    world.broker.logs[place] = _Log()
    for _ in range(records):
        world.broker.append(*place, b"0-7", None)


@pytest.mark.parametrize("records", [0, 3, 100])
def test_answers_to_requests_that_are_lost_are_not_consumed(records: int) -> None:
    """`requests` made anew while all were stopped, snapshots kept: a halt, not 41 right answers that are unknown."""
    world, snapshots, waiting = worked()
    make_anew(world, REQUESTS, records)
    for request in waiting:
        world.reply(request, "yes")
    before = world.broker.committed(CONFIG.transport.group)
    with pytest.raises(
        InconsistentLog, match=rf"{len(waiting)} open requests are not on streamal.requests-0.*made anew"
    ) as raised:
        started(world, snapshots)
    assert raised.value.exit_code == 2
    assert world.log.fields("snapshot_not_taken") == {"reason": "other log"}
    assert world.broker.committed(CONFIG.transport.group) == before
    assert world.meter.counts["replies", "unknown"] == 0


@pytest.mark.parametrize("records", [0, 200])
def test_a_snapshot_of_another_requests_topic_is_left_out(records: int) -> None:
    """With nothing open the worker goes on, but not from a snapshot that would skip the new topic's first records."""
    world, snapshots, _ = worked()
    world.clock.time += 100.0
    daemon = started(world, snapshots)
    world.drain(daemon)
    daemon.close()
    assert not daemon.fold.books.pending.open
    make_anew(world, REQUESTS, records)
    successor = started(world, snapshots)
    assert world.log.fields("snapshot_not_taken") == {"reason": "other log"}
    assert successor.fold.books.positions.get(0, 0) == records
    for number in range(20):
        world.event({"x1": number, "x2": 1})
    world.drain(successor)
    asked = [row["request"] for row in rows_of(world.broker, CONFIG.topics.requests) if row]
    assert asked
    world.reply(asked[0], "yes")
    world.drain(successor)
    assert world.meter.counts["replies", "accepted"] == 2


@pytest.mark.parametrize("topic", ["streamal.requests", "streamal.training"])
def test_a_topic_that_is_made_anew_under_way_ends_the_worker(topic: str) -> None:
    """What was read is beyond its end: the worker would miss all that is written to it from then on."""
    world, snapshots, _ = worked()
    daemon = started(world, snapshots)
    daemon.tick()
    make_anew(world, TopicPartition(topic, 0))
    with pytest.raises(InconsistentLog, match=rf"{topic}-0 ends at 0, yet it was read up to \d+: it was deleted"):
        daemon.tick()


def test_an_events_topic_that_is_made_anew_is_named() -> None:
    """Its records would be skipped up to the old offset: the line says so, and the advice skips nothing."""
    world, _, _ = worked()
    make_anew(world, EVENTS)
    world.event({"x1": 1, "x2": 1})
    daemon = started(world)
    with pytest.raises(InconsistentLog, match="events-0 ends at 1, yet 42 is committed: it was deleted and made anew"):
        daemon.tick()
    assert len(predictions_of(world.broker, CONFIG)) == 42


LOSSES: dict[str, Callable[[OffsetAndMetadata], OffsetAndMetadata | None]] = {
    "deleted": lambda _: None,
    "set to where they were": lambda state: OffsetAndMetadata(state.offset, ""),
    "set to the earliest": lambda _: OffsetAndMetadata(0, ""),
}


@pytest.mark.parametrize("place", [EVENTS, LABELS], ids=["events", "labels"])
@pytest.mark.parametrize("loss", LOSSES)
def test_an_offset_without_its_state_ends_the_worker(place: TopicPartition, loss: str) -> None:
    """Whoever has set it, and however: budget and counts would begin anew in silence (F61)."""
    world, snapshots, _ = worked()
    offsets = world.broker.groups[CONFIG.transport.group].offsets
    state = LOSSES[loss](offsets.pop(place))
    if state is not None:
        offsets[place] = state
    before = dict(offsets)
    daemon = started(world, snapshots)
    assert daemon.tick() == 0  # the states are read once more
    with pytest.raises(InconsistentLog, match=f"no state is committed beside the offset of {place.topic}-0") as raised:
        daemon.tick()
    assert "by hand" in str(raised.value)
    assert offsets == before


def test_check_and_run_agree_about_a_lost_state(cli: Cli, streamal: Cli, directory: Path) -> None:
    """Both end with 2 and the same reason; with the state restored both go on."""
    settings = ["--config", "config.toml", "--set", "server.enabled=false", "--set", "budget.share=1"]
    (directory / "config.toml").write_text('[labels]\nclasses = ["a", "b"]\n[features]\ndeclared = {x = "number"}\n')
    assert cli("topics", "create", *settings).code == 0
    file = next(directory.glob("*.db"))
    with sqlite3.connect(file) as db:
        db.execute("INSERT INTO records VALUES('streamal.predictions', 0, 0, NULL, CAST('{}' AS BLOB))")
        db.execute("UPDATE partitions SET end_offset = 1 WHERE topic = 'streamal.predictions'")
        db.execute("INSERT INTO offsets VALUES('streamal', 'streamal.events', 0, 0, '')")
    db.close()
    checked = cli("check", *settings)
    ran = streamal("run", *settings, cwd=directory)
    assert (checked.code, ran.code) == (2, 2)
    for ended in (checked, ran):
        assert "no state is committed beside the offset of streamal.events-0" in ended.err
