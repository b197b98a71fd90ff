"""The open queue of the people who answer: rebuilt from the topics, most valuable first, one annotator a request."""

from __future__ import annotations

import json
from collections.abc import Sequence

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from streamal.core.codec.events import encode
from streamal.core.codec.wire_rules import WireRules
from streamal.core.records import Expiry, Lane, OffsetAndMetadata, OutputRecord, Request, TopicPartition
from streamal.edge.memory import Broker, MemoryTransport
from streamal.labeling.feed import Feed
from streamal.labeling.queue import Entry, OpenQueue, QueueRules, entry_of
from tests.making import TOPICS, make_request

NOW = 10.0


def make_broker(partitions: int = 2) -> Broker:
    broker = Broker()
    for topic in TOPICS:
        broker.create(topic, 1 if topic in {"labels", "training", "dead-letters"} else partitions)
    return broker


def make_feed(broker: Broker, **rules: float) -> Feed:
    return Feed(broker, TOPICS, "group", OpenQueue(QueueRules(**rules)), WireRules())  # type: ignore[arg-type]


def ask(broker: Broker, *requests: Request) -> None:
    for request in requests:
        partition = int(request.request.partition("-")[0])
        broker.append("requests", partition, request.request.encode(), encode(request))


def close(broker: Broker, request: Request, *, tombstone: bool = True) -> None:
    record = Expiry(request.request, request.propensity, request.lane, request.asked_at, NOW)
    broker.append("training", 0, request.request.encode(), encode(record))
    if tombstone:
        broker.append("requests", int(request.request[0]), request.request.encode(), None)


def unsure(offset: int, uncertainty: float, lane: Lane = Lane.STRATEGY, partition: int = 0) -> Request:
    return msgspec.structs.replace(make_request(offset, partition=partition, lane=lane), uncertainty=uncertainty)


def order(queue: OpenQueue, now: float = NOW) -> list[str]:
    return [entry.request for entry in queue.entries(now)]


def test_the_most_valuable_comes_first_and_the_audit_lane_before_all() -> None:
    """By uncertainty, but a random sample that is answered only in part measures nothing."""
    broker = make_broker()
    ask(broker, unsure(1, 0.1), unsure(2, 0.4, partition=1), unsure(3, 0.0, Lane.AUDIT), unsure(4, 0.3))
    feed = make_feed(broker)
    assert feed.read(NOW)
    assert order(feed.queue) == ["0-3", "1-2", "0-4", "0-1"]
    assert not feed.read(NOW)


def test_two_annotators_never_have_the_same_request() -> None:
    """A request is leased to one; the other gets the next; when the lease is over it is free again."""
    broker = make_broker()
    ask(broker, unsure(1, 0.4), unsure(2, 0.3))
    queue = make_feed(broker, lease_s=5.0).queue
    feed = Feed(broker, TOPICS, "group", queue, WireRules())
    feed.read(NOW)
    first, second = queue.lease("ann", NOW), queue.lease("bob", NOW)
    assert first is not None
    assert second is not None
    assert (first.request, second.request) == ("0-1", "0-2")
    assert queue.lease("cyd", NOW) is None
    assert queue.lease("ann", NOW + 4.0) == first  # a reload shows the same, and lengthens the lease
    assert queue.holder("0-1", NOW + 8.0) == "ann"
    assert not queue.hold("0-1", "bob", NOW + 8.0)
    assert queue.hold("0-1", "bob", NOW + 9.5)


def test_skipped_requests_come_again_only_when_nothing_else_is_left() -> None:
    """Somebody else gets them at once."""
    broker = make_broker()
    ask(broker, unsure(1, 0.4), unsure(2, 0.3))
    feed = make_feed(broker)
    feed.read(NOW)
    for expected in ("0-1", "0-2", "0-1"):
        entry = feed.queue.lease("ann", NOW)
        assert entry is not None
        assert entry.request == expected
        feed.queue.skip(entry.request, "ann")
    other = feed.queue.lease("bob", NOW)
    assert other is not None
    assert other.request == "0-1"


def test_what_is_still_shown_is_not_given_twice() -> None:
    """While an answer may still be undone its request stays leased, and the next is another one."""
    broker = make_broker()
    ask(broker, unsure(1, 0.4), unsure(2, 0.3))
    feed = make_feed(broker)
    feed.read(NOW)
    assert feed.queue.lease("ann", NOW) == feed.queue.lease("ann", NOW)
    following = feed.queue.lease("ann", NOW, without=["0-1"])
    assert following is not None
    assert following.request == "0-2"
    assert feed.queue.holder("0-1", NOW) == "ann"


def test_an_answer_that_the_daemon_has_not_joined_is_not_asked_again_after_a_restart() -> None:
    """Replies are in the log: a new page reads those behind the trainer's place."""
    broker = make_broker()
    ask(broker, unsure(1, 0.4), unsure(2, 0.3))
    feed = make_feed(broker)
    feed.read(NOW)
    feed.write_reply("0-1", json.dumps({"request": "0-1", "label": "a"}).encode())
    assert order(feed.queue) == ["0-2"]
    again = make_feed(broker)
    again.read(NOW)
    assert order(again.queue) == ["0-2"]


def test_an_answer_that_the_daemon_refused_is_asked_again() -> None:
    """The trainer has gone past the reply, and the request is still open."""
    broker = make_broker()
    ask(broker, unsure(1, 0.4))
    feed = make_feed(broker)
    feed.read(NOW)
    feed.write_reply("0-1", b'{"request": "0-1", "label": "no class"}')
    trainer = MemoryTransport(broker, "group", "trainer", "events", "labels")
    trainer.poll({"labels": 10}, 0.0)
    trainer.commit([], {TopicPartition("labels", 0): OffsetAndMetadata(1, "")})
    for later in (0.0, 3.0, 6.0):
        feed.read(NOW + later)
    assert order(feed.queue) == ["0-1"]


def test_what_has_expired_is_not_shown() -> None:
    """Whether or not the daemon has closed it: the answer would come too late."""
    broker = make_broker()
    ask(broker, unsure(1, 0.4))
    feed = make_feed(broker)
    feed.read(NOW)
    assert order(feed.queue, now=100.0) == []
    assert feed.queue.lease("ann", 100.0) is None


def test_records_of_others_are_left_out() -> None:
    """A request with another partition's coordinates, or none at all, is counted and stops nothing."""
    broker = make_broker()
    broker.append("requests", 1, b"0-1", encode(unsure(1, 0.4)))
    broker.append("requests", 0, b"x", b"nonsense")
    broker.append("training", 0, None, b"nonsense")
    broker.append("labels", 0, None, b"nonsense")
    feed = make_feed(broker)
    feed.read(NOW)
    assert order(feed.queue) == []
    assert feed.foreign == 3


def test_too_many_open_requests_are_left_out_until_there_is_room() -> None:
    """Memory is bounded whatever is in the topic, and nothing is lost by it."""
    broker = make_broker()
    requests = [unsure(offset, 0.1) for offset in range(5)]
    ask(broker, *requests)
    feed = make_feed(broker, open_max=3)
    feed.read(NOW)
    assert len(feed.queue) == 3
    for request in requests[:3]:
        close(broker, request)
    feed.read(NOW)
    feed.read(NOW)
    assert order(feed.queue) == ["0-3", "0-4"]


def test_features_are_read_from_the_log_when_they_are_wanted() -> None:
    """The queue keeps places, the log keeps requests."""
    broker = make_broker()
    ask(broker, unsure(1, 0.4), unsure(2, 0.3))
    feed = make_feed(broker)
    feed.read(NOW)
    for entry in feed.queue.entries(NOW):
        request = feed.fetch(entry)
        assert request is not None
        assert request.request == entry.request
    assert feed.fetch(Entry("0-9", 0, 0.0, 0.0, 0.0)) is None


@given(st.lists(st.tuples(st.sampled_from(["open", "tombstone", "training", "label"]), st.integers(0, 5)), max_size=40))
def test_the_order_of_reading_does_not_matter(facts: Sequence[tuple[str, int]]) -> None:
    """Whichever topic is ahead: open is what was asked, not closed and not answered; the order is by value."""
    queue = OpenQueue(QueueRules())
    asked, gone = set(), set()
    for number, (what, offset) in enumerate(facts):
        request = unsure(offset, offset / 10)
        if what == "open":
            entry = entry_of(request, 0, number)
            assert entry is not None
            queue.apply_request(entry)
            asked.add(request.request)
        elif what == "label":
            queue.apply_reply(request.request, number)
            gone.add(request.request)
        else:
            queue.apply_closing(request.request)
            gone.add(request.request)
    assert order(queue) == sorted(asked - gone, key=lambda request: -int(request[2:]))
    assert len(queue) == len(asked - gone)
    assert all(request in queue for request in asked - gone)


def test_a_batch_is_written_and_read_as_one() -> None:
    """A closing in ``training`` takes the request off before its tombstone is seen."""
    broker = make_broker()
    request = unsure(1, 0.4)
    broker.append_all([OutputRecord("requests", 0, b"0-1", encode(request))])
    close(broker, request, tombstone=False)
    feed = make_feed(broker)
    feed.read(NOW)
    assert order(feed.queue) == []
