"""Annotators of a recorded stream: as late, wrong, unsure and silent as they were told to be, always alike."""

from __future__ import annotations

import math
import statistics
from collections import Counter

import pytest

from streamal.core.codec.events import encode
from streamal.core.records import Lane, Request
from streamal.replay import Recorded, Stream
from streamal.replay.annotators import Annotators, AnnotatorsRules
from streamal.replay.replay import Player
from tests.recorded import World, easy_stream, make_config, rows_of

COUNT = 2_000
STREAM = easy_stream(COUNT)


def asked(rules: AnnotatorsRules, stream: Stream = STREAM, at: float = 100.0) -> tuple[World, Annotators]:
    """Return annotators that have read a request for every row, all asked *at* that time."""
    world = World(make_config())
    annotators = Annotators(world.broker, world.topics.requests, world.topics.labels, stream, rules)
    for number, row in enumerate(stream.rows):
        key = f"0-{number}"
        annotators.assign(key, row)
        request = Request(key, row.features, None, {}, 0, Lane.AUDIT, "random", 1.0, 1.0, at, at + 1e6)
        world.broker.append(world.topics.requests, 0, key.encode(), encode(request))
    annotators.read()
    return world, annotators


def replies(rules: AnnotatorsRules, stream: Stream = STREAM) -> dict[str, object]:
    """Return request -> label (None: cannot tell) of everybody who has answered in the end."""
    world, annotators = asked(rules, stream)
    annotators.respond(math.inf)
    return {row["request"]: row.get("label") for row in rows_of(world.broker, world.topics.labels)}


def test_by_default_they_answer_at_once_and_rightly() -> None:
    """No delay, no error, nobody silent."""
    world, annotators = asked(AnnotatorsRules())
    assert annotators.respond(100.0) == COUNT
    assert annotators.next_due is None
    given = {row["request"]: row["label"] for row in rows_of(world.broker, world.topics.labels)}
    assert given == {f"0-{number}": row.label for number, row in enumerate(STREAM.rows)}


def test_an_endless_stream_needs_no_endless_memory() -> None:
    """A player of bounded memory knows its newest rows; a request that was read before is answered all the same."""
    world = World(make_config())
    player = Player(world.broker, world.topics, STREAM, AnnotatorsRules(delay_s=1.0), first_id=1000, rows_max=5)
    player.send(range(5))
    for key in ("0-1", "0-3"):
        request = Request(key, {}, None, {}, 0, Lane.AUDIT, "random", 1.0, 1.0, 100.0, 1e6)
        world.broker.append(world.topics.requests, 0, key.encode(), encode(request))
        player.annotators.read()
        player.send(range(5, 7) if key == "0-1" else range(7, 40))
    assert list(player.rows.values()) == [35, 36, 37, 38, 39]
    assert player.annotators.respond(math.inf) == 2
    given = {row["request"]: row["label"] for row in rows_of(world.broker, world.topics.labels)}
    assert given == {"0-1": STREAM.rows[1].label, "0-3": STREAM.rows[3].label}
    assert [event["id"] for event in rows_of(world.broker, world.topics.events)] == list(range(1000, 1040))


def test_their_rates_are_those_of_the_rules() -> None:
    """Errors, abstentions and silence come as often as they were told to, within what chance allows."""
    given = replies(AnnotatorsRules(error=0.1, abstain=0.2, silence=0.3))
    truth = {f"0-{number}": row.label for number, row in enumerate(STREAM.rows)}
    kinds = Counter(
        "abstain" if label is None else "right" if label == truth[request] else "wrong"
        for request, label in given.items()
    )
    for kind, share in (("silent", 0.3), ("abstain", 0.7 * 0.2), ("wrong", 0.7 * 0.8 * 0.1)):
        found = (COUNT - len(given) if kind == "silent" else kinds[kind]) / COUNT
        assert found == pytest.approx(share, abs=4 * math.sqrt(share * (1 - share) / COUNT))


def test_their_delays_are_log_normal() -> None:
    """The median is what the rules say, and one in six waits longer than e times that."""
    _, annotators = asked(AnnotatorsRules(delay_s=60.0), at=0.0)
    delays: list[float] = []
    while (due := annotators.next_due) is not None:
        annotators.respond(due)
        delays.append(due)
    assert statistics.median(delays) == pytest.approx(60.0, rel=0.1)
    assert sum(delay > 60.0 * math.e for delay in delays) / COUNT == pytest.approx(0.159, abs=0.035)


def test_recorded_label_times_hold() -> None:
    """Where the recording knows when the label came, that counts; but never before it was asked for."""
    rows = [Recorded({"x1": 0.1}, "no", 0.0, 250.0), Recorded({"x1": 0.2}, "yes", 1.0, 50.0)]
    _, annotators = asked(AnnotatorsRules(delay_s=1e6), Stream("s", rows, {"x1": "number"}, ("no", "yes")))
    assert (annotators.next_due, annotators.respond(100.0)) == (100.0, 1)
    assert (annotators.next_due, annotators.respond(249.0), annotators.respond(250.0)) == (250.0, 0, 1)


def test_two_of_them_answer_alike() -> None:
    """Every draw is a hash of the request: the same seed gives the same answers, another seed others."""
    rules = AnnotatorsRules(error=0.2, abstain=0.2, silence=0.2)
    assert replies(rules) == replies(rules)
    assert replies(rules) != replies(AnnotatorsRules(error=0.2, abstain=0.2, silence=0.2, seed=2))


def test_one_rate_does_not_move_the_others() -> None:
    """Who is silent stays silent when errors are added: two replays differ only by what was changed."""
    assert replies(AnnotatorsRules(silence=0.3)).keys() == replies(AnnotatorsRules(silence=0.3, error=0.5)).keys()


def test_events_of_somebody_else_are_not_answered() -> None:
    """They know the truth only of what they have sent."""
    world, annotators = asked(AnnotatorsRules())
    request = Request("0-99999", {}, None, {}, 0, Lane.AUDIT, "random", 1.0, 1.0, 0.0, 1.0)
    world.broker.append(world.topics.requests, 0, b"0-99999", encode(request))
    annotators.read()
    assert annotators.seen == COUNT
