"""The figures of the status page: a fold of the topics, without the model and without the daemon.

`streamal.inspection.status` gives the gauges, so the page and `streamal status` show the same. Added here are the
curves over time, the delays and the annotators. Each is bounded: a curve drops every second point when it is full.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter, deque
from collections.abc import Mapping
from typing import Any, assert_never

import msgspec
from river import drift

from streamal.bootstrap import build_for_figures
from streamal.config import Config
from streamal.core.budget.counters import BudgetCounters
from streamal.core.budget.money import MICRO, WINDOWS
from streamal.core.codec.dead_letters import DeadLetter
from streamal.core.records import (
    Abstention,
    Example,
    Expiry,
    Lane,
    OffsetAndMetadata,
    Record,
    Request,
    TopicPartition,
    Training,
)
from streamal.core.state import PartitionState, decode_states
from streamal.inspection.status import status

__all__ = ["StatusFold"]

_POINTS_MAX = 120
_DELAYS = 1_000
_DELAY_EDGES_S = (1.0, 5.0, 15.0, 60.0, 300.0, 900.0, 3_600.0, 14_400.0, 86_400.0)
_ANNOTATORS_MAX = 1_000
_ANNOTATORS_SHOWN = 20
_MARKS_MAX = 50
_REFUSALS_MAX = 20


class _Annotator:
    """The work of one annotator, as the training log tells it."""

    __slots__ = ("abstained", "agreed", "answered", "last", "seconds", "timed")

    def __init__(self) -> None:
        self.answered = self.abstained = self.agreed = self.timed = 0
        self.seconds = self.last = 0.0

    def add(self, record: Example | Abstention) -> None:
        self.last = record.at
        if record.seconds is not None:
            self.timed += 1
            self.seconds += record.seconds
        match record:
            case Example():
                self.answered += 1
                self.agreed += record.label == record.predicted
            case Abstention():
                self.abstained += 1
            case _:
                assert_never(record)

    def to_json(self) -> dict[str, Any]:
        return {
            "answered": self.answered,
            "abstained": self.abstained,
            "agreement": self.agreed / self.answered if self.answered else None,
            "seconds": self.seconds / self.timed if self.timed else None,
            "last": self.last,
        }


class StatusFold:
    """Folds the topics into the figures of the status page. One thread uses it, the one that reads the topics."""

    def __init__(self, config: Config) -> None:
        """Begin with nothing folded."""
        parts = build_for_figures(config)
        self._fold, self._rules = parts.new_fold(), parts.rules
        budget = config.budget
        self._share, self._currency = float(budget.share), budget.currency
        caps: dict[str, float | None] = {"requests_hour": budget.per_hour, "requests_day": budget.per_day}
        for name, cap in zip(WINDOWS, budget.cost_caps, strict=True):
            caps[f"cost_{name}"] = None if cap is None else float(cap)
        self._caps = {name: cap for name, cap in caps.items() if cap is not None}
        self._committed: Mapping[TopicPartition, OffsetAndMetadata] = {}
        self._counters: list[BudgetCounters] = []
        self._curve: list[dict[str, float | None]] = []
        self._labels_per_point, self._labels, self._cost = 10, 0, 0
        self._delays: deque[float] = deque(maxlen=_DELAYS)
        self._annotators: dict[str, _Annotator] = {}
        self._drift: Any = drift.ADWIN()  # type: ignore[no-untyped-call]
        self._drift_marks = deque[dict[str, float]](maxlen=_MARKS_MAX)
        self._refusals: deque[dict[str, Any]] = deque(maxlen=_REFUSALS_MAX)

    @property
    def classes(self) -> list[str]:
        """The classes known so far: the declared ones, then those of the labels, in the order they came."""
        return list(self._fold.learned.model.classes)

    def accepts(self, label: str) -> bool:
        """Whether the daemon would learn *label*."""
        return self._fold.learned.model.accepts(label)

    def apply_request(self, request: Request) -> None:
        """Fold a request without its features: they would make memory grow with them."""
        self._fold.books.pending.add(msgspec.structs.replace(request, features={}, probabilities={}, arms=()))

    def apply_tombstone(self, request: str) -> None:
        """Fold a tombstone of ``requests``."""
        self._fold.books.pending.withdraw(request)

    def apply_training(self, offset: int, value: bytes | None, record: Training) -> None:
        """Fold a record of ``training``."""
        self._fold.apply_training(offset, value)
        if not record.closes_request:
            return
        self._cost += record.cost
        match record:
            case Example():
                self._add_reply(record)
                self._labels += 1
                self._update_drift(record)
                if self._labels % self._labels_per_point == 0:
                    self._add_point(record.at)
            case Abstention():
                self._add_reply(record)
            case Expiry():
                pass
            case _:
                assert_never(record)

    def _add_reply(self, record: Example | Abstention) -> None:
        self._delays.append(record.at - record.asked_at)
        self._annotator(record.annotator or "unnamed").add(record)

    def apply_committed(self, committed: Mapping[TopicPartition, OffsetAndMetadata]) -> None:
        """Note the offsets and states that the daemon's workers have committed.

        Raises:
            InconsistentLog: another program commits in their group.
        """
        states = decode_states(committed, self._rules.topics.events)
        partitions = (state for state in states if isinstance(state, PartitionState))
        self._committed = committed
        self._counters = [state.counters for state in partitions if state.counters is not None]

    def apply_dead_letter(self, record: Record) -> None:
        """Note a dead letter; skip a record that another program wrote."""
        try:
            letter = msgspec.json.decode(record.value or b"", type=DeadLetter)
        except msgspec.DecodeError:
            return
        self._refusals.append(
            {"topic": letter.topic, "place": f"{letter.partition}-{letter.offset}", "reason": letter.reason.value}
            | {"detail": letter.detail, "at": letter.at}
        )

    def annotator(self, name: str) -> dict[str, Any]:
        """Return the work of *name* so far."""
        return self._annotators.get(name, _Annotator()).to_json()

    def budget(self) -> dict[str, float | None]:
        """Return the share of the events that was asked and the share that the budget allows."""
        accepted = sum(counters.accepted for counters in self._counters)
        asked = sum(counters.audit + counters.strategy for counters in self._counters)
        return {"spent": asked / accepted if accepted else None, "share": self._share}

    def to_json(self, now: float) -> dict[str, Any]:
        """Return all figures, ready for JSON; *now* in seconds since the epoch."""
        found = status(self._fold, self._rules, self._committed, now)
        return {
            "at": now,
            "figures": {name: value for name, value in found.gauges.items() if value is not None},
            "budget": {"share": self._share, "currency": self._currency, "caps": self._caps},
            "events": sum(counters.accepted for counters in found.counters),
            "requests": {
                "audit": sum(counters.audit for counters in found.counters),
                "strategy": sum(counters.strategy for counters in found.counters),
            },
            "recalls": {name: list(recall) for name, recall in found.recalls.items()},
            "curve": self._curve,
            "drift": list(self._drift_marks),
            "delays": self._delay_histogram(),
            "annotators": self._busiest_annotators(),
            "refusals": list(self._refusals)[::-1],
        }

    def _update_drift(self, example: Example) -> None:
        """Look for a change in the audit lane's error rate; in the other lane it depends on what the strategy asks."""
        if example.lane is not Lane.AUDIT:
            return
        self._drift.update(float(example.label != example.predicted))
        if self._drift.drift_detected:
            self._drift_marks.append({"labels": self._labels, "at": example.at})

    def _add_point(self, at: float) -> None:
        """Add the present estimate to the curve; when the curve is full, drop every second point."""
        estimate, naive = self._fold.learned.quality.accuracy(), self._fold.learned.quality.recent_sums().naive()
        if estimate is None:
            return
        point = {"labels": self._labels, "at": at, **estimate._asdict(), "naive": naive, "cost": self._cost / MICRO}
        self._curve.append(point)
        if len(self._curve) > _POINTS_MAX:
            self._curve, self._labels_per_point = self._curve[1::2], self._labels_per_point * 2

    def _annotator(self, name: str) -> _Annotator:
        found = self._annotators.get(name)
        if found is None:
            if len(self._annotators) >= _ANNOTATORS_MAX:
                name = "others"
            found = self._annotators.setdefault(name, _Annotator())
        return found

    def _busiest_annotators(self) -> list[dict[str, Any]]:
        ranked = sorted(self._annotators.items(), key=lambda pair: (-pair[1].answered, pair[0]))[:_ANNOTATORS_SHOWN]
        return [{"name": name, **annotator.to_json()} for name, annotator in ranked]

    def _delay_histogram(self) -> dict[str, Any]:
        counts = Counter(bisect_left(_DELAY_EDGES_S, delay) for delay in self._delays)
        ordered = sorted(self._delays)
        return {
            "edges": list(_DELAY_EDGES_S),
            "counts": [counts[i] for i in range(len(_DELAY_EDGES_S) + 1)],
            "median": ordered[len(ordered) // 2] if ordered else None,
            "p90": ordered[int(len(ordered) * 0.9)] if ordered else None,
        }
