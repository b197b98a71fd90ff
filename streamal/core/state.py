"""The state of a partition between two steps, as the text that is committed beside its offset.

It travels with the ownership of the partition, is atomic with the outputs, and needs no topic of its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

import msgspec

from streamal.core.budget.counters import BudgetCounters
from streamal.core.quality.totals import RunningTotals
from streamal.core.records import OffsetAndMetadata, TopicPartition
from streamal.core.strategies import State
from streamal.errors import InconsistentLog

__all__ = ["STATE_BYTES_MAX", "PartitionState", "TrainerState", "decode_state", "decode_states", "encode_state"]

STATE_BYTES_MAX = 1_200
"""More than any configuration needs: an assertion, a third of what a transport takes (`ports.METADATA_BYTES_MAX`)."""


class PartitionState(msgspec.Struct, frozen=True, array_like=True):
    """Of a partition of ``events``: model version and time of its last prediction, budget, strategy, counts.

    Attributes:
        unasked: accepted events since the last request.
        asked_at: when that was, in whole seconds; 0 before the first.
        seen: what requests carry, for the estimates.
        deaths: how many workers have died at this offset, see `streamal.daemon.poison`; events up to *deaths_until*
            were under way then.
    """

    version: int = 0
    now: float = 0.0
    counters: BudgetCounters | None = None
    strategy: State | None = None
    unasked: int = 0
    asked_at: int = 0
    seen: RunningTotals = RunningTotals()
    deaths: int = 0
    deaths_until: int = 0


class TrainerState(msgspec.Struct, frozen=True, array_like=True):
    """Of ``labels``: the version that the trainer had folded, and how many records ``training`` has since this commit.

    *quarantined* examples were left out of that version's model. *unknown* replies so far named no request: the
    log alone does not tell whether such a reply came before its request.

    Whoever is trainer next joins only when it has folded that many: then no accepted reply can be accepted twice.
    """

    version: int = 0
    records: int = 0
    quarantined: int = 0
    unknown: int = 0

    def with_record(self) -> TrainerState:
        """Return the state with one more record in ``training``."""
        return msgspec.structs.replace(self, records=self.records + 1)


S = TypeVar("S", PartitionState, TrainerState)


def encode_state(state: PartitionState | TrainerState) -> str:
    """Return *state* as JSON, at most `STATE_BYTES_MAX` bytes.

    >>> encode_state(TrainerState(12, 7))
    '[12,7,0,0]'
    """
    text = msgspec.json.encode(state)
    assert len(text) <= STATE_BYTES_MAX, f"{len(text)} bytes of state do not fit into the commit metadata"
    return text.decode()


def decode_state(metadata: str, kind: type[S]) -> S | None:
    """Return the state in *metadata*, None where nothing was committed with the offset.

    Raises:
        InconsistentLog: somebody else commits in our group.
    """
    if not metadata:
        return None
    try:
        return msgspec.json.decode(metadata, type=kind)
    except msgspec.DecodeError as error:
        raise InconsistentLog(
            f"the commit metadata {metadata[:80]!r} is not streamal's: give each daemon a group of its own"
        ) from error


def decode_states(
    committed: Mapping[TopicPartition, OffsetAndMetadata], events: str
) -> list[PartitionState | TrainerState]:
    """Return the states of all partitions that have one; those of the topic *events* are partitions' states."""
    found: list[PartitionState | TrainerState] = []
    for place, (_, metadata) in committed.items():
        if place.topic == events:
            state: PartitionState | TrainerState | None = decode_state(metadata, PartitionState)
        else:
            state = decode_state(metadata, TrainerState)
        if state is not None:
            found.append(state)
    return found
