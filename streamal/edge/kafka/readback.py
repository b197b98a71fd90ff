"""What a step reads back after its commit, without a question to the cluster for each partition; of both clients."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet

from streamal.core.records import OutputRecord, Record, TopicPartition
from streamal.edge.kafka.membership import VISIBLE_S

__all__ = ["Own", "ReadBack"]


class Own:
    """What a worker has just committed to partitions that it reads back: it need not be fetched from the cluster.

    A step's requests and examples are folded as they are read after the commit. They are served from here only where
    the offsets prove that nothing else lies between: as many as were written, then the marker, then the end.
    """

    def __init__(self) -> None:
        self._written: dict[tuple[str, int], tuple[list[OutputRecord], int]] = {}
        """By place, which is such a pair: none is made for each output (−0.3 µs)."""
        self._over: tuple[TopicPartition, int] | None = None

    def committed(
        self,
        outputs: Sequence[OutputRecord],
        last: Mapping[TopicPartition, int],
        read_back: AbstractSet[TopicPartition],
    ) -> None:
        """Keep *outputs* to places that are *read_back*, whose *last* offsets are known; forget those before."""
        self._over = None
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
        self._over = place, last + 1
        return [Record(*place, first + number, each.key, each.value) for number, each in enumerate(outputs)]

    def over(self, place: TopicPartition, offset: int) -> bool:
        """Whether nothing but our marker was at *offset* when it was last read up to there; told once."""
        over, self._over = self._over, None
        return over == (place, offset)

    def forget(self, *, ours: bool = True) -> None:
        """Ask the cluster again; with *ours* false only whether there is more."""
        if ours:
            self._written.clear()
        self._over = None


class ReadBack:
    """The ends of what is read after each commit, as of the last poll or commit, and what is ours there.

    A step looks at the ends of ``training`` and of every partition of ``requests``: one question instead of many.
    """

    def __init__(
        self,
        ask: Callable[[list[TopicPartition]], Mapping[TopicPartition, int]],
        seen: Callable[[Iterable[TopicPartition]], None],
    ) -> None:
        """Let *ask* be what tells the last stable offsets, and *seen* be told where our last marker is there."""
        self._ask, self._seen, self._own = ask, seen, Own()
        self._asked: set[TopicPartition] = set()
        self._awaited: dict[TopicPartition, int] = {}
        self._ends: dict[TopicPartition, int] = {}

    def polled(self) -> None:
        """Ask anew for ends: others may have written."""
        self._ends.clear()
        self._own.forget(ours=False)

    def forget(self) -> None:
        """Ask anew for everything: nobody knows what has become of our last transaction."""
        self._ends.clear()
        self._own.forget()
        self._awaited.clear()

    def committed(self, outputs: Sequence[OutputRecord], written: Mapping[TopicPartition, int]) -> None:
        """Note a commit, and the last offset that it has *written* to each partition."""
        self._ends.clear()
        self._own.committed(outputs, written, self._asked)
        self._awaited = {TopicPartition(*place): offset for place, offset in written.items()}

    def end(self, place: TopicPartition) -> int:
        """Return the end of *place* as it was asked for since the last poll or commit, once; else ask for all."""
        if place not in self._ends:
            self._asked.add(place)
            self._ends = self._visible()
        return self._ends.pop(place)

    def read(self, place: TopicPartition, offset: int, begin: int, records_max: int) -> tuple[list[Record], int] | None:
        """Return (our own records from *offset* on, the end behind them); None if the cluster has to be asked.

        *begin* is where the next record can be, beyond a gap that is known.
        """
        if self._own.over(place, offset):
            return [], offset
        if self._awaited and place in self._asked:
            self._ends = self._visible()
        end = self._ends.get(place)
        own = None if end is None else self._own.read(place, begin, end, records_max)
        if own is None or end is None:
            return None
        del self._ends[place]
        return own, end

    def _visible(self) -> dict[TopicPartition, int]:
        """Return the ends, with our last commit before them; without, if that lasts longer than `VISIBLE_S`.

        The coordinator answers when the outcome is certain, and lets the markers be written then. Without them the next
        fold would not find what this commit has noted, and count that as trouble.
        """
        deadline = time.monotonic() + VISIBLE_S
        while True:
            ends = self._ask(sorted(self._asked.union(self._awaited)))
            if all(ends[place] > offset for place, offset in self._awaited.items()):
                self._seen(self._awaited)
                self._awaited = {}
            if not self._awaited or time.monotonic() > deadline:
                return {place: ends[place] for place in self._asked}
            time.sleep(0.001)
