"""The status of a daemon, assembled from the topics: `streamal status` and the status page show the same figures.

The daemon need not run, and no model is trained: gauges that only the trained model knows are left out.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from streamal.bootstrap import build_for_figures
from streamal.config import Config
from streamal.core.budget.counters import BudgetCounters
from streamal.core.fold import Fold
from streamal.core.gauges.clock import CLOCK
from streamal.core.gauges.declaration import Worker
from streamal.core.gauges.gauges import gauges as values_of
from streamal.core.gauges.model import MODEL
from streamal.core.gauges.mute import ASKING, check_mute
from streamal.core.gauges.quality import QUALITY
from streamal.core.gauges.requests import REQUESTS
from streamal.core.gauges.spend import SPEND
from streamal.core.quality.estimates import Estimate
from streamal.core.records import OffsetAndMetadata, TopicPartition
from streamal.core.rules import Rules, TopicNames
from streamal.core.state import PartitionState, TrainerState, decode_states
from streamal.ports import Log, scan

__all__ = ["Status", "read_status", "status"]

_CLASSES_MAX = 20
"""Classes whose recall is shown."""
_OF_THE_MODEL = (
    "model_failures", "model_sick", "model_quarantined", "quality_accuracy_natural",
    "gain_over_random", "gain_over_random_low", "gain_over_random_high",
)  # fmt: skip
"""Gauges that only a trained model knows; the trainer's committed state knows how often it quarantined one."""


class Status(NamedTuple):
    """The state of a daemon at one moment.

    Attributes:
        gauges: name -> value, None where nothing is known yet; caps that are not configured are left out.
        mute: the partitions where events flow and requests, for longer than the budget explains, do not.
        recalls: class -> recall with its interval, at most 20.
        counters: of each partition that has some.
    """

    gauges: Mapping[str, float | None]
    mute: tuple[int, ...]
    recalls: Mapping[str, Estimate]
    counters: tuple[BudgetCounters, ...]


def status(fold: Fold, rules: Rules, committed: Mapping[TopicPartition, OffsetAndMetadata], now: float) -> Status:
    """Return the status at the time *now*, from a *fold* and the group's *committed* offsets.

    The fold is one of `build_for_figures`.

    Raises:
        InconsistentLog: a committed state cannot be decoded: another program commits in this group.
    """
    states = decode_states(committed, rules.topics.events)
    worker = Worker(rules, fold, committed, now)
    gauges = dict(values_of(worker, (*REQUESTS, *MODEL, *QUALITY)))
    for name in _OF_THE_MODEL:
        gauges.pop(name, None)
    gauges["model_quarantined"] = _quarantined(states)
    not_begun = {
        TopicPartition(rules.topics.events, partition): OffsetAndMetadata(0, "")
        for partition in range(rules.partitions)
    }
    spend = values_of(Worker(rules, fold, {**not_begun, **committed}, now), SPEND)
    gauges |= {name: value for name, value in spend.items() if value is not None}
    gauges |= values_of(worker, (*ASKING, *CLOCK))
    partitions = (state for state in states if isinstance(state, PartitionState))
    return Status(
        gauges=gauges,
        mute=worker.once(check_mute).mute,
        recalls=dict(list(fold.learned.quality.recalls().items())[:_CLASSES_MAX]),
        counters=tuple(state.counters for state in partitions if state.counters is not None),
    )


def read_status(log: Log, config: Config, now: float) -> dict[str, object]:
    """Read the topics and return what `streamal status` shows, name -> value, in its order."""
    parts = build_for_figures(config)
    topics, fold = parts.topics, parts.new_fold()
    _fold_topics(log, topics, fold)
    committed = log.committed(config.transport.group)
    found = status(fold, parts.rules, committed, now)
    return {
        **found.gauges,
        "asking": f"mute in partitions {', '.join(map(str, found.mute))}" if found.mute else "as the budget has it",
        "recalls": {name: recall.value for name, recall in found.recalls.items()},
        "lag_events": _lag(log, topics.events, committed),
        "lag_labels": _lag(log, topics.labels, committed),
        "dead_letters": sum(1 for _ in scan(log, topics.dead_letters, 0)),
    }


def _fold_topics(log: Log, topics: TopicNames, fold: Fold) -> None:
    for partition in range(log.partitions(topics.requests)):
        for record in scan(log, topics.requests, partition):
            fold.apply_request(partition, record.offset, record.key, record.value)
    for record in scan(log, topics.training, 0):
        fold.apply_training(record.offset, record.value)


def _lag(log: Log, topic: str, committed: Mapping[TopicPartition, OffsetAndMetadata]) -> int:
    """Return how many records of *topic* the group has not consumed yet."""
    consumed = sum(done.offset for place, done in committed.items() if place.topic == topic)
    return sum(log.end(topic, partition) for partition in range(log.partitions(topic))) - consumed


def _quarantined(states: Iterable[PartitionState | TrainerState]) -> int:
    return max((state.quarantined for state in states if isinstance(state, TrainerState)), default=0)
