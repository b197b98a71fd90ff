"""What an operator sees: the gauges, and a line in the log when something turns bad, or good again."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import islice
from typing import Protocol

from streamal.core.fold import Fold
from streamal.core.gauges.clock import clock_ahead_s
from streamal.core.gauges.confidence_drift import ConfidenceDrift
from streamal.core.gauges.declaration import Worker
from streamal.core.gauges.gauges import gauges
from streamal.core.gauges.misfits import MISFITS_MAX, MisfitShare
from streamal.core.gauges.mute import check_mute
from streamal.core.gauges.refusals import RefusalEpisodes
from streamal.core.records import OffsetAndMetadata, TopicPartition
from streamal.core.rules import Refused, Rules
from streamal.core.schema import Schema
from streamal.ports import Log, Meter

__all__ = ["Exporter", "Logger"]


class Logger(Protocol):
    """A log of events, each a name with fields, as structlog has it."""

    def info(self, event: str, **fields: object) -> object:
        """Note something expected."""
        ...

    def warning(self, event: str, **fields: object) -> object:
        """Note something that an operator may want to know."""
        ...


class Exporter:
    """Exports the gauges and logs what has changed; it remembers what it has logged, so that it logs it once."""

    def __init__(self, rules: Rules, meter: Meter, log: Logger, clock_jump_s: float) -> None:
        """Export for a worker with these *rules*; the log may be *clock_jump_s* ahead of its clock."""
        self._rules, self._meter, self._log, self._clock_jump_s = rules, meter, log, clock_jump_s
        self._failures = self._quarantined = 0
        self._sick = False
        self._drift = ConfidenceDrift()
        self._misfits = MisfitShare()
        self._is_misfit = False
        self._mute: tuple[int, ...] = ()
        self._is_clock_behind = False
        self._refusals = RefusalEpisodes()
        self._differences: tuple[str, ...] = ()

    def resume(self, fold: Fold) -> None:
        """Take what has gone wrong in *fold* so far as logged already, as after a snapshot was restored."""
        guard = fold.learned.guard
        self._failures, self._quarantined, self._sick = fold.learned.model.failures, guard.quarantined, guard.sick

    def report_learning(self, fold: Fold) -> None:
        """Log what has gone wrong while *fold* has learned."""
        guard = fold.learned.guard
        if fold.learned.model.failures > self._failures:
            self._log.warning("examples_not_learned", failures=fold.learned.model.failures)
        new = min(guard.quarantined - self._quarantined, len(guard.names))
        for name in islice(guard.names, len(guard.names) - new, None):
            self._log.warning("example_quarantined", example=name, quarantined=guard.quarantined)
        if guard.sick and not self._sick:
            self._log.warning("model_sick", hint="its answers are no probabilities, and no single example explains it")
        self.report_schema(fold)
        self.resume(fold)

    def report_schema(self, fold: Fold) -> None:
        """Log how the declared features differ from the schema in the log, if they do."""
        differences = fold.learned.differences
        if differences != self._differences:
            hint = "features.declared counts; what the log has and nobody declared stays a feature"
            self._log.warning("schema_differs", differences=list(differences), hint=hint)
        self._differences = differences

    def report_refusals(self, inputs: int, refused: Sequence[Refused], schema: Schema | None) -> None:
        """Take in a step of so many *inputs*, *refused* among them; log when refusals of a kind begin."""
        for each, what in self._refusals.update(inputs, refused, schema.kinds if schema is not None else ()):
            reason, hint = each.refusal.reason, self._refusals.hint(each.refusal.reason)
            said = {"what": what} if what else {}
            self._log.warning("inputs_refused", reason=reason.value, topic=each.topic, at=each.at, **said, hint=hint)

    def report_events(self, accepted: int, misfits: int) -> None:
        """Take in the events of a step; log when most of them begin not to fit the schema, and when they fit again."""
        self._misfits.update(accepted, misfits)
        share = self._misfits.value() or 0.0
        if share > MISFITS_MAX and not self._is_misfit:
            self._log.warning("events_do_not_fit", share=round(share, 3))
        elif self._is_misfit and share <= MISFITS_MAX:
            self._log.info("events_fit_again")
        self._is_misfit = share > MISFITS_MAX

    def export(self, fold: Fold, committed: Mapping[TopicPartition, OffsetAndMetadata], log: Log, now: float) -> None:
        """Set all gauges of a worker that owns the partitions among *committed*."""
        topics = self._rules.topics
        worker = Worker(self._rules, fold, committed, now, self._drift.means, self._misfits.value)
        asking = worker.once(check_mute)
        self._drift.update({partition: state.seen for partition, state in worker.states.items()})
        for name, value in gauges(worker).items():
            self._meter.gauge(name, math.nan if value is None else value)
        for name, topic in (("lag_events", topics.events), ("lag_labels", topics.labels)):
            places = [place for place in committed if place.topic == topic]
            lag = sum(log.end(*place) - committed[place].offset for place in places)
            self._meter.gauge(name, max(0, lag))
        self._report_clock(worker)
        if asking.mute and not self._mute:
            full = len(fold.books.pending) >= sum(
                partition_budget.open.total for partition_budget in self._rules.budgets
            )
            self._log.warning(
                "mute", partitions=list(asking.mute), events_since_request=asking.unasked, open_requests_full=full
            )
        elif self._mute and not asking.mute:
            self._log.info("asks_again")
        self._mute = asking.mute

    def _report_clock(self, worker: Worker) -> None:
        """Log when the log and the states are ahead of the clock: the caps of the partitions stand still till then."""
        ahead_s = worker.once(clock_ahead_s)
        is_behind = ahead_s > self._clock_jump_s
        if is_behind and not self._is_clock_behind:
            partitions = [partition for partition, state in worker.states.items() if state.now > worker.now]
            self._log.warning("clock_behind_log", seconds=round(ahead_s, 1), partitions=partitions)
        self._is_clock_behind = is_behind
