"""What a gauge is: a name, a help text and a unit, declared beside the function that gives its value."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple, TypeVar

from streamal.core.budget.counters import BudgetCounters
from streamal.core.fold import Fold
from streamal.core.quality.estimates import Estimate
from streamal.core.records import OffsetAndMetadata, TopicPartition
from streamal.core.rules import Rules
from streamal.core.state import PartitionState, decode_state

__all__ = ["Gauge", "Value", "Worker", "with_interval"]

Value = float | None
"""None: there is no value, yet or any more, and nothing is exported."""
T = TypeVar("T")


@dataclass(frozen=True)
class Worker:
    """What a worker knows at the time *now*: every gauge is a function of it.

    Attributes:
        rules: what decides.
        fold: what the logs say.
        committed: offsets and states of the partitions that the worker owns.
        confidence: gives the means of the confidence over the last 500 and 10,000 events, see `ConfidenceDrift.means`.
        misfits: gives the share of the last events that do not fit the schema, see `MisfitShare.value`.
    """

    rules: Rules
    fold: Fold
    committed: Mapping[TopicPartition, OffsetAndMetadata]
    now: float
    confidence: Callable[[], tuple[Value, Value]] = lambda: (None, None)
    misfits: Callable[[], Value] = lambda: None
    _results: dict[Callable[[Worker], Any], Any] = field(default_factory=dict, init=False, repr=False, compare=False)

    @cached_property
    def states(self) -> Mapping[int, PartitionState]:
        """Partition -> its state, of the partitions of ``events`` that have one."""
        states = ((partition, decode_state(metadata, PartitionState)) for partition, metadata in self._owned())
        return {partition: state for partition, state in states if state is not None}

    @cached_property
    def is_trainer(self) -> bool:
        """Whether the partition of ``labels`` is among those owned, and has a state."""
        events = self.rules.topics.events
        return any(metadata for place, (_, metadata) in self.committed.items() if place.topic != events)

    @cached_property
    def counters(self) -> Mapping[int, BudgetCounters]:
        """Partition -> its budget counters as of *now*; those of a partition without a state are 0."""
        states = ((partition, self.states.get(partition, PartitionState())) for partition, _ in self._owned())
        return {
            partition: (state.counters or BudgetCounters(0, 0, 0, 0)).advance_to(int(self.now // 3600))
            for partition, state in states
        }

    def _owned(self) -> Iterator[tuple[int, str]]:
        """Yield (partition, metadata) of the partitions of ``events``."""
        for place, (_, metadata) in self.committed.items():
            if place.topic == self.rules.topics.events:
                yield place.partition, metadata

    def once(self, function: Callable[[Worker], T]) -> T:
        """Return ``function(self)``; several gauges that are made from one result compute it once."""
        if function not in self._results:
            self._results[function] = function(self)
        result: T = self._results[function]
        return result


class Gauge(NamedTuple):
    """One gauge.

    Attributes:
        name: without the prefix ``streamal_`` and without the unit.
        help: one line for the person who reads the scrape.
        value: gives the value.
        unit: the base unit, where *name* does not end with it.
    """

    name: str
    help: str
    value: Callable[[Worker], Value]
    unit: str = ""


def with_interval(
    name: str, help_text: str, unit: str, estimate: Callable[[Worker], Estimate | None]
) -> tuple[Gauge, Gauge, Gauge]:
    """Return three gauges: an *estimate*, and the ends of its 95 % interval."""

    def part(index: int) -> Callable[[Worker], Value]:
        def value(worker: Worker) -> Value:
            found = worker.once(estimate)
            return None if found is None else found[index]

        return value

    return (
        Gauge(name, help_text, part(0), unit),
        Gauge(f"{name}_low", "Lower end of its 95 % interval.", part(1), unit),
        Gauge(f"{name}_high", "Upper end of its 95 % interval.", part(2), unit),
    )
