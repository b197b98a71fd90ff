"""Poison: an event that kills the process, not the loop (a crash in C, memory used up, a model that loops) (F35).

No exception tells of it, so a note on the local disk does: before each step it says which events are under way. The
next life finds the note, counts a death at the place where the dead one stood, and commits the count beside the
partition's offset, so that it moves with the partition. After `attempts` deaths at one offset the worker is *careful*:
it takes the events one by one, with a durable note before each, until it is past those that were under way. The event
at which it dies then is the one; the next life writes a dead letter for it and goes on.

The count is a guess: a process that is killed from outside three times within the same step is counted too. It costs
time only. A dead letter takes one more death, while a single event is predicted. What is lost: the last death counts
only where the same notes are found again. If the partition moves before this worker is back, the next owner begins
with the deaths that were committed before.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple, Protocol

import msgspec

from streamal.core.records import OffsetAndMetadata, Record, TopicPartition
from streamal.core.state import PartitionState, decode_state, encode_state

__all__ = ["NoteFile", "Poison", "Timer"]


class NoteFile(Protocol):
    """Where the note stands; see `streamal.edge.step_notes`."""

    def load(self) -> bytes:
        """Return the note of the life before, b"" if there is none."""
        ...

    def write(self, note: bytes, *, durable: bool) -> None:
        """Replace the note."""
        ...


class Timer(Protocol):
    """What ends a process whose loop does not come back; see `streamal.edge.watchdog`."""

    def arm(self, seconds: float) -> None:
        """End the process in *seconds*, unless `disarm` or another `arm` comes first."""
        ...

    def disarm(self) -> None:
        """Stop the timer."""
        ...


class _Batch(NamedTuple):
    """Offsets of a partition's events under way, both included."""

    topic: str
    partition: int
    first: int
    last: int


class _Note(msgspec.Struct, omit_defaults=True):
    """What is under way: events of a step, or the example at offset *learning* of ``training``."""

    events: Sequence[_Batch] = ()
    careful: bool = False
    learning: int | None = None
    killers: Sequence[_Batch] = ()


class Poison:
    """Notes what is under way, and knows which events killed the lives before."""

    def __init__(self, notes: NoteFile, timer: Timer, attempts: int, step_max_s: float) -> None:
        """Be careful after *attempts* deaths at one offset; end a process that does not `beat` for *step_max_s*."""
        self._notes, self._timer, self._attempts, self._step_max_s = notes, timer, attempts, step_max_s
        self._died_at: dict[TopicPartition, _Batch] = {}
        self.killers: dict[TopicPartition, set[int]] = {}
        """Offsets of the events that have killed the worker."""
        self._armed_at = -math.inf
        self._begun: Sequence[_Batch] = ()
        self.careful = False
        """Whether events are to be taken one by one."""

    def load(self) -> int | None:
        """Read the note of the life before; return the offset of the example that it died of, if it says so."""
        try:
            note = msgspec.json.decode(self._notes.load(), type=_Note)
        except msgspec.DecodeError:
            note = _Note()
        for killer in note.killers:
            self.killers.setdefault(TopicPartition(killer.topic, killer.partition), set()).add(killer.first)
        for batch in note.events:
            place = TopicPartition(batch.topic, batch.partition)
            self._died_at[place] = batch
            if note.careful:
                self.killers.setdefault(place, set()).add(batch.first)
        self._write(durable=bool(note.events))
        return note.learning

    def take_over(
        self, owned: Mapping[TopicPartition, OffsetAndMetadata], events: str
    ) -> Mapping[TopicPartition, OffsetAndMetadata]:
        """Return the offsets to commit, the same as *owned* with one more death in their states; and be careful there.

        *events* is the topic of the events. The deaths are counted again until `forget_deaths` says that they are
        committed.
        """
        counted = {}
        for place, (offset, metadata) in owned.items():
            batch = self._died_at.get(place)
            if batch is None or not offset <= batch.first <= batch.last or place.topic != events:
                continue
            state = decode_state(metadata, PartitionState) or PartitionState()
            until = max(state.deaths_until, batch.last)
            state = msgspec.structs.replace(state, deaths=state.deaths + 1, deaths_until=until)
            counted[place] = OffsetAndMetadata(offset, encode_state(state))
        self.look({**owned, **counted}, events)
        return counted

    def forget_deaths(self, owned: Iterable[TopicPartition]) -> None:
        """Forget the deaths of the life before in the partitions *owned*: they are committed."""
        for place in owned:
            self._died_at.pop(place, None)

    def look(self, owned: Mapping[TopicPartition, OffsetAndMetadata], events: str) -> None:
        """Look at the committed states whether to be careful, and forget the killers that are behind."""
        self.careful = False
        for place, (offset, metadata) in owned.items():
            if place.topic == events:
                state = decode_state(metadata, PartitionState)
                self.careful |= state is not None and state.deaths >= self._attempts
                if place in self.killers:
                    self.killers[place] = {one for one in self.killers[place] if one >= offset}

    def begin(self, events: Iterable[Record]) -> None:
        """Note that *events* are under way."""
        spans: dict[tuple[str, int], tuple[int, int]] = {}
        for record in events:
            at = record.topic, record.partition
            spans[at] = (spans.get(at, (record.offset, 0))[0], record.offset)
        self._begun = [_Batch(*at, *span) for at, span in spans.items()]
        self._write(self._begun, durable=self.careful and bool(spans))

    def begin_learning(self, offset: int) -> None:
        """Note that the example at *offset* of ``training`` is learned."""
        self._notes.write(msgspec.json.encode(_Note(learning=offset, killers=self._listed())), durable=False)
        self.beat()

    def end(self) -> None:
        """Note that nothing is under way."""
        self._write(durable=False)

    def blame(self) -> None:
        """Note that the events of the last step are under way still: what ends the process now is their fault."""
        self._write(self._begun, durable=True)

    def beat(self) -> None:
        """Say that the loop is alive. A new timer costs a thread: an old one is good for a quarter of its time."""
        now = time.monotonic()
        if now - self._armed_at > self._step_max_s / 4:
            self._armed_at = now
            self._timer.arm(self._step_max_s)

    def close(self) -> None:
        """Note that nothing is under way, and stop the timer."""
        self.end()
        self._timer.disarm()

    def _write(self, events: Sequence[_Batch] = (), *, durable: bool) -> None:
        note = _Note(events, self.careful and bool(events), None, self._listed())
        self._notes.write(msgspec.json.encode(note), durable=durable)

    def _listed(self) -> list[_Batch]:
        return [_Batch(*place, one, one) for place, offsets in self.killers.items() for one in sorted(offsets)]
