"""The loop by itself, in memory: what it counts, saves, refuses to believe, and how it ends."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence

import pytest

from streamal.core.records import OffsetAndMetadata, OutputRecord, TopicPartition
from streamal.core.state import TrainerState, encode_state
from streamal.daemon.daemon import Daemon
from streamal.edge.memory import MemoryTransport
from streamal.errors import Fatal, InconsistentLog, Uncommitted
from streamal.replay.annotators import AnnotatorsRules
from streamal.replay.replay import play
from tests.recorded import ListSnapshots, World, easy_stream, make_config, rows_of


def played(world: World, count: int = 200, snapshots: ListSnapshots | None = None) -> Daemon:
    """Return a daemon that has seen *count* events and every kind of answer."""
    daemon = world.daemon(snapshots)
    rules = AnnotatorsRules(delay_s=3.0, abstain=0.1, silence=0.1)
    play(daemon, world.player(easy_stream(count), rules), world.clock, 4, lambda _: None)
    return daemon


@pytest.fixture
def world() -> World:
    return World(make_config(budget={"share": 0.3}, labels={"ttl_s": 40.0}))


def test_the_counters_match_the_topics(world: World) -> None:
    """Events, requests, replies, expiries, dead letters and folded records are what the topics hold."""
    world.event({"x1": "three"})
    world.reply("0-1234", "no")
    world.broker.append(world.topics.labels, 0, None, b"nonsense")
    daemon = played(world)
    for reply in world.broker.read(world.topics.labels, 0, 2, 3):
        world.broker.append(world.topics.labels, 0, None, reply.value)  # again: duplicates
    world.clock.time += 100.0
    world.drain(daemon)
    counts = world.meter.counts
    training = rows_of(world.broker, world.topics.training)
    kinds = [row["kind"] for row in training]
    asked = [row["lane"] for row in rows_of(world.broker, world.topics.requests) if row]
    assert counts["events", "accepted"] == len(rows_of(world.broker, world.topics.predictions)) == 200
    assert counts["events", "refused"] == counts["dead_letters", "feature_type"] == 1
    assert (counts["requests", "audit"], counts["requests", "strategy"]) == (
        asked.count("audit"),
        asked.count("strategy"),
    )
    assert counts["replies", "accepted"] == kinds.count("example") > 0
    assert counts["replies", "abstained"] == kinds.count("abstention") > 0
    assert counts["expiries", ""] == kinds.count("expiry") > 0
    assert (counts["replies", "unknown"], counts["replies", "refused"], counts["replies", "duplicate"]) == (1, 1, 3)
    assert counts["folded", ""] == len(training)
    assert world.meter.observed["step_seconds"] == counts["steps", "committed"]
    assert world.meter.observed["label_delay_seconds"] == counts["replies", "accepted"] + counts["replies", "abstained"]


def test_the_gauges_match_the_fold(world: World) -> None:
    """Open requests, version, spend and lag are those of the daemon after its last step."""
    daemon = played(world)
    assert world.meter.gauges["open_requests"] == len(daemon.fold.books.pending)
    assert world.meter.gauges["model_version"] == daemon.fold.books.version.offset
    assert world.meter.gauges["budget_spent_ratio"] == pytest.approx(
        sum(world.meter.counts["requests", lane] for lane in ("audit", "strategy")) / 200
    )
    assert (world.meter.gauges["lag_events"], world.meter.gauges["lag_labels"]) == (0, 0)


def test_it_is_ready_after_its_first_step(world: World) -> None:
    """Ready only once the partitions are assigned and a step is through; every step notes its time."""
    daemon = world.daemon()
    world.clock.time = 5.0
    daemon.start()
    assert (daemon.ready, daemon.ticked_at) == (False, 0.0)
    daemon.tick()
    world.clock.time = 8.0
    daemon.tick()
    assert (daemon.ready, daemon.ticked_at) == (True, 8.0)


def test_time_never_goes_back(world: World) -> None:
    """A clock that is set back does not take the daemon with it."""
    daemon = world.daemon()
    daemon.start()
    world.clock.time = 100.0
    daemon.tick()
    world.clock.time = 50.0
    daemon.tick()
    assert world.meter.gauges["last_step_timestamp_seconds"] == 100.0


# Snapshots.


def test_a_snapshot_is_taken_up_after_a_restart(world: World) -> None:
    """A new worker goes on from it and says so; the model is that of a worker which folded the whole log."""
    snapshots = ListSnapshots()
    daemon = played(world, snapshots=snapshots)
    daemon.close()
    version = daemon.fold.books.version.offset
    again, afresh = world.daemon(snapshots), world.daemon()
    again.start()
    assert (world.log.fields("started")["restored"], world.log.fields("started")["version"]) == (version, version)
    afresh.start()
    assert world.log.fields("started")["restored"] == 0
    probes = [row.features for row in easy_stream(50, seed=2).rows]
    assert [again.fold.learned.model.predict(p) for p in probes] == [
        afresh.fold.learned.model.predict(p) for p in probes
    ]


def test_snapshots_are_saved_now_and_then(world: World) -> None:
    """Every snapshot_every_s of the clock, if something was learned since; not more often."""
    snapshots = ListSnapshots()
    daemon = world.daemon(snapshots, snapshot_every_s=30.0)
    play(daemon, world.player(easy_stream(200), AnnotatorsRules()), world.clock, 1, lambda _: None)
    assert 3 <= len(snapshots.saved) <= 200 // 30
    assert world.meter.counts["snapshots", "saved"] == len(snapshots.saved)
    world.clock.time += 100.0
    before = len(snapshots.saved)
    daemon.tick()
    daemon.tick()
    assert len(snapshots.saved) - before <= 1


def test_a_snapshot_ahead_of_the_log_is_not_taken(world: World) -> None:
    """Where the log is shorter than the snapshot, another log is meant: it is folded afresh, with a warning."""
    snapshots = ListSnapshots()
    played(world, snapshots=snapshots).close()
    other = World(world.config)
    other.daemon(snapshots).start()
    assert "log" in str(other.log.fields("snapshot_not_taken")["reason"])
    assert other.log.fields("started")["restored"] == 0


def test_a_snapshot_of_another_log_is_not_taken(world: World) -> None:
    """A log that is as long or longer, and has another record where the snapshot ends: it is folded afresh (F42)."""
    snapshots = ListSnapshots()
    played(world, snapshots=snapshots).close()
    other = World(world.config)
    play(other.daemon(), other.player(easy_stream(400, seed=9), AnnotatorsRules()), other.clock, 4, lambda _: None)
    assert other.broker.end(other.topics.training, 0) > world.broker.end(world.topics.training, 0)
    daemon = other.daemon(snapshots)
    daemon.start()
    assert other.log.fields("snapshot_not_taken")["reason"] == "other log"
    assert other.log.fields("started")["restored"] == 0
    assert daemon.fold.books.version.offset == other.broker.end(other.topics.training, 0) - 1  # a marker is the last


def test_a_snapshot_of_another_make_is_not_taken(world: World) -> None:
    """Another model configuration cannot go on from it: the older one is tried, then the log."""
    snapshots = ListSnapshots()
    played(world, snapshots=snapshots).close()
    daemon = world.daemon(snapshots, fingerprint="another")
    daemon.start()
    assert world.log.fields("snapshot_not_taken")["reason"] == "other make"
    assert (world.log.fields("started")["restored"], world.log.fields("started")["version"]) == (
        0,
        daemon.fold.books.version.offset,
    )


class Full(ListSnapshots):
    """A disk that is full."""

    def save(self, data: bytes) -> bool:
        return False


def test_a_full_disk_does_not_stop_the_loop(world: World) -> None:
    """A snapshot that cannot be saved is counted and said, and events go on."""
    daemon = played(world, snapshots=Full())
    daemon.close()
    assert world.meter.counts["snapshots", "failed"] > 0
    assert "version" in world.log.fields("snapshot_failed")
    assert world.meter.counts["events", "accepted"] == 200


# Trouble.


class Refusing(MemoryTransport):
    """A transport whose first *refused* commits are aborted."""

    refused = 0

    def commit(self, outputs: Sequence[OutputRecord], offsets: Mapping[TopicPartition, OffsetAndMetadata]) -> None:
        if self.refused:
            self.refused -= 1
            raise Uncommitted("the broker is gone")
        super().commit(outputs, offsets)


def refusing(world: World, times: int) -> Refusing:
    transport = Refusing(world.broker, "streamal", "w", world.topics.events, world.topics.labels)
    transport.refused = times
    return transport


def test_an_aborted_step_is_done_again(world: World) -> None:
    """What was polled comes again, and once: as many predictions as events."""
    daemon = world.daemon(transport=refusing(world, 3))
    daemon.start()
    for _ in range(10):
        world.event({"x1": 0.5})
    assert [daemon.tick() for _ in range(4)] == [0, 0, 0, 10]
    assert len(rows_of(world.broker, world.topics.predictions)) == 10
    assert world.meter.counts["steps", "uncommitted"] == 3


def test_the_wait_after_a_failed_step_doubles_up_to_a_cap(world: World) -> None:
    """From backoff_s on, twice as long each time, never above 5 s; a step that commits starts it anew."""
    daemon, slept = world.daemon(transport=refusing(world, 9), backoff_s=0.05), list[float]()
    daemon.sleep = slept.append
    daemon.start()
    world.event({"x1": 0.5})
    assert [daemon.tick() for _ in range(10)] == [*[0] * 9, 1]
    assert slept == pytest.approx([0.05, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0])
    assert isinstance(daemon._transport, Refusing)
    daemon._transport.refused = 1
    world.event({"x1": 0.5})
    daemon.tick()
    assert slept[-1] == pytest.approx(0.05)


def test_trouble_without_end_is_fatal(world: World) -> None:
    """After attempts_max failed steps in a row it is the supervisor's turn."""
    daemon = world.daemon(transport=refusing(world, 99), attempts_max=4)
    daemon.start()
    world.event({"x1": 0.5})
    assert [daemon.tick() for _ in range(3)] == [0, 0, 0]
    with pytest.raises(Fatal, match="gave up after 4 attempts: the broker is gone"):
        daemon.tick()


def test_a_log_that_lost_records_stops_the_daemon(world: World) -> None:
    """A committed version beyond the end of training is waited for, then exit 2 with what to do."""
    state = encode_state(TrainerState(version=50, records=50))
    world.broker.groups["streamal"].offsets[TopicPartition(world.topics.labels, 0)] = OffsetAndMetadata(0, state)
    daemon = world.daemon(attempts_max=3)
    daemon.start()
    assert [daemon.tick() for _ in range(2)] == [0, 0]
    with pytest.raises(InconsistentLog, match="restore the topic, or begin afresh in a new group") as raised:
        daemon.tick()
    assert raised.value.exit_code == 2
    assert world.meter.counts["steps", "uncommitted"] == 3


def test_a_foreign_training_record_stops_the_daemon(world: World) -> None:
    """A model folded without it would not be the others' model: exit 2 before anything is predicted."""
    world.broker.append(world.topics.training, 0, None, b"whatever")
    with pytest.raises(InconsistentLog, match="only streamal may write to this topic"):
        world.daemon().start()


# The end.


def test_stop_ends_run_in_good_order(world: World) -> None:
    """`stop`, from anywhere, lets `run` finish its step, save a snapshot and return."""
    snapshots = ListSnapshots()
    daemon = played(world, snapshots=snapshots)
    timer = threading.Timer(0.05, daemon.stop)
    timer.start()
    daemon.run()
    timer.join()
    assert len(snapshots.saved) > 0
    assert world.log.said[-1][0] == "stopped"


def test_stopped_before_it_ran_it_does_not_tick(world: World) -> None:
    """A signal during the start leaves everything as it was."""
    world.event({"x1": 0.5})
    daemon = world.daemon()
    daemon.start()
    daemon.stop()
    daemon.run()
    assert rows_of(world.broker, world.topics.predictions) == []
