"""What a step is made of and what it returns: the rules that decide, and one transaction."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from streamal.core.budget.money import FREE, Prices
from streamal.core.budget.sampler import PartitionBudget
from streamal.core.codec.dead_letters import dead_letter
from streamal.core.codec.wire_rules import WireRules
from streamal.core.records import OffsetAndMetadata, OutputRecord, Record, Refusal, TopicPartition, coordinates
from streamal.core.strategies import Requirements, Strategy, requirements_of
from streamal.core.strategies.base import Memory

__all__ = ["Refused", "Rules", "Step", "Tally", "TopicNames", "dead_letter_of", "refused_of"]

Tally = Counter[tuple[str, str]]
"""How often what happened in a step: (counter, kind) -> times."""
_INPUTS = frozenset({"events", "replies", "natural_labels"})


class TopicNames(NamedTuple):
    """The six topics by their roles."""

    events: str
    labels: str
    predictions: str
    requests: str
    training: str
    dead_letters: str


@dataclass(frozen=True, slots=True)
class Rules:
    """Everything that decides, besides the records, the fold and the time.

    Attributes:
        partitions: how many partitions ``events`` (and predictions, requests) have.
        budgets: each partition's part of the budget.
        uncertainty: its measure, a key of `MEASURES`.
        seed: of the coins.
        ttl_s: how long a request stays open.
        expiries_per_step: expired requests closed in one step.
        prices: what a label costs.
        damping: how near to an open request an event is damped, see `streamal.core.strategies.near_duplicates`;
            None: not at all.
        pace_horizon_s: no more is open than annotators answer in so many seconds; None: their rate does not matter.
        burst: open requests of all partitions together while the answer rate is not known yet.
        classes_per_annotator: so many new classes a day (UTC) come from the replies of one annotator.
        requirements: what the strategy looks at besides the uncertainty.
    """

    topics: TopicNames
    partitions: int
    wire: WireRules
    budgets: Sequence[PartitionBudget]
    strategy_name: str
    strategy: Strategy
    uncertainty: str
    seed: int
    ttl_s: float
    expiries_per_step: int
    prices: Prices = FREE
    damping: float | None = None
    pace_horizon_s: float | None = None
    burst: int = 0
    classes_per_annotator: int = 5
    requirements: Requirements = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "requirements", requirements_of(self.strategy))


class Refused(NamedTuple):
    """An input that was refused, and why."""

    topic: str
    at: str
    """Its coordinates."""
    refusal: Refusal


class Step(NamedTuple):
    """One transaction, and what happened in it."""

    outputs: list[OutputRecord]
    offsets: dict[TopicPartition, OffsetAndMetadata]
    tally: Tally
    label_delays_s: list[float]
    """How long the accepted replies of this step took, from request to join."""
    memories: dict[TopicPartition, Memory]
    """What the strategy knows of each partition's past after this step, if it looks back."""
    refused: Sequence[Refused] = ()

    @property
    def inputs(self) -> int:
        """How many events, replies and natural labels the step has consumed."""
        return sum(count for (name, _), count in self.tally.items() if name in _INPUTS)


def refused_of(record: Record, refusal: Refusal) -> Refused:
    """Return what is told of a refused *record*."""
    return Refused(record.topic, coordinates(record.partition, record.offset), refusal)


def dead_letter_of(rules: Rules, record: Record, refusal: Refusal, now: float) -> OutputRecord:
    """Return the dead letter for a refused *record*; its key says of which topic too: two of them have a 0-5."""
    head_bytes_max = rules.wire.dead_letter_bytes_max
    letter = dead_letter(record.topic, record.partition, record.offset, record.value, refusal, now, head_bytes_max)
    key = f"{record.topic}/{coordinates(record.partition, record.offset)}"
    return OutputRecord(rules.topics.dead_letters, 0, key.encode(), letter)
