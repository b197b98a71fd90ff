"""What is committed beside an offset: small, exact, and unmistakably ours (F5, F16)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamal.core.budget.counters import BudgetCounters, BudgetTerms
from streamal.core.quality.totals import RunningTotals
from streamal.core.records import OffsetAndMetadata, TopicPartition
from streamal.core.state import (
    STATE_BYTES_MAX,
    PartitionState,
    TrainerState,
    decode_state,
    decode_states,
    encode_state,
)
from streamal.errors import InconsistentLog
from tests.making import LABELS, finite

counts = st.integers(0, 2**62)
# every field by name: Hypothesis makes up what has a type and is left out, in sizes that no budget has
counters = st.builds(
    BudgetCounters,
    accepted=counts,
    tokens=st.integers(0, 2**200),
    audit=counts,
    strategy=counts,
    hour=counts,
    hour_audit=counts,
    hour_strategy=counts,
    day_audit=counts,
    day_strategy=counts,
    reserved=st.just(()) | st.tuples(*[counts] * 6),
    quota_tokens=st.lists(counts, max_size=4).map(tuple),
    terms=st.none() | st.builds(BudgetTerms, counts, counts, counts, counts, st.integers(0, 2**200)),
)
partition_states = st.builds(
    PartitionState,
    version=counts,
    now=finite,
    counters=st.none() | counters,
    strategy=st.none() | st.lists(finite, max_size=3).map(tuple),
    unasked=counts,
    asked_at=counts,
    seen=st.builds(RunningTotals, counts, counts, counts),
)
trainer_states = st.builds(TrainerState, counts, counts, counts, counts)


@given(partition_states | trainer_states)
def test_a_state_survives_the_commit(state: PartitionState | TrainerState) -> None:
    """decode(encode(state)) is the state, exactly, in well under the broker's 4,096 bytes."""
    text = encode_state(state)
    if isinstance(state, PartitionState):
        assert decode_state(text, PartitionState) == state
    else:
        assert decode_state(text, TrainerState) == state
    assert len(text.encode()) <= STATE_BYTES_MAX


def test_nothing_committed_is_no_state() -> None:
    """Before the first commit the metadata is empty."""
    assert decode_state("", PartitionState) is None
    assert decode_state("", TrainerState) is None


@pytest.mark.parametrize("metadata", ["null", "{}", "x", "[1,2,3,4", '["a"]', "[1,0.0,[1]]", "[1,null]", "\x00", "é"])
def test_foreign_metadata_stops_the_worker(metadata: str) -> None:
    """Somebody else commits in our group: InconsistentLog, which says what to do, never a guess."""
    with pytest.raises(InconsistentLog, match="group of its own") as raised:
        decode_state(metadata, PartitionState)
    assert raised.value.exit_code == 2


def test_a_state_that_is_too_large_is_never_sent() -> None:
    """F16: the bound is asserted before the broker sees it."""
    with pytest.raises(AssertionError, match="do not fit into the commit metadata"):
        encode_state(PartitionState(strategy=(0.123456789,) * 100))


def test_states_are_told_apart_by_their_topic() -> None:
    """Those of ``events`` are partitions', those of ``labels`` the trainer's; places without one are left out."""
    partition, trainer = PartitionState(3, 1.0, BudgetCounters(1, 2, 3, 4), (0.5,)), TrainerState(7, 5)
    committed = {
        TopicPartition("events", 0): OffsetAndMetadata(4, encode_state(partition)),
        TopicPartition("events", 1): OffsetAndMetadata(0, ""),
        LABELS: OffsetAndMetadata(2, encode_state(trainer)),
    }
    assert decode_states(committed, "events") == [partition, trainer]
