"""What the SQLite transport adds to the contract: one file, other processes, a disk that refuses, and kill -9."""

from __future__ import annotations

import json
import signal
import sqlite3
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from streamal.bootstrap import transports
from streamal.core.records import OffsetAndMetadata, OutputRecord, TopicPartition
from streamal.edge.sqlite import SqliteLog, SqliteTransport
from streamal.errors import ConfigError, Fatal, Fenced, InconsistentLog, StreamalError, Uncommitted
from tests.recorded import make_config

E0 = TopicPartition("events", 0)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "streamal.db"


@pytest.fixture
def log(path: Path) -> Iterator[SqliteLog]:
    """A file with events (2), labels (1) and out (1)."""
    made = SqliteLog(path, create=True, synchronous="OFF", busy_s=0.05)
    for topic, partitions in {"events": 2, "labels": 1, "out": 1}.items():
        made.create(topic, partitions)
    yield made
    made.close()


@pytest.fixture
def worker(log: SqliteLog) -> Iterator[SqliteTransport]:
    made = make_worker(log.path)
    yield made
    made.close()


def make_worker(path: Path) -> SqliteTransport:
    return SqliteTransport(path, "g", "w", "events", "labels", synchronous="OFF", busy_s=0.05)


def outs(*values: bytes) -> list[OutputRecord]:
    return [OutputRecord("out", 0, None, value) for value in values]


# The file.


def test_the_file_is_private(log: SqliteLog, path: Path) -> None:
    """Only the owner may read events and labels: mode 0600, also of what SQLite puts beside the file."""
    log.append("events", 0, None, b"x")
    assert {stat.S_IMODE(file.stat().st_mode) for file in path.parent.iterdir()} == {0o600}


def test_a_missing_file_is_a_config_error(path: Path) -> None:
    """Nobody but `create` makes a file, and a missing directory is never made."""
    with pytest.raises(ConfigError, match=r"does not exist; .*streamal run"):
        SqliteLog(path)
    with pytest.raises(ConfigError, match="does not exist"):
        make_worker(path)
    with pytest.raises(ConfigError, match="does not exist"):
        SqliteLog(path / "deeper", create=True)
    assert not path.exists()


def test_a_foreign_file_is_a_config_error(path: Path) -> None:
    """Text, or a database of something else, is refused and left as it is."""
    path.write_text("name = 'not a database'\n" * 100)
    with pytest.raises(ConfigError, match="not a SQLite database"):
        SqliteLog(path, create=True)
    path.unlink()
    with sqlite3.connect(path) as other:
        other.execute("CREATE TABLE bookmarks(url)")
    other.close()
    before = path.read_bytes()
    with pytest.raises(ConfigError, match="something else"):
        SqliteLog(path, create=True)
    assert path.read_bytes() == before


def test_a_file_of_another_version_is_refused(log: SqliteLog, path: Path) -> None:
    """A newer layout is not touched; the text names both versions."""
    log.close()
    other = sqlite3.connect(path)
    other.execute("PRAGMA user_version = 7")
    other.close()
    with pytest.raises(ConfigError, match="has version 7, this streamal knows 1"):
        SqliteLog(path)


def test_a_path_that_cannot_be_a_file_is_a_config_error(tmp_path: Path) -> None:
    """A directory as the path is named, not a stack trace."""
    with pytest.raises(ConfigError, match="check the path"):
        SqliteLog(tmp_path)


def test_the_number_of_partitions_cannot_change(log: SqliteLog) -> None:
    """`create` is idempotent; another number of partitions is refused, and the text says what to do."""
    log.append("events", 0, None, b"x")
    log.create("events", 2)
    assert log.end("events", 0) == 1
    with pytest.raises(ConfigError, match="has 2 partitions, not 3; their number cannot change: ask for 2"):
        log.create("events", 3)


def test_a_worker_needs_its_topics(log: SqliteLog, path: Path) -> None:
    """A missing input topic, or labels with more than one partition, is refused at the start."""
    with pytest.raises(ConfigError, match="no topic 'typo'"):
        SqliteTransport(path, "g", "w", "typo", "labels")
    with pytest.raises(ConfigError, match="must have 1 partition"):
        SqliteTransport(path, "g", "w", "labels", "events")


def test_two_processes_may_create_the_file_at_once(path: Path) -> None:
    """Whoever comes second finds the tables of the first."""
    code = (
        "import sys; from streamal.edge.sqlite import SqliteLog\n"
        "log = SqliteLog(sys.argv[1], create=True); log.create('events', 2); log.append('events', 1, None, b'x')"
    )
    children = [subprocess.Popen([sys.executable, "-c", code, str(path)]) for _ in range(4)]
    assert [child.wait(20) for child in children] == [0] * 4
    log = SqliteLog(path)
    assert log.end("events", 1) == 4
    log.close()


# Other processes.


def test_a_waiting_poll_sees_what_others_append(worker: SqliteTransport, log: SqliteLog) -> None:
    """A poll with a long time-out returns soon after a foreign process has written, not at its end."""

    def reply() -> None:
        other = SqliteLog(log.path, synchronous="OFF")
        other.append("labels", 0, None, b"reply")
        other.close()

    timer = threading.Timer(0.05, reply)
    timer.start()
    started = time.monotonic()
    assert [record.value for record in worker.poll({"labels": 1}, 60.0)] == [b"reply"]
    timer.join()
    assert time.monotonic() - started < 60.0


def test_an_idle_zombie_is_fenced_while_it_polls(worker: SqliteTransport, log: SqliteLog) -> None:
    """A worker with nothing to commit learns from `poll` and `rewind`, too, that a newer one has come (F11)."""
    assert worker.poll({"events": 1}, 0.0) == []
    successor = make_worker(log.path)
    for attempt in (lambda: worker.poll({"events": 1}, 5.0), worker.rewind):
        with pytest.raises(Fenced, match=r"worker 'w' \(process \d+\) has taken over group 'g'"):
            attempt()
    successor.close()


def test_groups_do_not_fence_each_other(worker: SqliteTransport, log: SqliteLog) -> None:
    """Two groups on one file consume side by side, each with its own offsets."""
    other = SqliteTransport(log.path, "other", "w", "events", "labels", synchronous="OFF")
    other.commit(outs(b"other"), {E0: OffsetAndMetadata(5, "o")})
    worker.commit(outs(b"mine"), {E0: OffsetAndMetadata(7, "m")})
    other.close()
    assert [log.committed(group)[E0] for group in ("g", "other")] == [
        OffsetAndMetadata(7, "m"),
        OffsetAndMetadata(5, "o"),
    ]


def test_text_from_a_foreign_hand_is_refused_at_the_door(log: SqliteLog) -> None:
    """Values are bytes: the table itself refuses text, which would come back as another type."""
    other = sqlite3.connect(log.path)
    with pytest.raises(sqlite3.IntegrityError):
        other.execute("INSERT INTO records VALUES('labels', 0, 0, NULL, 'text')")
    other.close()


def test_many_records_are_written_at_once_or_not_at_all(log: SqliteLog) -> None:
    """`append_all` is one transaction: a missing topic at its end undoes the rest."""
    log.append_all([OutputRecord("events", number % 2, None, b"%d" % number) for number in range(5)])
    assert [record.value for record in log.read("events", 0, 0, 9)] == [b"0", b"2", b"4"]
    with pytest.raises(ConfigError, match="nonsense"):
        log.append_all([*outs(b"x"), OutputRecord("nonsense", 0, None, b"y")])
    assert (log.end("events", 1), log.end("out", 0)) == (2, 0)


# Retention.


def test_trimming_keeps_the_offsets(log: SqliteLog, monkeypatch: pytest.MonkeyPatch) -> None:
    """After `trim` the end stays, the next offset follows it, and reading from 0 starts with what is left."""
    monkeypatch.setattr("streamal.edge.sqlite._TRIM_ROWS", 3)
    log.append_all(outs(*[b"%d" % number for number in range(10)]))
    assert log.trim("out", 0, 8) == 8
    assert log.trim("out", 0, 8) == 0
    assert [record.offset for record in log.read("out", 0, 0, 9)] == [8, 9]
    assert log.trim("out", 0, 99) == 2
    assert (log.read("out", 0, 0, 9), log.end("out", 0)) == ([], 10)
    assert log.append("out", 0, None, b"next") == 10


def test_trimming_beyond_the_end_takes_no_offset_twice(log: SqliteLog) -> None:
    """It stops at the end, however far it is asked to go: what is written next is there, and can be trimmed."""
    log.append_all(outs(b"0", b"1"))
    assert log.trim("out", 0, 1_000) == 2
    assert log.trim("out", 0, 1_000) == 0
    assert log.append_all(outs(b"2", b"3")) == [2, 3]
    assert [record.offset for record in log.read("out", 0, 2, 9)] == [2, 3]
    assert log.trim("out", 0, 3) == 1
    assert [record.offset for record in log.read("out", 0, 0, 9)] == [3]


def test_reading_into_a_trimmed_hole_is_an_error(worker: SqliteTransport, log: SqliteLog) -> None:
    """A noted offset whose records are gone stops the daemon instead of skipping what it has not seen (F14)."""
    log.append_all([OutputRecord("events", 0, None, b"%d" % number) for number in range(10)])
    worker.commit([], {E0: OffsetAndMetadata(3, "")})
    log.trim("events", 0, 5)
    with pytest.raises(InconsistentLog, match="events-0 starts at 5; 3 was trimmed"):
        log.read("events", 0, 3, 1)
    with pytest.raises(InconsistentLog, match="3 was trimmed"):
        worker.poll({"events": 1}, 0.0)


def test_a_new_group_on_an_emptied_topic_waits_for_news(worker: SqliteTransport, log: SqliteLog) -> None:
    """A partition that was trimmed to its end is no error for who has not consumed it yet."""
    log.append("events", 0, None, b"old")
    log.trim("events", 0, 1)
    assert worker.poll({"events": 1}, 0.0) == []
    log.append("events", 0, None, b"new")
    assert [record.value for record in worker.poll({"events": 1}, 1.0)] == [b"new"]


# A disk that refuses.


def test_a_lock_held_too_long_is_uncommitted(worker: SqliteTransport, log: SqliteLog) -> None:
    """Neither worker nor annotator hangs on a foreign lock: both learn that nothing was written."""
    other = sqlite3.connect(log.path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    for attempt in (lambda: worker.commit(outs(b"x"), {}), lambda: log.append("labels", 0, None, b"x")):
        with pytest.raises(Uncommitted, match=r"cannot .* holds the lock"):
            attempt()
    other.close()
    worker.rewind()
    worker.commit(outs(b"y"), {})
    assert [record.value for record in log.read("out", 0, 0, 9)] == [b"y"]


def test_a_full_disk_is_uncommitted(worker: SqliteTransport, log: SqliteLog) -> None:
    """With no page left the commit is rolled back whole; with room again the worker goes on (F40)."""
    pages = worker._db.execute("PRAGMA page_count").fetchone()[0]
    worker._db.execute(f"PRAGMA max_page_count = {pages}")
    with pytest.raises(Uncommitted, match="the disk is full"):
        worker.commit(outs(b"small", b"x" * 100_000), {E0: OffsetAndMetadata(1, "")})
    assert (log.read("out", 0, 0, 9), log.end("out", 0), log.committed("g")) == ([], 0, {})
    worker._db.execute("PRAGMA max_page_count = 100000")
    worker.rewind()
    worker.commit(outs(b"x" * 100_000), {})
    assert log.end("out", 0) == 1


def test_a_file_that_is_removed_or_replaced_is_fatal(worker: SqliteTransport, log: SqliteLog) -> None:
    """Writing on into an unlinked file would lose everything silently."""
    log.path.rename(log.path.with_suffix(".old"))
    for attempt in (lambda: worker.commit(outs(b"x"), {}), lambda: log.append("labels", 0, None, b"x")):
        with pytest.raises(Fatal, match="was removed or replaced"):
            attempt()


def test_a_write_ahead_log_that_is_removed_is_fatal(worker: SqliteTransport, log: SqliteLog) -> None:
    """F69: the commits since the last checkpoint are in it, and further ones would go the same way."""
    worker.commit(outs(b"x"), {})
    log.append("labels", 0, None, b"x")
    log.path.with_name(f"{log.path.name}-wal").unlink()
    for attempt in (lambda: worker.commit(outs(b"y"), {}), lambda: log.append("labels", 0, None, b"y")):
        with pytest.raises(Fatal, match=r"-wal was removed or replaced while .* verify"):
            attempt()


def test_a_write_ahead_log_that_starts_anew_is_no_fault(worker: SqliteTransport, log: SqliteLog, path: Path) -> None:
    """A checkpoint, a truncated log, another process that comes and goes: the file stays the same one."""
    for number in range(3):
        worker.commit(outs(b"x"), {})
        worker._db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        SqliteLog(path).close()
        log.append("labels", 0, None, b"x")
        assert log.end("out", 0) == number + 1


def test_a_damaged_header_is_named(log: SqliteLog, path: Path) -> None:
    """F69: the file is no longer known as a database, but its path was right."""
    log.close()
    with path.open("r+b") as file:
        file.write(bytes(100))
    with pytest.raises(ConfigError, match=r"its header is damaged; .* restore a copy"):
        SqliteLog(path)


def test_an_emptied_file_beside_its_log_is_not_new(worker: SqliteTransport, log: SqliteLog, path: Path) -> None:
    """F69: tables would be made in it as if nothing had ever been there."""
    worker.commit(outs(b"x"), {})
    copy = path.with_name("copy.db")
    copy.touch()
    copy.with_name("copy.db-wal").write_bytes(path.with_name(f"{path.name}-wal").read_bytes())
    with pytest.raises(InconsistentLog, match=r"is empty, but copy\.db-wal is not"):
        SqliteLog(copy, create=True)


def test_an_emptied_file_beside_snapshots_is_not_new(tmp_path: Path) -> None:
    """F69: `run` stops and says how to begin anew; without snapshots an empty file is a new one."""
    directory, path = tmp_path / "snapshots", tmp_path / "streamal.db"
    directory.mkdir()
    config = make_config(transport={"path": path}, snapshots={"directory": directory})
    path.touch()
    transports.ensure_topics(config)
    path.write_bytes(b"")
    (directory / "1.snapshot").write_bytes(b"x")
    with pytest.raises(InconsistentLog, match=r"is empty, but .* holds snapshots"):
        transports.ensure_topics(config)


def test_a_damaged_file_is_fatal(log: SqliteLog, path: Path) -> None:
    """Bit rot in the tables is named, with what to do, and stops whoever meets it."""
    log.append_all(outs(*[b"x" * 1000] * 200))
    log.close()
    size = path.stat().st_size
    with path.open("r+b") as file:
        file.seek(size // 2)
        file.write(b"\xff" * (size // 2))
    damaged = SqliteLog(path)
    with pytest.raises(InconsistentLog, match="is damaged; restore a copy"):
        damaged.read("out", 0, 0, 1000)
    damaged.close()


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (sqlite3.SQLITE_IOERR_FSYNC, Uncommitted),
        (sqlite3.SQLITE_BUSY_SNAPSHOT, Uncommitted),
        (sqlite3.SQLITE_READONLY_DBMOVED, Fatal),
        (sqlite3.SQLITE_NOTADB, InconsistentLog),
        (sqlite3.SQLITE_MISMATCH, Fatal),
    ],
)
def test_every_error_of_sqlite_is_one_of_ours(log: SqliteLog, code: int, kind: type[StreamalError]) -> None:
    """The extended codes count as their primary ones; what is unknown stops the process."""
    error = sqlite3.OperationalError("injected")
    error.sqlite_errorcode = code
    with pytest.raises(kind, match=r"cannot write to .*injected") as caught, log._transaction("write to"):
        raise error
    assert type(caught.value) is kind
    assert not log._db.in_transaction


# kill -9.

CHILD = """
import json, sys
from streamal.core.records import OffsetAndMetadata, OutputRecord, TopicPartition
from streamal.edge.sqlite import SqliteTransport

worker = SqliteTransport(sys.argv[1], "g", "child", "events", "labels")
worker.poll({}, 0)
counts = {place: int(state.metadata or 0) for place, state in worker.assignment()[1].items()}
while True:
    records = worker.poll({"events": 3, "labels": 2}, 0.01)
    outputs = [OutputRecord("out", 0, record.topic.encode(), record.value) for record in records]
    offsets = {}
    for record in records:
        place = TopicPartition(record.topic, record.partition)
        counts[place] += 1
        offsets[place] = OffsetAndMetadata(record.offset + 1, str(counts[place]))
    worker.commit(outputs, offsets)
    print(json.dumps([[*place, count] for place, count in counts.items()]), flush=True)
"""


def killed_after(path: Path, lines: int, meanwhile: Callable[[], object]) -> dict[TopicPartition, int]:
    """Run the copying child, kill it in the middle of its work, and return what it last said was committed."""
    with subprocess.Popen([sys.executable, "-c", CHILD, str(path)], stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        for _ in range(lines):
            said = child.stdout.readline()
            assert said
            meanwhile()
        child.send_signal(signal.SIGKILL)
        said = (child.stdout.read().splitlines() or [said])[-1]
    try:
        counts = json.loads(said)
    except json.JSONDecodeError:  # killed while it spoke
        return {}
    return {TopicPartition(topic, partition): count for topic, partition, count in counts}


def test_kill_9_loses_nothing_and_doubles_nothing(log: SqliteLog, path: Path) -> None:
    """Killed again and again while replies come in, the worker has copied each record once, in order (F2-F5)."""
    log.append_all([OutputRecord("events", number % 2, None, b"%d" % number) for number in range(4000)])
    patient = SqliteLog(path)
    for lines in (1, 7, 20, 33, 2, 55):
        acknowledged = killed_after(path, lines, lambda: patient.append("labels", 0, None, b"reply"))
        committed = log.committed("g")
        assert all(int(committed[place].metadata) >= count for place, count in acknowledged.items() if count)
    patient.close()
    for place in (E0, TopicPartition("events", 1), TopicPartition("labels", 0)):
        offset = log.committed("g")[place].offset
        inputs = [record.value for record in log.read(*place, 0, offset)]
        assert int(log.committed("g")[place].metadata) == offset == len(inputs)
        if place.topic == "labels":
            assert inputs == [r.value for r in log.read("out", 0, 0, 9999) if r.key == b"labels"]
    copied = [int(r.value or 0) for r in log.read("out", 0, 0, 9999) if r.key == b"events"]
    for partition in (0, 1):
        half = [number for number in copied if number % 2 == partition]
        assert half == list(range(partition, 2 * len(half), 2))
        assert len(half) == log.committed("g")[TopicPartition("events", partition)].offset
    assert log._db.execute("PRAGMA integrity_check").fetchone()[0] == "ok"


def test_another_group_does_not_do_the_work_again(log: SqliteLog) -> None:
    """A group without offsets does not begin where an output topic has records: it was mistyped, or has lost them."""
    log.append("out", 0, None, b"a prediction")
    other = SqliteTransport(log.path, "mistyped", "w", "events", "labels", predictions_topic="out", synchronous="OFF")
    with pytest.raises(InconsistentLog, match=r"group 'mistyped' has no offsets, but out has records"):
        other.poll({"events": 1}, 0.0)
    other.close()
