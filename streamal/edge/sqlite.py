"""Topics, offsets and the worker of a group in one SQLite file: the durable default, without a server.

One worker at a time consumes; a newer one fences the older by the group's *epoch*. Any number of other processes
append replies and read along, through `SqliteLog`. A commit is one SQLite transaction, so kill -9 loses nothing that
was committed. The file must be on a local disk: write-ahead logging needs shared memory (sqlite.org/wal.html).
"""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

from streamal.core.records import OffsetAndMetadata, OutputRecord, Record, TopicPartition
from streamal.errors import ConfigError, Fatal, Fenced, InconsistentLog, StreamalError, Uncommitted

__all__ = ["SqliteLog", "SqliteTransport", "Synchronous"]

Synchronous = Literal["OFF", "NORMAL", "FULL", "EXTRA"]
"""When to sync: FULL after each commit; NORMAL at checkpoints, which may lose the last commits if the power fails."""

_VERSION = 1  # of the tables, in PRAGMA user_version
_WAIT_S = 0.015  # between two looks for new records; each is one PRAGMA
_TRIM_ROWS = 10_000  # deleted in one transaction, so that other processes can write in between

_TABLES = (
    """CREATE TABLE partitions(
        topic TEXT NOT NULL, partition INTEGER NOT NULL, begin_offset INTEGER NOT NULL, end_offset INTEGER NOT NULL,
        PRIMARY KEY(topic, partition)) WITHOUT ROWID""",
    """CREATE TABLE records(
        topic TEXT NOT NULL, partition INTEGER NOT NULL, "offset" INTEGER NOT NULL,
        key BLOB CHECK(typeof(key) IN ('blob', 'null')), value BLOB CHECK(typeof(value) IN ('blob', 'null')),
        PRIMARY KEY(topic, partition, "offset")) WITHOUT ROWID""",
    """CREATE TABLE offsets(
        "group" TEXT NOT NULL, topic TEXT NOT NULL, partition INTEGER NOT NULL, "offset" INTEGER NOT NULL,
        metadata TEXT NOT NULL, PRIMARY KEY("group", topic, partition)) WITHOUT ROWID""",
    """CREATE TABLE workers(
        "group" TEXT PRIMARY KEY, epoch INTEGER NOT NULL, instance TEXT NOT NULL, pid INTEGER NOT NULL)""",
)

_ERRORS: Mapping[int, tuple[type[StreamalError], str]] = {
    sqlite3.SQLITE_BUSY: (Uncommitted, "another process holds the lock for too long; try again"),
    sqlite3.SQLITE_LOCKED: (Uncommitted, "it is locked; try again"),
    sqlite3.SQLITE_PROTOCOL: (Uncommitted, "too many processes race for the lock; try again"),
    sqlite3.SQLITE_FULL: (Uncommitted, "the disk is full; make room"),
    sqlite3.SQLITE_IOERR: (Uncommitted, "the disk reports an error; look into the system's log"),
    sqlite3.SQLITE_CORRUPT: (InconsistentLog, "the file is damaged; restore a copy, or try `sqlite3 FILE .recover`"),
    sqlite3.SQLITE_NOTADB: (
        InconsistentLog,
        "not a SQLite database, or its header is damaged; check the path, or restore a copy",
    ),
    sqlite3.SQLITE_CANTOPEN: (Fatal, "it cannot be opened; check the path and the permissions"),
    sqlite3.SQLITE_READONLY: (Fatal, "it cannot be written; check the permissions of the file and its directory"),
    sqlite3.SQLITE_PERM: (Fatal, "access is denied; check the permissions"),
}
"""Primary result code -> its meaning once the file is open; `_translate_errors` knows the meaning before that."""


class SqliteLog:
    """The `Log` for everybody but the worker. One thread uses it; others open their own.

    Attributes:
        path: the file.

    Raises:
        ConfigError: the file is missing (and *create* is not set), foreign, or of another version.
    """

    def __init__(
        self, path: str | Path, *, create: bool = False, synchronous: Synchronous = "FULL", busy_s: float = 5.0
    ) -> None:
        self.path = Path(path).absolute()
        self._db = _open(self.path, create=create, synchronous=synchronous, busy_s=busy_s)
        self._file_id = _file_id(self.path)
        self._wal_id: tuple[int, int] | None = None

    def create(self, topic: str, partitions: int) -> None:
        """Make *topic*, unless it is there; a ConfigError if it is there with another number of partitions."""
        assert partitions > 0
        with self._transaction("create a topic in"):
            have = self.partitions(topic)
            if have not in (0, partitions):
                raise ConfigError(
                    f"{self.path}: topic {topic!r} has {have} partitions, not {partitions}; "
                    f"their number cannot change: ask for {have}, or start a new file"
                )
            rows = [(topic, partition) for partition in range(partitions)]
            self._db.executemany("INSERT OR IGNORE INTO partitions VALUES(?, ?, 0, 0)", rows)

    def partitions(self, topic: str) -> int:
        """Return the number of partitions of *topic*; 0 if there is no such topic."""
        with _translate_errors(self.path, "read"):
            return int(self._db.execute("SELECT count(*) FROM partitions WHERE topic = ?", (topic,)).fetchone()[0])

    def begin(self, topic: str, partition: int) -> int:
        """Return the offset of the first record that was not trimmed."""
        with _translate_errors(self.path, "read"):
            return self._bounds(topic, partition)[0]

    def end(self, topic: str, partition: int) -> int:
        """Return the offset after the last record."""
        with _translate_errors(self.path, "read"):
            return self._bounds(topic, partition)[1]

    def read(self, topic: str, partition: int, offset: int, records_max: int) -> list[Record]:
        """Return up to *records_max* records from *offset* on; 0 means from the first that is still there.

        Raises:
            InconsistentLog: F14, the records from *offset* on were trimmed.
        """
        query = (
            'SELECT topic, partition, "offset", key, value FROM records '
            'WHERE topic = ? AND partition = ? AND "offset" >= ? ORDER BY "offset" LIMIT ?'
        )
        with _translate_errors(self.path, "read"):
            rows = self._db.execute(query, (topic, partition, offset, max(records_max, 0))).fetchall()
            if not rows or rows[0][2] != offset:
                begin = self._bounds(topic, partition)[0]
                if 0 < offset < begin:
                    raise InconsistentLog(f"{self.path}: {topic}-{partition} starts at {begin}; {offset} was trimmed")
        return [Record(*row) for row in rows]

    def append(self, topic: str, partition: int, key: bytes | None, value: bytes | None) -> int:
        """Write one record and return its offset; Uncommitted if it could not be written now."""
        with self._transaction("append to"):
            return self._write([OutputRecord(topic, partition, key, value)])[TopicPartition(topic, partition)]

    def append_all(self, outputs: Sequence[OutputRecord]) -> list[int]:
        """Write all of *outputs* or none, wait for the disk only once, and return their offsets."""
        if not outputs:
            return []
        with self._transaction("append to"):
            following = self._write(outputs)
        offsets = []
        for output in outputs:
            place = TopicPartition(output.topic, output.partition)
            offsets.append(following[place])
            following[place] += 1
        return offsets

    def trim(self, topic: str, partition: int, before_offset: int) -> int:
        """Delete the records below *before_offset* and return how many that were; offsets go on as before."""
        trimmed = 0
        while True:
            with self._transaction("trim"):
                begin, end = self._bounds(topic, partition)
                limit = min(before_offset, end, begin + _TRIM_ROWS)
                if limit <= begin:
                    return trimmed
                place = (topic, partition, limit)
                statement = 'DELETE FROM records WHERE topic = ? AND partition = ? AND "offset" < ?'
                trimmed += self._db.execute(statement, place).rowcount
                statement = "UPDATE partitions SET begin_offset = ?3 WHERE topic = ?1 AND partition = ?2"
                self._db.execute(statement, place)

    def committed(self, group: str) -> Mapping[TopicPartition, OffsetAndMetadata]:
        """Return what *group* has committed."""
        query = 'SELECT topic, partition, "offset", metadata FROM offsets WHERE "group" = ? ORDER BY topic, partition'
        with _translate_errors(self.path, "read"):
            rows = self._db.execute(query, (group,)).fetchall()
        return {
            TopicPartition(topic, partition): OffsetAndMetadata(offset, metadata)
            for topic, partition, offset, metadata in rows
        }

    def close(self) -> None:
        """Close the file; closing twice is allowed."""
        with _translate_errors(self.path, "close"):
            self._db.close()

    def _bounds(self, topic: str, partition: int) -> tuple[int, int]:
        query = "SELECT begin_offset, end_offset FROM partitions WHERE topic = ? AND partition = ?"
        row: tuple[int, int] | None = self._db.execute(query, (topic, partition)).fetchone()
        if row is None:
            raise ConfigError(f"{self.path}: there is no partition {partition} of topic {topic!r}; create the topic")
        return row

    def _write(self, outputs: Sequence[OutputRecord]) -> dict[TopicPartition, int]:
        """Insert *outputs* in the open transaction; return the first offset used of each partition."""
        pairs: dict[TopicPartition, list[tuple[bytes | None, bytes | None]]] = {}
        for output in outputs:
            pairs.setdefault(TopicPartition(output.topic, output.partition), []).append((output.key, output.value))
        first = {place: self._bounds(*place)[1] for place in pairs}
        for place, of_place in pairs.items():
            rows = ((*place, offset, *pair) for offset, pair in enumerate(of_place, first[place]))
            self._db.executemany("INSERT INTO records VALUES(?, ?, ?, ?, ?)", rows)
            statement = "UPDATE partitions SET end_offset = ? WHERE topic = ? AND partition = ?"
            self._db.execute(statement, (first[place] + len(of_place), *place))
        return first

    def _require_same_files(self) -> None:
        """Raise Fatal if the file or its write-ahead log is another one: what we write would be lost (F69)."""
        if _file_id(self.path) != self._file_id:
            raise Fatal(f"{self.path} was removed or replaced while it was open; start again")
        wal = _wal(self.path)
        wal_id = _file_id(wal)
        if self._wal_id is None:
            self._wal_id = wal_id
        elif wal_id != self._wal_id:
            raise Fatal(
                f"{wal} was removed or replaced while {self.path.name} was open: it held the last commits; "
                "stop whatever does that, then start again, and run `streamal verify`"
            )

    @contextmanager
    def _transaction(self, doing: str) -> Iterator[None]:
        """Commit what the block does, or roll it back and raise."""
        with _translate_errors(self.path, doing):
            try:
                self._db.execute("BEGIN IMMEDIATE")
                self._require_same_files()
                yield
                self._db.execute("COMMIT")
            finally:
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")


class SqliteTransport(SqliteLog):
    """The worker of a group; see `streamal.ports.Transport`. The newest owns all partitions, from its first poll on."""

    def __init__(
        self,
        path: str | Path,
        group: str,
        instance: str,
        events_topic: str,
        labels_topic: str,
        *,
        predictions_topic: str | None = None,
        synchronous: Synchronous = "FULL",
        busy_s: float = 5.0,
    ) -> None:
        """Fence the group's worker and take its place; a group without offsets may not begin where predictions are."""
        super().__init__(path, synchronous=synchronous, busy_s=busy_s)
        self._group, self._instance, self._generation, self._turn = group, instance, 0, 0
        self._events, self._predictions = events_topic, predictions_topic
        self._committed: Mapping[TopicPartition, OffsetAndMetadata] = {}
        self._positions: dict[TopicPartition, int] = {}
        try:
            self._inputs = self._require_inputs(events_topic, labels_topic)
            self._epoch = self._take_over()
        except BaseException:
            self._db.close()
            raise

    def assignment(self) -> tuple[int, Mapping[TopicPartition, OffsetAndMetadata]]:
        """Return (generation, owned partitions with their committed state); the mapping given out never changes."""
        return self._generation, self._committed

    def poll(self, records_max_by_topic: Mapping[str, int], timeout_s: float) -> list[Record]:
        """Return the next records, waiting for them up to *timeout_s*; Fenced if a newer worker has come."""
        deadline = time.monotonic() + timeout_s
        while True:
            with _translate_errors(self.path, "poll"):
                seen = self._data_version()
                self._require_newest()
                if self._generation == 0:
                    self._seek()
                found = self._read_next(records_max_by_topic)
                while not found and self._data_version() == seen:
                    left_s = deadline - time.monotonic()
                    if left_s <= 0:
                        return found
                    time.sleep(min(_WAIT_S, left_s))
            if found or time.monotonic() >= deadline:
                return found

    def commit(self, outputs: Sequence[OutputRecord], offsets: Mapping[TopicPartition, OffsetAndMetadata]) -> None:
        """Write *outputs* and move *offsets* in one transaction of the file."""
        assert all(place in self._inputs for place in offsets)
        rows = [(self._group, *place, *state) for place, state in offsets.items()]
        with self._transaction("commit to"):
            self._require_newest()
            self._write(outputs)
            self._db.executemany("INSERT OR REPLACE INTO offsets VALUES(?, ?, ?, ?, ?)", rows)
        self._committed = {**self._committed, **offsets}

    def rewind(self) -> None:
        """Go back to the committed offsets."""
        with _translate_errors(self.path, "rewind"):
            self._require_newest()
            self._seek()

    def _require_inputs(self, events_topic: str, labels_topic: str) -> list[TopicPartition]:
        counts = {topic: self.partitions(topic) for topic in (events_topic, labels_topic)}
        for topic, count in counts.items():
            if count == 0:
                raise ConfigError(f"{self.path}: there is no topic {topic!r}; `streamal run` makes it")
        if counts[labels_topic] != 1:
            raise ConfigError(f"{self.path}: topic {labels_topic!r} must have 1 partition: its owner is the trainer")
        return [TopicPartition(topic, partition) for topic, count in counts.items() for partition in range(count)]

    def _take_over(self) -> int:
        """Fence whoever was the group's worker, and return our epoch."""
        statement = (
            "INSERT INTO workers VALUES(?, 1, ?, ?) ON CONFLICT DO UPDATE SET "
            "epoch = epoch + 1, instance = excluded.instance, pid = excluded.pid"
        )
        with self._transaction("become the worker of"):
            self._db.execute(statement, (self._group, self._instance, os.getpid()))
            return int(self._newest_worker()[0])

    def _require_newest(self) -> None:
        epoch, instance, pid = self._newest_worker()
        if epoch != self._epoch:
            raise Fenced(f"{self.path}: worker {instance!r} (process {pid}) has taken over group {self._group!r}: end")

    def _newest_worker(self) -> tuple[int, str, int]:
        query = 'SELECT epoch, instance, pid FROM workers WHERE "group" = ?'
        worker: tuple[int, str, int] = self._db.execute(query, (self._group,)).fetchone()
        return worker

    def _seek(self) -> None:
        states = self.committed(self._group)
        for place in self._inputs:
            self._require_beginning(place, states)
        self._generation += 1
        self._committed = {place: states.get(place, OffsetAndMetadata(0, "")) for place in self._inputs}
        self._positions = {place: state.offset for place, state in self._committed.items()}

    def _require_beginning(self, place: TopicPartition, states: Mapping[TopicPartition, OffsetAndMetadata]) -> None:
        """Raise InconsistentLog for a group without an offset in *place*, although predictions for it exist."""
        if self._predictions is None or place.topic != self._events or place in states:
            return
        if self.end(self._predictions, place.partition):
            raise InconsistentLog(
                f"{self.path}: group {self._group!r} has no offsets, but {self._predictions} has records: "
                "go on with the group that wrote them (transport.group), or begin afresh in another file"
            )

    def _read_next(self, records_max_by_topic: Mapping[str, int]) -> list[Record]:
        """Return the next records; the partition of a topic that comes first changes with each poll."""
        self._turn += 1
        found: list[Record] = []
        for topic, records_max in records_max_by_topic.items():
            query = "SELECT partition, end_offset FROM partitions WHERE topic = ? ORDER BY partition"
            ends = self._db.execute(query, (topic,)).fetchall()
            turn, full = self._turn % max(len(ends), 1), len(found) + records_max
            for partition, end in ends[turn:] + ends[:turn]:
                position = self._positions.get(TopicPartition(topic, partition), end)
                if position < end and len(found) < full:
                    records = self.read(topic, partition, position, full - len(found))
                    self._positions[TopicPartition(topic, partition)] = records[-1].offset + 1 if records else end
                    found += records
        return found

    def _data_version(self) -> int:
        return int(self._db.execute("PRAGMA data_version").fetchone()[0])


def _open(path: Path, *, create: bool, synchronous: Synchronous, busy_s: float) -> sqlite3.Connection:
    if create and path.parent.is_dir() and not path.exists():
        path.touch(mode=0o600)
    if not path.exists():
        missing = path if path.parent.is_dir() else path.parent
        raise ConfigError(
            f"{missing} does not exist; check transport.path (`streamal run` makes the file, no directory)"
        )
    wal = _wal(path)
    if path.stat().st_size == 0 and wal.exists() and wal.stat().st_size > 0:
        raise InconsistentLog(
            f"{path} is empty, but {wal.name} is not: somebody has emptied the database (F69). Restore a copy; or, to "
            "begin anew, remove both files and the snapshots"
        )
    with _translate_errors(path, "open", opening=True):
        db = sqlite3.connect(f"{path.as_uri()}?mode=rw", uri=True, timeout=busy_s, isolation_level=None)
        try:
            _prepare_with_patience(db, path, busy_s)
            db.execute(f"PRAGMA synchronous = {synchronous}")
        except BaseException:
            db.close()
            raise
    return db


def _prepare_with_patience(db: sqlite3.Connection, path: Path, busy_s: float) -> None:
    """Prepare the file, repeatedly for *busy_s*: SQLite does not wait for a process that is switching to the WAL."""
    deadline = time.monotonic() + busy_s
    while True:
        try:
            _prepare(db, path)
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                raise
            time.sleep(_WAIT_S)
        else:
            return


def _prepare(db: sqlite3.Connection, path: Path) -> None:
    """Create the tables in an empty file; raise ConfigError for a foreign file, or one of another version."""
    version = _version(db, path)
    if db.execute("PRAGMA journal_mode = WAL").fetchone()[0] != "wal":
        raise ConfigError(f"{path}: no write-ahead log is possible on this file system; choose a local disk")
    if version == 0:
        db.execute("BEGIN IMMEDIATE")
        if _version(db, path) == 0:  # nobody was faster
            for table in _TABLES:
                db.execute(table)
            db.execute(f"PRAGMA user_version = {_VERSION}")
        db.execute("COMMIT")


def _version(db: sqlite3.Connection, path: Path) -> int:
    # in one statement: between two, another process may be just making the tables
    query = "SELECT user_version, (SELECT count(*) FROM sqlite_master) FROM pragma_user_version"
    version, tables = db.execute(query).fetchone()
    if version not in (0, _VERSION):
        raise ConfigError(
            f"{path} has version {version}, this streamal knows {_VERSION}; use the streamal that made it"
        )
    if version == 0 and tables:
        raise ConfigError(f"{path} is a SQLite database of something else; choose another path")
    return int(version)


def _wal(path: Path) -> Path:
    """Return the path of the write-ahead log of the database at *path*."""
    return path.with_name(f"{path.name}-wal")


def _file_id(path: Path) -> tuple[int, int] | None:
    try:
        status = path.stat()
    except FileNotFoundError:
        return None
    return status.st_dev, status.st_ino


@contextmanager
def _translate_errors(path: Path, doing: str, *, opening: bool = False) -> Iterator[None]:
    """Turn SQLite's errors into ours, by `_ERRORS`; misuse of the module itself passes."""
    try:
        yield
    except (sqlite3.InterfaceError, sqlite3.ProgrammingError):
        raise
    except sqlite3.Error as error:
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        kind, text = _ERRORS.get(code, (Fatal, "an error that streamal does not know; please report it"))
        if opening:
            kind = Fatal if kind is Uncommitted else ConfigError
        raise kind(f"cannot {doing} {path}: {error}: {text}") from error
