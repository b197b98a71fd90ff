"""The imperative shell: poll → step → commit → fold → snapshot. The only loop: live, in the replay and in the tests.

It receives its parts and imports no edge. Whatever stops it, wherever it stops, the transport's committed offsets
(with the partitions' states beside them) and the log say where to go on; nothing local is authoritative.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

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
from streamal.daemon.exporter import Exporter, Logger
from streamal.errors import Behind, Fatal, InconsistentLog, Uncommitted
from streamal.ports import Clock, Meter, Snapshots, Transport, read_events, scan

__all__ = ["Daemon", "Settings"]


_BACKOFF_MAX_S = 5.0


@dataclass(frozen=True, slots=True)
class Settings:
    """How the loop runs; what it decides is in `Rules`.

    Attributes:
        fingerprint: names the make of a snapshot; see `streamal.core.snapshot`.
        step_target_s: how long the work of a step may take; the batches shrink to what a slow model does in that time.
        poll_gap_s: who does not poll the transport for so long loses the partitions.
        snapshot_every_s: at most that often, in seconds of the clock, and only if something was learned.
        backoff_s: wait after a failed step, doubled with each further one up to 5 s; the supervisor's turn comes after
            attempts_max of them (with the defaults about 45 s).
        gauges_every_s: how often the figures are exported, in seconds of the clock.
    """

    rules: Rules
    fingerprint: str
    events_per_step: int = 500
    labels_per_step: int = 100
    step_target_s: float = math.inf
    poll_gap_s: float = 60.0
    poll_timeout_s: float = 0.2
    snapshot_every_s: float = 60.0
    gauges_every_s: float = 1.0
    backoff_s: float = 0.05
    attempts_max: int = 16


class Daemon:
    """One worker. Use: ``with Daemon(...) as daemon: daemon.run()``, or `start` and `tick` by hand."""

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
        """Take the parts; nothing is read before `start`. Without *snapshots* every start folds the whole log."""
        self._settings, self._rules, self._topics = settings, settings.rules, settings.rules.topics
        self._transport, self._snapshots = transport, snapshots
        self._clock, self._meter, self._log = clock, meter, log
        self._watcher = Exporter(self._rules, meter, log)
        self._batches = Batches(
            settings.events_per_step, settings.labels_per_step, settings.step_target_s, settings.poll_gap_s
        )
        self._generation = -1
        self._caught_up, self._put_off = True, False
        self._committed: dict[TopicPartition, OffsetAndMetadata] = {}
        self._memories: dict[TopicPartition, Memory] = {}
        self._now = 0.0
        self._replies_end: tuple[int, float] | None = None
        self._snapshot_at = self._gauges_at = 0.0
        self._snapshot_version = 0
        self._stopping = False
        self._attempts = 0
        self.ready = False
        """Whether the log was folded and partitions were assigned: from here on events are predicted."""
        self.ticked_at = 0.0
        """When the last tick ended, by the clock; 0.0 before the first."""
        self.fold = new_fold()

    def start(self) -> None:
        """Restore the newest usable snapshot and fold the logs to their ends, before anything is polled (F45)."""
        for data in self._snapshots.load() if self._snapshots else ():
            fold = decode_snapshot(data, self._settings.fingerprint)
            if fold is not None and self._is_of_this_log(fold):
                self.fold = fold
                break
            self._log.warning("snapshot_not_taken", reason="other make" if fold is None else "other log")
        self._tell_problems()
        self._watcher.resume(self.fold)
        restored = self._snapshot_version = self.fold.books.version.offset
        self._read_logs(math.inf)
        self._snapshot_at = self._tell_time()
        self._log.info(
            "started", restored=restored, version=self.fold.books.version.offset, open=len(self.fold.books.pending)
        )

    def _is_of_this_log(self, fold: Fold) -> bool:
        """Whether the log has, where *fold* ends, the very record that *fold* has seen there (F41, F42)."""
        offset = fold.books.version.offset - 1
        if offset < 0:
            return True
        found = self._transport.read(self._topics.training, 0, offset, 1)
        return bool(found) and (found[0].offset, found[0].value) == (offset, fold.books.last)

    def stop(self) -> None:
        """Ask `run` to end after the step at hand; safe from a signal handler."""
        self._stopping = True

    def run(self) -> None:
        """Tick until `stop`, then leave in good order."""
        while not self._stopping:
            self.tick()
        self.close()

    def close(self) -> None:
        """Store a last snapshot; everything else was committed already."""
        self._snapshot()
        self._log.info("stopped", version=self.fold.books.version.offset, open=len(self.fold.books.pending))

    def tick(self) -> int:
        """Do one step and return how many records it consumed; 0 if the transport was in trouble.

        F4, F9: whether a transaction was aborted or its outcome is unknown, only the committed offsets say what has
        happened: everything that was polled is dropped and the transport rewound, before the next step.

        Raises:
            Fatal: the trouble has lasted for `Settings.attempts_max` steps, or cannot pass.
        """
        try:
            if self._attempts:
                self._transport.rewind()
            consumed = self._step()
        except Uncommitted as error:
            self._trouble(error)
            return 0
        self._attempts = 0
        return consumed

    def _step(self) -> int:
        began = time.perf_counter()
        quota, was_put_off = self._quota(), self._put_off
        polled = self._transport.poll(quota, self._patience_s())
        if not self._adopt():
            return self._wait(polled)
        now = self._tell_time()
        replies = sum(record.topic == self._topics.labels for record in polled)
        if replies and not was_put_off:
            # F24: a reply may overtake its request; whoever wrote it has seen it committed, so it is there to be read
            self._read_requests()
        decoded = decode_replies(self._rules, self.fold, polled)
        events = read_events(self._transport, self._topics.events, referenced_offsets(self._rules, decoded))
        decoded = decoded._replace(events=events, polled_until=self._answered(polled, now))
        stepping = self._clock.now()
        result = step(self._rules, self.fold, self._committed, polled, now, decoded, self._memories)
        self._batches.predicted(len(polled) - replies, self._clock.now() - stepping)
        if result.offsets:
            committing, since = time.perf_counter(), self._clock.now()
            self._transport.commit(result.outputs, result.offsets)
            self._meter.observe("commit_seconds", time.perf_counter() - committing)
            self._batches.committed(self._clock.now() - since)
            self._committed.update(result.offsets)
            self._memories.update(result.memories)
            self._count(result, time.perf_counter() - began)
        # where the next poll will not have to wait, what was committed is visible by the time that it ends
        self._put_off = len(polled) - replies >= quota.get(self._topics.events, math.inf)
        if not self._put_off:
            self._caught_up = self._read_logs()
        self._keep_house(now)
        self.ready, self.ticked_at = True, now
        return len(polled)

    def _wait(self, polled: Sequence[Record]) -> int:
        """Step later: the log is not folded yet as far as the states that we own have noted; next, only show up."""
        if polled:
            self._transport.rewind()
        self.ticked_at = self._tell_time()
        return 0

    def _answered(self, polled: Sequence[Record], now: float) -> float:
        """Return the time up to which all replies were polled, if a request is due to expire and we are to say so.

        After a stop there may be more replies than one step takes: what was answered in time must not expire (F20).
        The end is noted once and then waited for, so that a flood of replies cannot hold up the expiries (F26).
        """
        labels, due = TopicPartition(self._topics.labels, 0), self.fold.books.pending.deadline()
        if labels not in self._committed or due is None or due > now:
            return math.inf
        if self._replies_end is None or self._replies_end[1] < due:
            self._replies_end = self._transport.end(*labels), now
        end, noted_at = self._replies_end
        read_to = max((record.offset + 1 for record in polled if record.topic == labels.topic), default=0)
        left = self._transport.read(*labels, max(read_to, self._committed[labels].offset), 1)
        if left and left[0].offset < end:
            return -math.inf
        self._replies_end = None
        return noted_at

    def _patience_s(self) -> float:
        """Return how long to wait for records: not beyond the next deadline of an open request."""
        if not self._caught_up:
            return 0.0
        due, longest = self.fold.books.pending.deadline(), self._settings.poll_timeout_s
        if TopicPartition(self._topics.labels, 0) not in self._committed:
            return longest  # only the trainer expires
        return longest if due is None else min(longest, max(0.0, due - self._tell_time()))

    def _trouble(self, error: Uncommitted) -> None:
        """Note that nothing happened, and wait a little longer each time before the next attempt."""
        self._attempts += 1
        self._meter.count("steps", "uncommitted", 1)
        self._log.warning("uncommitted", attempt=self._attempts, error=str(error))
        if self._attempts >= self._settings.attempts_max:
            if isinstance(error, Behind):
                raise InconsistentLog(str(error)) from error
            raise Fatal(f"gave up after {self._attempts} attempts: {error}") from error
        time.sleep(min(_BACKOFF_MAX_S, self._settings.backoff_s * 2.0 ** (self._attempts - 1)))

    def _count(self, result: Step, seconds: float) -> None:
        self._meter.count("steps", "committed", 1)
        latest = self._latest(result)
        for (name, kind), times in result.tally.items():
            self._meter.count(name, kind, times, latest.get(name, ""))
        for delay_s in result.label_delays_s:
            self._meter.observe("label_delay_seconds", delay_s)
        self._meter.observe("step_seconds", seconds, latest.get("events", ""))

    def _latest(self, result: Step) -> Mapping[str, str]:
        """Return the coordinates of the last event, request and dead letter: where to look when their counts are odd.

        Of a counter that a step has moved for several kinds, none: one record has one kind only.
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

    def _adopt(self) -> bool:
        """Take over what this worker owns now; return whether the log is folded as far as its predecessors had.

        Take-over waits for that; with a long log and a slow model for more than one tick, so that the group hears of
        us in between.
        """
        generation, assignment = self._transport.assignment()
        if generation != self._generation:
            self._generation, self._committed = generation, dict(assignment)
            self._memories = self._read_back()
            self._caught_up = self._read_logs()
            self._log.info("assigned", partitions=[f"{place.topic}/{place.partition}" for place in sorted(assignment)])
        elif self._put_off or not self._caught_up:
            self._caught_up = self._read_logs()
        self._put_off = False
        return self._caught_up

    def _read_back(self) -> dict[TopicPartition, Memory]:
        """Return what a strategy that looks back knows of the partitions owned: it is in no state, but in the log."""
        lookback, events = self._rules.requirements.lookback, self._topics.events
        ends = {place: at.offset for place, at in self._committed.items() if place.topic == events and lookback}
        wanted = {place.partition: range(max(0, end - lookback), end) for place, end in ends.items()}
        found = read_events(self._transport, events, wanted)
        return {
            place: rebuild_memory(self._rules, [r for r in found.values() if r.partition == place.partition])
            for place in ends
        }

    def _read_logs(self, share_s: float | None = None) -> bool:
        """Fold what was committed to ``requests`` and ``training``, a slice of it if the model is slow.

        A slice ends after *share_s* seconds of learning (by default a step's share), but not before what the states
        that we own have noted, unless that takes too long to be silent; then it is False.
        """
        self._read_requests()
        share_s = self._batches.share_s if share_s is None else share_s
        longest_s = max(share_s, self._batches.longest_s)
        before, labels, spent_s, cut = self.fold.books.version.records, self.fold.learned.quality.labels, 0.0, False
        for record in scan(self._transport, self._topics.training, 0, self.fold.books.version.offset):
            began = self._clock.now()
            self.fold.apply_training(record.offset, record.value)
            spent_s += max(0.0, self._clock.now() - began)
            cut = spent_s >= share_s and (spent_s >= longest_s or self._noted_ahead() is None)
            if cut:
                break
        if self.fold.books.version.records > before:
            self._batches.learned(self.fold.learned.quality.labels - labels, spent_s)
            self._watcher.learned(self.fold)
            self._meter.count("folded", "", self.fold.books.version.records - before)
            self._meter.gauge("last_fold_timestamp_seconds", self._tell_time())
        noted = self._noted_ahead()
        if noted is not None and not cut:
            raise Behind(
                f"{self._topics.training} can be read up to version {self.fold.books.version.offset}, but {noted} was "
                "committed. If that lasts, records were lost: restore the topic, or begin afresh in a new group"
            )
        return noted is None

    def _noted_ahead(self) -> PartitionState | TrainerState | None:
        """Return a state that we own and that has noted more of ``training`` than is folded."""
        books, learned = self.fold.books.version, self.fold.learned.version
        for noted in decode_states(self._committed, self._topics.events):
            match noted:
                case TrainerState(version=version, records=records):
                    ahead = version > books.offset or records > books.records
                case PartitionState(version=version):
                    ahead = version > learned.offset
            if ahead:
                return noted
        return None

    def _read_requests(self) -> None:
        for partition in range(self._rules.partitions):
            for record in scan(
                self._transport, self._topics.requests, partition, self.fold.books.positions.get(partition, 0)
            ):
                self.fold.apply_request(partition, record.offset, record.key, record.value)

    def _quota(self) -> Mapping[str, int]:
        if not self._caught_up:
            return {}
        return {self._topics.events: self._batches.events(), self._topics.labels: self._batches.labels()}

    def _tell_time(self) -> float:
        """Return the present, which never goes back (F36)."""
        self._now = max(self._now, self.fold.books.now, self._clock.now())
        return self._now

    def _keep_house(self, now: float) -> None:
        """Snapshot and export now and then, between transactions: so a snapshot is a consistent cut."""
        if now - self._snapshot_at >= self._settings.snapshot_every_s:
            self._snapshot_at = now
            self._snapshot()
        if now - self._gauges_at >= self._settings.gauges_every_s:
            self._gauges_at = now
            self._watcher.export(self.fold, self._committed, self._transport, now)
            self._meter.gauge("last_step_timestamp_seconds", now)

    def _snapshot(self) -> None:
        if self._snapshots is None or self.fold.books.version.offset == self._snapshot_version:
            return
        saved = self._snapshots.save(encode_snapshot(self.fold, self._settings.fingerprint))
        self._meter.count("snapshots", "saved" if saved else "failed", 1)
        if saved:
            self._snapshot_version = self.fold.books.version.offset
            self._meter.gauge("last_snapshot_timestamp_seconds", self._now)
        else:
            self._log.warning("snapshot_failed", version=self.fold.books.version.offset)
        self._tell_problems()

    def _tell_problems(self) -> None:
        for problem in self._snapshots.problems if self._snapshots else ():
            self._log.warning("snapshot_problem", problem=problem)
