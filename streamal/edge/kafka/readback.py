"""What a step reads back after its commit, without a question to the cluster for each partition; for both clients."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet

from streamal.core.records import OutputRecord, Record, TopicPartition
from streamal.edge.kafka.membership import VISIBLE_S

__all__ = ["OwnRecords", "ReadBack"]


class OwnRecords:
    """The records that a worker has just committed to partitions that it reads back: no need to fetch them.

    A step's requests and examples are folded as they are read after the commit. They are returned from here only where
    the offsets prove that nothing else lies between: as many as were written, then the marker, then the end.
    """

    def __init__(self) -> None:
        self._written: dict[tuple[str, int], tuple[list[OutputRecord], int]] = {}
        """By partition; a plain pair equals a TopicPartition and costs less for each output."""
        self._marker: tuple[TopicPartition, int] | None = None

    def note_commit(
        self,
        outputs: Sequence[OutputRecord],
        last: Mapping[TopicPartition, int],
        read_back: AbstractSet[TopicPartition],
    ) -> None:
        """Keep *outputs* to partitions that are *read_back*, whose *last* offsets are known; forget those before."""
        self._marker = None
        self._written = {place: ([], last[place]) for place in last if place in read_back}
        for output in outputs:
            kept = self._written.get((output.topic, output.partition))
            if kept is not None:
                kept[0].append(output)

    def read(self, place: TopicPartition, offset: int, end: int, records_max: int) -> list[Record] | None:
        """Return what was committed at *offset* of *place*, which ends at *end*; None if it has to be fetched."""
        outputs, last = self._written.pop(place, ((), 0))
        first = last - len(outputs) + 1
        if not outputs or len(outputs) > records_max or (first, last + 2) != (offset, end):
            return None
        self._marker = place, last + 1
        return [Record(*place, first + number, each.key, each.value) for number, each in enumerate(outputs)]

    def only_marker_follows(self, place: TopicPartition, offset: int) -> bool:
        """Return True, once, if only our own commit marker follows *offset*."""
        marker, self._marker = self._marker, None
        return marker == (place, offset)

    def forget(self, *, records: bool = True) -> None:
        """Ask the cluster again for everything; with *records* false only whether more follows our marker."""
        if records:
            self._written.clear()
        self._marker = None


class ReadBack:
    """The ends of the partitions that are read after each commit, as of the last poll or commit; and our own records.

    A step looks at the ends of ``training`` and of every partition of ``requests``: one question for all of them.
    """

    def __init__(
        self,
        last_stable: Callable[[list[TopicPartition]], Mapping[TopicPartition, int]],
        note_end: Callable[[Iterable[TopicPartition]], None],
    ) -> None:
        """Ask *last_stable* for ends; call *note_end* with the partitions where our last marker was seen."""
        self._last_stable, self._note_end, self._own = last_stable, note_end, OwnRecords()
        self._read_back: set[TopicPartition] = set()
        self._awaited: dict[TopicPartition, int] = {}
        self._ends: dict[TopicPartition, int] = {}

    def note_poll(self) -> None:
        """Ask anew for ends: others may have written."""
        self._ends.clear()
        self._own.forget(records=False)

    def forget(self) -> None:
        """Ask anew for everything: nobody knows what has become of our last transaction."""
        self._ends.clear()
        self._own.forget()
        self._awaited.clear()

    def note_commit(self, outputs: Sequence[OutputRecord], written: Mapping[TopicPartition, int]) -> None:
        """Note a commit, and the last offset that it has *written* to each partition."""
        self._ends.clear()
        self._own.note_commit(outputs, written, self._read_back)
        self._awaited = {TopicPartition(*place): offset for place, offset in written.items()}

    def end(self, place: TopicPartition) -> int:
        """Return the end of *place* as the last question has told it, once; without one, ask for all ends."""
        if place not in self._ends:
            self._read_back.add(place)
            self._ends = self._ask_for_ends()
        return self._ends.pop(place)

    def read(self, place: TopicPartition, offset: int, begin: int, records_max: int) -> tuple[list[Record], int] | None:
        """Return (our own records from *offset* on, the end behind them); None if the cluster has to be asked.

        *begin* is where the next record can be, beyond a gap that is known.
        """
        if self._own.only_marker_follows(place, offset):
            return [], offset
        if self._awaited and place in self._read_back:
            self._ends = self._ask_for_ends()
        end = self._ends.get(place)
        own = None if end is None else self._own.read(place, begin, end, records_max)
        if own is None or end is None:
            return None
        del self._ends[place]
        return own, end

    def _ask_for_ends(self) -> dict[TopicPartition, int]:
        """Return the ends, with our last commit before them; without it if its markers take longer than `VISIBLE_S`.

        The coordinator answers a commit when the outcome is certain, and has the markers written after that. Without
        them the next fold would not find what this commit has noted, and would count that as trouble.
        """
        deadline = time.monotonic() + VISIBLE_S
        while True:
            ends = self._last_stable(sorted(self._read_back.union(self._awaited)))
            if all(ends[place] > offset for place, offset in self._awaited.items()):
                self._note_end(self._awaited)
                self._awaited = {}
            if not self._awaited or time.monotonic() > deadline:
                return {place: ends[place] for place in self._read_back}
            time.sleep(0.001)
