"""What is left on the topics for `verify`, and from where on nothing is missing: retention deletes the oldest records.

A promise is judged only where everything that it speaks of is left. The rest is counted as not judged.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import TypeVar

import msgspec

from streamal.core.codec.dead_letters import DeadLetter
from streamal.core.quality.totals import RunningTotals
from streamal.core.records import Prediction, Record, TopicPartition, coordinates
from streamal.core.rules import Rules
from streamal.ports import Log, scan

__all__ = ["Evidence"]

R = TypeVar("R", Prediction, DeadLetter)


class Evidence:
    """The predictions and dead letters that are left, and the offset from which on each kind of record is complete.

    Attributes:
        committed: the next offset to consume of each input partition.
        predictions: the predictions by event; of an event with several, the last.
        times: how many predictions each event has.
        ordered: the predictions of each partition, in the order of the topic.
        foreign: coordinates of the records of ``predictions`` that are not streamal's.
        totals: the running totals up to each event, counted from the first prediction that is left.
        predicted_from: partition -> the event from which on all predictions are left; infinite if none is left.
        events_from: partition -> the first event that is left.
        labels_from: the first offset of ``labels`` that is left.
    """

    def __init__(self, log: Log, rules: Rules, committed: Mapping[TopicPartition, int]) -> None:
        self.log, self.rules, self.committed = log, rules, committed
        self.predictions: dict[str, Prediction] = {}
        self.times: Counter[str] = Counter()
        self.ordered: list[list[Prediction]] = []
        self.foreign: list[str] = []
        self.totals: dict[str, RunningTotals] = {}
        self.predicted_from: list[float] = []
        self.events_from = [log.begin(rules.topics.events, partition) for partition in range(rules.partitions)]
        self.labels_from = log.begin(rules.topics.labels, 0)
        for partition in range(rules.partitions):
            self._read_predictions(partition)
        self._letters: Counter[tuple[str, str]] = Counter()
        self._first_letters: dict[TopicPartition, int] = {}
        self._letters_deleted = log.begin(rules.topics.dead_letters, 0) > 0
        self._read_letters()

    def is_predicted(self, event: str) -> bool:
        """Return whether the prediction of *event*, if it ever had one, is left."""
        partition, offset = self._locate(event)
        return partition is None or offset >= self.predicted_from[partition]

    def is_left(self, event: str) -> bool:
        """Return whether *event*, if there ever was one, is left."""
        partition, offset = self._locate(event)
        return partition is None or offset >= self.events_from[partition]

    def offsets_of(self, topic: str, partition: int) -> Iterator[int]:
        """Yield the offsets of the records that are left in a partition; last those that cannot be read (F58)."""
        unreadable: list[range] = []
        for record in scan(self.log, topic, partition, unreadable=unreadable):
            yield record.offset
        for offsets in unreadable:
            yield from offsets

    def letters_of(self, topic: str) -> Counter[str]:
        """Return how many dead letters each record of *topic* has, by coordinates."""
        return Counter({key: times for (where, key), times in self._letters.items() if where == topic})

    def letters_from(self, topic: str, partition: int) -> float:
        """Return the offset from which on all dead letters of *topic* are left: they are written in its order."""
        return self._first_letters.get(TopicPartition(topic, partition), math.inf) if self._letters_deleted else 0

    def _locate(self, event: str) -> tuple[int | None, int]:
        """Return (partition, offset) of the coordinates *event*; (None, 0) for what cannot be any."""
        partition, _, offset = event.partition("-")
        if not (partition.isdecimal() and offset.isdecimal()) or int(partition) >= self.rules.partitions:
            return None, 0
        return int(partition), int(offset)

    def _read_predictions(self, partition: int) -> None:
        totals, topic = RunningTotals(), self.rules.topics.predictions
        rows: list[Prediction] = []
        for record in scan(self.log, topic, partition):
            prediction = _decode(record, Prediction)
            if prediction is None:
                self.foreign.append(coordinates(partition, record.offset))
                continue
            rows.append(prediction)
            self.times[prediction.event] += 1
            self.predictions[prediction.event] = prediction
            if self.times[prediction.event] == 1:
                totals = totals.add_event(prediction.probabilities, prediction.propensity)
                self.totals[prediction.event] = totals
        self.ordered.append(rows)
        first = self._locate(rows[0].event)[1] if rows else math.inf
        self.predicted_from.append(first if self.log.begin(topic, partition) else 0)

    def _read_letters(self) -> None:
        for record in scan(self.log, self.rules.topics.dead_letters, 0):
            letter = _decode(record, DeadLetter)
            if letter is not None:
                self._letters[letter.topic, coordinates(letter.partition, letter.offset)] += 1
                self._first_letters.setdefault(TopicPartition(letter.topic, letter.partition), letter.offset)


def _decode(record: Record, kind: type[R]) -> R | None:
    """Return *record* of one of our own topics decoded, None if another program wrote it."""
    try:
        return msgspec.json.decode(record.value or b"", type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
