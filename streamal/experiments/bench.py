"""`Bench` runs many replays of one stream on all cores, and keeps finished ones in a cache."""

from __future__ import annotations

import gc
import hashlib
import json
import multiprocessing
import os
import signal
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from functools import cache
from importlib.metadata import version
from pathlib import Path
from types import TracebackType
from typing import Self

import msgspec

import streamal
from streamal.config import Config
from streamal.errors import StreamalError
from streamal.experiments.runs import Run, measure
from streamal.recordings.reading import Stream
from streamal.replay.annotators import AnnotatorsRules
from streamal.replay.replay import replay

__all__ = ["Bench", "Cell", "cache_directory", "slice_stream"]

_CACHED_MAX = 5_000
"""Files in the cache, some 30 kB each; the oldest go first."""


@dataclass(frozen=True, slots=True)
class Cell:
    """One replay that `Bench` is to run.

    Attributes:
        arm, model: names, for the report.
        config: the settings of the replay.
        annotators: how they reply.
        batch: events per step.
        first, last: the rows of the stream that are replayed, *last* not included; None: to its end.
    """

    arm: str
    model: str
    config: Config
    annotators: AnnotatorsRules = field(default_factory=AnnotatorsRules)
    batch: int = 1
    first: int = 0
    last: int | None = None


def slice_stream(stream: Stream, first: int, last: int | None = None) -> Stream:
    """Return the rows from *first* to *last*; the columns' types and the classes are those of the whole recording."""
    return replace(stream, rows=stream.rows[first:last])


def cache_directory() -> Path:
    """Return the default directory of finished replays."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "streamal"


class Bench:
    """Runs cells of one stream on several processes; a context manager, so that the processes end."""

    def __init__(self, stream: Stream, cache: Path | None = None, workers: int | None = None) -> None:
        """Take *stream*, the *cache* directory of finished replays (None keeps none), and the number of *workers*.

        None is one worker for each core. With 0 every replay runs in this process: trees of many classes then depend on
        its PYTHONHASHSEED.
        """
        self.stream, self._cache = stream, cache
        self._workers = (os.cpu_count() or 1) if workers is None else workers
        self._pool: ProcessPoolExecutor | None = None
        self._runs: dict[str, Run] = {}
        self._digest = _stream_digest(stream) if cache else ""
        if cache:
            cache.mkdir(parents=True, exist_ok=True)
            _prune(cache)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._pool is not None:
            self._pool.shutdown(wait=error is None, cancel_futures=True)

    def run(self, cells: Sequence[Cell], done: Callable[[int], object] = lambda _: None) -> list[Run]:
        """Return one `Run` for each cell, in their order; call *done* with each number of newly finished cells.

        Raises:
            ConfigError: a cell's configuration cannot be run.
            StreamalError: a process was killed, for want of memory perhaps.
        """
        keys = [self._key(cell) for cell in cells]
        for key in dict.fromkeys(keys):
            cached = None if key in self._runs else self._load(key)
            if cached is not None:
                self._runs[key] = cached
        wanted = {key: cell for key, cell in zip(keys, cells, strict=True) if key not in self._runs}
        done(sum(key in self._runs for key in keys))
        for key, run in self._replay_missing(wanted):
            self._store(key, run)
            self._runs[key] = run
            done(keys.count(key))
        return [_rename(self._runs[key], cell) for key, cell in zip(keys, cells, strict=True)]

    def _replay_missing(self, wanted: Mapping[str, Cell]) -> Iterable[tuple[str, Run]]:
        """Run the *wanted* cells, and yield each run when it is finished."""
        if self._workers == 0:
            for key, cell in wanted.items():
                yield key, run_cell(self.stream, cell)
            return
        if not wanted:
            return
        if self._pool is None:
            # spawn: a fork would copy the progress bar's thread, and whatever locks it holds
            self._pool = ProcessPoolExecutor(
                self._workers, multiprocessing.get_context("spawn"), initializer=_start_worker, initargs=(self.stream,)
            )
        with _fixed_hash_seed():  # the first submit starts the processes
            futures: dict[Future[Run], str] = {self._pool.submit(_run, cell): key for key, cell in wanted.items()}
        try:
            for future in as_completed(futures):
                yield futures[future], future.result()
        except BrokenProcessPool as error:
            raise StreamalError(
                "a worker process has died, for want of memory perhaps: try --workers 1; what was finished is kept"
            ) from error
        finally:
            for future in futures:
                future.cancel()

    def _key(self, cell: Cell) -> str:
        """Return a digest of everything that the result depends on; names are not part of it."""
        settings = {
            "code": _code_digest(),
            "river": version("river"),
            "stream": self._digest,
            "rows": [cell.first, cell.last],
            "config": cell.config.model_dump(mode="json"),
            "annotators": asdict(cell.annotators),
            "batch": cell.batch,
        }
        return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()

    def _load(self, key: str) -> Run | None:
        if self._cache is None:
            return None
        try:
            return msgspec.json.decode((self._cache / f"{key}.json").read_bytes(), type=Run)
        except (OSError, msgspec.DecodeError):  # missing, or cut off by a crash: it is replayed again
            return None

    def _store(self, key: str, run: Run) -> None:
        if self._cache is not None:
            file = self._cache / f"{key}.json"
            draft = file.with_suffix(f".{os.getpid()}")
            draft.write_bytes(msgspec.json.encode(run))
            draft.replace(file)


def run_cell(stream: Stream, cell: Cell) -> Run:
    """Replay one cell."""
    rows = slice_stream(stream, cell.first, cell.last)
    return _rename(measure(replay(rows, cell.config, cell.annotators, cell.batch), "", "", 0.0, 0), cell)


def _rename(run: Run, cell: Cell) -> Run:
    """Return *run* with the names of *cell*; the cache has settings, not names."""
    config = cell.config
    return msgspec.structs.replace(
        run, arm=cell.arm, model=cell.model, budget=float(config.budget.share), seed=config.sampling.seed
    )


@contextmanager
def _fixed_hash_seed() -> Iterator[None]:
    """Give all processes that start now the same hash seed: River's trees iterate over sets of classes."""
    name = "PYTHONHASHSEED"
    before = os.environ.get(name)
    os.environ[name] = "0"
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before


_STREAMS: list[Stream] = []
"""The stream of a worker process: received once, not with every cell."""


def _start_worker(stream: Stream) -> None:
    _STREAMS[:] = [stream]
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C ends it at once, and without a traceback
    gc.freeze()  # the collector need not walk through the recording again and again


def _run(cell: Cell) -> Run:
    return run_cell(_STREAMS[0], cell)


def _stream_digest(stream: Stream) -> str:
    return hashlib.sha256(msgspec.json.encode([stream.rows, dict(stream.kinds), stream.classes])).hexdigest()


@cache
def _code_digest() -> str:
    """Return a digest of all source files of the package: another version may give another result."""
    digest = hashlib.sha256()
    root = Path(streamal.__file__).parent
    for path in sorted(root.rglob("*.py")):
        digest.update(path.relative_to(root).as_posix().encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()


def _prune(cache: Path) -> None:
    files = sorted(cache.glob("*.json"), key=lambda path: path.stat().st_mtime)
    for path in files[: max(0, len(files) - _CACHED_MAX)]:
        path.unlink(missing_ok=True)
