"""What the memory broker adds to the contract: sparse offsets, groups, and the faults that the simulation injects."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamal.core.records import OffsetAndMetadata, OutputRecord, Record, TopicPartition
from streamal.edge.memory import Broker, MemoryTransport
from streamal.errors import ConfigError, Fatal, Fenced, Uncommitted
from streamal.ports import METADATA_BYTES_MAX

SIDES = ("before", "after")
E0, E1, LABELS = TopicPartition("events", 0), TopicPartition("events", 1), TopicPartition("labels", 0)


class Crash(BaseException):
    """The process is gone; nothing catches it but the test."""


def make_broker(partitions: int = 2) -> Broker:
    broker = Broker()
    for topic, count in {"events": partitions, "labels": 1, "out": partitions}.items():
        broker.create(topic, count)
    return broker


def join(broker: Broker, instance: str) -> MemoryTransport:
    return MemoryTransport(broker, "g", instance, "events", "labels")


def raising(error: BaseException, at: str, instance: str = "a") -> Callable[[str, str], None]:
    """Return a fault that raises *error* whenever *instance* comes to the point *at*."""

    def fault(who: str, point: str) -> None:
        if (who, point) == (instance, at):
            raise error

    return fault


def outs(count: int) -> list[OutputRecord]:
    return [OutputRecord("out", 0, None, b"%d" % number) for number in range(count)]


def seen(broker: Broker) -> list[tuple[int, bytes | None]]:
    return [(record.offset, record.value) for record in broker.read("out", 0, 0, 1000)]


# Topics and offsets.


def test_a_commit_marker_takes_one_offset_of_each_written_partition() -> None:
    """``0: rec rec C rec C | 1: rec C``: offsets have gaps, and the end counts the markers."""
    broker = make_broker()
    worker = join(broker, "a")
    worker.commit([*outs(2), OutputRecord("out", 1, None, b"x")], {})
    worker.commit(outs(1), {})
    assert seen(broker) == [(0, b"0"), (1, b"1"), (3, b"0")]
    assert (broker.end("out", 0), broker.end("out", 1), broker.end("events", 0)) == (5, 2, 0)


@pytest.mark.parametrize(("point", "gap"), [("send:0", 0), ("send:1", 2), ("send:2", 3), ("commit:before", 4)])
def test_an_aborted_transaction_leaves_a_gap(point: str, gap: int) -> None:
    """Aborted after k outputs: k slots and the marker stay invisible for ever, and the worker can go on."""
    broker = make_broker()
    worker = join(broker, "a")
    broker.fault = raising(Uncommitted("injected"), point)
    with pytest.raises(Uncommitted, match="injected"):
        worker.commit(outs(3), {})
    broker.fault = None
    worker.commit(outs(1), {})
    assert seen(broker) == [(gap, b"0")]


def test_partitions_are_fixed() -> None:
    """A topic may be created again as it is, not otherwise; labels must have one partition."""
    broker = make_broker()
    broker.append("events", 0, None, b"x")
    broker.create("events", 2)
    assert broker.end("events", 0) == 1
    with pytest.raises(ConfigError, match="2 partitions, not 3"):
        broker.create("events", 3)
    with pytest.raises(ConfigError, match="must have 1 partition"):
        MemoryTransport(broker, "g", "a", "labels", "events")
    broker.close()


def test_metadata_above_the_brokers_limit_is_fatal() -> None:
    """4,096 bytes (not letters) of state pass, one more stops the worker before anything is written (F16)."""
    broker = make_broker()
    worker = join(broker, "a")
    worker.poll({}, 0)
    worker.commit([], {E0: OffsetAndMetadata(0, "x" * METADATA_BYTES_MAX)})
    with pytest.raises(Fatal, match=r"events-0 has 4097 bytes: .*offset\.metadata\.max\.bytes"):
        worker.commit(outs(1), {E0: OffsetAndMetadata(0, "x" * (METADATA_BYTES_MAX - 1) + "€")})
    assert seen(broker) == []


# The group.


def test_partitions_are_dealt_out_in_the_order_of_names() -> None:
    """Two members share the inputs round robin, whoever came first; one that leaves gives its share back."""
    broker = make_broker()
    late, early = join(broker, "b"), join(broker, "a")
    assert [late.poll({}, 0), early.poll({}, 0)] == [[], []]
    assert set(early.assignment()[1]) == {E0, LABELS}
    assert set(late.assignment()[1]) == {E1}
    early.close()
    late.poll({}, 0)
    assert set(late.assignment()[1]) == {E0, E1, LABELS}


def test_a_kept_partition_keeps_its_position() -> None:
    """A poll that picks up a change starts new partitions at the committed offset and leaves the others alone."""
    broker = make_broker()
    for partition in (0, 1):
        for value in (b"1", b"2"):
            broker.append("events", partition, None, value)
    first = join(broker, "a")
    assert len(first.poll({"events": 4}, 0)) == 4
    second = join(broker, "b")
    assert [record.partition for record in second.poll({"events": 4}, 0)] == [1, 1]
    second.commit([], {E1: OffsetAndMetadata(1, "one")})
    assert first.poll({"events": 4}, 0) == []
    second.close()
    assert first.poll({"events": 4}, 0) == [Record("events", 1, 1, None, b"2")]
    assert first.assignment() == (
        3,
        {E0: OffsetAndMetadata(0, ""), E1: OffsetAndMetadata(1, "one"), LABELS: OffsetAndMetadata(0, "")},
    )


def test_a_commit_across_a_rebalance_is_aborted() -> None:
    """A member that has not noticed the new generation must rewind (F12); outputs alone are not fenced, as in Kafka."""
    broker = make_broker()
    worker = join(broker, "a")
    worker.poll({}, 0)
    join(broker, "b")
    with pytest.raises(Uncommitted, match="rebalanced"):
        worker.commit(outs(2), {E0: OffsetAndMetadata(1, "")})
    worker.commit(outs(1), {})
    worker.rewind()
    worker.commit(outs(1), {E0: OffsetAndMetadata(1, "")})
    assert seen(broker) == [(3, b"0"), (5, b"0")]


def test_a_partition_lost_and_regained_is_read_anew() -> None:
    """Ownership that was broken between two polls counts as new: the position is the committed one again."""
    broker = make_broker()
    broker.append("events", 0, None, b"1")
    worker = join(broker, "b")
    assert len(worker.poll({"events": 1}, 0)) == 1
    join(broker, "a").close()
    generation = worker.assignment()[0]
    assert len(worker.poll({"events": 1}, 0)) == 1
    assert worker.assignment()[0] == generation + 1


def test_offsets_of_a_foreign_partition_are_fenced() -> None:
    """Whoever commits what another member owns is stopped, and shows nothing."""
    broker = make_broker()
    worker = join(broker, "a")
    join(broker, "b")
    worker.poll({}, 0)
    with pytest.raises(Fenced, match="owns only"):
        worker.commit(outs(1), {E1: OffsetAndMetadata(1, "")})
    assert seen(broker) == []
    assert broker.end("out", 0) == 2
    assert broker.committed("g") == {}


@pytest.mark.parametrize("end", ["expel", "replace", "close"])
def test_who_has_lost_the_seat_is_fenced_everywhere(end: str) -> None:
    """An expelled, replaced or closed worker can neither poll, commit nor rewind; it can still read (I7)."""
    broker = make_broker()
    worker = join(broker, "a")
    worker.poll({}, 0)
    {"expel": lambda: broker.expel("g", "a"), "replace": lambda: join(broker, "a"), "close": worker.close}[end]()
    for attempt in (lambda: worker.poll({}, 0), lambda: worker.commit(outs(1), {}), worker.rewind):
        with pytest.raises(Fenced):
            attempt()
    assert worker.end("out", 0) == 0
    worker.close()


def test_a_namesakes_close_does_not_evict_the_successor() -> None:
    """A replaced worker that closes late leaves its successor's seat alone."""
    broker = make_broker()
    zombie, successor = join(broker, "a"), join(broker, "a")
    successor.poll({}, 0)
    zombie.close()
    successor.commit(outs(1), {E0: OffsetAndMetadata(1, "")})
    assert seen(broker) == [(0, b"0")]


# Faults.


def test_each_io_point_is_announced_before_and_after() -> None:
    """The simulation can count the I/O points of a run and strike at each of them."""
    broker = make_broker()
    points: list[str] = []
    broker.fault = lambda who, point: points.append(f"{who} {point}")
    worker = join(broker, "a")
    worker.poll({"events": 1}, 0)
    worker.commit(outs(2), {E0: OffsetAndMetadata(0, "")})
    worker.read("out", 0, worker.end("out", 0), 1)
    worker.rewind()
    worker.append("labels", 0, None, b"x")
    worker.committed("g")
    worker.close()
    pairs = [f"a {name}:{side}" for name in ("end", "read", "rewind", "append", "committed", "close") for side in SIDES]
    start = ["a join:before", "a join:after", "a poll:before", "a poll:after"]
    assert points == [*start, "a send:0", "a send:1", "a commit:before", "a commit:after", *pairs]


def test_an_unknown_outcome_had_succeeded() -> None:
    """Uncommitted at commit:after: everything is committed, and only a rewind tells (F4)."""
    broker = make_broker()
    worker = join(broker, "a")
    worker.poll({}, 0)
    broker.fault = raising(Uncommitted("no answer"), "commit:after")
    with pytest.raises(Uncommitted, match="no answer"):
        worker.commit(outs(1), {E0: OffsetAndMetadata(7, "s")})
    worker.rewind()
    assert seen(broker) == [(0, b"0")]
    assert worker.assignment()[1][E0] == OffsetAndMetadata(7, "s")


CURES: dict[str, Callable[[Broker, MemoryTransport], object]] = {
    "namesake": lambda broker, _: join(broker, "a"),
    "expel": lambda broker, _: broker.expel("g", "a"),
    "rewind": lambda _, worker: worker.rewind(),
    "close": lambda _, worker: worker.close(),
}


@pytest.mark.parametrize("cure", CURES)
@pytest.mark.parametrize(("point", "written"), [("send:2", 2), ("commit:before", 3)])
def test_a_crash_holds_back_the_last_stable_offset(cure: str, point: str, written: int) -> None:
    """Until the crashed worker's transaction is aborted, nobody sees what others wrote after it (F13)."""
    broker = make_broker()
    broker.append("out", 0, None, b"before")
    crashed, other = join(broker, "a"), join(broker, "b")
    broker.fault = raising(Crash(), point)
    with pytest.raises(Crash):
        crashed.commit(outs(3), {})
    broker.fault = None
    broker.append("out", 0, None, b"plain")
    other.commit([OutputRecord("out", 0, None, b"other")], {})
    assert (broker.end("out", 0), seen(broker)) == (1, [(0, b"before")])
    with pytest.raises(Uncommitted, match="unfinished: rewind first"):
        crashed.commit(outs(1), {})
    CURES[cure](broker, crashed)
    first = 1 + written
    assert seen(broker) == [(0, b"before"), (first, b"plain"), (first + 1, b"other")]
    assert broker.end("out", 0) == first + 4


def test_an_unfinished_transaction_holds_back_polls_too() -> None:
    """A poll of an input topic stops at the last stable offset as well."""
    broker = make_broker()
    worker = join(broker, "a")
    broker.fault = raising(Crash(), "commit:before", "b")
    with pytest.raises(Crash):
        join(broker, "b").commit([OutputRecord("labels", 0, None, b"x")], {})
    broker.append("labels", 0, None, b"y")
    assert worker.poll({"labels": 5}, 0) == []
    broker.expel("g", "b")
    assert [record.value for record in worker.poll({"labels": 5}, 0)] == [b"y"]


@pytest.mark.parametrize("point", ["send:0", "send:1", "commit:before"])
def test_a_worker_expelled_in_the_middle_of_a_commit_is_fenced(point: str) -> None:
    """A session time-out between two sends leaves no half and no open transaction (F11)."""
    broker = make_broker()
    worker = join(broker, "a")
    worker.poll({}, 0)
    broker.fault = lambda _, at: broker.expel("g", "a") if at == point else None
    with pytest.raises(Fenced):
        worker.commit(outs(2), {E0: OffsetAndMetadata(1, "")})
    assert seen(broker) == []
    assert broker.append("out", 0, None, b"x") == broker.end("out", 0) - 1


POINTS = [
    "poll:before",
    "poll:after",
    "send:0",
    "send:1",
    "commit:before",
    "commit:after",
    "rewind:before",
    "rewind:after",
]


class Life:
    """A worker that is killed, expelled and rebalanced, and does what the daemon does about it."""

    def __init__(self, broker: Broker, instance: str) -> None:
        self.broker, self.instance, self.worker = broker, instance, join(broker, instance)

    def turn(self, records_max: int) -> None:
        try:
            self.commit(self.worker.poll({"events": records_max}, 0))
        except Uncommitted:
            self.again(self.worker.rewind)
        except (Crash, Fenced):
            self.again(lambda: None)

    def commit(self, polled: list[Record]) -> None:
        outputs = [OutputRecord("out", record.partition, None, record.value) for record in polled]
        self.worker.commit(
            outputs, {TopicPartition("events", r.partition): OffsetAndMetadata(r.offset + 1, "") for r in polled}
        )

    def again(self, cure: Callable[[], None]) -> None:
        """Rewind, or start anew, with no fault on the way that would not end in a new start."""
        try:
            cure()
        except (Uncommitted, Crash, Fenced):
            self.broker.fault = None
        else:
            if cure == self.worker.rewind:
                return
        self.broker.fault = None
        self.worker = join(self.broker, self.instance)


STEPS = st.lists(
    st.tuples(
        st.sampled_from("abc"),
        st.sampled_from(["turn", "turn", "turn", "append", "append", "expel", "restart"]),
        st.none() | st.tuples(st.sampled_from(POINTS), st.sampled_from([Crash, Uncommitted])),
    ),
    max_size=40,
)


@settings(max_examples=300, deadline=None)
@given(steps=STEPS, records_max=st.integers(1, 4))
def test_every_event_is_copied_once_whatever_happens_to_the_group(
    steps: list[tuple[str, str, tuple[str, type[BaseException]] | None]], records_max: int
) -> None:
    """Three workers under crashes, unknown outcomes, time-outs and rebalances copy each event once, in order (I1)."""
    broker, appended = make_broker(), 0
    lives = {name: Life(broker, name) for name in "abc"}
    for name, action, fault in steps:
        broker.fault = raising(fault[1]("injected"), fault[0], name) if fault else None
        if action == "append":
            broker.append("events", appended % 2, None, b"%d" % appended)
            appended += 1
        elif action == "expel":
            broker.expel("g", name)
        elif action == "restart":
            lives[name].again(lambda: None)
        else:
            lives[name].turn(records_max)
    broker.fault = None
    for _ in range(2 + appended):
        for life in lives.values():
            life.turn(records_max)
    for partition in (0, 1):
        events = [record.value for record in broker.read("events", partition, 0, 1000)]
        assert [record.value for record in broker.read("out", partition, 0, 1000)] == events
        assert len(events) == broker.end("events", partition)
