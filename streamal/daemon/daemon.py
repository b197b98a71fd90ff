"""The loop: poll → take over → decide → commit → fold → snapshot. Live, in a replay and in the tests it is the same.

It receives its parts and imports no edge. It may stop anywhere, for any reason: the transport's committed offsets, with
the partitions' states beside them, and the log say where to go on. No local file is needed for that.
"""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum

from streamal.core.codec.quarantine import find_quarantined
from streamal.core.fold import Fold
from streamal.core.join import decode_replies, referenced_offsets
from streamal.core.records import OffsetAndMetadata, Record, TopicPartition
from streamal.core.rules import Rules, Step
from streamal.core.scoring import rebuild_memory
from streamal.core.snapshot import decode_snapshot, encode_snapshot
from streamal.core.state import PartitionState, TrainerState, decode_states
from streamal.core.step import step
from streamal.core.strategies.base import Memory
from streamal.daemon.batch_size import Batches
from streamal.daemon.consistency import (
    is_read_by,
    require_ends,
    require_positions,
    require_requests,
    require_states,
)
from streamal.daemon.exporter import Exporter, Logger
from streamal.daemon.poison import Poison
from streamal.daemon.steady_clock import SteadyClock
from streamal.errors import Behind, Fatal, InconsistentLog, StreamalError, Uncommitted, Unreadable
from streamal.ports import Clock, Meter, Snapshots, Transport, read_events, scan

__all__ = ["Daemon", "Settings"]


_BACKOFF_MAX_S = 5.0


class _FoldState(Enum):
    """How far the logs are folded, between two phases of a step."""

    FOLDED = "at least to the versions in the committed states"
    UNREAD = "the last step's own records are still to be read, after the next poll"
    BEHIND = "not yet to the versions in the committed states: nothing may be predicted"


@dataclass(frozen=True, slots=True)
class Settings:
    """How the loop runs; `Rules` says what it decides.

    Attributes:
        fingerprint: names the make of a snapshot; see `streamal.core.snapshot`.
        step_bytes: a step takes records of at most so many bytes, but always one.
        step_target_s: how long the work of a step may take; the batches shrink to what a slow model does in that time.
        group: the consumer group, whose committed states are compared with the topics at the start; "": they are not.
        poll_gap_s: a worker that does not poll for so long loses its partitions.
        snapshot_every_s: at most one snapshot in so many seconds, and only if something was folded.
        gauges_every_s: the gauges are exported once in so many seconds.
        clock_jump_s, clock_settle_s: see `SteadyClock`.
        backoff_s: the wait after a failed step; it doubles with each further one, up to 5 s.
        attempts_max: after so many failed steps the daemon gives up (with the defaults after about 45 s).
    """

    rules: Rules
    fingerprint: str
    events_per_step: int = 500
    labels_per_step: int = 100
    step_bytes: float = math.inf
    step_target_s: float = math.inf
    poll_gap_s: float = 60.0
    poll_timeout_s: float = 0.2
    snapshot_every_s: float = 60.0
    gauges_every_s: float = 1.0
    group: str = ""
    clock_jump_s: float = 10.0
    clock_settle_s: float = 300.0
    backoff_s: float = 0.05
    attempts_max: int = 16


class Daemon:
    """One worker. Call `start`, then `run`; or `tick` as often as you like, then `close`."""

    def __init__(
        self,
        settings: Settings,
        new_fold: Callable[[], Fold],
        transport: Transport,
        snapshots: Snapshots | None,
        clock: Clock,
        meter: Meter,
        log: Logger,
    ) -> None:
        """Take the parts; `start` reads first. Without *snapshots* every start folds the whole log."""
        self.poison: Poison | None = None
        """Notes what is under way, so that an event that kills the process is found (F35); None: nothing is noted."""
        self._settings, self._rules, self._topics = settings, settings.rules, settings.rules.topics
        self._transport, self._snapshots = transport, snapshots
        self._clock = SteadyClock(clock, settings.clock_jump_s, settings.clock_settle_s, meter, log)
        self._meter, self._log = meter, log
        self._exporter = Exporter(self._rules, meter, log, settings.clock_jump_s)
        self._batches = Batches(
            settings.events_per_step, settings.labels_per_step, settings.step_target_s, settings.poll_gap_s
        )
        self._generation = -1
        self._fold_state = _FoldState.FOLDED
        self._committed: dict[TopicPartition, OffsetAndMetadata] = {}
        self._memories: dict[TopicPartition, Memory] = {}
        self._now = 0.0
        self._replies_end: tuple[int, float] | None = None
        self._held: Sequence[Record] = ()
        """Polled records that wait for the next steps, see `Settings.step_bytes`."""
        self._snapshot_at, self._gauges_at = 0.0, -math.inf
        self._snapshot_version = 0
        self._stopping = self._states_doubted = False
        self._attempts = 0
        self.ready = False
        """Whether the log is folded and partitions are assigned: from here on events are predicted."""
        self.ticked_at = 0.0
        """When the last tick ended, by the monotonic clock; 0.0 before the first."""
        self.sleep: Callable[[float], object] = time.sleep
        """Waits so many seconds after a failed step."""
        self.fold = new_fold()

    def start(self) -> None:
        """Restore the newest usable snapshot, then fold the logs to their ends, before anything is polled (F45)."""
        self._read_poison_note()
        for data in self._snapshots.load() if self._snapshots else ():
            fold = decode_snapshot(data, self._settings.fingerprint)
            if (
                fold is not None
                and is_read_by(self._transport, self._topics, fold.books)
                and self._leave_out_quarantined(fold)
            ):
                self.fold = fold
                break
            self._log.warning("snapshot_not_taken", reason="other make" if fold is None else "other log")
        else:
            self._leave_out_quarantined(self.fold)
        self._log_snapshot_problems()
        self._exporter.resume(self.fold)
        restored = self._snapshot_version = self.fold.books.version.offset
        self._fold_all()
        self._exporter.report_schema(self.fold)
        self._read_clock()
        self._snapshot_at = self._clock.monotonic()
        self._log.info(
            "started", restored=restored, version=self.fold.books.version.offset, open=len(self.fold.books.pending)
        )

    def _fold_all(self) -> None:
        """Fold the logs to their ends, and wait for open requests that an unfinished transaction hides."""
        while True:
            try:
                if self.poison is not None:
                    self.poison.beat()
                self._fold_logs(math.inf)
                if self._settings.group:
                    committed = self._transport.committed(self._settings.group)
                    require_requests(self._topics, self.fold.books, committed)
            except Uncommitted as error:
                self._back_off(error)
            else:
                self._attempts = 0
                return

    def _leave_out_quarantined(self, fold: Fold) -> bool:
        """Tell *fold* which examples not to learn; return False if it has learned one of them already."""
        version = fold.books.version.offset
        found = find_quarantined(scan(self._transport, self._topics.training, 0, version))
        fold.learned.left_out |= frozenset(found)
        return all(offset >= version for offset in found)

    def _read_poison_note(self) -> None:
        """Log which example of ``training`` the life before was learning when it died."""
        offset = None if self.poison is None else self.poison.load()
        if offset is not None:
            self._log.warning(
                "died_while_learning",
                training_offset=offset,
                hint=f"if it dies there again: stop all workers, then `streamal quarantine {offset} --why ...`",
            )

    def stop(self) -> None:
        """Ask `run` to end after the step at hand; safe from a signal handler."""
        self._stopping = True

    def run(self) -> None:
        """Tick until `stop` is called, then close."""
        while not self._stopping:
            self.tick()
        self.close()

    def close(self) -> None:
        """Save a last snapshot; everything else is committed already."""
        self._save_snapshot()
        if self.poison is not None:
            self.poison.close()
        self._log.info("stopped", version=self.fold.books.version.offset, open=len(self.fold.books.pending))

    def tick(self) -> int:
        """Do one step and return how many records it consumed; 0 if the transport was in trouble.

        F4, F9: a transaction was aborted, or its outcome is unknown. Only the committed offsets say which: before the
        next step everything that was polled is dropped, and the transport rewinds.

        Raises:
            Fatal: the trouble has lasted for `Settings.attempts_max` steps, or cannot pass.
        """
        if self.poison is not None:
            self.poison.beat()
        try:
            if self._attempts:
                self._rewind()
            consumed = self._step()
        except Uncommitted as error:
            self._back_off(error)
            return 0
        except StreamalError:
            raise
        except BaseException:  # a memory that is full makes any line fail
            if self.poison is not None:
                self.poison.blame()
            raise
        self._attempts = 0
        return consumed

    def _step(self) -> int:
        """Poll, take over, decide, commit, fold: one step. Return how many records it consumed."""
        began = time.perf_counter()
        records_max, was_unread = self._records_max(), self._fold_state is _FoldState.UNREAD
        generation = self._generation if self._held else None
        polled = self._poll(records_max)
        self._take_over()
        replies = sum(record.topic == self._topics.labels for record in polled)
        # F35: the deaths that make us careful are known only after the poll that takes a partition over
        are_too_many = self.poison is not None and self.poison.careful and len(polled) - replies > 1
        if self._fold_state is _FoldState.BEHIND or generation not in {None, self._generation} or are_too_many:
            return self._skip_step(polled)
        if replies and not was_unread:
            # F24: a reply may overtake its request; whoever wrote it has seen it committed, so it is there to be read
            self._fold_requests()
        now = self._read_clock()
        result = self._decide(polled, len(polled) - replies, now)
        if result.offsets:
            self._commit(result)
            self._count_step(result, time.perf_counter() - began)
        if len(polled) - replies >= records_max.get(self._topics.events, math.inf):
            # the next poll does not have to wait: by the time that it ends, what was committed is visible
            self._fold_state = _FoldState.UNREAD
        else:
            self._fold_logs()
        self._save_and_export(now)
        self.ready, self.ticked_at = True, self._clock.monotonic()
        return len(polled)

    def _poll(self, records_max: Mapping[str, int]) -> Sequence[Record]:
        """Return the records of this step, as many as its bytes allow: what was held back before, else what is new.

        While records are held back the transport is polled only to stay in the group (F66).
        """
        held = self._held
        if held:
            self._transport.poll({}, 0.0)
        polled = held or self._transport.poll(records_max, self._poll_timeout_s())
        sizes = itertools.accumulate(len(record.value or b"") for record in polled)
        count = max(1, sum(size <= self._settings.step_bytes for size in sizes))
        self._held = polled[count:]
        return polled[:count]

    def _rewind(self) -> None:
        """Go back to the committed offsets; what was held back is polled again."""
        self._held = ()
        self._transport.rewind()

    def _skip_step(self, polled: Sequence[Record]) -> int:
        """Skip this step, and rewind: the fold is behind, the partitions have changed, or one event has to be alone."""
        if polled:
            self._rewind()
        self.ticked_at = self._clock.monotonic()
        return 0

    def _decide(self, polled: Sequence[Record], events: int, now: float) -> Step:
        """Return the transaction for the records *polled*, *events* of which are events."""
        decoded = decode_replies(self._rules, self.fold, polled)
        referenced = read_events(self._transport, self._topics.events, referenced_offsets(self._rules, decoded))
        decoded = decoded._replace(events=referenced, polled_until=self._replies_polled_until(polled, now))
        since, killers = self._clock.monotonic(), {}
        if self.poison is not None:
            self.poison.begin(record for record in polled if record.topic == self._topics.events)
            killers = self.poison.killers
        result = step(self._rules, self.fold, self._committed, polled, now, decoded, self._memories, killers)
        if self.poison is not None:
            self.poison.end()
        self._batches.note_prediction(events, self._clock.monotonic() - since)
        return result

    def _commit(self, result: Step) -> None:
        """Commit *result*, then take over its states."""
        began, since = time.perf_counter(), self._clock.monotonic()
        self._transport.commit(result.outputs, result.offsets)
        self._meter.observe("commit_seconds", time.perf_counter() - began)
        self._batches.note_commit(self._clock.monotonic() - since)
        self._committed.update(result.offsets)
        self._memories.update(result.memories)
        if self.poison is not None and self.poison.careful:
            self.poison.look(self._committed, self._topics.events)

    def _replies_polled_until(self, polled: Sequence[Record], now: float) -> float:
        """Return the time up to which this trainer has polled all replies; infinite if no request is due to expire.

        After a stop there may be more replies than one step takes: a request that was answered in time must not expire
        (F20). The end of ``labels`` is noted once, and then waited for, so that a flood of replies cannot hold up the
        expiries (F26).
        """
        labels, due = TopicPartition(self._topics.labels, 0), self.fold.books.pending.deadline()
        if labels not in self._committed or due is None or due > now:
            return math.inf
        if self._replies_end is None or self._replies_end[1] < due:
            self._replies_end = self._transport.end(*labels), now
        end, noted_at = self._replies_end
        read_to = max((record.offset + 1 for record in polled if record.topic == labels.topic), default=0)
        try:
            left = self._transport.read(*labels, max(read_to, self._committed[labels].offset), 1)
        except Unreadable:  # the next poll raises it, when what was polled now is committed
            return -math.inf
        if left and left[0].offset < end:
            return -math.inf
        self._replies_end = None
        return noted_at

    def _poll_timeout_s(self) -> float:
        """Return how long to wait for records: not beyond the next deadline of an open request."""
        if self._fold_state is _FoldState.BEHIND:
            return 0.0
        due, longest = self.fold.books.pending.deadline(), self._settings.poll_timeout_s
        if TopicPartition(self._topics.labels, 0) not in self._committed:
            return longest  # only the trainer closes expired requests
        return longest if due is None else min(longest, max(0.0, due - self._read_clock()))

    def _back_off(self, error: Uncommitted) -> None:
        """Count a step that did not happen, and wait before the next attempt: each time twice as long, 5 s at most."""
        self._attempts += 1
        self._meter.count("steps", "uncommitted", 1)
        self._log.warning("uncommitted", attempt=self._attempts, error=str(error))
        if self._attempts >= self._settings.attempts_max:
            if isinstance(error, Behind):
                raise InconsistentLog(str(error)) from error
            raise Fatal(f"gave up after {self._attempts} attempts: {error}") from error
        self.sleep(min(_BACKOFF_MAX_S, self._settings.backoff_s * 2.0 ** (self._attempts - 1)))

    def _count_step(self, result: Step, seconds: float) -> None:
        self._meter.count("steps", "committed", 1)
        latest = self._last_coordinates(result)
        for (name, kind), times in result.tally.items():
            self._meter.count(name, kind, times, latest.get(name, ""))
        if accepted := result.tally["events", "accepted"]:
            self._exporter.report_events(accepted, result.tally["misfit_events", ""])
        self._exporter.report_refusals(result.inputs, result.refused, self.fold.learned.schema)
        for delay_s in result.label_delays_s:
            self._meter.observe("label_delay_seconds", delay_s)
        self._meter.observe("step_seconds", seconds, latest.get("events", ""))

    def _last_coordinates(self, result: Step) -> Mapping[str, str]:
        """Return the coordinates of the last event, request and dead letter: where to look when a count is strange.

        A counter that the step has raised for several kinds gets none: one record has one kind only.
        """
        topics, kinds = self._topics, [name for name, _ in result.tally]
        found = {}
        for name, topic in (
            ("events", topics.predictions),
            ("requests", topics.requests),
            ("dead_letters", topics.dead_letters),
        ):
            if kinds.count(name) == 1:
                made = (each for each in reversed(result.outputs) if each.topic == topic and each.value is not None)
                output = next(made, None)
                if output is not None and output.key is not None:
                    found[name] = output.key.decode("ascii", "replace")
        return found

    def _take_over(self) -> None:
        """Take over the partitions that this worker owns now, and fold the log as far as their last owners had.

        With a long log and a slow model that takes several ticks, so that the group hears of this worker meanwhile.
        """
        generation, assignment = self._transport.assignment()
        if generation != self._generation:
            self._require_consistent(assignment)
            self._generation, self._committed = generation, dict(assignment)
            self._count_deaths()
            self._memories = self._rebuild_memories()
            self._fold_logs()
            self._log.info("assigned", partitions=[f"{place.topic}/{place.partition}" for place in sorted(assignment)])
        elif self._fold_state is not _FoldState.FOLDED:
            self._fold_logs()

    def _count_deaths(self) -> None:
        """Commit the deaths of the life before beside the offsets that it died at."""
        if self.poison is not None:
            counted = self.poison.take_over(self._committed, self._topics.events)
            if counted:
                self._log.warning(
                    "died_in_a_step", at=[f"{p.topic}/{p.partition}-{o.offset}" for p, o in counted.items()]
                )
                self._transport.commit([], counted)
                self._committed.update(counted)
            self.poison.forget_deaths(self._committed)

    def _require_consistent(self, assignment: Mapping[TopicPartition, OffsetAndMetadata]) -> None:
        """Raise InconsistentLog where offsets and topics of *assignment* do not belong together (F61).

        Another owner may have committed since these states were read: so they are read once more before that.
        """
        require_ends(self._transport, assignment)
        try:
            require_states(self._transport, self._topics, assignment)
        except InconsistentLog as error:
            if self._states_doubted:
                raise
            self._states_doubted = True
            raise Behind(str(error)) from error
        self._states_doubted = False

    def _rebuild_memories(self) -> dict[TopicPartition, Memory]:
        """Return the memories of a strategy that looks back, read from the log: no committed state holds them."""
        lookback, events = self._rules.requirements.lookback, self._topics.events
        ends = {place: at.offset for place, at in self._committed.items() if place.topic == events and lookback}
        wanted = {place.partition: range(max(0, end - lookback), end) for place, end in ends.items()}
        found = read_events(self._transport, events, wanted)
        return {
            place: rebuild_memory(self._rules, [r for r in found.values() if r.partition == place.partition])
            for place in ends
        }

    def _fold_logs(self, share_s: float | None = None) -> None:
        """Fold what was committed to ``requests`` and ``training``; if the model is slow, a slice of it.

        A slice ends after *share_s* seconds of learning (by default a step's share), but not before the fold has
        reached the versions in the committed states, unless that takes so long that the group would miss this worker.
        Then the fold is `BEHIND`.

        Raises:
            Behind: the log ends before a version in a committed state.
        """
        self._fold_requests()
        share_s = self._batches.share_s if share_s is None else share_s
        cut = self._fold_training(share_s, max(share_s, self._batches.longest_s))
        ahead = self._state_ahead()
        if ahead is not None and not cut:
            raise Behind(
                f"{self._topics.training} can be read up to version {self.fold.books.version.offset}, but {ahead} was "
                "committed. If that lasts, records were lost: restore the topic, or begin afresh in a new group"
            )
        self._fold_state = _FoldState.FOLDED if ahead is None else _FoldState.BEHIND

    def _fold_training(self, share_s: float, longest_s: float) -> bool:
        """Fold ``training`` to its end, or for *share_s* to *longest_s* seconds; return whether time has run out."""
        before, labels, spent_s, cut = self.fold.books.version.records, self.fold.learned.quality.labels, 0.0, False
        for record in scan(self._transport, self._topics.training, 0, self.fold.books.version.offset):
            began = self._clock.monotonic()
            if self.poison is not None:
                self.poison.begin_learning(record.offset)
            self.fold.apply_training(record.offset, record.value)
            spent_s += max(0.0, self._clock.monotonic() - began)
            cut = spent_s >= share_s and (spent_s >= longest_s or self._state_ahead() is None)
            if cut:
                break
        if self.poison is not None:
            self.poison.end()
        if self.fold.books.version.records > before:
            self._batches.note_learning(self.fold.learned.quality.labels - labels, spent_s)
            self._exporter.report_learning(self.fold)
            self._meter.count("folded", "", self.fold.books.version.records - before)
            self._meter.gauge("last_fold_timestamp_seconds", self._read_clock())
        return cut

    def _state_ahead(self) -> PartitionState | TrainerState | None:
        """Return a committed state of this worker's with a version that the fold has not reached, if there is one."""
        books, learned = self.fold.books.version, self.fold.learned.version
        for state in decode_states(self._committed, self._topics.events):
            match state:
                case TrainerState(version=version, records=records):
                    ahead = version > books.offset or records > books.records
                case PartitionState(version=version):
                    ahead = version > learned.offset
            if ahead:
                return state
        return None

    def _fold_requests(self) -> None:
        """Fold what was committed to ``requests`` since the last time."""
        for partition in range(self._rules.partitions):
            for record in scan(
                self._transport, self._topics.requests, partition, self.fold.books.positions.get(partition, 0)
            ):
                self.fold.apply_request(partition, record.offset, record.key, record.value)

    def _records_max(self) -> Mapping[str, int]:
        """Return how many records of each topic the next poll may return; none while the fold is behind."""
        if self._fold_state is _FoldState.BEHIND:
            return {}
        if self.poison is not None and self.poison.careful:
            return {self._topics.events: 1, self._topics.labels: self._batches.labels()}
        return {self._topics.events: self._batches.events(), self._topics.labels: self._batches.labels()}

    def _read_clock(self) -> float:
        """Return the present: by the clock, if it can be believed, and not before what the log has noted (F36, F64)."""
        self._now = self._clock.follow(max(self.fold.books.now, self.fold.books.asked_at))
        return self._now

    def _save_and_export(self, now: float) -> None:
        """Save a snapshot and export the gauges if they are due; between transactions, so a snapshot is consistent."""
        elapsed = self._clock.monotonic()
        if elapsed - self._snapshot_at >= self._settings.snapshot_every_s:
            self._snapshot_at = elapsed
            self._save_snapshot()
        if elapsed - self._gauges_at >= self._settings.gauges_every_s:
            self._gauges_at = elapsed
            require_positions(self._transport, self._topics, self.fold.books)
            self._exporter.export(self.fold, self._committed, self._transport, now)
            self._meter.gauge("last_step_timestamp_seconds", now)

    def _save_snapshot(self) -> None:
        """Save a snapshot, unless nothing was folded since the last one."""
        if self._snapshots is None or self.fold.books.version.offset == self._snapshot_version:
            return
        saved = self._snapshots.save(encode_snapshot(self.fold, self._settings.fingerprint))
        self._meter.count("snapshots", "saved" if saved else "failed", 1)
        if saved:
            self._snapshot_version = self.fold.books.version.offset
            self._meter.gauge("last_snapshot_timestamp_seconds", self._now)
        else:
            self._log.warning("snapshot_failed", version=self.fold.books.version.offset)
        self._log_snapshot_problems()

    def _log_snapshot_problems(self) -> None:
        for problem in self._snapshots.problems if self._snapshots else ():
            self._log.warning("snapshot_problem", problem=problem)
