"""Where everything stands, for the status page: a fold of the topics, without the model and without the daemon.

Counting needs no model, so none is trained here. Quality, spend and budget are the very functions that `streamal
status` and the metrics use; what is added are the curves over time, the delays and the annotators. All of it is
bounded: curves are thinned out as they grow.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter, deque
from collections.abc import Mapping
from typing import Any

import msgspec
from river import drift

from streamal.bootstrap.assembly import rules
from streamal.config import Config
from streamal.core.budget.counters import BudgetCounters
from streamal.core.budget.money import MICRO, WINDOWS
from streamal.core.codec.events import DeadLetter
from streamal.core.gauges.figures import figures
from streamal.core.gauges.mute import watch
from streamal.core.gauges.spend import bill
from streamal.core.records import (
    Abstention,
    Closing,
    Example,
    Lane,
    OffsetAndMetadata,
    Record,
    Request,
    TopicPartition,
    Training,
)
from streamal.core.state import PartitionState, TrainerState, decode_states
from streamal.inspection.fold_without_model import counting_fold

__all__ = ["Standing"]

_POINTS_MAX = 120
_DELAYS = 1_000
_DELAY_EDGES_S = (1.0, 5.0, 15.0, 60.0, 300.0, 900.0, 3_600.0, 14_400.0, 86_400.0)
_ANNOTATORS_MAX = 1_000
_MARKS_MAX = 50
_REFUSALS_MAX = 20
_TRAINED = ("model_failures", "model_sick", "model_quarantined", "quality_accuracy_natural")
"""What only the trained model tells."""


class _Annotator:
    """What one annotator has done, as the training log tells."""

    __slots__ = ("abstained", "agreed", "answered", "last", "seconds", "timed")

    def __init__(self) -> None:
        self.answered = self.abstained = self.agreed = self.timed = 0
        self.seconds = self.last = 0.0

    def add(self, record: Example | Abstention) -> None:
        self.last = record.at
        if record.seconds is not None:
            self.timed += 1
            self.seconds += record.seconds
        if isinstance(record, Abstention):
            self.abstained += 1
        else:
            self.answered += 1
            self.agreed += record.label == record.predicted

    def shown(self) -> dict[str, Any]:
        return {
            "answered": self.answered,
            "abstained": self.abstained,
            "agreement": self.agreed / self.answered if self.answered else None,
            "seconds": self.seconds / self.timed if self.timed else None,
            "last": self.last,
        }


class Standing:
    """The figures of the status page. One thread uses it: whoever reads the topics."""

    def __init__(self, config: Config) -> None:
        """Begin with nothing folded."""
        self._fold = counting_fold(config)
        self._rules = rules(config, config.transport.partitions)
        budget = config.budget
        self._share, self._currency = float(budget.share), budget.currency
        caps: dict[str, float | None] = {"requests_hour": budget.per_hour, "requests_day": budget.per_day}
        for name, cap in zip(WINDOWS, budget.cost_caps, strict=True):
            caps[f"cost_{name}"] = None if cap is None else float(cap)
        self._caps = {name: cap for name, cap in caps.items() if cap is not None}
        self._committed: Mapping[TopicPartition, OffsetAndMetadata] = {}
        self._states: list[PartitionState | TrainerState] = []
        self._curve: list[dict[str, float | None]] = []
        self._every, self._labels, self._cost = 10, 0, 0
        self._delays: deque[float] = deque(maxlen=_DELAYS)
        self._annotators: dict[str, _Annotator] = {}
        self._drift: Any = drift.ADWIN()  # type: ignore[no-untyped-call]
        self._marks = deque[dict[str, float]](maxlen=_MARKS_MAX)
        self._refusals: deque[dict[str, Any]] = deque(maxlen=_REFUSALS_MAX)

    @property
    def classes(self) -> list[str]:
        """The classes known so far: the declared ones, then those of the labels, as they came."""
        return list(self._fold.model.classes)

    def accepts(self, label: str) -> bool:
        """Whether the daemon would learn *label*."""
        return self._fold.model.accepts(label)

    def requested(self, request: Request) -> None:
        """Fold a request, without its features: they would make memory grow with them."""
        self._fold.pending.opened(msgspec.structs.replace(request, features={}, probabilities={}, arms=()))

    def withdrawn(self, request: str) -> None:
        """Fold a tombstone."""
        self._fold.pending.withdrawn(request)

    def trained(self, offset: int, value: bytes | None, record: Training) -> None:
        """Fold a record of ``training``."""
        self._fold.training(offset, value)
        if not isinstance(record, Closing):
            return
        self._cost += record.cost
        if isinstance(record, Example | Abstention):
            self._delays.append(record.at - record.asked_at)
            self._annotator(record.annotator or "unnamed").add(record)
        if isinstance(record, Example):
            self._labels += 1
            self._watch(record)
            if self._labels % self._every == 0:
                self._point(record.at)

    def committed(self, committed: Mapping[TopicPartition, OffsetAndMetadata]) -> None:
        """Note what the daemon's workers have committed.

        Raises:
            LogDisagrees: somebody else commits in their group.
        """
        self._committed = committed
        self._states = decode_states(committed, self._rules.topics.events)

    def refused(self, record: Record) -> None:
        """Note a dead letter; one that somebody else wrote is left out."""
        try:
            letter = msgspec.json.decode(record.value or b"", type=DeadLetter)
        except msgspec.DecodeError:
            return
        self._refusals.append(
            {"topic": letter.topic, "place": f"{letter.partition}-{letter.offset}", "reason": letter.reason.value}
            | {"detail": letter.detail, "at": letter.at}
        )

    def annotator(self, name: str) -> dict[str, Any]:
        """Return what *name* has done so far."""
        return self._annotators.get(name, _Annotator()).shown()

    def budget(self) -> dict[str, float | None]:
        """Return which share of the events was asked, of which that may be."""
        ledgers = self._ledgers()
        accepted = sum(counters.accepted for counters in ledgers)
        asked = sum(counters.audit + counters.strategy for counters in ledgers)
        return {"spent": asked / accepted if accepted else None, "share": self._share}

    def shown(self, now: float) -> dict[str, Any]:
        """Return everything, ready for JSON; *now* in seconds since the epoch."""
        known = dict(figures(self._fold, self._states, now))
        for name in _TRAINED:
            known.pop(name, None)
        untouched = {
            TopicPartition(self._rules.topics.events, partition): OffsetAndMetadata(0, "")
            for partition in range(self._rules.partitions)
        }
        known |= bill(self._rules, self._fold, {**untouched, **self._committed}, now)
        known |= watch(self._rules, self._committed).figures()
        ledgers = self._ledgers()
        return {
            "at": now,
            "figures": {name: value for name, value in known.items() if value is not None},
            "budget": {"share": self._share, "currency": self._currency, "caps": self._caps},
            "events": sum(counters.accepted for counters in ledgers),
            "requests": {
                "audit": sum(counters.audit for counters in ledgers),
                "strategy": sum(counters.strategy for counters in ledgers),
            },
            "recalls": {
                name: list(read_events)
                for name, read_events in list(self._fold.quality.recalls().items())[:_REFUSALS_MAX]
            },
            "curve": self._curve,
            "drift": list(self._marks),
            "delays": self._delay_counts(),
            "annotators": self._ranked(),
            "refusals": list(self._refusals)[::-1],
        }

    def _ledgers(self) -> list[BudgetCounters]:
        states = (state for state in self._states if isinstance(state, PartitionState))
        return [state.counters for state in states if state.counters is not None]

    def _watch(self, example: Example) -> None:
        """Look for a change in the error rate of the audit lane: elsewhere it follows whom the strategy asks."""
        if example.lane is not Lane.AUDIT:
            return
        self._drift.update(float(example.label != example.predicted))
        if self._drift.drift_detected:
            self._marks.append({"labels": self._labels, "at": example.at})

    def _point(self, at: float) -> None:
        """Add the present estimate to the curve; when there are too many points, every second one goes."""
        estimate, naive = self._fold.quality.accuracy(), self._fold.quality.recent().naive()
        if estimate is None:
            return
        point = {"labels": self._labels, "at": at, **estimate._asdict(), "naive": naive, "cost": self._cost / MICRO}
        self._curve.append(point)
        if len(self._curve) > _POINTS_MAX:
            self._curve, self._every = self._curve[1::2], self._every * 2

    def _annotator(self, name: str) -> _Annotator:
        known = self._annotators.get(name)
        if known is None:
            if len(self._annotators) >= _ANNOTATORS_MAX:
                name = "others"
            known = self._annotators.setdefault(name, _Annotator())
        return known

    def _ranked(self) -> list[dict[str, Any]]:
        ranked = sorted(self._annotators.items(), key=lambda pair: (-pair[1].answered, pair[0]))[:20]
        return [{"name": name, **annotator.shown()} for name, annotator in ranked]

    def _delay_counts(self) -> dict[str, Any]:
        counts = Counter(bisect_left(_DELAY_EDGES_S, delay) for delay in self._delays)
        ordered = sorted(self._delays)
        return {
            "edges": list(_DELAY_EDGES_S),
            "counts": [counts[i] for i in range(len(_DELAY_EDGES_S) + 1)],
            "median": ordered[len(ordered) // 2] if ordered else None,
            "p90": ordered[int(len(ordered) * 0.9)] if ordered else None,
        }
