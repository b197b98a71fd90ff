"""Requests minus training, and the join: which labels are learned does not depend on how replies come (F18-F27)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import pairwise

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamal.core.codec.events import decode_training
from streamal.core.pending import Pending, closing_of
from streamal.core.records import Abstention, Example, Expiry, Lane, Outcome, Reply, Request, Training
from tests.making import LABELS, TOPICS, World, ask, digest, make_fold, make_request, make_rules, reply_record

KNOWN = [f"0-{offset}" for offset in range(4)]
FORGED = ["0-99", "7-1", "nonsense", "0-", "-1", "0-1 ", "００-1", "x" * 256]
Said = tuple[str, str | None]

said = st.tuples(st.sampled_from([*KNOWN, *FORGED]), st.sampled_from(["a", "b", None, "other"]))


def make_world(requests: int = 4, **rules: object) -> World:
    world = World(make_rules(**rules), make_fold(kinds={"x": "number"}))  # type: ignore[arg-type]
    ask(world.fold, *(make_request(offset) for offset in range(requests)))
    return world


def run(world: World, replies: Sequence[Said], now: float = 1.0, start: int = 0) -> Counter[tuple[str, str]]:
    polled = [reply_record(start + i, request, label) for i, (request, label) in enumerate(replies)]
    return world.run(polled, now).tally


def trained(world: World) -> list[Training]:
    records = [decode_training(output.value) for output in world.written["training"]]
    assert all(isinstance(record, Training) for record in records)
    return [record for record in records if isinstance(record, Training)]


def answers(world: World) -> dict[str, str | None]:
    found = {}
    for record in trained(world):
        assert isinstance(record, Example | Abstention)
        assert record.request not in found
        found[record.request] = record.label
    return found


def first_valid(replies: Sequence[Said]) -> dict[str, str | None]:
    """Return what should be learned, the plain way."""
    found: dict[str, str | None] = {}
    for request, label in replies:
        if request in KNOWN and label in ("a", "b", None):
            found.setdefault(request, label)
    return found


# Any replies at all.


@given(st.lists(said, max_size=20), st.lists(st.integers(0, 20), max_size=4))
def test_the_first_valid_reply_wins(replies: list[Said], cuts: list[int]) -> None:
    """F18, F19, F22, F23: duplicates, conflicts, forgeries, in one step or several: one answer each, the first."""
    world = make_world()
    edges = [0, *sorted(min(at, len(replies)) for at in cuts), len(replies)]
    tally: Counter[tuple[str, str]] = Counter()
    for start, end in pairwise(edges):
        tally += run(world, replies[start:end], start=start)
    assert answers(world) == first_valid(replies)
    assert set(world.fold.books.pending.open) == set(KNOWN) - set(answers(world))
    assert sum(count for (counter, _), count in tally.items() if counter == "replies") == len(replies)
    assert tally["replies", "refused"] == sum(label == "other" for _, label in replies)
    assert world.committed[LABELS].offset == len(replies)


@given(st.lists(said, max_size=12), st.randoms(use_true_random=False))
def test_any_order_teaches_about_the_same_requests(replies: list[Said], random: object) -> None:
    """F18, F19: a permutation with duplicates changes which of two conflicting answers wins, nothing else."""
    shuffled = [*replies, *replies]
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    one, two = make_world(), make_world()
    run(one, replies)
    run(two, shuffled)
    assert answers(one).keys() == answers(two).keys()
    unanimous = {request for request in KNOWN if len({label for r, label in replies if r == request}) == 1}
    assert {r: label for r, label in answers(one).items() if r in unanimous} == {
        r: label for r, label in answers(two).items() if r in unanimous
    }


@pytest.mark.parametrize(
    ("replies", "outcomes"),
    [
        ([("0-1", "a")], [Outcome.ACCEPTED]),
        ([("0-1", None)], [Outcome.ABSTAINED]),
        ([("0-1", "a"), ("0-1", "a")], [Outcome.ACCEPTED, Outcome.DUPLICATE]),
        ([("0-1", "a"), ("0-1", "b")], [Outcome.ACCEPTED, Outcome.CONFLICTING]),
        ([("0-1", "a"), ("0-1", None)], [Outcome.ACCEPTED, Outcome.CONFLICTING]),
        ([("0-1", None), ("0-1", None)], [Outcome.ABSTAINED, Outcome.DUPLICATE]),
        ([("0-1", None), ("0-1", "b")], [Outcome.ABSTAINED, Outcome.CONFLICTING]),
        ([("0-1", "other"), ("0-1", "b")], [Outcome.REFUSED, Outcome.ACCEPTED]),
        ([("0-99", "a")], [Outcome.UNKNOWN]),
    ],
)
@pytest.mark.parametrize("together", [True, False])
def test_each_reply_has_one_outcome(replies: list[Said], outcomes: list[Outcome], together: bool) -> None:
    """The same whether the replies come in one step or one by one."""
    world = make_world()
    if together:
        tally = run(world, replies)
    else:
        tally = sum((run(world, [reply], start=i) for i, reply in enumerate(replies)), Counter())
    counted = Counter(kind for counter, kind in tally.elements() if counter == "replies")
    assert counted == Counter(outcomes)


def test_a_class_named_like_an_ending_is_not_taken_for_one() -> None:
    """Classes may be called "expired" or "abstained": a conflicting reply stays conflicting."""
    fold = make_fold(classes=("abstained", "expired"), kinds={"x": "number"})
    world = World(make_rules(), fold)
    ask(fold, make_request(0), make_request(1))
    tally = run(world, [("0-0", "expired"), ("0-0", None), ("0-1", None), ("0-1", "abstained")])
    assert tally["replies", "conflicting"] == 2
    assert len({closing_of(None), closing_of("abstained"), closing_of("expired")}) == 3


@given(st.lists(st.tuples(st.sampled_from(FORGED), st.sampled_from(["a", "b", None, "new"])), max_size=10))
def test_a_forged_reply_never_trains(replies: list[Said]) -> None:
    """F23, I12: unknown requests change counters only: no output but dead letters, nothing kept, digest equal."""
    world = make_world()
    before = digest(world.fold)
    tally = run(world, replies)
    assert digest(world.fold) == before
    assert world.written["training"] == world.written["requests"] == []
    assert tally["replies", "unknown"] + tally["replies", "refused"] == len(replies)
    assert len(world.written["dead-letters"]) == tally["replies", "refused"]


# Time.


def test_a_late_reply_is_late() -> None:
    """F20: after the expiry in the log a reply is counted, with any label, and nothing is learned."""
    world = make_world(requests=1)
    assert run(world, [], now=99.9) == Counter()
    assert run(world, [], now=100.0)["expiries", ""] == 1
    tally = run(world, [("0-0", "a"), ("0-0", None)], now=100.0)
    assert tally["replies", "late"] == 2
    assert [type(record) for record in trained(world)] == [Expiry]


def test_a_reply_at_the_deadline_is_taken_first() -> None:
    """An answer that is there is not thrown away because the trainer was down when its request was due."""
    world = make_world(requests=2)
    tally = run(world, [("0-0", "a")], now=1e6)
    assert (tally["replies", "accepted"], tally["expiries", ""]) == (1, 1)
    assert [type(record) for record in trained(world)] == [Example, Expiry]


def test_expiries_are_bounded_in_a_step_and_come_in_order() -> None:
    """F21: after a long night the queue is emptied by and by, earliest deadlines first."""
    world = World(make_rules(expiries_per_step=3), make_fold(kinds={"x": "number"}))
    ask(world.fold, *(make_request(offset, asked_at=float(10 - offset)) for offset in range(10)))
    counts = [run(world, [], now=200.0)["expiries", ""] for _ in range(5)]
    assert counts == [3, 3, 3, 1, 0]
    assert [record.request for record in trained(world) if isinstance(record, Expiry)] == [
        f"0-{offset}" for offset in range(9, -1, -1)
    ]
    assert world.fold.books.pending.deadline() is None


def test_nothing_expires_before_all_replies_were_read() -> None:
    """A deadline after the time up to which replies were polled is not held against them yet."""
    pending = Pending(10)
    pending.add(make_request(0, ttl_s=100.0))
    assert pending.due(99.9, 5) == []
    assert [request.request for request in pending.due(100.0, 5)] == ["0-0"]
    assert pending.due(100.0, 0) == []


@pytest.mark.parametrize("now", [0.0, -1e9, 50.0])
def test_the_deadline_is_the_one_written_in_the_request(now: float) -> None:
    """F21: neither the present ttl nor a clock that goes back makes a request expire earlier."""
    world = make_world(requests=2, ttl_s=1.0)
    assert run(world, [], now=now) == Counter()
    assert world.fold.books.pending.deadline() == 100.0


def test_label_delays_are_told() -> None:
    """From request to join, for accepted replies only."""
    world = make_world(requests=2)
    replies = [reply_record(0, "0-0", "a"), reply_record(1, "0-0", "b"), reply_record(2, "0-1", None)]
    assert world.run(replies, 40.0).label_delays_s == [40.0, 40.0]


# The set difference.


def logs() -> tuple[list[Request | str], list[Example | Abstention | Expiry]]:
    """Return ``requests`` (with tombstones) and ``training`` of one history: five asked, three closed."""
    requests: list[Request | str] = [make_request(offset, lane=list(Lane)[offset % 2]) for offset in range(5)]
    training = [
        Example("0-0", "a", {"x": 1.0}, "a", 0.5, Lane.AUDIT, 0.0, 1.0),
        Abstention("0-3", 0.5, Lane.STRATEGY, 0.0, 1.0),
        Expiry("0-4", 0.5, Lane.AUDIT, 0.0, 1.0),
    ]
    return [*requests, "0-0", "0-3", "0-4"], training  # type: ignore[return-value]


def view(pending: Pending) -> tuple[object, ...]:
    replies = [Reply(f"0-{i}", label, None, None, None) for i in range(6) for label in ("a", "b", None)]
    return (
        set(pending.open),
        [pending.count(0, lane) for lane in Lane],
        [pending.outcome(reply, {}) for reply in replies],
        pending.deadline(),
        [request.request for request in pending.due(1e9, 10)],
    )


@settings(max_examples=200)
@given(st.permutations([True] * 8 + [False] * 3), st.integers(1, 3))
def test_requests_and_training_may_be_read_in_any_interleaving(turns: list[bool], times: int) -> None:
    """A difference commutes: any interleaving, each log read up to three times over, the same open queue."""
    requests, training = logs()
    expected = Pending(100)
    for request in requests:
        expected.add(request) if isinstance(request, Request) else expected.withdraw(request)
    for record in training:
        expected.close(record)
    pending = Pending(100)
    upcoming_requests, upcoming_training = iter(requests), iter(training)
    for turn in turns:
        if turn:
            request = next(upcoming_requests)
            pending.add(request) if isinstance(request, Request) else pending.withdraw(request)
        else:
            pending.close(next(upcoming_training))
    for _ in range(times - 1):  # a compacted or re-read topic shows old records again
        for request in requests[:5]:
            assert isinstance(request, Request)
            pending.add(request)
    assert view(pending) == view(expected)
    assert set(pending.open) == {"0-1", "0-2"}


def test_hidden_requests_count_as_open() -> None:
    """F13: what the ledger has counted and nobody has closed is open, seen or not."""
    pending = Pending(10)
    pending.add(make_request(0))
    assert pending.count(0, Lane.STRATEGY) == 1
    assert pending.count(0, Lane.STRATEGY, asked=3) == 3
    pending.close(Expiry("0-0", 0.5, Lane.STRATEGY, 0.0, 1.0))
    pending.close(Expiry("1-0", 0.5, Lane.STRATEGY, 0.0, 1.0))
    pending.close(Expiry("0-1", 0.5, Lane.AUDIT, 0.0, 1.0))
    assert pending.count(0, Lane.STRATEGY, asked=3) == 2
    assert (pending.count(0, Lane.STRATEGY), pending.count(0, Lane.AUDIT, asked=1)) == (0, 0)


def test_the_memory_of_closed_requests_is_bounded() -> None:
    """I9: the oldest is forgotten and then unknown; those that are remembered are never opened again."""
    pending = Pending(closed_max=3)
    for offset in range(10):
        pending.add(make_request(offset))
        pending.close(Expiry(f"0-{offset}", 0.5, Lane.STRATEGY, 0.0, 1.0))
    outcomes = [pending.outcome(Reply(f"0-{offset}", "a", None, None, None), {}) for offset in range(10)]
    assert outcomes == [Outcome.UNKNOWN] * 7 + [Outcome.LATE] * 3
    assert ("0-6" in pending, "0-7" in pending, len(pending)) == (False, True, 0)
    pending.add(make_request(9))
    assert len(pending) == 0
    assert pending.deadline() is None
    assert len(msgspec.json.encode(pending._deadlines)) == 2


@pytest.mark.parametrize("closed_max", [1, 7, 8, 40])
def test_at_least_seven_eighths_are_remembered(closed_max: int) -> None:
    """Many are forgotten at once, which costs less than one by one; never more than an eighth, and the oldest first."""
    pending, least = Pending(closed_max), closed_max
    for offset in range(5 * closed_max):
        pending.close(Expiry(f"0-{offset}", 0.5, Lane.STRATEGY, 0.0, 1.0))
        known = [f"0-{each}" in pending for each in range(offset + 1)]
        assert known == sorted(known)
        assert sum(known) <= closed_max
        least = min(least, sum(known)) if offset >= closed_max else least
    assert least >= closed_max - max(0, closed_max // 8 - 1)


def test_a_tombstone_takes_off_what_it_names() -> None:
    """One for an unknown request, or without a key, changes nothing."""
    world = make_world(requests=2)
    world.fold.apply_request(0, 2, b"0-0", None)
    world.fold.apply_request(0, 3, b"0-77", None)
    world.fold.apply_request(0, 4, None, None)
    world.fold.apply_request(0, 5, b"\xff", None)
    assert set(world.fold.books.pending.open) == {"0-1"}
    assert world.fold.books.positions == {0: 6}


def test_a_closed_request_leaves_the_queue_in_the_same_transaction() -> None:
    """Each closing record comes with the tombstone of its request, in its partition."""
    world = World(make_rules(partitions=2), make_fold(kinds={"x": "number"}))
    ask(world.fold, make_request(5, partition=1), make_request(6))
    run(world, [("1-5", "a"), ("0-6", None)])
    tombstones = [(output.partition, output.key, output.value) for output in world.written[TOPICS.requests]]
    assert tombstones == [(1, b"1-5", None), (0, b"0-6", None)]


# New classes.


@pytest.mark.parametrize("kinds", [{"x": "number"}, None], ids=["schema", "before the schema"])
def test_a_new_class_is_learned_where_that_is_the_policy(kinds: dict[str, str] | None) -> None:
    """F25: up to ``classes_max``, counted across the step; the class is known at once, schema or not."""
    fold = make_fold(classes=("a",), learn_new=True, classes_max=3, kinds=kinds, infer_from=50)
    world = World(make_rules(), fold)
    ask(fold, *(make_request(offset) for offset in range(6)))
    tally = run(world, [("0-0", "b"), ("0-1", "c"), ("0-2", "d"), ("0-3", "b"), ("0-4", "a")])
    assert (tally["replies", "accepted"], tally["replies", "refused"]) == (4, 1)
    assert list(fold.learned.model.classes) == ["a", "b", "c"]
    assert run(world, [("0-2", "e")], start=5)["replies", "refused"] == 1
    assert set(fold.books.pending.open) == {"0-2", "0-5"}


def test_a_new_class_in_an_unknown_reply_takes_no_room() -> None:
    """I12: a forger cannot use up ``classes_max``."""
    fold = make_fold(classes=("a",), learn_new=True, classes_max=2, kinds={"x": "number"})
    world = World(make_rules(), fold)
    ask(fold, make_request(0))
    tally = run(world, [("0-99", "forged"), ("0-0", "b")])
    assert (tally["replies", "unknown"], tally["replies", "accepted"]) == (1, 1)
    assert list(fold.learned.model.classes) == ["a", "b"]


def test_a_new_class_is_refused_where_that_is_the_policy() -> None:
    """F25: dead-lettered with the known classes named; the request stays open for a valid answer."""
    world = make_world(requests=1)
    assert run(world, [("0-0", "c")])["dead_letters", "label_unknown"] == 1
    assert b"not among the classes (a, b)" in (world.written["dead-letters"][0].value or b"")
    assert "0-0" in world.fold.books.pending.open


def test_old_deadlines_do_not_gather_behind_an_open_request() -> None:
    """One request that stays open for a week does not keep the deadlines of all that were closed since (I9)."""
    pending = Pending(closed_max=10)
    pending.add(make_request(0))
    for number in range(1, 5_000):
        request = make_request(number)
        pending.add(request)
        pending.close(Expiry(request.request, 0.5, Lane.STRATEGY, 0.0, 1.0))
    assert len(pending) == 1
    assert len(pending._deadlines) < 1_100
