"""What a worker has just committed is served from memory only where nothing else can lie between."""

from __future__ import annotations

import pytest

from streamal.core.records import Output, Place, Record
from streamal.readback import Own

HERE, ELSEWHERE = Place("requests", 0), Place("predictions", 0)
OUTPUTS = [Output("predictions", 0, b"p", b"0"), *(Output("requests", 0, b"k%d" % n, b"%d" % n) for n in range(3))]


def committed(last: int = 12) -> Own:
    """Three requests at 10, 11 and 12."""
    own = Own()
    own.committed(OUTPUTS, {HERE: last, ELSEWHERE: 5}, {HERE})
    return own


def test_our_own_records_are_served_once_and_then_it_is_over() -> None:
    """From the offset where they begin to the end behind their marker; the marker's place is known to be empty."""
    own = committed()
    served = own.read(HERE, 10, 14, 1_000)
    assert served == [Record("requests", 0, 10 + n, b"k%d" % n, b"%d" % n) for n in range(3)]
    assert own.over(HERE, 13)
    assert not own.over(HERE, 13)
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


def test_a_new_turn_asks_again() -> None:
    """After a poll others may have written."""
    own = committed()
    own.forget()
    assert own.read(HERE, 10, 14, 1_000) is None
