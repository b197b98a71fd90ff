"""What a worker has just committed is served from memory only where nothing else can lie between."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from streamal.core.records import OutputRecord, Record, TopicPartition
from streamal.edge.kafka.readback import OwnRecords, ReadBack

HERE, ELSEWHERE = TopicPartition("requests", 0), TopicPartition("predictions", 0)
OUTPUTS = [
    OutputRecord("predictions", 0, b"p", b"0"),
    *(OutputRecord("requests", 0, b"k%d" % n, b"%d" % n) for n in range(3)),
]


def committed(last: int = 12) -> OwnRecords:
    """Three requests at 10, 11 and 12."""
    own = OwnRecords()
    own.note_commit(OUTPUTS, {HERE: last, ELSEWHERE: 5}, {HERE})
    return own


def test_our_own_records_are_served_once_and_then_it_is_over() -> None:
    """From the offset where they begin to the end behind their marker; the marker's place is known to be empty."""
    own = committed()
    served = own.read(HERE, 10, 14, 1_000)
    assert served == [Record("requests", 0, 10 + n, b"k%d" % n, b"%d" % n) for n in range(3)]
    assert own.only_marker_follows(HERE, 13)
    assert not own.only_marker_follows(HERE, 13)
    assert own.read(HERE, 10, 14, 1_000) is None


@pytest.mark.parametrize(
    ("offset", "end", "count"),
    [(9, 14, 1_000), (11, 14, 1_000), (10, 13, 1_000), (10, 15, 1_000), (10, 14, 2)],
    ids=["before", "within", "no marker yet", "somebody else's behind", "more than asked for"],
)
def test_anything_else_is_fetched(offset: int, end: int, count: int) -> None:
    """A reader that is elsewhere, or a partition with other records, is none of ours."""
    assert committed().read(HERE, offset, end, count) is None


def test_a_gap_among_ours_is_fetched() -> None:
    """Where somebody else's record lies between, the last offset is farther on than we have written records."""
    assert committed(last=13).read(HERE, 10, 15, 1_000) is None


def test_what_is_not_read_back_is_not_kept() -> None:
    """Predictions are many, and nobody asks for them."""
    assert committed().read(ELSEWHERE, 5, 7, 1_000) is None


def test_whoever_has_to_start_anew_asks_again() -> None:
    """After a rewind nobody knows what has become of the transaction."""
    own = committed()
    own.forget()
    assert own.read(HERE, 10, 14, 1_000) is None


class Ends:
    """A cluster whose markers show when they are asked for the *lag*-th time."""

    def __init__(self, lag: int) -> None:
        self.lag, self.asked, self.seen = lag, 0, set[TopicPartition]()

    def ask(self, places: list[TopicPartition]) -> dict[TopicPartition, int]:
        self.asked += 1
        return dict.fromkeys(places, 14 if self.asked > self.lag else 10)

    def note(self, places: Iterable[TopicPartition]) -> None:
        self.seen.update(places)


def test_a_poll_lies_between_a_commit_and_what_it_wrote() -> None:
    """The markers are waited for only when they are needed; ours is served from memory all the same."""
    ends = Ends(lag=3)
    back = ReadBack(ends.ask, ends.note)
    assert back.end(HERE) == 10
    back.note_commit(OUTPUTS, {HERE: 12, ELSEWHERE: 12})
    back.note_poll()
    assert ends.asked == 1
    found = back.read(HERE, 10, 10, 1_000)
    assert found is not None
    assert [record.offset for record in found[0]] == [10, 11, 12]
    assert found[1] == 14
    assert ends.asked == 4
    assert ends.seen == {HERE, ELSEWHERE}
    assert back.read(HERE, 13, 14, 1_000) == ([], 13), "only our marker is there"


def test_the_end_waits_for_our_own_marker() -> None:
    """Whoever asks where a partition ends after a commit is not told an end from before it."""
    ends = Ends(lag=2)
    back = ReadBack(ends.ask, ends.note)
    back.note_commit(OUTPUTS, {HERE: 12})
    assert back.end(HERE) == 14
    assert ends.asked == 3


def test_after_a_rewind_nothing_is_waited_for() -> None:
    """The transaction may have been aborted: its marker says nothing then."""
    ends = Ends(lag=9)
    back = ReadBack(ends.ask, ends.note)
    back.note_commit(OUTPUTS, {HERE: 12})
    back.forget()
    assert back.end(HERE) == 10
    assert ends.asked == 1
